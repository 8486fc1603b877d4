"""The whole GAN in float64 NumPy, gradients by hand; it shares no code with the script."""

import numpy as np

NAMES = {p: [f"{p}_nn{k}/{p}_{kind}" for k in (1, 2) for kind in ("weight", "bias")] for p in "DG"}


def sigmoid(a):
    """1 / (1 + exp(-a)), without overflow."""
    return np.exp(-np.logaddexp(0, -a))


def generator(theta, z):
    """Returns: the hidden layer and the images."""
    W1, b1, W2, b2 = (np.float64(theta[name]) for name in NAMES["G"])
    hidden = np.tanh(z @ W1 + b1)
    return hidden, sigmoid(hidden @ W2 + b2)


def digits(variables, n, seed):
    """What the averaged weights in a checkpoint draw: [n, 784], from 0.0 to 255.0."""
    averages = {name: variables[name + "/ExponentialMovingAverage"] for name in NAMES["G"]}
    z = np.float32(np.random.RandomState(seed).uniform(-1, 1, [n, 100]))
    return 255 * generator(averages, z)[1]


def discriminator(theta, x, factors=1.0):
    """Returns: the hidden layer before dropout, and the logit of D(x)."""
    W1, b1, W2, b2 = (np.float64(theta[name]) for name in NAMES["D"])
    hidden = np.tanh(x @ W1 + b1)
    return hidden, (hidden * factors) @ W2 + b2


def discriminator_loss(logit_real, logit_fake):
    """-E[log D(x)] - E[log(1 - D(G(z)))]; log(1 + exp) is NumPy's logaddexp(0, .)."""
    return np.logaddexp(0, -logit_real).mean() + np.logaddexp(0, logit_fake).mean()


def generator_loss(logit_fake, kind):
    """-E[log D(G(z))], or E[log(1 - D(G(z)))] for "minimax"."""
    minimax = kind == "minimax"
    return -np.logaddexp(0, logit_fake).mean() if minimax else np.logaddexp(0, -logit_fake).mean()


def through_D(theta, x, hidden, factors, d_logit):
    """From d loss / d logit to the gradients of theta_D, in order, and of x."""
    W1, _, W2, _ = (theta[name] for name in NAMES["D"])
    d_hidden = (d_logit @ W2.T) * factors * (1 - hidden**2)
    gradients = x.T @ d_hidden, d_hidden.sum(0), (hidden * factors).T @ d_logit, d_logit.sum(0)
    return gradients, d_hidden @ W1.T


def D_gradients(theta, x, z, factors):
    """Returns: D_loss and its gradients, {name: array}."""
    fake = generator(theta, z)[1]
    hidden_real, logit_real = discriminator(theta, x, factors[0])
    hidden_fake, logit_fake = discriminator(theta, fake, factors[1])
    d_real, d_fake = (sigmoid(logit_real) - 1) / len(x), sigmoid(logit_fake) / len(z)
    real, _ = through_D(theta, x, hidden_real, factors[0], d_real)
    fake, _ = through_D(theta, fake, hidden_fake, factors[1], d_fake)
    gradients = {name: a + b for name, a, b in zip(NAMES["D"], real, fake)}
    return discriminator_loss(logit_real, logit_fake), gradients


def G_gradients(theta, z, factors, kind):
    """Returns: G_loss and its gradients, {name: array}."""
    hidden, fake = generator(theta, z)
    hidden_D, logit = discriminator(theta, fake, factors)
    d_logit = (-sigmoid(logit) if kind == "minimax" else sigmoid(logit) - 1) / len(z)
    d_out = through_D(theta, fake, hidden_D, factors, d_logit)[1] * fake * (1 - fake)
    d_hidden = (d_out @ theta["G_nn2/G_weight"].T) * (1 - hidden**2)
    gradients = z.T @ d_hidden, d_hidden.sum(0), hidden.T @ d_out, d_out.sum(0)
    return generator_loss(logit, kind), dict(zip(NAMES["G"], gradients))


class Game:
    """Algorithm 1 of the paper, from given variables theta: {name: array}."""

    def __init__(self, theta, flags):
        self.theta = {name: np.float64(value) for name, value in theta.items()}
        self.average = {name: self.theta[name] for name in NAMES["G"]}
        self.flags, self.steps, self.losses, self.updates = flags, 0, {}, {"D": 0, "G": 0}
        self.m, self.v = ({name: 0.0 for name in theta} for _ in range(2))

    def update(self, player, loss, gradients):
        """Adam as TensorFlow 1 has it: epsilon 1e-8 is added to the uncorrected sqrt(v)."""
        flags, self.losses[player] = self.flags, loss
        self.updates[player] += 1
        power1, power2 = (beta ** self.updates[player] for beta in (flags.beta1, flags.beta2))
        rate = vars(flags)[player.lower() + "_learning_rate"] * np.sqrt(1 - power2) / (1 - power1)
        rate *= 0.5 ** (self.steps / flags.lr_half_life) if flags.lr_half_life else 1
        for name, g in gradients.items():
            self.m[name] = flags.beta1 * self.m[name] + (1 - flags.beta1) * g
            self.v[name] = flags.beta2 * self.v[name] + (1 - flags.beta2) * g**2
            change = rate * self.m[name] / (np.sqrt(self.v[name]) + 1e-8)
            self.theta[name] = self.theta[name] - change

    def step(self, x, z, keep):
        """One training step. x, 0 to 255: one entry for each update of D; z, 0 to 1: for each
        update, D's first; keep: for each call of D, on x and G(z) in turn, then for G's updates."""
        D, G, factors = self.flags.d_step, self.flags.g_step, keep / (1 - self.flags.dropout)
        z = 2 * np.float64(z) - 1
        for j in range(D):
            pair = factors[2 * j : 2 * j + 2]
            self.update("D", *D_gradients(self.theta, x[j] / 255.0, z[j], pair))
        for j in range(D, D + G):
            self.update("G", *G_gradients(self.theta, z[j], factors[D + j], self.flags.g_loss))
            decay = min(self.flags.ema_decay, (1 + self.steps) / (10.0 + self.steps))
            for name, old in self.average.items():
                self.average[name] = decay * old + (1 - decay) * self.theta[name]
        self.steps += 1
