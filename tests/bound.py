"""How far the generator's size lets the Parzen log-likelihood go: G trained for it directly.

    python tests/bound.py [--rounds 40]

No discriminator here: the same two layers (100 -> 128 tanh -> 784 sigmoid) are fitted by implicit
maximum likelihood (Li and Malik 2018, arXiv:1809.09087). In every round each training digit picks
the nearest of many samples G(z), and G is moved towards it there. That is close to what the Parzen
score rewards, and unlike the game it sees the digits themselves; so its score is an estimate of
what these networks can reach, not a proof of it.
"""

import argparse
import os
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import gan_mnist

SAMPLES, DIGITS, BATCH = 20_000, 10_000, 100


def nearest(images, samples):
    """For each of the images [n, 784] the index of the nearest of the samples, both 0 to 1."""
    found = []
    for block in np.array_split(images, len(images) // 500):
        found.append(((samples**2).sum(1) - 2 * block @ samples.T).argmin(1))
    return np.concatenate(found)


def main():
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    gan_mnist.import_tensorflow()
    tf, random = gan_mnist.tf, np.random.RandomState(0)
    folder = os.path.join(os.path.dirname(gan_mnist.__file__), "MNIST_data")
    train, validation, test, _ = gan_mnist.load_data(folder)
    tf.set_random_seed(0)
    z, x = (tf.placeholder(tf.float32, [None, n]) for n in (gan_mnist.Z_SIZE, gan_mnist.PIXELS))
    G_sample, rate = gan_mnist.generator(z), tf.placeholder(tf.float32, [])
    loss = tf.reduce_mean(tf.reduce_sum((G_sample - x) ** 2, 1))
    update = tf.train.AdamOptimizer(rate).minimize(loss)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for number in range(rounds):
            values = gan_mnist.noise(SAMPLES, number)
            samples = gan_mnist.draw_samples(session, G_sample, z, values)
            digits = np.float32(train[random.permutation(len(train))[:DIGITS]]) / 255
            chosen = values[nearest(digits, np.float32(samples) / 255)]
            speed = 1e-3 * 0.5 ** (4 * number / rounds)
            for _ in range(5):
                for rows in np.array_split(random.permutation(DIGITS), DIGITS // BATCH):
                    feed = {z: chosen[rows], x: digits[rows], rate: speed}
                    _, square = session.run([update, loss], feed)
            if number % 10 == 9:
                drawn = gan_mnist.noise(10_000, 10**6)
                samples = gan_mnist.draw_samples(session, G_sample, z, drawn)
                score = gan_mnist.parzen_log_likelihood(samples, validation[:1000], test)
                text = "round {}: squared distance {:.1f}, Parzen {:.1f} +- {:.1f}, sigma {:.3f}"
                print(text.format(number + 1, square, *score), flush=True)


if __name__ == "__main__":
    main()
