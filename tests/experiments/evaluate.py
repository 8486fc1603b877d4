"""Scores generated digits against real ones, in a table with a row for each file.

    python tests/experiments/evaluate.py outputs/seed1/generated.npy

Each file holds uint8 digits, [N, 28, 28]; the first 10,000 are scored. The columns:

    Frechet    distance to the test digits in the features of a small CNN; lower is better
    Parzen     log-likelihood of the test digits in nats; higher is better
    rarest     share of the rarest class in %; 10 is even
    sure       share of digits to which the CNN gives a probability above 0.9, in %

Frechet depends on N and on the CNN, trained anew with a fixed seed: compare rows of equal N.
"""

import argparse
import gzip
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))
import gan_mnist

gan_mnist.import_packages()  # which silences TensorFlow
gan_mnist.tf.enable_v2_behavior()
import tensorflow as tf

N_SCORED = 10_000  # digits scored per file


def read_labels(name):
    """The labels in a gzipped IDX file: uint8 [n]."""
    with gzip.open(HERE / "labels" / name) as file:
        return np.frombuffer(file.read(), np.uint8, offset=8)


def build_cnn():
    """A model from pixels [N, 784] in [0, 1] to features [N, 128] and probabilities [N, 10]."""
    layers = tf.keras.layers
    pixels = tf.keras.Input([784])
    x = layers.Reshape([28, 28, 1])(pixels)
    x = layers.Conv2D(16, 5, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2D(32, 5, strides=2, padding="same", activation="relu")(x)
    features = layers.Dense(128, activation="relu")(layers.Flatten()(x))
    probabilities = layers.Dense(10, activation="softmax")(features)
    return tf.keras.Model(pixels, [features, probabilities])


def train_cnn(cnn, images, labels, epochs=3, batch=100):
    """Trains on images, uint8 [N, 784], and labels [N], the learning rate falling to 0."""
    steps = epochs * len(images) // batch
    rate = tf.keras.optimizers.schedules.PolynomialDecay(2e-3, steps, end_learning_rate=0.0)
    model = tf.keras.Model(cnn.inputs, cnn.outputs[1])
    model.compile(tf.keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(images / np.float32(255), labels, batch, epochs, verbose=0)


def classify(cnn, images):
    """float64 features [N, 128] and probabilities [N, 10] of images, uint8 [N, 784]."""
    outputs = cnn.predict(images / np.float32(255), batch_size=1000, verbose=0)
    return [output.astype(np.float64) for output in outputs]


def frechet(a, b):
    """Frechet distance of Gaussians fitted to features a [N, K] and b [M, K], S the covariances:
    |mean_a - mean_b|^2 + trace(S_a + S_b - 2 (S_a S_b)^1/2)."""
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    trace_root = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).real.clip(0)).sum()
    gap = a.mean(0) - b.mean(0)
    return gap @ gap + np.trace(cov_a) + np.trace(cov_b) - 2 * trace_root


def main():
    """Prints the table: a row of real training digits as the reference, then one per file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("samples", nargs="+", metavar="SAMPLES.npy", help="uint8 digits")
    args = parser.parse_args()
    digits = {name: np.load(name)[:N_SCORED] for name in args.samples}
    digits = {name: x.astype(np.uint8, casting="no").reshape(-1, 784) for name, x in digits.items()}
    train, _, test = gan_mnist.load_data(gan_mnist.MNIST_DIR)

    tf.keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    cnn = build_cnn()
    train_cnn(cnn, train, read_labels("train-labels-idx1-ubyte.gz")[: len(train)])
    test_features, probabilities = classify(cnn, test)
    right = probabilities.argmax(1) == read_labels("t10k-labels-idx1-ubyte.gz")
    print(f"classifier: {100 * right.mean():.2f} % of the test digits right")

    real = train[np.random.default_rng(0).choice(len(train), N_SCORED, replace=False)]
    print("    n  Frechet  Parzen  rarest   sure  share of each class, 0 to 9")
    for name, x in {"real digits": real, **digits}.items():
        features, probabilities = classify(cnn, x)
        shares = 100 * np.bincount(probabilities.argmax(1), minlength=10) / len(x)
        likelihood = gan_mnist.parzen_log_likelihood(x, test)
        sure = 100 * (probabilities.max(1) > 0.9).mean()
        print(
            f"{len(x):5d} {frechet(features, test_features):8.2f} {likelihood:7.1f}"
            f" {shares.min():7.2f} {sure:6.1f} ",
            *(f"{share:4.1f}" for share in shares),
            f" {name}",
        )


if __name__ == "__main__":
    main()
