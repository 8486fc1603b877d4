"""Score generated MNIST digits against real ones.

    python tests/evaluate.py [--classifier FILE.npz] [--seed N] SAMPLES.npy [MORE.npy ...]

Each file holds uint8 digits, [N, 28, 28] or [N, 784]; the first 10,000 are scored. The table has
one row of real training digits as the reference, then one row per file:

    n          number of digits scored
    Frechet    distance to the test digits in the features of a small CNN; lower is better
    Parzen     log-likelihood of the test digits in nats, +- standard error; higher is better
    sigma      width of the Parzen windows, chosen on validation digits
    rarest     share of the rarest class in %, 10 is even
    commonest  share of the commonest class in %
    sure       share of digits to which the CNN gives a probability above 0.9, in %
    blank      share of digits whose mean pixel is below 2 % of white, in %
    distinct   share of digits with no near-copy among the others, in %; real digits: 99
    classes    shares of the classes 0 to 9 in %

Frechet depends on the CNN and on n: compare rows of equal n, scored with the same --classifier.
"""

import argparse
import contextlib
import functools
import gzip
import os
import sys
import zipfile
from pathlib import Path

import numpy as np

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # works only if set before TensorFlow is imported


@contextlib.contextmanager
def quiet():
    """Keep what native code writes to stderr off the screen."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


with quiet():  # a missing GPU is reported whatever the log level
    import tensorflow as tf

TESTS = Path(__file__).resolve().parent
IMAGES, LABELS = TESTS.parent / "MNIST_data", TESTS / "labels"
N_SCORED = 10_000  # digits scored per file
N_TRAIN = 55_000  # the last 5,000 of the 60,000 training digits are for validation
BLOCK = 500  # rows of a distance matrix that are in memory at once


def fail(message):
    """End with one line on stderr and exit status 2."""
    print(f"evaluate.py: error: {message}", file=sys.stderr)
    sys.exit(2)


def read_idx(path):
    """Return the uint8 array in a gzipped IDX file: images [N, 28, 28] or labels [N]."""
    try:
        data = gzip.decompress(path.read_bytes())
        shape = np.frombuffer(data, ">u4", count=data[3], offset=4)
        return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError) as error:
        fail(f"{path}: cannot be read as a gzipped IDX file ({error})")


def to_unit(images):
    """Return uint8 images of any shape [N, ...] as float32 [N, 784] in [0, 1]."""
    return images.reshape(len(images), 784).astype(np.float32) / 255


def read_samples(path):
    """Return the digits of one .npy file as uint8 [N, 784], N at most N_SCORED."""
    try:
        samples = np.load(path, allow_pickle=False)
    except OSError as error:
        fail(f"{path}: cannot be read ({error.strerror})")
    except (EOFError, ValueError, zipfile.BadZipFile):
        fail(f"{path}: is not a .npy file of numbers")
    if not isinstance(samples, np.ndarray):
        fail(f"{path}: is an .npz archive, must be a .npy file with one array")
    if samples.dtype != np.uint8:
        fail(f"{path}: values are {samples.dtype}, must be uint8, 0 to 255")
    if samples.shape[1:] not in ((28, 28), (784,)) or len(samples) < 2:
        fail(f"{path}: shape is {list(samples.shape)}, must be [N, 28, 28] or [N, 784] with N > 1")
    return samples[:N_SCORED].reshape(-1, 784)


# ---------------------------------------------------------------------------- classifier


def build_cnn():
    """Return a model from pixels [N, 784] to features [N, 128] and class probabilities [N, 10]."""
    layers = tf.keras.layers
    pixels = tf.keras.Input([784])
    x = layers.Reshape([28, 28, 1])(pixels)
    x = layers.Conv2D(16, 5, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2D(32, 5, strides=2, padding="same", activation="relu")(x)
    features = layers.Dense(128, activation="relu")(layers.Flatten()(x))
    probabilities = layers.Dense(10, activation="softmax")(features)
    return tf.keras.Model(pixels, [features, probabilities])


def train_cnn(cnn, images, labels, epochs=3, batch=100):
    """Train `cnn` on images [N, 784] in [0, 1] and labels [N], the rate falling to 0."""
    steps = epochs * len(images) // batch
    rate = tf.keras.optimizers.schedules.PolynomialDecay(2e-3, steps, end_learning_rate=0.0)
    model = tf.keras.Model(cnn.inputs, cnn.outputs[1])
    model.compile(tf.keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(images, labels, batch, epochs, verbose=0)


def get_cnn(path, images, labels):
    """Return the CNN with the weights in the .npz file `path`, or trained and kept there."""
    cnn = build_cnn()
    if path and path.exists():
        try:
            with np.load(path, allow_pickle=False) as kept:
                cnn.set_weights([kept[f"arr_{i}"] for i in range(len(kept.files))])
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            fail(f"--classifier {path}: is not a classifier that this program kept")
        return cnn
    if path and not path.parent.is_dir():
        fail(f"--classifier {path}: there is no folder {path.parent}")
    train_cnn(cnn, images, labels)
    if path:
        with open(path, "wb") as file:  # an open file, as savez would append .npz to a name
            np.savez(file, *cnn.get_weights())
    return cnn


def classify(cnn, images):
    """Return float64 features [N, 128] and probabilities [N, 10] of images [N, 784] in [0, 1]."""
    return [out.astype(np.float64) for out in cnn.predict(images, batch_size=1000, verbose=0)]


# ---------------------------------------------------------------------------- measures


def sqrt_psd(matrix):
    """Return the square root of a symmetric positive semi-definite matrix [K, K]."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def frechet(a, b):
    """Return the Frechet distance of Gaussians fitted to features a [N, K] and b [M, K].

    |mean_a - mean_b|^2 + trace(S_a + S_b - 2 (S_a^1/2 S_b S_a^1/2)^1/2), S the covariances.
    """
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root_a = sqrt_psd(cov_a)
    product = root_a @ cov_b @ root_a
    trace_root = np.sqrt(np.linalg.eigvalsh((product + product.T) / 2).clip(0)).sum()
    gap = a.mean(0) - b.mean(0)
    return gap @ gap + np.trace(cov_a) + np.trace(cov_b) - 2 * trace_root


