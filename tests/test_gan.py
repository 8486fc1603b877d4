"""What defines this GAN: its networks, losses, draws and updates, against NumPy and oracle.py."""

import math
from types import SimpleNamespace

import helpers
import numpy as np
import oracle
import pytest
import tensorflow.compat.v1 as tf

import gan_mnist

D = ["D/nn1/W", "D/nn1/b", "D/nn2/W", "D/nn2/b"]  # in the oracle's order
G = ["G/nn1/W", "G/nn1/b", "G/nn2/W", "G/nn2/b"]
AVERAGES = [f"{name}/ExponentialMovingAverage" for name in G]


def values(gan):
    """Returns all variables of the GAN: {name: float64 array}."""
    variables = gan.session.graph.get_collection("variables")
    return {variable.op.name: np.float64(gan.session.run(variable)) for variable in variables}


def changed(before, after):
    """Returns the names of the weights and averages that are not exactly equal."""
    return [name for name in D + G + AVERAGES if np.any(before[name] != after[name])]


def draw(shape, seed, low=-1.0):
    """Returns random numbers between low and 1."""
    return np.float32(np.random.default_rng(seed).uniform(low, 1, shape))


@pytest.fixture(scope="module")
def played():
    """A GAN with its variables before and after each of six updates of G, with D's between them."""
    gan = gan_mnist.GAN(gan_mnist.parse_flags(["--g_learning_rate=0.05", "--r1_gamma=9"]))
    history = [values(gan)]
    for k in range(6):
        x, z = draw([16, 784], seed=k, low=0), draw([16, 100], seed=k)
        gan.session.run(gan.D_update, {gan.x: x, gan.z: z})
        gan.session.run(gan.G_update, {gan.z: z})
        history.append(values(gan))
    return SimpleNamespace(gan=gan, history=history, start=history[0], end=history[-1])


@pytest.mark.parametrize(
    "flags, units",
    [
        pytest.param([], 128, id="default"),
        pytest.param(["--hidden_units=5"], 5, id="5 hidden units"),
    ],
)
def test_D_and_G_have_one_set_of_variables_each(flags, units):
    gan = gan_mnist.GAN(gan_mnist.parse_flags(flags))
    variables = gan.session.graph.get_collection("trainable_variables")
    shapes = [[784, units], [units], [units, 1], [1], [100, units], [units], [units, 784], [784]]
    assert {v.op.name: v.shape.as_list() for v in variables} == dict(zip(D + G, shapes))


@pytest.mark.parametrize("name", ["D/nn1/W", "D/nn2/W", "G/nn1/W", "G/nn2/W"])
def test_initial_weights_are_normal_with_stddev_0_1_and_truncated_at_0_2(played, name):
    weights = played.start[name]
    assert 0.15 < np.abs(weights).max() <= 0.2
    # The standard deviation that is left by the truncation is 0.08796.
    assert weights.std() == pytest.approx(0.08796, rel=2 / np.sqrt(weights.size))


def test_initial_biases_are_0_1_and_averages_start_as_the_weights(played):
    for name in ("D/nn1/b", "D/nn2/b", "G/nn1/b", "G/nn2/b"):
        assert np.all(played.start[name] == np.float32(0.1))
    for name, average in zip(G, AVERAGES):
        assert np.all(played.start[average] == played.start[name])


def test_initial_weights_depend_on_the_seed_and_not_on_how_they_are_trained(played):
    same = gan_mnist.GAN(gan_mnist.parse_flags(["--g_loss=minimax", "--r1_gamma=0"]))
    assert changed(played.start, values(same)) == []
    other = gan_mnist.GAN(gan_mnist.parse_flags(["--seed=1"]))
    assert changed(played.start, values(other)) == D[::2] + G[::2] + AVERAGES[::2]


@pytest.mark.parametrize(
    "code, factor",
    [
        pytest.param("tf.tanh(dense(z, ", "tf.Variable(1.0, name='w')", id="tf.Variable in G"),
        pytest.param("generator_loss(logit_fake, f", "tf.get_variable('w', [])", id="in no scope"),
    ],
)
def test_a_variable_that_neither_D_nor_G_trains_is_an_error_that_names_it(tmp_path, code, factor):
    edited = helpers.load(helpers.edited(tmp_path, (code, f"{factor} * {code}")))
    with pytest.raises(ValueError, match="w:0"):
        edited.GAN(edited.parse_flags([]))


