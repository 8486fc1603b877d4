"""The networks, the losses, the draws and the updates, against the paper and the oracle."""

import numpy as np
import oracle
import pytest
from conftest import differing, options, tf

import gan_mnist

D, G = oracle.NAMES["D"], oracle.NAMES["G"]
SHAPES = dict(zip(D, [(784, 128), (128,), (128, 1), (1,)]))
SHAPES |= dict(zip(G, [(100, 128), (128,), (128, 784), (784,)]))
IMAGES = np.random.RandomState(0).randint(256, size=(220, 784)).astype(np.uint8)
IMAGES[:, 0] = np.arange(220)  # so that a row is known by its first pixel


class Game:
    """A GAN on the images, with its variables by name, and what play reports of each step."""

    def __init__(self, **changes):
        self.flags = gan_mnist.parse_flags(options(**changes))
        self.gan = gan_mnist.GAN(self.flags, IMAGES)
        self.session, self.told = self.gan.session, []
        self.variables = {v.op.name: v for v in self.session.graph.get_collection("variables")}
        self.start = self.values()

    def values(self):
        return self.session.run(self.variables)

    def record(self, step, D_loss, G_loss):
        self.told.append((D_loss, G_loss))

    def minibatch(self, updates):
        """x and z as drawn after so many updates."""
        self.gan.global_step.load(updates, self.session)
        return self.session.run([self.gan.x, self.gan.z])


@pytest.fixture(scope="module")
def game():
    """A game that no test trains."""
    return Game()


def test_variables_have_the_names_shapes_and_initial_values_of_the_definition(game):
    trainable = game.session.graph.get_collection("trainable_variables")
    assert {v.op.name: tuple(v.shape) for v in trainable} == SHAPES  # D is called twice
    assert all((game.start[name] == np.float32(0.1)).all() for name in SHAPES if "bias" in name)
    for value in (game.start[name] for name in SHAPES if "weight" in name):
        assert 0.15 < np.abs(value).max() <= 0.2  # truncated at two standard deviations, which
        assert value.std() == pytest.approx(0.08796, rel=2 / np.sqrt(value.size))  # are then less
        assert abs(value.mean()) < 0.4 / np.sqrt(value.size)
    assert all((game.start[n + "/ExponentialMovingAverage"] == game.start[n]).all() for n in G)
    assert Game().gan.graph_def == game.gan.graph_def
    weights = {name for name in game.start if "_weight" in name and "Adam" not in name}
    assert differing(game.start, Game(g_loss="minimax", batch_size=5).start) == set()
    assert differing(game.start, Game(seed=4).start) == weights


@pytest.mark.parametrize("scale", [1, 20, 200, 1e30])
def test_losses_and_their_slopes_match_the_oracle_however_confident_D_is(scale):
    real, fake = np.float32(np.random.RandomState(1).uniform(-scale, scale, (2, 16, 1)))
    real[:2, 0], fake[:2, 0] = (scale, -scale), (scale, -scale)
    kinds = "non_saturating", "minimax"
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.constant(real), tf.constant(fake)
        losses = [gan_mnist.discriminator_loss(*logits)]
        losses += [gan_mnist.generator_loss(logits[1], kind) for kind in kinds]
        slopes = [tf.gradients(loss, logits[1])[0] for loss in losses]
        slopes.append(tf.gradients(losses[0], logits[0])[0])
        losses, slopes = session.run([losses, slopes])
    real, fake = np.float64(real), np.float64(fake)
    G_losses = [oracle.generator_loss(fake, kind) for kind in kinds]
    np.testing.assert_allclose(losses, [oracle.discriminator_loss(real, fake), *G_losses], 1e-5)
    s = oracle.sigmoid(fake)
    expected = np.array([s, s - 1, -s, oracle.sigmoid(real) - 1]) / 16
    np.testing.assert_allclose(slopes, expected, rtol=1e-4, atol=1e-7)


