"""The Parzen-window log-likelihood, and the grid of digits."""

import numpy as np
import pytest
from conftest import pixels

import gan_mnist


def blurred(n, stddev, seed):
    """n images whose pixels are normal around 1/2: uint8 [n, 784]."""
    values = np.random.RandomState(seed).normal(0.5, stddev, (n, 784))
    return np.uint8(np.round(np.clip(values, 0, 1) * 255))


def term_by_term(images, samples, sigma):
    """log of 1/n sum_i N(image; sample_i, sigma^2 I) of each image, in float64."""
    squares = [[((a - b) ** 2).sum() for b in samples / 255.0] for a in images / 255.0]
    terms = -np.array(squares) / (2 * sigma**2) - 392 * np.log(2 * np.pi * sigma**2)
    return np.logaddexp.reduce(terms, axis=1) - np.log(len(samples))


@pytest.mark.parametrize("n", [1, 7, 45])
def test_the_score_is_the_mean_over_the_test_images_worked_out_term_by_term(n):
    samples, black = blurred(30, 0.2, 0), np.zeros([5, 784], np.uint8)
    test = np.concatenate([samples // 2 * 2, blurred(10, 0.4, 1), black])[-n:]  # near and far
    mean, error, sigma = gan_mnist.parzen_log_likelihood(samples, blurred(9, 0.2, 2), test)
    expected = term_by_term(test, samples, sigma)
    assert mean == pytest.approx(expected.mean(), abs=0.01)
    assert error == pytest.approx(expected.std() / np.sqrt(n), abs=0.01)


def test_sigma_is_the_one_that_suits_the_validation_images_best_whatever_the_test_images():
    samples, validation = blurred(40, 0.12, 0), blurred(20, 0.12, 1)
    tests = blurred(9, 0.05, 2), blurred(9, 0.3, 2)
    found = [gan_mnist.parzen_log_likelihood(samples, validation, test)[2] for test in tests]
    assert found[0] == found[1]
    candidates = found[0] * np.array([0.8, 0.93, 1, 1.07, 1.25])
    assert np.argmax([term_by_term(validation, samples, s).mean() for s in candidates]) == 2


@pytest.mark.parametrize("n, side", [(1, 1), (2, 2), (5, 3), (64, 8)])
def test_the_grid_shows_the_digits_in_reading_order_twice_enlarged(n, side, tmp_path):
    digits = blurred(n, 0.3, 0)
    gan_mnist.save_grid(tmp_path / "grid.png", digits)
    places = np.zeros([side**2, 28, 28])  # what is left over is black
    places[:n] = digits.reshape(n, 28, 28)
    expected = np.block([list(places[row * side : (row + 1) * side]) for row in range(side)])
    grid = pixels(tmp_path / "grid.png")
    assert grid.dtype == np.uint8 and grid.shape == (side * 56, side * 56)
    assert (grid == np.kron(expected, np.ones([2, 2]))).all()