@pytest.mark.parametrize(
    "scale",
    [
        pytest.param(1, id="unsure"),
        pytest.param(20, id="sure"),
        pytest.param(1e30, id="exp and square overflow"),
    ],
)
def test_losses_and_their_derivatives_are_right_however_sure_D_is(scale):
    real, fake = np.float32(scale) * draw([2, 16, 1], seed=0)
    with tf.Graph().as_default(), tf.Session() as session:
        logits = [tf.constant(real), tf.constant(fake)]
        D_loss = gan_mnist.discriminator_loss(*logits)
        results = [D_loss, *tf.gradients(D_loss, logits)]
        for kind in ("minimax", "non_saturating"):
            G_loss = gan_mnist.generator_loss(logits[1], kind)
            results += [G_loss, *tf.gradients(G_loss, logits[1])]
        results = session.run(results)
    expected = [*oracle.discriminator_loss(np.float64(real), np.float64(fake))]
    for kind in ("minimax", "non_saturating"):
        expected += oracle.generator_loss(np.float64(fake), kind)
    for result, value in zip(results, expected):
        np.testing.assert_allclose(result, value, rtol=1e-4, atol=1e-7)


def test_an_unknown_kind_of_loss_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="wasserstein"):
        gan_mnist.generator_loss(tf.zeros([3, 1]), "wasserstein")


def test_the_r1_penalty_and_its_gradients_are_right():
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.constant(draw([16, 784], seed=0, low=0))
        R1 = gan_mnist.r1_penalty(gan_mnist.discriminator(x, 128), x, 3.0)
        weights = tf.trainable_variables()
        gradients = tf.gradients(R1, weights, unconnected_gradients="zero")
        session.run(tf.global_variables_initializer())
        x, R1, weights, gradients = session.run([x, R1, weights, gradients])
    weights = [np.float64(weight) for weight in weights]
    expected, expected_gradients = oracle.r1_penalty(weights, x, 3.0)
    assert R1 == pytest.approx(expected, rel=1e-5)
    for gradient, value in zip(gradients, expected_gradients):
        np.testing.assert_allclose(gradient, value, rtol=1e-3, atol=1e-6)
    step = [1e-6 * draw(w.shape, seed=k) for k, w in enumerate(weights)]
    ahead, _ = oracle.r1_penalty([w + d for w, d in zip(weights, step)], x, 3.0)
    behind, _ = oracle.r1_penalty([w - d for w, d in zip(weights, step)], x, 3.0)
    slope = sum(np.sum(g * d) for g, d in zip(expected_gradients, step))
    assert (ahead - behind) / 2 == pytest.approx(slope, rel=1e-5)


def test_noise_is_uniform_from_minus_1_to_1():
    z = gan_mnist.noise(20_000, np.random.default_rng(0))
    assert z.dtype == np.float32
    assert -1 <= z.min() < z.max() < 1
    counts, _ = np.histogram(z, 20, (-1, 1))
    np.testing.assert_allclose(counts, 100_000, rtol=0.02)
    assert np.abs(np.corrcoef(z.T) - np.eye(100)).max() < 0.05


def test_a_minibatch_has_images_drawn_uniformly_and_scaled_to_0_1():
    images = np.random.default_rng(0).integers(256, size=[50, 784], dtype=np.uint8)
    images[:, 0] = np.arange(50)  # the number of the image
    x = gan_mnist.minibatch(images, 20_000, np.random.default_rng(1))
    assert x.dtype == np.float32
    numbers = np.rint(x[:, 0] * 255).astype(int)
    np.testing.assert_allclose(x, images[numbers] / 255, atol=1e-6)
    np.testing.assert_allclose(np.bincount(numbers, minlength=50), 400, atol=6 * np.sqrt(400))


def minibatches(images, flags):
    """Returns what a run draws in each training step, as the oracle takes it."""
    steps = []
    for step in range(1, flags.max_steps + 1):
        rng = np.random.default_rng([flags.seed, step])
        for_D, for_G = [], []
        for _ in range(flags.d_step):
            x = images[rng.integers(len(images), size=flags.batch_size)] / 255
            for_D.append((x, 2 * rng.random([flags.batch_size, 100], dtype=np.float32) - 1))
        for _ in range(flags.g_step):
            for_G.append(2 * rng.random([flags.batch_size, 100], dtype=np.float32) - 1)
        steps.append((for_D, for_G))
    return steps


