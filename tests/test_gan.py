"""What defines this GAN: its networks, losses, draws and updates, against NumPy and oracle.py."""

from types import SimpleNamespace

import helpers
import numpy as np
import oracle
import pytest
import tensorflow.compat.v1 as tf

import gan_mnist

D = ["D/hidden/W", "D/hidden/b", "D/output/W", "D/output/b"]  # in the oracle's order
G = ["G/hidden/W", "G/hidden/b", "G/output/W", "G/output/b"]
AVERAGES = [name.replace("G/", "G_average/") for name in G]


def values(gan):
    """Returns all variables of the GAN: {name: float64 array}."""
    variables = gan.session.graph.get_collection("variables")
    return {variable.op.name: np.float64(gan.session.run(variable)) for variable in variables}


def changed(before, after, names=D + G + AVERAGES):
    """Returns the names of the weights and averages that are not exactly equal."""
    return [name for name in names if np.any(before[name] != after[name])]


def draw(shape, seed, low=-1.0):
    """Returns random numbers between low and 1."""
    return np.float32(np.random.default_rng(seed).uniform(low, 1, shape))


@pytest.fixture(scope="module")
def played():
    """A GAN with its variables at the start and at the end of six training steps."""
    gan = gan_mnist.GAN(gan_mnist.parse_flags(["--g_learning_rate=0.05", "--r1_gamma=9"]))
    start = values(gan)
    for k in range(6):
        x, z = draw([16, 784], seed=k, low=0), draw([16, 100], seed=k)
        gan.session.run(gan.D_update, {gan.x: x, gan.z: z})
        gan.session.run(gan.G_update, {gan.z: z})
        gan.session.run(gan.average_update)
    return SimpleNamespace(gan=gan, start=start, end=values(gan))


def test_D_G_and_the_average_have_one_set_of_weights_each():
    gan = gan_mnist.GAN(gan_mnist.parse_flags(["--hidden_units=5"]))
    variables = gan.session.graph.get_collection("trainable_variables")
    D_shapes = [[784, 5], [5], [5, 1], [1]]
    G_shapes = [[100, 5], [5], [5, 784], [784]]
    expected = dict(zip(D + G + AVERAGES, D_shapes + G_shapes + G_shapes))
    assert {v.op.name: v.shape.as_list() for v in variables} == expected


@pytest.mark.parametrize("layer", ["D/hidden", "D/output", "G/hidden", "G/output"])
def test_initial_biases_are_0_1_and_weights_normal_with_stddev_0_1(played, layer):
    assert np.all(played.start[f"{layer}/b"] == np.float32(0.1))
    weights = played.start[f"{layer}/W"]
    assert 0.15 < np.abs(weights).max() <= 0.2
    # The standard deviation that is left by the truncation is 0.08796.
    assert weights.std() == pytest.approx(0.08796, rel=2 / np.sqrt(weights.size))


def test_initial_weights_depend_on_the_seed_and_not_on_how_they_are_trained(played):
    same = gan_mnist.GAN(gan_mnist.parse_flags(["--g_loss=minimax", "--r1_gamma=0"]))
    assert changed(played.start, values(same), D + G) == []
    other = gan_mnist.GAN(gan_mnist.parse_flags(["--seed=1"]))
    assert changed(played.start, values(other)) == D[::2] + G[::2] + AVERAGES[::2]


@pytest.mark.parametrize(
    "code, name",
    [
        pytest.param('dense(x, hidden_units, "hidden")', "D_1/w:0", id="in D, not shared"),
        pytest.param("G_LOSSES[flags.g_loss](logit_fake)", "G_loss/w:0", id="in a loss"),
    ],
)
def test_a_variable_that_neither_D_nor_G_trains_is_an_error_that_names_it(tmp_path, code, name):
    edited = helpers.load(helpers.edited(tmp_path, (code, f"tf.Variable(1.0, name='w') * {code}")))
    with pytest.raises(ValueError, match=name):
        edited.GAN(edited.parse_flags([]))


