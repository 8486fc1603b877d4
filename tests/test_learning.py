"""The default flags learn digits: 1,500 steps on MNIST, which take 20 seconds on two cores.

1,000 generated digits are compared with 1,000 real ones, by the means of blocks of 4x4 pixels. With
seed 0, the nearest real digit is at 0.63 in the mean, and 459 different ones are nearest. Between
real digits, it is 0.62, and about 510. Collapsed digits have few nearest ones, bad ones are far.
"""

import helpers
import numpy as np

import gan_mnist


def blocks(images):
    """Returns [n, 49], the means of blocks of pixels, from images [n, 784]."""
    return images.reshape(-1, 7, 4, 7, 4).mean(axis=(2, 4)).reshape(-1, 49)


def test_generated_digits_are_near_real_ones_and_near_many_different_ones(tmp_path):
    mnist = helpers.ROOT / "MNIST_data"
    flags = [f"--input_data_dir={mnist}", f"--output_dir={tmp_path}"]
    assert helpers.call(gan_mnist, *flags, "--max_steps=1500").status == 0
    assert helpers.call(gan_mnist, *flags, "--sample=1000").status == 0
    generated = blocks(np.load(tmp_path / "generated.npy") / 255)
    real = blocks(gan_mnist.load_images(mnist)[55_000:56_000])
    distances = np.linalg.norm(generated[:, None] - real, axis=2)  # one row a generated digit
    assert distances.min(axis=1).mean() < 0.65
    assert len(np.unique(distances.argmin(axis=1))) > 250