def test_every_update_of_every_seed_has_draws_of_its_own():
    """That a run draws these minibatches is seen from the weights that it trains, below."""
    drawn = set()
    for seed in range(3):
        flags = SimpleNamespace(seed=seed, max_steps=5, d_step=2, g_step=3, batch_size=4)
        for for_D, for_G in minibatches(np.arange(60_000), flags):
            drawn.update(array.tobytes() for pair in [*for_D, for_G] for array in pair)
    assert len(drawn) == 3 * 5 * (2 * 2 + 3)


def test_an_update_changes_one_network_and_leaves_the_other_exactly_as_it_is():
    gan = gan_mnist.GAN(gan_mnist.parse_flags([]))
    feed = {gan.x: draw([16, 784], seed=0, low=0), gan.z: draw([16, 100], seed=1)}
    states = [values(gan)]
    for update in (gan.D_update, gan.G_update):
        gan.session.run(update, feed)
        states.append(values(gan))
    assert changed(states[0], states[1]) == D
    assert changed(states[1], states[2]) == G + AVERAGES


def test_the_average_follows_Gs_updates_with_a_decay_of_1_minus_4_by_n_plus_3(played):
    """Then the weights of the first n updates are as 3 choose 3, 4 choose 3, 5 choose 3, ..."""
    for n in range(1, len(played.history)):
        shares = [math.comb(i + 2, 3) / math.comb(n + 3, 4) for i in range(1, n + 1)]
        for name, average in zip(G, AVERAGES):
            expected = sum(s * past[name] for s, past in zip(shares, played.history[1:]))
            np.testing.assert_allclose(played.history[n][average], expected, atol=1e-6)


def test_the_averages_generate_the_digits(played):
    z = draw([16, 100], seed=9)
    digits = played.gan.generate(z)
    by_averages = oracle.sigmoid(oracle.forward([played.end[name] for name in AVERAGES], z)[1])
    assert np.abs(digits - 255 * by_averages).max() < 0.501  # rounded


def test_the_curves_are_what_NumPy_computes(played):
    theta_D, theta_G = [[played.end[name] for name in names] for names in (D, G)]
    x, z = draw([30, 784], seed=7), 2 * draw([20, 100], seed=8)
    real = oracle.forward(theta_D, x)[1]
    fake = oracle.forward(theta_D, oracle.sigmoid(oracle.forward(theta_G, z)[1]))[1]
    expected = {
        "losses/D_loss": oracle.discriminator_loss(real, fake)[0],  # without R1
        "losses/G_loss": oracle.generator_loss(fake, "non_saturating")[0],
        "probabilities/D_real": np.mean(oracle.sigmoid(real)),
        "probabilities/D_fake": np.mean(oracle.sigmoid(fake)),
        "accuracy/D": (np.sum(real > 0) + np.sum(fake < 0)) / 50,
    }
    summary = played.gan.session.run(played.gan.curves, {played.gan.x: x, played.gan.z: z})
    points = tf.Summary.FromString(summary).value
    assert {p.tag: p.simple_value for p in points} == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "flags, stops, moving",
    [
        pytest.param(["--d_step=2", "--g_step=1"], [5], D + G + AVERAGES, id="more updates of D"),
        pytest.param(["--g_loss=minimax", "--g_step=2"], [5], D + G + AVERAGES, id="minimax"),
        pytest.param(["--beta1=0.5", "--seed=4"], [2, 5], D + G + AVERAGES, id="resumed"),
        pytest.param(["--g_learning_rate=0"], [5], D, id="D only"),
        pytest.param(["--d_learning_rate=0", "--r1_gamma=0"], [5], G + AVERAGES, id="G only"),
    ],
)
def test_a_run_trains_the_weights_that_the_oracle_trains(data, folder, flags, stops, moving):
    flags = ["--output_dir=run", "--batch_size=16", *flags]
    for stop in stops:
        helpers.call(gan_mnist, *flags, f"--max_steps={stop}")
    trained = helpers.variables("run", 5)
    flags = gan_mnist.parse_flags([*flags, "--max_steps=5"])
    start = values(gan_mnist.GAN(flags))
    assert changed(start, trained) == moving

    images = gan_mnist.load_images(data)[:3300]  # a run holds out the last 300
    theta_D, theta_G = [[start[name] for name in names] for names in (D, G)]
    expected = oracle.train(theta_D, theta_G, minibatches(images, flags), flags)
    for name, weights in zip(D + G + AVERAGES, [w for theta in expected for w in theta]):
        # Where a gradient is almost 0, Adam divides one rounding error by another.
        assert np.mean(np.abs(trained[name] - weights) > 1e-5) < 1e-3, name