def test_two_logits_for_an_image_are_an_error(tmp_path):
    edit = ('dense(hidden, 1, "output")', 'dense(hidden, 2, "output")')
    edited = helpers.load(helpers.edited(tmp_path, edit))
    with pytest.raises(ValueError, match="2.*incompatible"):
        edited.GAN(edited.parse_flags([]))


@pytest.mark.parametrize("scale", [1, 20, 1e30])  # of 1e30, exp and the square overflow
def test_losses_and_their_derivatives_are_right_however_sure_D_is(scale):
    real, fake = np.float32(scale) * draw([2, 16, 1], seed=0)
    with tf.Graph().as_default(), tf.Session() as session:
        logits = [tf.constant(real), tf.constant(fake)]
        D_loss = gan_mnist.discriminator_loss(*logits)
        results = [D_loss, *tf.gradients(D_loss, logits)]
        for kind in ("minimax", "non_saturating"):
            G_loss = gan_mnist.G_LOSSES[kind](logits[1])
            results += [G_loss, *tf.gradients(G_loss, logits[1])]
        results = session.run(results)
    expected = [*oracle.discriminator_loss(np.float64(real), np.float64(fake))]
    for kind in ("minimax", "non_saturating"):
        expected += oracle.generator_loss(np.float64(fake), kind)
    for result, value in zip(results, expected):
        np.testing.assert_allclose(result, value, rtol=1e-4, atol=1e-7)


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


def test_noise_is_uniform_from_minus_1_to_1():
    z = gan_mnist.noise(20_000, np.random.default_rng(0))
    assert z.dtype == np.float32
    assert -1 <= z.min() < z.max() < 1
    counts, _ = np.histogram(z, 20, (-1, 1))
    np.testing.assert_allclose(counts, 100_000, rtol=0.02)
    assert np.abs(np.corrcoef(z.T) - np.eye(100)).max() < 0.05


def test_a_minibatch_has_images_drawn_uniformly():
    images = draw([50, 784], seed=0, low=0)
    images[:, 0] = np.arange(50)  # the number of the image
    x = gan_mnist.minibatch(images, 20_000, np.random.default_rng(1))
    numbers = x[:, 0].astype(int)
    np.testing.assert_array_equal(x, images[numbers], strict=True)
    np.testing.assert_allclose(np.bincount(numbers, minlength=50), 400, atol=6 * np.sqrt(400))


def minibatches(images, flags):
    """Returns what a run draws in each training step, as the oracle takes it."""
    steps = []
    for step in range(1, flags.max_steps + 1):
        rng = np.random.default_rng([flags.seed, step])
        for_D, for_G = [], []
        for _ in range(flags.d_step):
            x = images[rng.integers(len(images), size=flags.batch_size)]
            for_D.append((x, 2 * rng.random([flags.batch_size, 100], dtype=np.float32) - 1))
        for _ in range(flags.g_step):
            for_G.append(2 * rng.random([flags.batch_size, 100], dtype=np.float32) - 1)
        steps.append((for_D, for_G))
    return steps


def test_an_update_changes_one_network_and_leaves_the_others_exactly_as_they_are():
    gan = gan_mnist.GAN(gan_mnist.parse_flags([]))
    feed = {gan.x: draw([16, 784], seed=0, low=0), gan.z: draw([16, 100], seed=1)}
    for update, names in ((gan.D_update, D), (gan.G_update, G), (gan.average_update, AVERAGES)):
        before = values(gan)
        gan.session.run(update, feed)
        assert changed(before, values(gan)) == names


def test_the_averages_generate_the_digits(played):
    z = draw([16, 100], seed=9)
    digits = gan_mnist.generate(played.gan, z)
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
        pytest.param(["--g_learning_rate=0"], [5], D + AVERAGES[::2], id="D only"),
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

    images = gan_mnist.load_images(data)[:-256]  # these are held out
    theta_D, theta_G = [[start[name] for name in names] for names in (D, G)]
    expected = oracle.train(theta_D, theta_G, minibatches(images, flags), flags)
    for name, weights in zip(D + G + AVERAGES, [w for theta in expected for w in theta]):
        # Where a gradient is almost 0, Adam divides one rounding error by another.
        assert np.mean(np.abs(trained[name] - weights) > 1e-5) < 1e-2, name
