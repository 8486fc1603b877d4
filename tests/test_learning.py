"""The default flags learn digits: 1,500 steps on MNIST, which take 15 seconds on two cores.

1,000 generated digits are compared with 1,000 real ones, by the means of blocks of 4x4 pixels. With
seed 0, their mean distance from the nearest real digit is 0.58, and 267 different real digits are
nearest to one of them. Between real digits it is 0.63 and about 520. A generator that has collapsed
has few nearest digits, and a blurred or noisy one is far from all of them.
"""

import helpers
import numpy as np
import pytest

import gan_mnist


def blocks(images):
    """Returns [n, 49], the means of blocks of pixels, from images [n, 784]."""
    return images.reshape(-1, 7, 4, 7, 4).mean(axis=(2, 4)).reshape(-1, 49)


@pytest.fixture(scope="module")
def distances(tmp_path_factory):
    """The distance of each generated digit (row) from each real one (column)."""
    run = tmp_path_factory.mktemp("learning")
    mnist = helpers.ROOT / "MNIST_data"
    flags = [f"--input_data_dir={mnist}", f"--output_dir={run}"]
    assert helpers.call(gan_mnist, *flags, "--max_steps=1500").status == 0
    assert helpers.call(gan_mnist, *flags, "--sample=1000").status == 0
    generated = blocks(np.load(run / "generated.npy") / 255)
    real = blocks(gan_mnist.load_images(mnist)[55_000:56_000])
    return np.linalg.norm(generated[:, None] - real, axis=2)


def test_generated_digits_are_near_real_ones(distances):
    assert distances.min(axis=1).mean() < 0.65


def test_generated_digits_are_near_many_different_real_ones(distances):
    assert len(np.unique(distances.argmin(axis=1))) > 140