def squared_distances(x, y):
    """Yield (start, squared distances [B, M]) for blocks of B rows of x [N, 784] to y [M, 784]."""
    y_squares = (y * y).sum(1)
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK]
        distances = (block * block).sum(1)[:, None] + y_squares - 2 * (block @ y.T)
        yield start, distances.clip(0)  # rounding can make a zero slightly negative


def log_likelihoods(x, centres, sigmas):
    """Return the log-densities in nats, float64 [S, N], of x [N, 784] for each of S sigmas.

    The density is the mean of Gaussians of width sigma around centres [M, 784], white being 1.
    """
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
    """Return mean log-likelihood of test [N, 784] under samples [M, 784], its error, and sigma.

    Sigma is the best for validation [V, 784], on a grid that is refined once around its best.
    """
    grid = np.geomspace(0.1, 0.5, 10)
    best = log_likelihoods(validation, samples, grid).mean(1).argmax()
    grid = np.geomspace(grid[max(best - 1, 0)], grid[min(best + 1, 9)], 9)
    sigma = grid[log_likelihoods(validation, samples, grid).mean(1).argmax()]
    scores = log_likelihoods(test, samples, [sigma])[0]
    return scores.mean(), scores.std(ddof=1) / np.sqrt(len(scores)), sigma


def nearest_other(x):
    """Return the Euclidean distance [N] of each image of x [N, 784] to its nearest other image."""
    nearest = np.empty(len(x))
    for start, d2 in squared_distances(x, x):
        rows = np.arange(len(d2))
        d2[rows, start + rows] = np.inf  # not to itself
        nearest[start : start + len(d2)] = np.sqrt(d2.min(1))
    return nearest


# ---------------------------------------------------------------------------- the table


def table_row(name, samples, cnn, validation, test, test_features, copy_distance):
    """Return one line of the table for samples [N, 784] in [0, 1]."""
    features, probabilities = classify(cnn, samples)
    shares = 100 * np.bincount(probabilities.argmax(1), minlength=10) / len(samples)
    likelihood, error, sigma = parzen(samples, validation, test)
    sure = 100 * (probabilities.max(1) > 0.9).mean()
    blank = 100 * (samples.mean(1) < 0.02).mean()
    distinct = 100 * (nearest_other(samples) > copy_distance(len(samples))).mean()
    return (
        f"{name}  {len(samples):5d} {frechet(features, test_features):8.2f} {likelihood:7.1f}"
        f" +- {error:3.1f} {sigma:6.3f} {shares.min():7.2f} {shares.max():10.2f} {sure:6.1f}"
        f" {blank:6.1f} {distinct:9.1f}  " + " ".join(f"{share:4.1f}" for share in shares)
    )


def parse_args():
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.error = fail
    parser.add_argument("samples", nargs="+", metavar="SAMPLES.npy", help="uint8 digits")
    parser.add_argument(
        "--classifier", type=Path, metavar="FILE.npz", help="use the CNN in this file, or keep it"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the CNN and the real digits drawn")
    return parser.parse_args()


def main():
    args = parse_args()
    if not 0 <= args.seed < 2**32:
        fail(f"--seed {args.seed}: must be between 0 and 2**32 - 1")
    files = {name: read_samples(name) for name in args.samples}  # bad input shows at once
    train_all = read_idx(IMAGES / "train-images-idx3-ubyte.gz")
    test = to_unit(read_idx(IMAGES / "t10k-images-idx3-ubyte.gz"))
    train_labels = read_idx(LABELS / "train-labels-idx1-ubyte.gz")[:N_TRAIN]
    test_labels = read_idx(LABELS / "t10k-labels-idx1-ubyte.gz")
    train, validation = to_unit(train_all[:N_TRAIN]), to_unit(train_all[N_TRAIN::5])

    tf.keras.utils.set_random_seed(args.seed)
    tf.config.experimental.enable_op_determinism()
    cnn = get_cnn(args.classifier, train, train_labels)
    test_features, probabilities = classify(cnn, test)
    accuracy = 100 * (probabilities.argmax(1) == test_labels).mean()
    print(f"classifier: {accuracy:.2f} % of the test digits right")

    draw = np.random.default_rng(args.seed)
    real = train[draw.choice(len(train), N_SCORED, replace=False)]

    @functools.cache
    def copy_distance(n):
        """Distance below which 1 % of n real digits have their nearest other."""
        return np.percentile(nearest_other(real[:n]), 1)

    width = max(len(name) for name in [*files, "real digits"])
    print(
        f"{'':{width}}      n  Frechet  Parzen        sigma  rarest  commonest   sure  blank"
        "  distinct  classes 0 to 9"
    )
    reference = {"real digits": real}
    for name, samples in [*reference.items(), *((k, to_unit(v)) for k, v in files.items())]:
        row = table_row(
            f"{name:{width}}", samples, cnn, validation, test, test_features, copy_distance
        )
        print(row, flush=True)


if __name__ == "__main__":
    main()
