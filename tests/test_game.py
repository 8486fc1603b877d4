"""The networks, the losses, the updates and the compiled game, against the paper and the oracle."""

import functools

import numpy as np
import oracle
import pytest
from conftest import differing, options, tf

import gan_mnist
from gan_mnist import CHUNK

D, G = oracle.NAMES["D"], oracle.NAMES["G"]
SHAPES = dict(zip(D, [(784, 128), (128,), (128, 1), (1,)]))
SHAPES.update(zip(G, [(100, 128), (128,), (128, 784), (784,)]))
IMAGES = np.random.RandomState(0).randint(256, size=(220, 784)).astype(np.uint8)
COMMON = {"d_step": 2, "g_loss": "minimax", "lr_half_life": 3}


class Built:
    """A GAN with its game compiled for the first chunk, and its initial values."""

    def __init__(self, **changes):
        self.flags = gan_mnist.parse_flags(options(**changes))
        with tf.Graph().as_default():
            self.gan = gan_mnist.GAN(self.flags)
            self.chunk = gan_mnist.draw_chunk(self.flags, IMAGES, 0)
            self.gan.compile(*self.chunk)
            self.variables = {v.op.name: v for v in tf.global_variables()}
            self.trainable = {v.op.name: tuple(v.shape.as_list()) for v in tf.trainable_variables()}
        self.start = self.values()

    def values(self):
        return self.gan.session.run(self.variables)

    def load(self, values):
        for name, value in values.items():
            self.variables[name].load(value, self.gan.session)

    def play(self, first, last):
        return self.gan.play_compiled(first, last, *self.chunk)


built = functools.lru_cache(None)(Built)  # compiles each game once


@pytest.fixture
def game():
    """One game, before its first step."""
    common = built(**COMMON)
    common.load(common.start)
    return common


def test_variables_have_the_names_and_shapes_of_the_definition_and_D_shares_its_own(game):
    assert game.trainable == SHAPES
    others = {"global_step", "beta1_power", "beta2_power", "beta1_power_1", "beta2_power_1"}
    others |= {f"{name}/{name[0]}_Adam{end}" for name in SHAPES for end in ("", "_1")}
    others |= {name + "/ExponentialMovingAverage" for name in G}
    assert set(game.variables) == set(SHAPES) | others


def test_weights_start_as_a_truncated_normal_of_stddev_01_and_biases_as_01(game):
    assert all((game.start[n] == np.float32(0.1)).all() for n in SHAPES if "bias" in n)
    for value in (game.start[n] for n in SHAPES if "weight" in n):
        assert 0.15 < np.abs(value).max() <= 0.2  # two standard deviations
        # cut off at 2 sigma, the standard deviation of a normal is 0.8796 sigma
        assert value.std() == pytest.approx(0.08796, rel=2 / np.sqrt(value.size))
        assert abs(value.mean()) < 0.4 / np.sqrt(value.size)
    assert all((game.start[n + "/ExponentialMovingAverage"] == game.start[n]).all() for n in G)
    assert game.start["global_step"] == 0


@pytest.mark.parametrize("scale", [1, 20, 200, 1e30])
def test_losses_and_their_slopes_match_the_oracle_and_are_finite_however_sure_D_is(scale):
    real, fake = np.float32(np.random.RandomState(1).uniform(-scale, scale, (2, 16, 1)))
    real[:2, 0], fake[:2, 0] = (scale, -scale), (scale, -scale)
    kinds = "non_saturating", "minimax"
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.constant(real), tf.constant(fake)
        losses = [gan_mnist.discriminator_loss(*logits)]
        losses += [gan_mnist.generator_loss(logits[1], kind) for kind in kinds]
        slopes = [tf.gradients(loss, logits[1])[0] for loss in losses]
        losses, slopes = session.run([losses, slopes])
    real, fake = np.float64(real), np.float64(fake)
    G_losses = [oracle.generator_loss(fake, kind) for kind in kinds]
    expected = [oracle.discriminator_loss(real, fake), *G_losses]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    slope = oracle.sigmoid(fake) / 16
    np.testing.assert_allclose(slopes, [slope, slope - 1 / 16.0, -slope], rtol=1e-4, atol=1e-7)


