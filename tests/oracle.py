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


def discriminator(theta, x):
    """Returns: the hidden layer and the logit of D(x)."""
    W1, b1, W2, b2 = (np.float64(theta[name]) for name in NAMES["D"])
    hidden = np.tanh(x @ W1 + b1)
    return hidden, hidden @ W2 + b2


def discriminator_loss(logit_real, logit_fake):
    """-E[log D(x)] - E[log(1 - D(G(z)))]; log(1 + exp) is NumPy's logaddexp(0, .)."""
    return np.logaddexp(0, -logit_real).mean() + np.logaddexp(0, logit_fake).mean()


def generator_loss(logit_fake, kind):
    """-E[log D(G(z))], or E[log(1 - D(G(z)))] for "minimax"."""
    minimax = kind == "minimax"
    return -np.logaddexp(0, logit_fake).mean() if minimax else np.logaddexp(0, -logit_fake).mean()


def through_D(theta, x, hidden, d_logit):
    """From d loss / d logit to the gradients of theta_D, in order, and of x."""
    W1, _, W2, _ = (theta[name] for name in NAMES["D"])
    d_hidden = (d_logit @ W2.T) * (1 - hidden**2)
    gradients = x.T @ d_hidden, d_hidden.sum(0), hidden.T @ d_logit, d_logit.sum(0)
    return gradients, d_hidden @ W1.T


def penalty(theta, x, gamma):
    """R1: gamma / 2 E[|g|^2], g = ((1 - hidden^2) * W2^T) W1^T the gradient of a logit by its x.
    Returns: the penalty and its gradients by theta_D, in order."""
    W1, _, W2, _ = (np.float64(theta[name]) for name in NAMES["D"])
    hidden, _ = discriminator(theta, x)
    slope = 1 - hidden**2
    g = (slope * W2.T) @ W1.T
    d_g = gamma / len(x) * g
    d_product = d_g @ W1
    d_sum = d_product * W2.T * -2 * hidden * slope  # of the sum that goes into tanh
    d_W1 = d_g.T @ (slope * W2.T) + x.T @ d_sum
    gradients = d_W1, d_sum.sum(0), (d_product * slope).sum(0)[:, None], np.zeros(1)
    return gamma / 2 * (g**2).sum(1).mean(), gradients


def D_gradients(theta, x, z, gamma):
    """Returns: D_loss without the penalty, and the gradients of both together, {name: array}."""
    fake = generator(theta, z)[1]
    hidden_real, logit_real = discriminator(theta, x)
    hidden_fake, logit_fake = discriminator(theta, fake)
    d_real, d_fake = (sigmoid(logit_real) - 1) / len(x), sigmoid(logit_fake) / len(z)
    real, _ = through_D(theta, x, hidden_real, d_real)
    fake, _ = through_D(theta, fake, hidden_fake, d_fake)
    smooth = penalty(theta, x, gamma)[1]
    gradients = {name: sum(parts) for name, *parts in zip(NAMES["D"], real, fake, smooth)}
    return discriminator_loss(logit_real, logit_fake), gradients


def G_gradients(theta, z, kind):
    """Returns: G_loss and its gradients, {name: array}."""
    hidden, fake = generator(theta, z)
    hidden_D, logit = discriminator(theta, fake)
    d_logit = (-sigmoid(logit) if kind == "minimax" else sigmoid(logit) - 1) / len(z)
    d_out = through_D(theta, fake, hidden_D, d_logit)[1] * fake * (1 - fake)
    d_hidden = (d_out @ theta["G_nn2/G_weight"].T) * (1 - hidden**2)
    gradients = z.T @ d_hidden, d_hidden.sum(0), hidden.T @ d_out, d_out.sum(0)
    return generator_loss(logit, kind), dict(zip(NAMES["G"], gradients))


def log_likelihoods(images, samples, sigma):
    """log of the mean over samples of N(image; sample, sigma^2 I), for each image; uint8."""
    images, samples = images / 255.0, samples / 255.0
    squares = (images**2).sum(1)[:, None] + (samples**2).sum(1) - 2 * images @ samples.T
    terms = -squares / (2 * sigma**2) - 392 * np.log(2 * np.pi * sigma**2)
    return np.logaddexp.reduce(terms, axis=1) - np.log(len(samples))


class Game:
    """Algorithm 1 of the paper, from given variables theta: {name: array}."""

    def __init__(self, theta, flags):
        self.theta = {name: np.float64(value) for name, value in theta.items()}
        self.average = {name: self.theta[name] for name in NAMES["G"]}
        self.flags, self.losses, self.updates = flags, {}, {"D": 0, "G": 0}
        self.m, self.v = ({name: 0.0 for name in theta} for _ in range(2))

    def update(self, player, loss, gradients):
        """Adam as TensorFlow 1 has it: epsilon 1e-8 is added to the uncorrected sqrt(v)."""
        flags, self.losses[player] = self.flags, loss
        self.updates[player] += 1
        power1, power2 = (beta ** self.updates[player] for beta in (flags.beta1, flags.beta2))
        rate = vars(flags)[player.lower() + "_learning_rate"] * np.sqrt(1 - power2) / (1 - power1)
        for name, g in gradients.items():
            self.m[name] = flags.beta1 * self.m[name] + (1 - flags.beta1) * g
            self.v[name] = flags.beta2 * self.v[name] + (1 - flags.beta2) * g**2
            change = rate * self.m[name] / (np.sqrt(self.v[name]) + 1e-8)
            self.theta[name] = self.theta[name] - change

    def step(self, minibatches):
        """One training step on one (x, z) for each update, D's first. Returns: D_loss, G_loss."""
        for x, z in minibatches[: self.flags.d_step]:
            self.update("D", *D_gradients(self.theta, x, z, self.flags.r1_gamma))
        for _, z in minibatches[self.flags.d_step :]:
            self.update("G", *G_gradients(self.theta, z, self.flags.g_loss))
            n = sum(self.updates.values())
            decay = min(self.flags.ema_decay, (1 + n) / (10 + n))
            for name, old in self.average.items():
                self.average[name] = decay * old + (1 - decay) * self.theta[name]
        return self.losses["D"], self.losses["G"]
