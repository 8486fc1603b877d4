"""The whole GAN of gan_mnist.py in NumPy, with the gradients derived by hand.

It shares no code with the script, and test_gan.py shows that both train the same weights: what
TensorFlow does is the arithmetic below. It is written to be read from top to bottom.

A network's weights are theta = [W1, b1, W2, b2]. Each row of an array such as x, z, hidden or
logit belongs to one image of the minibatch. d_a is the derivative of a loss by a, of a's shape.
"""

import numpy as np


# ---------------------------------------- networks
def softplus(a):
    """log(1 + exp(a)), in NumPy without overflow. Its derivative is sigmoid(a)."""
    return np.logaddexp(0, a)


def sigmoid(a):
    """1 / (1 + exp(-a)) = exp(-softplus(-a)). Its derivative is sigmoid(a) (1 - sigmoid(a))."""
    return np.exp(-softplus(-a))


def forward(theta, inputs):
    """The layers of either network: G(z) or D(x) is sigmoid(output). D's output is its logit."""
    W1, b1, W2, b2 = theta
    hidden = np.tanh(inputs @ W1 + b1)
    output = hidden @ W2 + b2
    return hidden, output


# ------------------------------------------ losses
# With D = sigmoid(logit), -log D = softplus(-logit) and -log(1 - D) = softplus(logit).
def discriminator_loss(logit_real, logit_fake):
    """Returns D_loss = -E_x[log D(x)] - E_z[log(1 - D(G(z)))], and d_logit_real, d_logit_fake."""
    loss = np.mean(softplus(-logit_real)) + np.mean(softplus(logit_fake))
    d_real = -sigmoid(-logit_real) / len(logit_real)  # the mean divides by the batch size
    d_fake = sigmoid(logit_fake) / len(logit_fake)
    return loss, d_real, d_fake


def generator_loss(logit_fake, kind):
    """Returns G_loss = E_z[log(1 - D(G(z)))] or -E_z[log D(G(z))], and d_logit_fake."""
    if kind == "minimax":  # where D is sure that G(z) is fake, logit << 0, d_logit is almost 0
        return -np.mean(softplus(logit_fake)), -sigmoid(logit_fake) / len(logit_fake)
    return np.mean(softplus(-logit_fake)), -sigmoid(-logit_fake) / len(logit_fake)


# --------------------------------------- gradients
def backward(theta, inputs, hidden, d_output):
    """The chain rule, back through both layers. Returns d_theta and d_inputs."""
    W1, _, W2, _ = theta
    # For y = x W + b: d_W = x^T d_y, d_x = d_y W^T, and d_b is the sum of d_y over the rows.
    d_sum = d_output @ W2.T * (1 - hidden**2)  # hidden = tanh(sum), and tanh' = 1 - tanh^2
    d_theta = [inputs.T @ d_sum, d_sum.sum(axis=0), hidden.T @ d_output, d_output.sum(axis=0)]
    return d_theta, d_sum @ W1.T


def r1_penalty(theta, x, gamma):
    """Returns R1 = gamma / 2 E_x[|g|^2] and d_theta, where g is each logit's gradient by its x."""
    W1, _, W2, _ = theta
    hidden, _ = forward(theta, x)
    # g = s W1^T with s = W2^T (1 - hidden^2): this is backward for d_output = 1.
    s = W2.T * (1 - hidden**2)
    g = s @ W1.T
    d_g = gamma / len(x) * g
    d_s = d_g @ W1
    d_sum = d_s * s * -2 * hidden  # s depends on hidden, and hidden on the sum, as in backward
    d_W1 = d_g.T @ s + x.T @ d_sum  # g contains W1 twice: as its factor, and in hidden
    d_W2 = np.sum(d_s * (1 - hidden**2), axis=0)[:, None]
    d_theta = [d_W1, d_sum.sum(axis=0), d_W2, np.zeros(1)]  # g does not depend on b2
    return gamma / 2 * np.mean(np.sum(g**2, axis=1)), d_theta


def D_gradients(theta_D, theta_G, x, z, gamma):
    """The gradients of D_loss + R1 by theta_D. D is called twice, so they are sums."""
    fake = sigmoid(forward(theta_G, z)[1])
    hidden_real, logit_real = forward(theta_D, x)
    hidden_fake, logit_fake = forward(theta_D, fake)
    _, d_real, d_fake = discriminator_loss(logit_real, logit_fake)
    by_real, _ = backward(theta_D, x, hidden_real, d_real)
    by_fake, _ = backward(theta_D, fake, hidden_fake, d_fake)
    _, by_r1 = r1_penalty(theta_D, x, gamma)
    return [sum(parts) for parts in zip(by_real, by_fake, by_r1)]


def G_gradients(theta_D, theta_G, z, kind):
    """The gradients of G_loss by theta_G: back through D to its input G(z), then through G."""
    hidden_G, output = forward(theta_G, z)
    fake = sigmoid(output)
    hidden_D, logit = forward(theta_D, fake)
    _, d_logit = generator_loss(logit, kind)
    _, d_fake = backward(theta_D, fake, hidden_D, d_logit)
    return backward(theta_G, z, hidden_G, d_fake * fake * (1 - fake))[0]


# ---------------------------------------- training
class Adam:
    """Adam (Kingma and Ba 2014, arXiv:1412.6980), computed in the order at the end of section 2."""

    def __init__(self, rate, beta1, beta2):
        self.rate, self.beta1, self.beta2 = rate, beta1, beta2
        self.t = 0  # updates so far
        self.m = self.v = [0, 0, 0, 0]  # decaying means of the gradients and of their squares

    def update(self, theta, gradients):
        """Returns the new theta."""
        self.t += 1
        self.m = [self.beta1 * m + (1 - self.beta1) * g for m, g in zip(self.m, gradients)]
        self.v = [self.beta2 * v + (1 - self.beta2) * g**2 for v, g in zip(self.v, gradients)]
        # The means start at 0 and are too small at first; the rate corrects that.
        rate = self.rate * np.sqrt(1 - self.beta2**self.t) / (1 - self.beta1**self.t)
        return [w - rate * m / (np.sqrt(v) + 1e-8) for w, m, v in zip(theta, self.m, self.v)]


def train(theta_D, theta_G, steps, flags):
    """Algorithm 1 of the GAN paper. A step has minibatches (x, z) for D, and others, z, for G."""
    D_adam = Adam(flags.d_learning_rate, flags.beta1, flags.beta2)
    G_adam = Adam(flags.g_learning_rate, flags.beta1, flags.beta2)
    average = theta_G
    for n, (D_minibatches, G_minibatches) in enumerate(steps, start=1):
        for x, z in D_minibatches:
            gradients = D_gradients(theta_D, theta_G, x, z, flags.r1_gamma)
            theta_D = D_adam.update(theta_D, gradients)
        for z in G_minibatches:
            gradients = G_gradients(theta_D, theta_G, z, flags.g_loss)
            theta_G = G_adam.update(theta_G, gradients)
        share = 6 / (n + 5)  # 1 at first; later, the average changes slowly
        average = [(1 - share) * mean + share * w for mean, w in zip(average, theta_G)]
    return theta_D, theta_G, average
