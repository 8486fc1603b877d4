"""Scores generated digits against real ones, in a table with a row for each file.

    python tests/experiments/evaluate.py outputs/seed1/generated.npy

Each file holds uint8 digits, [N, 28, 28]; the first 10,000 are scored. The columns:

    Frechet    distance to the test digits in the features of a small CNN; lower is better
    Parzen     log-likelihood of the test digits in nats, +- standard error; higher is better
    sigma      width of the Parzen windows, chosen on validation digits
    rarest     share of the rarest class in %, 10 is even; commonest: of the commonest
    sure       share of digits to which the CNN gives a probability above 0.9, in %
    blank      share of digits whose mean pixel is below 2 % of white, in %
    distinct   share of digits with no near-copy among the others, in %; real digits: 99

Frechet depends on the CNN and on N: compare rows of equal N, scored with the same --classifier.
"""

import argparse
import functools
import gzip
import os
import sys
from pathlib import Path

import numpy as np

sys.stderr = os.fdopen(os.dup(2), "w", 1)  # Python's own, for TensorFlow's C++ is silenced here
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
import tensorflow as tf

HERE = Path(__file__).resolve().parent
IMAGES, LABELS = HERE.parents[1] / "MNIST_data", HERE / "labels"
N_SCORED = 10_000  # digits scored per file
N_TRAIN = 55_000  # the last 5,000 of the 60,000 training digits are for validation
BLOCK = 500  # rows of a distance matrix that are in memory at once


def read_idx(path, header):
    """What follows the header of a gzipped IDX file: uint8, flat."""
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


def to_unit(images):
    """uint8 images of any shape as float32 [N, 784] in [0, 1]."""
    return images.reshape(-1, 784).astype(np.float32) / 255


