"""Bad input: exit status 2, one line that names the flag or the file, and nothing is written."""

import subprocess
import sys

import pytest
from conftest import ROOT, call, one_line, options, run

COUNTS = ["max_steps", "batch_size", "d_step", "g_step", "summary_steps"]
WRONG = {name: ["0", "-1", "1.5", "1e3", "9999999999"] for name in COUNTS}
WRONG.update({name: ["-1", "1.5", "9999999999"] for name in ("sample", "seed", "lr_half_life")})
WRONG.update({name: ["-1e-9", "10.1"] for name in ("d_learning_rate", "g_learning_rate")})
WRONG.update({name: ["-1e-9", "1"] for name in ("beta1", "beta2", "dropout", "ema_decay")})


@pytest.fixture
def refused(tmp_path):
    """Asserts that flags are refused with one line that has the parts in it."""

    def refused(*flags, parts):
        status, out, err = call("--input_data_dir=nowhere", *flags, cwd=tmp_path)
        assert (status, out, list(tmp_path.iterdir())) == (2, "", [])
        one_line(err, *parts)

    return refused


@pytest.mark.parametrize("name", sorted(WRONG))
def test_values_out_of_range_or_no_numbers_are_refused(refused, name):
    for value in WRONG[name] + ["nan", "inf", "-inf", "ten", "", "1,5", "0x10"]:
        refused(f"--{name}={value}", parts=[f"--{name}"])
    refused(f"--{name}", parts=[f"--{name}"])


@pytest.mark.parametrize("flag", ["--no_such_flag", "--no_such_flag=1", "word", "--g_loss=hinge"])
def test_unknown_flags_and_losses_are_refused(refused, flag):
    refused(flag, parts=flag.split("="))


def test_sample_needs_a_run(refused):
    refused("--sample=3", "--output_dir=none", parts=["--sample", "--output_dir none"])


@pytest.mark.parametrize("name", ["file", "file/run", "/dev/null"])
def test_a_folder_that_cannot_be_made_is_refused(data, tmp_path, name):
    (tmp_path / "file").write_text("kept")
    flags = options(input_data_dir=data, output_dir=name, max_steps=1)
    status, out, err = run(*flags, cwd=tmp_path)
    assert (status, out) == (2, "")
    one_line(err, name)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["kept"]


def test_help_names_every_flag_and_waits_for_no_package(tmp_path):
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import gan_mnist\n"
    code += "try: gan_mnist.main(['--help'])\n"
    code += "finally: assert not {'tensorflow', 'matplotlib'} & set(sys.modules)"
    out = subprocess.check_output([sys.executable, "-c", code], cwd=str(tmp_path)).decode()
    names = [*WRONG, "g_loss", "input_data_dir", "output_dir"]
    assert all(f"--{name} " in out for name in names) and not list(tmp_path.iterdir())
