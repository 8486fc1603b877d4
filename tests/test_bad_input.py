"""Bad input: exit status 2, one line that names the flag or the file, and nothing is written."""

import json
import math

import pytest
from conftest import ROOT, one_line, options, refused, run

import gan_mnist

COUNTS = ["max_steps", "batch_size", "d_step", "g_step", "summary_steps"]
WRONG = {name: ["0", "-1", "1.5", "1e3", "99999999999"] for name in COUNTS}
WRONG |= {name: ["-1", "1.5", "99999999999"] for name in ("sample", "seed")}
WRONG |= {name: ["-1e-9", "1e9"] for name in ("d_learning_rate", "g_learning_rate", "r1_gamma")}
WRONG |= {name: ["-1e-9", "1"] for name in ("beta1", "beta2", "ema_decay")}
WRONG["g_loss"] = ["hinge"]


@pytest.mark.parametrize("name", [*WRONG, "unknown", "batch"])
def test_invalid_values_and_unknown_or_abbreviated_flags_are_refused(tmp_path, name):
    numbers = ["nan", "inf", "-inf", "ten", "", "1,5", "0x10"]
    for value in WRONG.get(name, ["1", "9"]) + numbers:
        refused(tmp_path, "--input_data_dir=none", f"--{name}={value}", parts=[f"--{name}"])
    refused(tmp_path, "--input_data_dir=none", f"--{name}", parts=[f"--{name}"])
    refused(tmp_path, "--input_data_dir=none", name, parts=[name])


@pytest.mark.parametrize("name", ["", "run[1]", "lr[0.1]", "a*", "b?", "c\\d", "x/y[1]/z"])
def test_folder_names_that_are_empty_or_patterns_are_refused(data, tmp_path, name):
    (tmp_path / "run1").mkdir()
    (tmp_path / "run1" / "model.ckpt-0.index").write_text("kept")
    flags = options(input_data_dir=data, max_steps=1, output_dir=name)
    refused(tmp_path, *flags, parts=["--output_dir"])


@pytest.mark.parametrize("name", ["file", "file/run", "/dev/null"])
def test_folders_that_cannot_be_created_or_sampled_are_refused(data, tmp_path, name):
    (tmp_path / "file").write_text("kept")
    flags = options(input_data_dir=data, output_dir=name, max_steps=1)
    refused(tmp_path, *flags, parts=[name])
    refused(tmp_path, *flags, "--sample=3", parts=[name, "--sample"])


def test_the_default_folder_is_always_new_and_no_default_is_an_absolute_path():
    flags = [vars(gan_mnist.parse_flags([])) for _ in range(50)]
    assert len({f["output_dir"] for f in flags}) == 50
    assert all(f["output_dir"].startswith("outputs/") for f in flags)
    assert not [value for value in flags[0].values() if str(value).startswith("/")]


def saved(**changes):
    """A flags.json with changes; None: without that flag."""
    argv = options(output_dir="run", input_data_dir="nowhere")
    flags = vars(gan_mnist.parse_flags(argv)) | changes
    return json.dumps({name: value for name, value in flags.items() if value is not None})


DAMAGED = {"truncated": saved()[:-9], "empty": "", "a list": "[1, 2]", "a number": "3"}
DAMAGED |= {"binary": "\udcff\udcfe", "word for number": saved(batch_size="sixteen")}
DAMAGED |= {"fraction": saved(seed=1.5), "null": saved().replace('"seed": 3', '"seed": null')}
DAMAGED |= {"unknown flag": saved(dropout=0.5), "flag missing": saved(ema_decay=None)}
DAMAGED |= {name: saved(**{name: v}) for name, v in (("g_step", 0), ("beta1", math.nan))}


@pytest.mark.parametrize("fault", DAMAGED)
def test_a_damaged_flags_json_is_refused(tmp_path, fault):
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "flags.json"
    path.write_text(DAMAGED[fault], errors="surrogateescape")
    named = fault if fault in ("g_step", "beta1") else "run/flags.json"
    for flag in ("--max_steps=5", "--sample=3"):
        refused(tmp_path, "--output_dir=run", flag, parts=[named])


def test_help_names_every_flag_and_imports_no_slow_package(tmp_path):
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import gan_mnist\n"
    code += "try: gan_mnist.main(['--help'])\n"
    code += "finally: assert not {'numpy', 'tensorflow', 'matplotlib'} & set(sys.modules)"
    status, out, err = run(cwd=tmp_path, program=["-c", code])
    assert (status, err) == (0, "") and not list(tmp_path.iterdir())
    assert all(f"--{n} " in out for n in [*WRONG, "input_data_dir", "output_dir"])


START = f"sys.path.insert(0, {str(ROOT)!r}); import gan_mnist; gan_mnist.main()"
WITHOUT = {"packages": ["-S", "-c", f"import sys; {START}"]}
WITHOUT["tensorflow"] = ["-c", f"import sys; sys.modules['tensorflow'] = None; {START}"]
WITHOUT["output"] = ["-c", "import os, sys; os.close(1); os.execv(sys.executable, sys.argv)"]
WITHOUT["output"] += [ROOT / "gan_mnist.py"]


@pytest.mark.parametrize("missing", WITHOUT)
def test_missing_packages_or_output_are_reported_before_anything_is_written(tmp_path, missing):
    status, _, err = run("--output_dir=run", cwd=tmp_path, program=WITHOUT[missing])
    assert status == 2 and not list(tmp_path.iterdir())
    one_line(err, *([] if missing == "output" else ["pip install -r requirements.txt"]))