def build_cnn():
    """A model from pixels [N, 784] to features [N, 128] and class probabilities [N, 10]."""
    layers = tf.keras.layers
    pixels = tf.keras.Input([784])
    x = layers.Reshape([28, 28, 1])(pixels)
    x = layers.Conv2D(16, 5, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2D(32, 5, strides=2, padding="same", activation="relu")(x)
    features = layers.Dense(128, activation="relu")(layers.Flatten()(x))
    probabilities = layers.Dense(10, activation="softmax")(features)
    return tf.keras.Model(pixels, [features, probabilities])


def train_cnn(cnn, images, labels, epochs=3, batch=100):
    """Trains on images [N, 784] in [0, 1] and labels [N], the learning rate falling to 0."""
    steps = epochs * len(images) // batch
    rate = tf.keras.optimizers.schedules.PolynomialDecay(2e-3, steps, end_learning_rate=0.0)
    model = tf.keras.Model(cnn.inputs, cnn.outputs[1])
    model.compile(tf.keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(images, labels, batch, epochs, verbose=0)


def classify(cnn, images):
    """float64 features [N, 128] and probabilities [N, 10] of images [N, 784] in [0, 1]."""
    return [out.astype(np.float64) for out in cnn.predict(images, batch_size=1000, verbose=0)]


def frechet(a, b):
    """Frechet distance of Gaussians fitted to features a [N, K] and b [M, K].

    |mean_a - mean_b|^2 + trace(S_a + S_b - 2 (S_a^1/2 S_b S_a^1/2)^1/2), S the covariances.
    """
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(cov_a)
    root_a = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    product = root_a @ cov_b @ root_a
    trace_root = np.sqrt(np.linalg.eigvalsh((product + product.T) / 2).clip(0)).sum()
    gap = a.mean(0) - b.mean(0)
    return gap @ gap + np.trace(cov_a) + np.trace(cov_b) - 2 * trace_root


def squared_distances(x, y):
    """Yields (start, squared distances [B, M]) for blocks of B rows of x [N, 784] to y [M, 784]."""
    y_squares = (y * y).sum(1)
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK]
        distances = (block * block).sum(1)[:, None] + y_squares - 2 * (block @ y.T)
        yield start, distances.clip(0)  # rounding can make a zero slightly negative


def log_likelihoods(x, centres, sigmas):
    """Log-densities in nats, float64 [S, N], of x [N, 784] for each of S sigmas: the density is
    the mean of Gaussians of width sigma around centres [M, 784], white being 1."""
    result = np.empty([len(sigmas), len(x)])
    for start, d2 in squared_distances(x, centres):
        nearest = d2.min(1)
        d2 -= nearest[:, None]  # the largest exponent is 0: exp in float32 is exact enough
        nearest = nearest.astype(np.float64)
        for row, sigma in zip(result, sigmas):
            sums = np.exp(d2 * np.float32(-0.5 / sigma**2)).sum(1, dtype=np.float64)
            log_sum = np.log(sums) - nearest / (2 * sigma**2)
            log_norm = np.log(len(centres)) + 784 / 2 * np.log(2 * np.pi * sigma**2)
            row[start : start + len(d2)] = log_sum - log_norm
    return result


def parzen(samples, validation, test):
    """Mean log-likelihood of test [N, 784] under samples [M, 784], its error, and sigma: the best
    for validation [V, 784], on a grid that is refined once around its best."""
    grid = np.geomspace(0.1, 0.5, 10)
    best = log_likelihoods(validation, samples, grid).mean(1).argmax()
    grid = np.geomspace(grid[max(best - 1, 0)], grid[min(best + 1, 9)], 9)
    sigma = grid[log_likelihoods(validation, samples, grid).mean(1).argmax()]
    scores = log_likelihoods(test, samples, [sigma])[0]
    return scores.mean(), scores.std(ddof=1) / np.sqrt(len(scores)), sigma


def nearest_other(x):
    """Euclidean distance [N] of each image of x [N, 784] to its nearest other image."""
    nearest = np.empty(len(x))
    for start, d2 in squared_distances(x, x):
        np.fill_diagonal(d2[:, start:], np.inf)  # not to itself
        nearest[start : start + len(d2)] = np.sqrt(d2.min(1))
    return nearest


def main():
    """Prints the table: a row of real training digits as the reference, then one per file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("samples", nargs="+", metavar="SAMPLES.npy", help="uint8 digits")
    parser.add_argument("--classifier", type=Path, help="keep the CNN in this .npz, or use it")
    parser.add_argument("--seed", type=int, default=0, help="of the CNN and the real digits drawn")
    args = parser.parse_args()
    digits = {name: np.load(name)[:N_SCORED] for name in args.samples}
    digits = {name: to_unit(x.astype(np.uint8, casting="no")) for name, x in digits.items()}
    train = to_unit(read_idx(IMAGES / "train-images-idx3-ubyte.gz", 16))
    train, validation = train[:N_TRAIN], train[N_TRAIN::5]
    test = to_unit(read_idx(IMAGES / "t10k-images-idx3-ubyte.gz", 16))

    tf.keras.utils.set_random_seed(args.seed)
    tf.config.experimental.enable_op_determinism()
    cnn = build_cnn()
    if args.classifier and args.classifier.exists():
        kept = np.load(args.classifier)
        cnn.set_weights([kept[f"arr_{i}"] for i in range(len(kept.files))])
    else:
        train_cnn(cnn, train, read_idx(LABELS / "train-labels-idx1-ubyte.gz", 8)[:N_TRAIN])
        if args.classifier:
            np.savez(args.classifier, *cnn.get_weights())
    test_features, probabilities = classify(cnn, test)
    right = probabilities.argmax(1) == read_idx(LABELS / "t10k-labels-idx1-ubyte.gz", 8)
    print(f"classifier: {100 * right.mean():.2f} % of the test digits right")

    real = train[np.random.default_rng(args.seed).choice(len(train), N_SCORED, replace=False)]
    # the distance below which 1 % of n real digits have their nearest other
    copy_distance = functools.cache(lambda n: np.percentile(nearest_other(real[:n]), 1))
    width = max(len(name) for name in [*digits, "real digits"])
    columns = "n  Frechet  Parzen        sigma  rarest  commonest   sure  blank  distinct"
    print(" " * width, "    ", columns, " classes 0 to 9")
    for name, x in {"real digits": real, **digits}.items():
        features, probabilities = classify(cnn, x)
        shares = 100 * np.bincount(probabilities.argmax(1), minlength=10) / len(x)
        likelihood, error, sigma = parzen(x, validation, test)
        sure = 100 * (probabilities.max(1) > 0.9).mean()
        blank = 100 * (x.mean(1) < 0.02).mean()
        distinct = 100 * (nearest_other(x) > copy_distance(len(x))).mean()
        print(
            f"{name:{width}}  {len(x):5d} {frechet(features, test_features):8.2f} {likelihood:7.1f}"
            f" +- {error:3.1f} {sigma:6.3f} {shares.min():7.2f} {shares.max():10.2f} {sure:6.1f}"
            f" {blank:6.1f} {distinct:9.1f} ",
            *(f"{share:4.1f}" for share in shares),
            flush=True,
        )


if __name__ == "__main__":
    main()
