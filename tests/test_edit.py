"""Edited copies of the script: what was added is shown, and errors name the edited line."""

import re

import pytest
from conftest import ROOT, options, run, shown


def run_edited(data, folder, edits):
    """Runs a copy of the script in which functions start with other lines, {function: lines}."""
    text = (ROOT / "gan_mnist.py").read_text()
    text = re.sub(r"( +)(?=tf.summary.scalar\()", r'\1tf.summary.scalar("edited", 2)\n\1', text, 1)
    for function, lines in edits.items():
        begin = re.search(rf'def {function}\(.*\):\n    """(?:.|\n)*?"""\n', text).end()
        text = text[:begin] + lines + text[begin:]
    (folder / "edited.py").write_text(text)
    flags = options(input_data_dir=data, output_dir="run", max_steps=4, summary_steps=4)
    return run(*flags, cwd=folder, program=["edited.py"])


DEPENDING = (
    "    with tf.control_dependencies([{}]):\n        logit_real = tf.identity(logit_real)\n"
)


def test_a_print_prints_at_every_update_and_a_summary_shows_in_the_events(data, tmp_path):
    lines = DEPENDING.format('tf.print("edited", tf.shape(logit_real))')
    status, _, err = run_edited(data, tmp_path, {"discriminator_loss": lines})
    assert status == 0 and err.count("edited [16 1]\n") == 4 * 2, err  # d_step is 2
    assert shown(tmp_path / "run")["edited"] == {0: 2, 4: 2}


# the edited function, its new lines, and what the traceback contains
D_LOSS, G_LOSS = "discriminator_loss", "generator_loss"
SHAPE = "    logit_real = logit_real + tf.zeros([3, 7])\n"
FAULTS = {"shapes that do not fit": (D_LOSS, SHAPE, ["in discriminator_loss\n"])}
FAULTS["unknown name"] = (D_LOSS, "    logit_reel\n", ["in discriminator_loss\n"])
RAISE = '    raise RuntimeError("edited")\n'
FAULTS["exception"] = (G_LOSS, RAISE, [f"in generator_loss\n{RAISE}"])
CHECK = DEPENDING.format("tf.debugging.assert_equal(tf.shape(logit_real), [20, 1])")
# the first points of the curves have 20 images
FAULTS["in training only"] = (D_LOSS, CHECK, ["in play\n", "D_loss/assert_equal"])
FAULTS["layer of G"] = ("generator", '    z = layer(z, 100, "nn3", tf.tanh)\n', ["nn3/n_bias"])
for scope in ("extra", "d_extra"):
    names = [f"{scope}/{scope[0]}_{kind}" for kind in ("weight", "bias")]
    layer = f'    x = layer(x, 784, "{scope}", tf.tanh)\n'
    FAULTS[f"layer {scope} of neither player"] = ("discriminator", layer, names)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_an_edited_line_is_shown_with_its_traceback(data, tmp_path, fault):
    function, lines, parts = FAULTS[fault]
    status, _, err = run_edited(data, tmp_path, {function: lines})
    assert status == 1 and "Traceback" in err and all(part in err for part in parts), err
