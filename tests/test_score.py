"""The Parzen-window log-likelihood, and the grid of digits."""

import math

import numpy as np
import pytest
from PIL import Image

import gan_mnist


def random_images(n, seed):
    """n random images, uint8 [n, 784]."""
    return np.random.RandomState(seed).randint(256, size=(n, 784)).astype(np.uint8)


def gaussian_images(n, stddev, seed):
    """n images, uint8, whose pixels (from 0 to 1) are normal around 1/2."""
    pixels = np.random.RandomState(seed).normal(0.5, stddev, (n, 784))
    return np.uint8(np.round(np.clip(pixels, 0, 1) * 255))


def direct(image, samples, sigma):
    """log of 1/n sum_i N(image; sample_i, sigma^2 I), term by term."""
    terms = []
    for sample in samples:
        square = sum((float(a) / 255 - float(b) / 255) ** 2 for a, b in zip(image, sample))
        terms.append(-square / (2 * sigma**2) - 392 * math.log(2 * math.pi * sigma**2))
    largest = max(terms)
    return largest + math.log(sum(math.exp(t - largest) for t in terms) / len(terms))


@pytest.mark.parametrize("sigma", [0.1, 0.2, 0.5])
def test_log_densities_are_those_of_the_mixture_worked_out_term_by_term(sigma):
    near = random_images(6, 0)
    images = np.concatenate([near // 2 * 2, random_images(3, 1)])  # near the samples, and far
    scores = gan_mnist.parzen_log_densities(images, near, [sigma])
    expected = [[direct(image, near, sigma) for image in images]]
    assert scores.shape == (1, 9) and scores.dtype == np.float64
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=0.01)


@pytest.mark.parametrize("n", [1, 199, 200, 201, 400, 450])
def test_an_image_scores_the_same_whatever_stands_beside_it(n):
    images, samples = random_images(n, 2), random_images(30, 3)
    sigmas = [0.1, 0.3]
    together = gan_mnist.parzen_log_densities(images, samples, sigmas)
    assert together.shape == (2, n)
    for k in {0, n // 2, n - 1}:
        alone = gan_mnist.parzen_log_densities(images[k : k + 1], samples, sigmas)
        np.testing.assert_allclose(together[:, k], alone[:, 0], rtol=1e-5)


def test_one_sample_is_one_gaussian_on_pixels_from_0_to_1():
    black, white = np.zeros([1, 784], np.uint8), np.full([1, 784], 255, np.uint8)
    at, off = gan_mnist.parzen_log_densities(np.concatenate([black, white]), black, [0.5])[0]
    peak = -392 * math.log(2 * math.pi * 0.25)
    assert at == pytest.approx(peak, rel=1e-6)
    assert off == pytest.approx(peak - 784 / (2 * 0.25), rel=1e-6)


def test_far_images_have_a_finite_score():
    black, white = np.zeros([3, 784], np.uint8), np.full([2, 784], 255, np.uint8)
    scores = gan_mnist.parzen_log_densities(white, black, [0.02, 0.1])
    expected = [direct(white[0], black, sigma) for sigma in (0.02, 0.1)]
    np.testing.assert_allclose(scores[:, 0], expected, rtol=1e-5)


def test_a_mixture_of_known_density_gets_its_known_log_likelihood():
    # samples at two points, images drawn from windows on them: the density is known exactly
    sigma, random = 0.1, np.random.RandomState(0)
    centres = np.full([2, 784], 128, np.uint8)
    centres[1, :100] = 64
    pixels = centres[random.randint(2, size=2000)] / 255.0 + random.normal(0, sigma, (2000, 784))
    images = np.uint8(np.clip(np.round(pixels * 255), 0, 255))
    scores = gan_mnist.parzen_log_densities(images, np.repeat(centres, 50, 0), [sigma])[0]
    # the centres are far apart, 2.5 > 10 sigma: minus the entropy of one window, and log 2
    known = -392 * (math.log(2 * math.pi * sigma**2) + 1) - math.log(2)
    assert scores.mean() == pytest.approx(known, abs=4 * math.sqrt(392 / 2000.0))
    assert scores.std() == pytest.approx(math.sqrt(392), rel=0.1)


def test_score_is_the_mean_over_test_at_the_sigma_that_suits_validation_best():
    samples, validation = gaussian_images(200, 0.12, 0), gaussian_images(50, 0.12, 1)
    test = gaussian_images(70, 0.2, 2)  # of another width, which must not matter for sigma
    mean, error, sigma = gan_mnist.parzen_log_likelihood(samples, validation, test)
    densities = gan_mnist.parzen_log_densities(test, samples, [sigma])[0]
    assert mean == pytest.approx(densities.mean())
    assert error == pytest.approx(math.sqrt(densities.var() / 70))
    candidates = sigma * np.array([0.7, 0.85, 1, 1.2, 1.4])
    best = gan_mnist.parzen_log_densities(validation, samples, candidates).mean(1).argmax()
    assert candidates[best] == sigma
    other = gan_mnist.parzen_log_likelihood(samples, gaussian_images(50, 0.2, 1), test)[2]
    assert other > sigma


def test_real_digits_score_far_better_than_noise(small_mnist):
    train, validation, test = gan_mnist.load_data(small_mnist)[:3]
    digits = gan_mnist.parzen_log_likelihood(train, validation, test)[0]
    noise = gan_mnist.parzen_log_likelihood(random_images(220, 0), validation, test)[0]
    assert digits > noise + 200


@pytest.mark.parametrize("n", [1, 2, 5, 64])
def test_the_grid_shows_every_digit_once_in_reading_order(n, tmp_path):
    digits = random_images(n, 5)
    gan_mnist.save_grid(str(tmp_path / "grid.png"), digits)
    canvas = np.array(Image.open(str(tmp_path / "grid.png")))
    columns = canvas.shape[1] // 28
    assert canvas.dtype == np.uint8 and canvas.shape[1] == columns * 28
    assert abs(canvas.shape[0] // 28 - columns) <= 1
    places = [canvas[r : r + 28, c : c + 28] for r, c in every_place(canvas.shape)]
    for digit, place in zip(digits, places):
        assert (place.ravel() == digit).all()
    assert not np.any(places[n:])  # what is left over is black


def every_place(shape):
    """The upper left corners of a grid's places, in reading order."""
    return [(r, c) for r in range(0, shape[0], 28) for c in range(0, shape[1], 28)]
