"""The script in its learner's hands: an edited copy prints, shows its curves, or says what is
wrong with the line that was edited."""

import importlib.util
import re
import traceback

import pytest
from conftest import ROOT, call, options, run, shown

import gan_mnist


def edited(folder, module=True, **edits):
    """A copy of the script with lines at the start of functions: its module or path."""
    text, path = (ROOT / "gan_mnist.py").read_text(), folder / "edited.py"
    text = re.sub(r"( +)(?=tf.summary.scalar\()", r'\1tf.summary.scalar("edited", 2)\n\1', text, 1)
    for function, lines in edits.items():
        begin = re.search(rf'def {function}\(.*\):\n    """(?:.|\n)*?"""\n', text).end()
        text = text[:begin] + lines + text[begin:]
    path.write_text(text)
    if not module:
        return path
    spec = importlib.util.spec_from_file_location("edited", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DEPENDING = (
    "    with tf.control_dependencies([{}]):\n        logit_real = tf.identity(logit_real)\n"
)


def test_a_print_prints_at_every_update_and_a_summary_shows_in_the_events(data, tmp_path):
    lines = DEPENDING.format('tf.print("edited", tf.shape(logit_real))')
    script = edited(tmp_path, False, discriminator_loss=lines)
    flags = options(input_data_dir=data, output_dir="run", max_steps=4, summary_steps=4)
    status, _, err = run(*flags, cwd=tmp_path, program=[script])
    assert status == 0 and err.count("edited [16 1]\n") == 4 * 2, err  # d_step is 2
    assert shown(tmp_path / "run")["edited"] == {0: 2, 4: 2}


FAULTS = {"shapes that do not fit": "    logit_real = logit_real + tf.zeros([3, 7])\n"}
FAULTS["an unknown name"] = "    logit_reel\n"
FAULTS["in training alone"] = DEPENDING.format(  # the first points of the curves have 20 images
    "tf.debugging.assert_equal(tf.shape(logit_real), [20, 1])"
)


@pytest.mark.parametrize("lines", FAULTS.values(), ids=FAULTS)
def test_a_fault_in_an_edited_loss_keeps_its_traceback(data, tmp_path, lines):
    script = edited(tmp_path, discriminator_loss=lines)
    with pytest.raises(Exception) as fault:
        call(
            *options(input_data_dir=data, output_dir="run", max_steps=1),
            cwd=tmp_path,
            script=script,
        )
    text = "".join(traceback.format_exception(fault.value))
    assert "in discriminator_loss" in text or "in play" in text and "D_loss/assert_equal" in text


def test_the_traceback_of_an_edited_line_is_seen(data, tmp_path):
    script = edited(tmp_path, False, generator_loss='    raise RuntimeError("edited")\n')
    status, _, err = run(*options(input_data_dir=data, max_steps=1), cwd=tmp_path, program=[script])
    assert status == 1 and 'in generator_loss\n    raise RuntimeError("edited")' in err


@pytest.mark.parametrize("scope", ["extra", "d_extra"])
def test_a_layer_of_neither_player_is_named(data, tmp_path, scope):
    script = edited(tmp_path, discriminator=f'    x = layer(x, 784, "{scope}", tf.tanh)\n')
    with pytest.raises(Exception, match=f"{scope}/._weight") as fault:
        call(
            *options(input_data_dir=data, output_dir="run", max_steps=1),
            cwd=tmp_path,
            script=script,
        )
    assert f"{scope}/{scope[0]}_bias" in str(fault.value) and not (tmp_path / "run").exists()


def test_a_second_gan_in_one_process_is_the_first_one_again():
    flags, images = gan_mnist.parse_flags(options()), gan_mnist.np.zeros([3, 784], "uint8")
    gans, losses = [], []
    for _ in range(2):
        gans.append(gan_mnist.GAN(flags, images))
        update = [gans[-1].D_loss, gans[-1].D_update]
        losses.append([gans[-1].session.run(update)[0] for _ in range(3)])
    assert losses[0] == losses[1] and gans[0].graph_def == gans[1].graph_def
