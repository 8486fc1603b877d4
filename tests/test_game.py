"""The networks, the losses, the updates and the compiled game, against the paper and the oracle."""

import collections

import numpy as np
import oracle
import pytest
from conftest import make_flags, new_session

import gan_mnist

tf = gan_mnist.tf
SHAPES = {
    "G_nn1/G_weight": (100, 128),
    "G_nn1/G_bias": (128,),
    "G_nn2/G_weight": (128, 784),
    "G_nn2/G_bias": (784,),
    "D_nn1/D_weight": (784, 128),
    "D_nn1/D_bias": (128,),
    "D_nn2/D_weight": (128, 1),
    "D_nn2/D_bias": (1,),
}
Built = collections.namedtuple("Built", "flags gan session variables images chunk start")


@pytest.fixture(scope="module")
def images(small_mnist):
    """220 training images."""
    return gan_mnist.load_data(small_mnist)[0]


def build(images, **changes):
    """A GAN with its compiled game, in a session that the caller closes.

    variables: {name: variable}; start: their initial values.
    """
    flags = make_flags(**changes)
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(flags.seed)
        gan, chunk = gan_mnist.GAN(flags), gan_mnist.draw_chunk(flags, images, 0)
        gan.compile(chunk)
        session = tf.Session(graph=graph)
        session.run(tf.global_variables_initializer())
        variables = {v.name.split(":")[0]: v for v in tf.global_variables()}
    return Built(flags, gan, session, variables, images, chunk, session.run(variables))


def play(built, first, last):
    """Plays steps first to last - 1 of the chunk. Returns: both losses."""
    feed = dict(zip(built.gan.inputs, (first, last, *built.chunk)))
    return built.session.run(built.gan.losses, feed)


def values(built):
    """{name: value} of all variables."""
    return built.session.run(built.variables)


def load(built, theta):
    """Gives variables these values."""
    for name, value in theta.items():
        built.variables[name].load(value, built.session)


def same_bits(a, b):
    """Whether two arrays are equal bit for bit."""
    return np.asarray(a).tobytes() == np.asarray(b).tobytes()


def some_theta(seed=0):
    """Variables, biases too, large enough for every part of the networks to show."""
    random = np.random.RandomState(seed)
    return {name: np.float32(random.normal(0, 0.2, shape)) for name, shape in SHAPES.items()}


def some_batch(images, n=16, seed=0):
    """n images x from 0 to 1, n rows z, and dropout factors of each row."""
    random = np.random.RandomState(seed)
    x = np.float32(images[random.permutation(len(images))[:n]]) / 255
    factors = np.float32(random.randint(2, size=(n, 128)) * 2)
    return x, np.float32(random.uniform(-1, 1, (n, 100))), factors


@pytest.fixture(scope="module")
def common(images):
    """One built game that several tests use; each starts it anew."""
    built = build(images)
    yield built
    built.session.close()


@pytest.fixture
def game(common):
    """The common game before its first step."""
    load(common, common.start)
    return common


# ------------------------------------------------------------------------------------- the oracle


@pytest.mark.parametrize("kind", ["non_saturating", "minimax"])
def test_oracle_gradients_are_the_slopes_of_its_losses(images, kind):
    theta = {name: np.float64(value) for name, value in some_theta().items()}
    x, z, factors = some_batch(images, n=3)
    _, gradients = oracle.D_gradients(theta, x, z, (factors, 1.0))
    gradients.update(oracle.G_gradients(theta, z, kind, factors)[1])
    random = np.random.RandomState(1)
    for name, gradient in gradients.items():
        direction, h = random.normal(size=gradient.shape), 1e-5
        ends = []
        for sign in (1, -1):
            moved = dict(theta)
            moved[name] = theta[name] + sign * h * direction
            if name.startswith("D"):
                ends.append(oracle.D_gradients(moved, x, z, (factors, 1.0))[0])
            else:
                ends.append(oracle.G_gradients(moved, z, kind, factors)[0])
        assert (ends[0] - ends[1]) / (2 * h) == pytest.approx((gradient * direction).sum(), 1e-5)


