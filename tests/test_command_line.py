"""The command line and its surroundings: flags that are errors, folders of new runs, packages."""

from pathlib import Path

import helpers
import pytest

import gan_mnist


@pytest.mark.parametrize(
    "flag",
    [
        "--max_step=5",
        "--g_loss=wasserstein",
        *(f"--{n}=0" for n in ("max_steps", "batch_size", "d_step", "g_step", "hidden_units")),
        *(f"--{n}=-1" for n in ("seed", "sample")),
        "--sample=3",
        "--output_dir=",
        *(f"--output_dir=run{character}" for character in "[]*?\\"),
    ],
)
def test_an_error_names_the_flag_and_nothing_is_written(flag, folder):
    assert flag.split("=")[0] in helpers.refused(gan_mnist, "--max_steps=1", flag)[-1]


def test_every_new_run_has_a_folder_of_its_own():
    names = {gan_mnist.parse_flags([]).output_dir for _ in range(20)}
    assert len(names) == 20 and min(names).parent == Path("outputs")


def test_a_notebook_and_a_matplotlibrc_do_not_change_curves_png(copy, whole):
    Path("matplotlibrc").write_text("text.usetex: True")  # it would need LaTeX
    notebook = "module://matplotlib_inline.backend_inline"  # a package that is not installed
    environment = {"MPLBACKEND": notebook, "MATPLOTLIBRC": "matplotlibrc"}
    (copy / "curves.png").unlink()
    result = helpers.finish(helpers.start(helpers.SCRIPT, "--output_dir=run", **environment))
    assert result.status == 0, result.err
    assert (copy / "curves.png").read_bytes() == (whole.folder / "curves.png").read_bytes()
