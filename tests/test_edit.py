"""Edited copies of the script: what a learner adds is run, shown and trained; errors name it."""

import traceback

import helpers
import numpy as np
import pytest

G_HIDDEN = '    hidden = tf.tanh(dense(z, hidden_units, "hidden"))\n'
D_HIDDEN = '    hidden = tf.tanh(dense(x, hidden_units, "hidden"))\n'
LAYER = '    hidden = tf.tanh(dense(hidden, 20, "extra"))\n'
SCALE = '    hidden *= tf.get_variable("scale", initializer=1.0, trainable=False)\n'
G_LAYER = (G_HIDDEN, G_HIDDEN + LAYER + SCALE)
D_LAYER = (D_HIDDEN, D_HIDDEN + LAYER)
RELU = (D_HIDDEN, D_HIDDEN.replace("tanh", "nn.leaky_relu"))
UNITS = ('"--hidden_units", type=int, default=256', '"--hidden_units", type=int, default=64')
R1 = "    return gamma / 2 *"
GRADIENT = "    (gradient,) ="
CURVES = "        self.curves = "
LOSSES = "G_LOSSES = {"
AVERAGE = "    gan.session.run(gan.average_update)"
ERRORS = [("x + tf.zeros(7)", R1, "r1_penalty"), ("gradient += tf.ones([9, 1])", R1, "r1_penalty")]
ERRORS += [("tf.zeros(1)", AVERAGE, "train_step")]  # the graph is complete by then


def train(folder, *edits):
    """Trains an edited copy of the script for two steps, with a checkpoint after each."""
    program = helpers.load(helpers.edited(folder, *edits))
    for step in (1, 2):
        helpers.call(program, "--output_dir=run", "--batch_size=16", f"--max_steps={step}")


def test_what_is_added_is_printed_shown_and_trained(folder, capfd):
    printing = "    logit_real = tf.Print(logit_real, [tf.shape(x)], 'edited ')\n"
    summary = "        tf.summary.scalar('edited', 2.5)\n"
    train(folder, (GRADIENT, printing + GRADIENT), (CURVES, summary + CURVES), G_LAYER, D_LAYER)
    assert capfd.readouterr().err.count("edited [16 784]\n") == 2  # updates of D
    assert helpers.shown("run")["edited"] == [(0, 2.5), (1, 2.5), (2, 2.5)]
    before, after = helpers.variables("run", 1), helpers.variables("run", 2)
    for name in ("D/extra/W", "D/extra/b", "G/extra/W", "G/extra/b", "G_average/extra/W"):
        assert (before[name] != after[name]).any(), name


def test_a_third_loss_of_G_is_one_function_and_one_entry(copy, folder):
    loss = "def squares(logit):\n    return tf.reduce_mean((tf.sigmoid(logit) - 1) ** 2)\n\n\n"
    entry = f"{LOSSES}'squares': squares, "
    program = helpers.load(helpers.edited(folder, (LOSSES, loss + entry)))
    flags = ["--output_dir=run", "--g_loss=squares", "--max_steps=1451"]
    _, halves = helpers.curves_png(program, *flags)
    assert halves == pytest.approx([2 * np.log(2), 0.25, 0.5, 0.5])
    before, after = helpers.variables("run", 1450), helpers.variables("run", 1451)
    assert (before["G/output/W"] != after["G/output/W"]).any()


def test_images_of_a_G_without_sigmoid_are_cut_to_black_and_white(folder):
    program = helpers.load(helpers.edited(folder, ("tf.sigmoid(dense(", "9 * (dense(")))
    gan = program.GAN(program.parse_flags([]))
    z = program.noise(9, np.random.default_rng(0))
    pixels = 255 * gan.session.run(gan.generated, {gan.z: z})
    assert (program.generate(gan, z) == pixels.round().clip(0, 255)).all()


@pytest.mark.parametrize("line, place, function", ERRORS)
def test_an_error_keeps_its_traceback_which_names_the_edited_line(line, place, function, folder):
    with pytest.raises(Exception) as caught:
        train(folder, (place, f"    {line}\n{place}"))
    text = "".join(traceback.format_exception(caught.value))
    number = (folder / "gan_mnist.py").read_text().split(line)[0].count("\n") + 1
    assert f'gan_mnist.py", line {number}, in {function}' in text


def test_the_tests_of_any_GAN_pass_after_these_edits(folder):
    script = helpers.edited(folder, G_LAYER, RELU, UNITS)
    command = ["-m", "pytest", "-q", helpers.ROOT / "tests" / "test_run.py"]
    result = helpers.finish(helpers.start(*command, GAN_MNIST_SCRIPT=str(script)))
    assert result.status == 0, result.out
