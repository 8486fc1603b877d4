"""What several of the test files share."""

import argparse
import contextlib
import gzip
import os
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MNIST = os.path.join(ROOT, "MNIST_data")
TRAIN, TEST = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"
sys.path.insert(0, ROOT)

import gan_mnist

gan_mnist.import_tensorflow()


def unpacked(name, folder=MNIST):
    """The bytes of an unpacked IDX file."""
    with gzip.open(os.path.join(folder, name + ".gz")) as file:
        return file.read()


def idx_bytes(rows):
    """An IDX file, header and all, that holds these rows of 784 bytes each."""
    header = (2051, len(rows), 28, 28)
    return b"".join(number.to_bytes(4, "big") for number in header) + b"".join(rows)


@pytest.fixture(scope="session")
def small_mnist(tmp_path_factory):
    """A folder with the first 240 training and the first 60 test images of MNIST, unpacked."""
    folder = tmp_path_factory.mktemp("small_mnist")
    for name, n in ((TRAIN, 240), (TEST, 60)):
        data = unpacked(name)[16:]
        rows = [data[784 * k : 784 * (k + 1)] for k in range(n)]
        (folder / name).write_bytes(idx_bytes(rows))
    return str(folder)


def make_flags(**changes):
    """The flags of a small game, as the script's functions take them."""
    flags = {
        "max_steps": 60,
        "batch_size": 16,
        "d_step": 1,
        "g_step": 1,
        "g_loss": "non_saturating",
        "d_learning_rate": 1e-3,
        "g_learning_rate": 2e-3,
        "lr_half_life": 0,
        "beta1": 0.5,
        "beta2": 0.99,
        "dropout": 0.5,
        "ema_decay": 0.999,
        "seed": 0,
        "summary_steps": 20,
    }
    assert set(changes) <= set(flags)
    return argparse.Namespace(**dict(flags, **changes))


@contextlib.contextmanager
def new_session(seed=0):
    """A TensorFlow session on a new, empty, seeded graph."""
    tf = gan_mnist.tf
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        tf.set_random_seed(seed)
        yield session
