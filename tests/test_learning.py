"""The default flags learn digits: 1,500 steps on MNIST, which take 10 seconds on two cores.

1,000 generated digits are compared with 1,000 real ones, by the means of blocks of 4x4 pixels.
This was measured with seeds 0 to 3, and with faults that were put into copies of the script:

                                               mean distance      different
                                               from the nearest   nearest digits
    no fault                                   0.57 to 0.58       192 to 236
    sign of G_loss, D_loss or R1               0.97 to 3.9        1 to 6
    average never updated                      2.9                5 to 6
    decay of the average 0.9999                0.56 to 0.58       41 to 80
    average of all weights so far              0.51 to 0.53       83 to 112
    no average                                 0.72               289
    learning rate of G ten times as large      0.71 to 0.72       473 to 480
    learning rate of D a tenth                 0.48 to 0.53       1 to 3
    real training digits                       0.62 to 0.64       509 to 539

So early, a tenth of G's learning rate or ten times D's is better than the default, and passes.
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
