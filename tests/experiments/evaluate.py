"""Scores generated digits against real ones, in a table with a row for each file.

    python tests/experiments/evaluate.py outputs/seed1/generated.npy

Each file holds uint8 digits, [N, 28, 28]; the first 10,000 are scored. README.md beside this file
explains the scores. Compare Frechet in rows of equal N only.
"""

import argparse
import gzip
import os
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import tensorflow as tf

HERE = Path(__file__).resolve().parent
TRAIN_IMAGES = HERE.parents[1] / "MNIST_data" / "train-images-idx3-ubyte.gz"
MNIST = HERE / "mnist"  # the labels and the test images, which the script does not need
PIXELS = 28 * 28
N_TRAIN = 55_000  # images that the CNN learns from, and that the real digits are from
N_SCORED = 10_000  # digits scored per file


def read_idx(path):
    """Reads a gzipped IDX file, uint8: all its bytes but the header as a single axis."""
    content = gzip.decompress(path.read_bytes())
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3])  # byte 3: number of axes


def train_cnn(images, labels, epochs=3, batch=100):
    """Trains a CNN on images, uint8 [N, 784], and labels [N], the learning rate falling to 0. It
    returns features [N, 128] and probabilities [N, 10]."""
    layers = tf.keras.layers
    pixels = tf.keras.Input([PIXELS])
    x = layers.Reshape([28, 28, 1])(pixels)
    x = layers.Conv2D(16, 5, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2D(32, 5, strides=2, padding="same", activation="relu")(x)
    features = layers.Dense(128, activation="relu")(layers.Flatten()(x))
    probabilities = layers.Dense(10, activation="softmax")(features)
    model = tf.keras.Model(pixels, probabilities)
    steps = epochs * len(images) // batch
    rate = tf.keras.optimizers.schedules.PolynomialDecay(2e-3, steps, end_learning_rate=0.0)
    model.compile(tf.keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(images / np.float32(255), labels, batch, epochs, verbose=0)
    return tf.keras.Model(pixels, [features, probabilities])


def classify(cnn, images):
    """Returns float64 features [N, 128] and probabilities [N, 10] of images, uint8 [N, 784]."""
    outputs = cnn.predict(images / np.float32(255), batch_size=1000, verbose=0)
    return [output.astype(np.float64) for output in outputs]


def frechet(a, b):
    """Frechet distance of Gaussians fitted to features a [N, K] and b [M, K], S the covariances:
    |mean_a - mean_b|^2 + trace(S_a + S_b - 2 (S_a S_b)^1/2)."""
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    trace_root = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).real.clip(0)).sum()
    gap = a.mean(0) - b.mean(0)
    return gap @ gap + np.trace(cov_a) + np.trace(cov_b) - 2 * trace_root


def parzen_log_likelihood(samples, images, sigma=0.2):
    """Mean log-density of images, in nats, under a mixture of Gaussians at the samples (section 5
    of the GAN paper). Both are uint8 [n, 784]."""
    centers = samples / np.float32(255)
    log_sums = []
    for block in np.array_split(images / np.float32(255), len(images) // 500 + 1):  # saves memory
        squares = np.sum(block**2, axis=1)[:, None] + np.sum(centers**2, axis=1)
        exponents = (block @ centers.T - squares / 2) / np.float32(sigma**2)  # -|x-c|^2 / 2sigma^2
        log_sums.append(np.logaddexp.reduce(exponents, axis=1))
    log_scale = np.log(len(centers)) + PIXELS / 2 * np.log(2 * np.pi * sigma**2)
    return np.concatenate(log_sums).mean() - log_scale


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("samples", nargs="+", metavar="SAMPLES.npy", help="uint8 digits")
    args = parser.parse_args()
    files = [np.load(path)[:N_SCORED] for path in args.samples]
    files = [digits.astype(np.uint8, casting="no").reshape(-1, PIXELS) for digits in files]
    train = read_idx(TRAIN_IMAGES).reshape(-1, PIXELS)[:N_TRAIN]
    test = read_idx(MNIST / "t10k-images-idx3-ubyte.gz").reshape(-1, PIXELS)

    tf.keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    cnn = train_cnn(train, read_idx(MNIST / "train-labels-idx1-ubyte.gz")[:N_TRAIN])
    test_features, probabilities = classify(cnn, test)
    right = probabilities.argmax(1) == read_idx(MNIST / "t10k-labels-idx1-ubyte.gz")
    print(f"classifier: {100 * right.mean():.2f} % of the test digits right")

    real = train[np.random.default_rng(0).choice(N_TRAIN, N_SCORED, replace=False)]
    print("    n  Frechet  Parzen  rarest   sure  share of each class, 0 to 9")
    columns = "{:5d} {:8.2f} {:7.1f} {:7.2f} {:6.1f}  " + 10 * "{:4.1f} "
    for name, digits in zip(["real digits", *args.samples], [real, *files]):
        features, probabilities = classify(cnn, digits)
        shares = 100 * np.bincount(probabilities.argmax(1), minlength=10) / len(digits)
        scores = frechet(features, test_features), parzen_log_likelihood(digits, test)
        sure = 100 * (probabilities.max(1) > 0.9).mean()
        row = [len(digits), *scores, shares.min(), sure, *shares]
        print(columns.format(*row), name)
