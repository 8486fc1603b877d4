"""The command line: flags that are errors, folders of new runs, a TensorFlow that is broken."""

import helpers
import pytest

import gan_mnist

FLAGS = ["--max_step=5", "--d_step=0", "--seed=-1", "--output_dir=run[1]", "--sample=3"]
FLAGS += ["--output_dir="]


@pytest.mark.parametrize("flag", FLAGS)
def test_an_error_names_the_flag_and_nothing_is_written(flag, folder):
    assert flag.split("=")[0] in helpers.refused(gan_mnist, "--max_steps=1", flag)[-1]


def test_every_new_run_has_a_folder_of_its_own():
    names = {gan_mnist.parse_flags([]).output_dir for _ in range(20)}
    assert len(names) == 20 and min(names).startswith("outputs/")


@pytest.mark.parametrize("kind", [ImportError, TypeError])
def test_a_broken_tensorflow_shows_its_cause_at_the_end(kind, folder):
    error = kind("Traceback:\n  File x\nlost cause\n\nFailed to load.")
    (folder / "tensorflow.py").write_text(f"raise {error!r}")
    result = helpers.finish(helpers.start(helpers.SCRIPT, PYTHONPATH=str(folder)))
    assert result.status != 0 and "lost cause" in result.err.splitlines()[-3]
