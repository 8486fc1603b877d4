"""The whole GAN in float64 NumPy, gradients by hand; it shares no code with the script."""

import numpy as np


def names(player):
    """The names of the variables of player "D" or "G"."""
    return [f"{player}_nn{k}/{player}_{kind}" for k in (1, 2) for kind in ("weight", "bias")]


def sigmoid(a):
    """1 / (1 + exp(-a)), without overflow."""
    return np.exp(-np.logaddexp(0, -a))


def generator(theta, z):
    """Returns: the hidden layer and the images."""
    W1, b1, W2, b2 = (theta[name] for name in names("G"))
    hidden = np.tanh(z @ W1 + b1)
    return hidden, sigmoid(hidden @ W2 + b2)


def discriminator(theta, x, factors=1.0):
    """Returns: the hidden layer before dropout, and the logit of D(x)."""
    W1, b1, W2, b2 = (theta[name] for name in names("D"))
    hidden = np.tanh(x @ W1 + b1)
    return hidden, (hidden * factors) @ W2 + b2


def discriminator_loss(logit_real, logit_fake):
    """-E[log D(x)] - E[log(1 - D(G(z)))]; log(1 + exp) is NumPy's logaddexp(0, .)."""
    return np.logaddexp(0, -logit_real).mean() + np.logaddexp(0, logit_fake).mean()


def generator_loss(logit_fake, kind):
    """-E[log D(G(z))], or E[log(1 - D(G(z)))] for "minimax"."""
    if kind == "minimax":
        return -np.logaddexp(0, logit_fake).mean()
    return np.logaddexp(0, -logit_fake).mean()


def through_D(theta, x, hidden, factors, d_logit):
    """From d loss / d logit to the gradients of theta_D, in order, and of x."""
    W1, _, W2, _ = (theta[name] for name in names("D"))
    d_hidden = (d_logit @ W2.T) * factors * (1 - hidden**2)
    gradients = x.T @ d_hidden, d_hidden.sum(0), (hidden * factors).T @ d_logit, d_logit.sum(0)
    return gradients, d_hidden @ W1.T


def D_gradients(theta, x, z, factors=(1.0, 1.0)):
    """Returns: D_loss and its gradients, {name: array}."""
    fake = generator(theta, z)[1]
    hidden_real, logit_real = discriminator(theta, x, factors[0])
    hidden_fake, logit_fake = discriminator(theta, fake, factors[1])
    d_real, d_fake = (sigmoid(logit_real) - 1) / len(x), sigmoid(logit_fake) / len(z)
    real, _ = through_D(theta, x, hidden_real, factors[0], d_real)
    fake, _ = through_D(theta, fake, hidden_fake, factors[1], d_fake)
    gradients = {name: a + b for name, a, b in zip(names("D"), real, fake)}
    return discriminator_loss(logit_real, logit_fake), gradients


def G_gradients(theta, z, kind, factors=1.0):
    """Returns: G_loss and its gradients, {name: array}."""
    W2 = theta["G_nn2/G_weight"]
    hidden, fake = generator(theta, z)
    hidden_D, logit = discriminator(theta, fake, factors)
    d_logit = (-sigmoid(logit) if kind == "minimax" else sigmoid(logit) - 1) / len(z)
    _, d_fake = through_D(theta, fake, hidden_D, factors, d_logit)
    d_out = d_fake * fake * (1 - fake)
    d_hidden = (d_out @ W2.T) * (1 - hidden**2)
    gradients = z.T @ d_hidden, d_hidden.sum(0), hidden.T @ d_out, d_out.sum(0)
    return generator_loss(logit, kind), dict(zip(names("G"), gradients))


class Adam:
    """Adam as TensorFlow 1 has it: epsilon 1e-8 is added to the uncorrected sqrt(v)."""

    def __init__(self, beta1, beta2):
        self.beta1, self.beta2, self.updates, self.m, self.v = beta1, beta2, 0, {}, {}

    def update(self, theta, gradients, rate):
        """Moves those entries of theta that have a gradient."""
        self.updates += 1
        rate *= np.sqrt(1 - self.beta2**self.updates) / (1 - self.beta1**self.updates)
        for name, g in gradients.items():
            self.m[name] = self.beta1 * self.m.get(name, 0) + (1 - self.beta1) * g
            self.v[name] = self.beta2 * self.v.get(name, 0) + (1 - self.beta2) * g**2
            theta[name] = theta[name] - rate * self.m[name] / (np.sqrt(self.v[name]) + 1e-8)


class Game:
    """Algorithm 1 of the paper, from given variables theta: {name: array}."""

    def __init__(self, theta, flags):
        self.theta = {name: np.float64(value) for name, value in theta.items()}
        self.average = {name: self.theta[name] for name in names("G")}
        self.flags, self.steps, self.D_loss, self.G_loss = flags, 0, 0.0, 0.0
        self.adam = {player: Adam(flags.beta1, flags.beta2) for player in "DG"}

    def factors(self, chance):
        """Dropout: the units whose chance, from -1 to 1, lies above its share are kept."""
        return (chance >= 2 * self.flags.dropout - 1) / (1.0 - self.flags.dropout)

    def step(self, x, D_bits, G_bits):
        """One training step; every argument has one entry for each update.

        x: 0 to 255. bits: a row's z, then the chances of D's hidden units on x and on G(z), on
        G(z) alone if G is updated; int32.
        """
        flags, halvings = self.flags, 0.0
        D_chance, G_chance = D_bits / 2.0**31, G_bits / 2.0**31
        if flags.lr_half_life:
            halvings = self.steps / flags.lr_half_life
        for j in range(flags.d_step):
            z, on_x, on_fake = np.split(D_chance[j], [100, 228], axis=1)
            factors = self.factors(on_x), self.factors(on_fake)
            self.D_loss, gradients = D_gradients(self.theta, x[j] / 255.0, z, factors)
            self.adam["D"].update(self.theta, gradients, flags.d_learning_rate * 0.5**halvings)
        for j in range(flags.g_step):
            z, on_fake = np.split(G_chance[j], [100], axis=1)
            factors = self.factors(on_fake)
            self.G_loss, gradients = G_gradients(self.theta, z, flags.g_loss, factors)
            self.adam["G"].update(self.theta, gradients, flags.g_learning_rate * 0.5**halvings)
            decay = min(flags.ema_decay, (1 + self.steps) / (10.0 + self.steps))
            for name in self.average:
                change = self.theta[name] - self.average[name]
                self.average[name] = self.average[name] + (1 - decay) * change
        self.steps += 1