# ------------------------------------------------------------------------- networks and variables


def test_both_networks_compute_what_the_oracle_computes(images):
    theta, (x, z, factors) = some_theta(), some_batch(images)
    with new_session() as session:
        fake = gan_mnist.generator(tf.constant(z))
        outputs = [fake, gan_mnist.discriminator(tf.constant(x))]
        outputs.append(gan_mnist.discriminator(fake, tf.constant(factors)))
        for variable in tf.global_variables():
            variable.load(theta[variable.name.split(":")[0]], session)
        G_sample, (prob_real, logit_real), (prob_fake, logit_fake) = session.run(outputs)
    _, expected = oracle.generator(theta, np.float64(z))
    np.testing.assert_allclose(G_sample, expected, rtol=1e-4, atol=1e-6)
    _, real = oracle.discriminator(theta, np.float64(x))
    _, fake = oracle.discriminator(theta, expected, factors)
    np.testing.assert_allclose(logit_real, real, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logit_fake, fake, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(prob_real, oracle.sigmoid(real), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(prob_fake, oracle.sigmoid(fake), rtol=1e-4, atol=1e-6)
    assert logit_real.shape == prob_fake.shape == (16, 1)


def test_variables_have_the_names_and_shapes_of_the_definition_and_D_shares_its_own():
    with new_session():
        gan = gan_mnist.GAN(make_flags())
        found = {v.name: tuple(v.shape.as_list()) for v in tf.trainable_variables()}
    assert found == {name + ":0": shape for name, shape in SHAPES.items()}
    assert sorted(v.name for v in gan.theta_D) == [n for n in sorted(found) if n[0] == "D"]
    assert sorted(v.name for v in gan.theta_G) == [n for n in sorted(found) if n[0] == "G"]


def test_the_compiled_game_adds_no_variables_to_train_and_one_average_for_each_of_G(common):
    with common.session.graph.as_default():
        assert {v.name.split(":")[0] for v in tf.trainable_variables()} == set(SHAPES)
    averages = {n for n in common.variables if n.endswith("/ExponentialMovingAverage")}
    assert averages == {n + "/ExponentialMovingAverage" for n in SHAPES if n[0] == "G"}
    powers = {n for n in common.variables if n.startswith("beta")}
    assert powers == {"beta1_power", "beta2_power", "beta1_power_1", "beta2_power_1"}


def test_weights_start_as_a_truncated_normal_of_stddev_01_and_biases_as_01(game):
    theta = values(game)
    for name in SHAPES:
        if name.endswith("bias"):
            assert np.all(theta[name] == np.float32(0.1))
        else:
            assert np.abs(theta[name]).max() <= 0.2  # two standard deviations
            assert theta[name].max() > 0.15
            # cut off at 2 sigma, the standard deviation of a normal is 0.8796 sigma
            size = theta[name].size
            assert theta[name].std() == pytest.approx(0.08796, rel=2 / np.sqrt(size))
            assert abs(theta[name].mean()) < 0.4 / np.sqrt(size)


def test_averages_start_at_the_weights_and_nothing_has_been_learnt(game):
    start = values(game)
    assert start["global_step"] == 0
    for name in oracle.names("G"):
        assert same_bits(start[name], start[name + "/ExponentialMovingAverage"])


# ------------------------------------------------------------------------------- losses, gradients


@pytest.mark.parametrize("scale", [1, 20, 200])
def test_losses_match_the_oracle_and_are_finite_however_sure_D_is(scale):
    random = np.random.RandomState(scale)
    real, fake = np.float32(random.uniform(-scale, scale, (2, 16, 1)))
    real[:2, 0], fake[:2, 0] = (scale, -scale), (scale, -scale)
    with new_session() as session:
        logits = tf.constant(real), tf.constant(fake)
        losses = [gan_mnist.discriminator_loss(*logits)]
        kinds = "non_saturating", "minimax"
        losses += [gan_mnist.generator_loss(logits[1], kind) for kind in kinds]
        slopes = [tf.gradients(loss, logits[1])[0] for loss in losses]
        losses, slopes = session.run([losses, slopes])
    real, fake = np.float64(real), np.float64(fake)
    expected = [oracle.discriminator_loss(real, fake)]
    expected += [oracle.generator_loss(fake, kind) for kind in kinds]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    D = oracle.sigmoid(fake) / 16
    np.testing.assert_allclose(slopes, [D, D - 1 / 16.0, -D], rtol=1e-4, atol=1e-7)


def test_a_discriminator_that_is_sure_and_wrong_pays_the_logit():
    with new_session() as session:
        sure, wrong = tf.constant([[200.0]]), tf.constant([[-200.0]])
        assert session.run(gan_mnist.discriminator_loss(wrong, sure)) == 400
        assert session.run(gan_mnist.discriminator_loss(sure, wrong)) == 0
        assert session.run(gan_mnist.generator_loss(wrong, "non_saturating")) == 200
        assert session.run(gan_mnist.generator_loss(sure, "minimax")) == -200


def test_at_the_optimum_D_loss_is_2_log_2_and_both_probabilities_are_a_half(game):
    load(game, {"D_nn2/D_weight": np.zeros((128, 1)), "D_nn2/D_bias": [0]})
    x, z, _ = some_batch(game.images)
    blind = game.session.run(game.gan.charts, {game.gan.x: x, game.gan.z: z})
    assert blind["D_real"] == blind["D_fake"] == 0.5
    assert blind["D_loss"] == pytest.approx(2 * np.log(2), rel=1e-6)
    assert blind["G_loss"] == pytest.approx(np.log(2), rel=1e-6)


@pytest.mark.parametrize("kind", ["non_saturating", "minimax"])
def test_charts_and_gradients_match_the_oracle(images, kind):
    theta, (x, z, _) = some_theta(2), some_batch(images)
    with new_session() as session:
        gan = gan_mnist.GAN(make_flags(g_loss=kind))
        slopes = dict(zip(oracle.names("D"), tf.gradients(gan.charts["D_loss"], gan.theta_D)))
        slopes.update(zip(oracle.names("G"), tf.gradients(gan.charts["G_loss"], gan.theta_G)))
        for variable in gan.theta_D + gan.theta_G:
            variable.load(theta[variable.name.split(":")[0]], session)
        charts, slopes = session.run([gan.charts, slopes], {gan.x: x, gan.z: z})
    x, z = np.float64(x), np.float64(z)
    D_loss, expected = oracle.D_gradients(theta, x, z)
    G_loss, more = oracle.G_gradients(theta, z, kind)
    expected.update(more)
    assert charts["D_loss"] == pytest.approx(D_loss, rel=1e-5)
    assert charts["G_loss"] == pytest.approx(G_loss, rel=1e-5)
    D_real = oracle.sigmoid(oracle.discriminator(theta, x)[1]).mean()
    D_fake = oracle.sigmoid(oracle.discriminator(theta, oracle.generator(theta, z)[1])[1]).mean()
    assert charts["D_real"] == pytest.approx(D_real, rel=1e-5)
    assert charts["D_fake"] == pytest.approx(D_fake, rel=1e-5)
    assert set(slopes) == set(SHAPES)
    for name, slope in slopes.items():
        np.testing.assert_allclose(slope, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


# ---------------------------------------------------------------------------------------- updates


@pytest.mark.parametrize("player", "DG")
def test_an_update_of_one_player_leaves_the_other_and_its_Adam_bit_for_bit_alone(game, player):
    x, z, _ = some_batch(game.images)
    before = values(game)
    update = game.gan.D_update if player == "D" else game.gan.G_update
    game.session.run(update, {game.gan.x: x, game.gan.z: z})
    after = values(game)
    moved = {name for name in before if not same_bits(before[name], after[name])}
    ends = "", f"/{player}_Adam", f"/{player}_Adam_1"
    own = {name + end for name in oracle.names(player) for end in ends}
    own |= {"beta{}_power{}".format(k, "" if player == "D" else "_1") for k in (1, 2)}
    assert moved == own


SETTINGS = [  # d_step, g_step, dropout, g_loss and more
    (1, 1, 0.0, "non_saturating", {}),
    (2, 1, 0.5, "minimax", {"lr_half_life": 3}),
    (1, 3, 0.5, "non_saturating", {"lr_half_life": 2, "beta1": 0.0}),
    (0, 2, 0.3, "minimax", {"ema_decay": 0.15}),
]


def assert_close(actual, wanted, name):
    """Equal to float32 rounding; but where a gradient is next to nothing, Adam divides one rounding
    error by another, so that one value in a thousand may be off by a small part of an update."""
    off = np.abs(actual - wanted)
    assert np.mean(off > 1e-5) <= 1e-3 and off.max() < 2e-4, name


@pytest.mark.parametrize("d_step, g_step, dropout, g_loss, more", SETTINGS)
def test_whole_steps_of_the_compiled_game_match_the_oracle(
    images, d_step, g_step, dropout, g_loss, more
):
    more = dict(more, d_step=d_step, g_step=g_step, dropout=dropout, g_loss=g_loss)
    built, steps = build(images, **more), 5
    with built.session:
        start = values(built)
        expected = oracle.Game({name: start[name] for name in SHAPES}, built.flags)
        for i in range(steps):
            losses = play(built, i, i + 1)
            expected.step(*(moves[i] for moves in built.chunk))
            wanted = [expected.D_loss, expected.G_loss]
            np.testing.assert_allclose(losses, wanted, rtol=1e-4, atol=1e-5)
        end = values(built)
    assert end["global_step"] == steps
    for number, updates in (("", d_step), ("_1", g_step)):
        for power, beta in ("beta1_power", built.flags.beta1), ("beta2_power", built.flags.beta2):
            wanted = beta ** (1 + steps * updates)
            assert end[power + number] == pytest.approx(wanted, rel=1e-5, abs=1e-30)
    for name in SHAPES:
        assert_close(end[name], expected.theta[name], name)
        if name in expected.average:
            average = end[name + "/ExponentialMovingAverage"]
            assert_close(average, expected.average[name], name)
        learns = d_step if name[0] == "D" else g_step
        assert same_bits(end[name], start[name]) == (not learns)


# ------------------------------------------------------------------------------- the compiled game


def test_a_chunk_played_in_pieces_is_the_chunk_played_whole_bit_for_bit(game):
    losses, whole = play(game, 0, 12), values(game)
    load(game, game.start)
    play(game, 0, 1)
    play(game, 1, 5)
    assert values(game)["global_step"] == 5
    assert same_bits(play(game, 5, 12), losses)
    pieces = values(game)
    assert pieces["global_step"] == 12
    assert [name for name in whole if not same_bits(whole[name], pieces[name])] == []


@pytest.mark.parametrize(
    "broken, step",
    [
        ({"D_nn2/D_bias": [np.inf]}, 3),  # D_loss
        ({"D_nn2/D_bias/D_Adam": [np.inf]}, 3),  # D breaks in its update, so G_loss
        ({"beta1_power": 16.0}, 7),  # Adam divides by 1 - power: 16, 8, 4, 2, then 1
    ],
)
def test_the_first_loss_that_is_not_finite_ends_the_game_and_the_step_names_it(game, broken, step):
    assert np.isfinite(play(game, 0, 3)).all()
    load(game, broken)
    assert not np.isfinite(play(game, 3, 12)).all()
    assert values(game)["global_step"] == step + 1