def test_the_gradient_penalty_and_its_own_gradient_match_the_oracle(game):
    x, theta = IMAGES[:16] / np.float32(255), [game.variables[name] for name in D]
    with game.session.graph.as_default():
        penalty = gan_mnist.r1_penalty(gan_mnist.discriminator(game.gan.x), game.gan.x, 3.0)
        gradients = tf.gradients(penalty, theta, unconnected_gradients="zero")
    value, gradients = game.session.run([penalty, gradients], {game.gan.x: x})
    expected, expected_gradients = oracle.penalty(game.start, x, 3.0)
    assert value == pytest.approx(expected, rel=1e-4)
    for name, ours, theirs in zip(D, gradients, expected_gradients):
        np.testing.assert_allclose(ours, theirs, 1e-3, 1e-5, err_msg=name)


GAMES = {"two of D, one of G": ({}, D + G)}
GAMES["minimax, two of G"] = ({"g_loss": "minimax", "g_step": 2, "r1_gamma": 9}, D + G)
GAMES["D only, no penalty"] = ({"g_learning_rate": 0.0, "r1_gamma": 0.0, "d_step": 1}, D)
GAMES["G only, no average"] = ({"d_learning_rate": 0.0, "ema_decay": 0.0, "beta1": 0.0}, G)


@pytest.mark.parametrize("changes, moved", GAMES.values(), ids=GAMES)
def test_training_matches_the_oracle(changes, moved):
    game, steps = Game(**changes), 5
    n = game.flags.d_step + game.flags.g_step
    draws = [game.minibatch(k) for k in range(steps * n)]
    game.gan.global_step.load(0, game.session)
    game.flags.max_steps = steps
    gan_mnist.play(game.gan, game.flags, 0, game.record)
    expected = oracle.Game({name: game.start[name] for name in SHAPES}, game.flags)
    end = game.values()
    losses = [expected.step(draws[i * n : (i + 1) * n]) for i in range(steps)]
    np.testing.assert_allclose(game.told, losses, rtol=1e-4, atol=1e-5)
    assert end["global_step"] == steps * n
    averages = {name + "/ExponentialMovingAverage": expected.average[name] for name in G}
    for name, value in (expected.theta | averages).items():
        # where a gradient is next to nothing, Adam divides one rounding error by another
        off = np.abs(end[name] - value)
        assert np.mean(off > 1e-5) <= 1e-3 and off.max() < 3e-4, name
    assert [name for name in SHAPES if (end[name] != game.start[name]).any()] == moved


def test_draws_are_uniform_and_differ_in_every_update():
    game = Game(batch_size=64)
    x, z = (np.array(drawn) for drawn in zip(*map(game.minibatch, range(300))))
    assert (x.shape, z.shape, x.dtype, z.dtype) == ((300, 64, 784), (300, 64, 100), "f4", "f4")
    rows = np.rint(x[..., 0] * 255).astype(int)
    assert np.abs(x[:9] - IMAGES[rows[:9]] / 255).max() < 1e-6
    counts, mean = np.bincount(rows.ravel(), minlength=220), rows.size / 220
    assert len(counts) == 220 and abs(counts - mean).max() < 6 * np.sqrt(mean)
    assert len(np.unique(rows, axis=0)) == 300 and len(np.unique(z[..., 0])) > 0.99 * 300 * 64
    assert -1 <= z.min() < -1 + 1e-4 and 1 - 1e-4 < z.max() < 1
    np.testing.assert_allclose(np.histogram(z, 20, (-1, 1))[0], z.size / 20, rtol=0.02)
    shares, z = rows.ravel() / 220 - 0.5, z.ravel()
    assert all(abs((z[lag:] * z[:-lag]).mean()) < 0.002 for lag in (1, 100, 6400))
    assert all(abs((shares * z[k::100]).mean()) < 0.005 for k in range(100))  # x tells nothing of z


def test_draws_depend_only_on_the_seed_and_the_number_of_updates(game):
    x, z = game.minibatch(7)
    same = Game(g_loss="minimax", max_steps=9).minibatch(7)
    assert (same[0] == x).all() and (same[1] == z).all()
    for other in (Game(seed=4).minibatch(7), game.minibatch(8)):
        assert (other[0] == x).mean() < 0.2 and (other[1] == z).mean() < 0.01