def assert_close(actual, wanted, name):
    """Equal to float32 rounding; but where a gradient is next to nothing, Adam divides one rounding
    error by another, so that one value in a thousand may be off by a small part of an update."""
    off = np.abs(actual - wanted)
    assert np.mean(off > 1e-5) <= 1e-3 and off.max() < 2e-4, name


def assert_plays_as_the_oracle(game, steps=5):
    """Steps, one by one: losses, variables, averages. Returns: names of what has moved."""
    game.load(game.start)
    expected = oracle.Game({name: game.start[name] for name in SHAPES}, game.flags)
    for i in range(steps):
        losses = game.play(i, i + 1)
        expected.step(*(draws[i] for draws in game.chunk))
        wanted = [expected.losses[player] for player in "DG"]
        np.testing.assert_allclose(losses, wanted, rtol=1e-4, atol=1e-5)
    end = game.values()
    assert end["global_step"] == steps
    for name in SHAPES:
        assert_close(end[name], expected.theta[name], name)
    for name in G:
        assert_close(end[name + "/ExponentialMovingAverage"], expected.average[name], name)
    return [name for name in SHAPES if (end[name] != game.start[name]).any()]


ONLY_D = {"g_learning_rate": 0.0, "lr_half_life": 0, "dropout": 0.0, "beta2": 0.9}
ONLY_G = {"d_learning_rate": 0.0, "g_step": 3, "lr_half_life": 2, "beta1": 0.0, "ema_decay": 0.15}


@pytest.mark.parametrize("changes, moved", [(COMMON, D + G), (ONLY_D, D), (ONLY_G, G)])
def test_compiled_steps_match_the_oracle_and_updates_move_their_own_player(changes, moved):
    assert assert_plays_as_the_oracle(built(**changes)) == moved


def test_where_XLA_cannot_compile_the_game_the_same_numbers_come_without_it(monkeypatch, capsys):
    loss_of = gan_mnist.discriminator_loss

    def with_strings(*logits):  # which XLA does not know
        text = tf.strings.as_string(tf.stop_gradient(loss_of(*logits)))
        return loss_of(*logits) + 0 * tf.strings.to_number(text)

    monkeypatch.setattr(gan_mnist, "discriminator_loss", with_strings)
    game, out = Built(g_step=2, dropout=0.3, lr_half_life=2), capsys.readouterr().out
    assert out.count("\n") == 1 and "XLA" in out
    assert assert_plays_as_the_oracle(game) == D + G


def test_a_chunk_played_in_pieces_is_the_chunk_played_whole_bit_for_bit(game):
    losses, whole = game.play(0, CHUNK), game.values()
    assert whole["global_step"] == CHUNK
    game.load(game.start)
    game.play(0, 1)
    game.play(1, 5)
    assert game.values()["global_step"] == 5
    assert game.play(5, CHUNK) == losses
    assert differing(whole, game.values()) == set()


BROKEN = [({"D_nn2/D_bias": [np.inf]}, 3)]  # D_loss
BROKEN += [({"D_nn2/D_bias/D_Adam": [np.inf]}, 3)]  # D breaks in its update, so the next loss
BROKEN += [({"beta1_power": 16.0}, 5)]  # Adam divides by 1 - power: 16, 8, 4, 2, then 1


@pytest.mark.parametrize("broken, step", BROKEN)
def test_the_first_loss_that_is_not_finite_ends_the_game_and_the_step_names_it(game, broken, step):
    assert np.isfinite(game.play(0, 3)).all()
    game.load(broken)
    assert not np.isfinite(game.play(3, CHUNK)).all()
    assert game.values()["global_step"] == step + 1
