"""Bad input: exit status 2, one line that names the flag or the file, and nothing is written."""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
from helpers import (
    ROOT,
    TEST,
    TRAIN,
    assert_one_line,
    command,
    end,
    idx,
    run,
    start,
    tree,
    variables,
    write_checkpoint,
    write_data,
)

import gan_mnist

GOOD = idx(np.zeros([24, 784]))


@pytest.fixture
def refused(capsys, tmp_path, monkeypatch):
    """Asserts that the flags are refused with one line, and leave the folder as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gan_mnist, "MIRRORS", ("http://127.0.0.1:1/",))  # nobody listens there

    def refused(flags, *parts):
        before = tree(tmp_path)
        status = gan_mnist.main([str(flag) for flag in flags])
        out, err = capsys.readouterr()
        assert status == 2 and (out == "" or out.startswith("Downloading data from")), err
        assert_one_line(err, *parts)
        assert tree(tmp_path) == before

    return refused


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A data set, and a run of one step on it."""
    folder = tmp_path_factory.mktemp("finished")
    data = write_data(folder / "data")
    flags = ["--input_data_dir", data, "--output_dir", folder / "run", "--max_steps", 1]
    assert run(*flags, "--batch_size", 16)[0] == 0
    return folder


# ------------------------------------------------------------------------------------------ data


def test_no_such_folder(refused):
    refused(["--input_data_dir", "nowhere"], "--input_data_dir nowhere")


def test_data_folder_is_a_file(refused, tmp_path):
    (tmp_path / "file").write_text("")
    refused(["--input_data_dir", "file"], "--input_data_dir file")


def test_folder_without_files_and_no_network(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(["--input_data_dir", "empty"], "--input_data_dir empty", TRAIN + ".gz")


def test_folder_that_takes_no_files(refused):
    refused(["--input_data_dir", "/proc"], "--input_data_dir /proc")


def test_half_of_another_data_set(refused, tmp_path):
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / TRAIN).write_bytes(GOOD)
    refused(["--input_data_dir", "half"], "--input_data_dir half", TEST)


@pytest.mark.parametrize("name", [TRAIN, TEST])
@pytest.mark.parametrize(
    "end, contents, part",
    [
        (".gz", gzip.compress(GOOD)[:-9], ""),
        (".gz", gzip.compress(GOOD)[:5], ""),
        (".gz", GOOD, ""),
        (".gz", gzip.compress(GOOD[:-1]), "24"),
        (".gz", gzip.compress(GOOD) + b"more", ""),
        (".gz", b"", ""),
        ("", GOOD[:-1], "24"),
        ("", GOOD + b"\0", "24"),
        ("", GOOD[:15], ""),
        ("", b"", ""),
        ("", gzip.compress(GOOD), "2051"),
        ("", idx(np.zeros([24, 784]), magic=2052), "2052"),
        ("", idx(np.zeros([24, 784]), rows=32), "32"),
        ("", idx(np.zeros([24, 784]), rows=784, columns=1), "784"),
        ("", np.array([2049, 24], ">u4").tobytes() + bytes(24), "labels"),
        ("", idx(np.zeros([0, 784])), "0 images"),
        ("", idx(np.zeros([24, 784]), n=2**32 - 1), str(2**32 - 1)),
        ("", idx(np.zeros([24, 784]), n=1_000_001), "1000001"),
    ],
)
def test_damaged_or_wrong_file(refused, tmp_path, name, end, contents, part):
    data = tmp_path / "data"
    data.mkdir()
    for file in (TRAIN, TEST):
        (data / file).write_bytes(GOOD)
    (data / name).unlink()
    (data / (name + end)).write_bytes(contents)
    refused(["--input_data_dir", data], data / (name + end), part)


@pytest.mark.parametrize("n", [10, 2**32 - 1])
def test_gzip_bomb_is_not_unpacked(tmp_path, n):
    packer, path = zlib.compressobj(9, zlib.DEFLATED, 31), tmp_path / "bomb.gz"
    block = bytes(1 << 20)
    with path.open("wb") as file:
        file.write(packer.compress(idx([], n=n)))
        for _ in range(100):
            file.write(packer.compress(block))
        file.write(packer.flush())
    tracemalloc.start()
    with pytest.raises(gan_mnist.BadInput, match="bomb.gz"):
        gan_mnist.read_idx(str(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20


def test_fewer_images_than_a_batch(refused, tmp_path):
    data = write_data(tmp_path / "data")
    refused(["--input_data_dir", data, "--batch_size", 221], "--batch_size 221", 220)


def test_too_few_images_to_hold_some_out(refused, tmp_path):
    data = write_data(tmp_path / "data", 11)
    refused(["--input_data_dir", data, "--batch_size", 1], "--input_data_dir", data)


# ----------------------------------------------------------------------------------------- flags


def numeric_flags():
    """The flags with numbers, as --help lists them."""
    text = subprocess.check_output(command("--help"), universal_newlines=True)
    found = set(re.findall(r"--(\w+) [A-Z]", text)) - {"input_data_dir", "output_dir"}
    assert {"max_steps", "batch_size", "d_step", "g_step", "seed", "beta1", "sample"} <= found
    return sorted(found)


def test_numbers_that_are_none_or_out_of_bounds(refused):
    wrong = ["-1", "-1e-9", "nan", "inf", "-inf", "1e999", "9" * 30, "9" * 5000, "1e30"]
    wrong += ["ten", "", " ", "1,5", "0x10", "--", "1\n2", "\udcff", "None"]
    whole = {"max_steps", "batch_size", "d_step", "g_step", "seed", "summary_steps", "sample"}
    positive = {"max_steps", "batch_size", "summary_steps"}
    for name in numeric_flags():
        for value in wrong + ["0"] * (name in positive) + ["1.5"] * (name in whole):
            refused([f"--{name}={value}"], f"--{name}")
        refused([f"--{name}"], f"--{name}")
        refused([f"--{name}", "-1"], f"--{name}")


def test_nobody_would_learn(refused):
    refused(["--d_step", 0, "--g_step", 0], "--d_step", "--g_step")


@pytest.mark.parametrize(
    "flag, near",
    [
        ("--batchsize", "--batch_size"),
        ("--g-step=2", "--g_step"),
        ("--max_step", "--max_steps"),
        ("--outdir", "--output_dir"),
        ("-seed", "--seed"),
        ("--g_los", "--g_loss"),
    ],
)
def test_unknown_flag_names_the_nearest(refused, flag, near):
    refused([flag], flag, near + " ")


@pytest.mark.parametrize("word", ["digits", "", "-", "--", "--x\ny", "\0", "--é=☃"])
def test_words_that_are_no_flags(refused, word):
    refused([word, "--input_data_dir", "nowhere"], "no such flag")


def test_wrong_choice(refused):
    refused(["--g_loss", "hinge"], "--g_loss", "minimax", "non_saturating")


def test_help_and_wrong_flags_do_not_import_tensorflow():
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import gan_mnist\n"
    code += "for flags in (['--seed', 'x'], ['--no'], ['--d_step=0', '--g_step=0'], ['--help']):\n"
    code += "    try: status = gan_mnist.main(flags)\n"
    code += "    except SystemExit as end: status = end.code\n"
    code += "    assert 'tensorflow' not in sys.modules\n"
    code += "    assert status == (0 if flags == ['--help'] else 2)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    status, out, err = end(process)
    assert status == 0 and err.count("\n") == 3, err
    assert out.startswith("usage: gan_mnist.py") and "--batch_size " in out


def test_an_environment_without_tensorflow(tmp_path):
    data = write_data(tmp_path / "data")
    flags = ["--input_data_dir", data, "--output_dir", tmp_path / "run", "--batch_size", "16"]
    status, out, err = run(*flags, **{"sys.modules['tensorflow']": None})
    assert (status, out) == (1, "")
    assert_one_line(err, "tensorflow")


def test_as_a_process(tmp_path):
    status, out, err = run("--batchsize", "3", cwd=tmp_path)
    assert (status, out) == (2, "") and not list(tmp_path.iterdir())
    assert_one_line(err, "--batchsize", "--batch_size")
    for flag in ("--input_data_dir", "--output_dir"):
        status, out, err = run(flag, "\udcff", cwd=tmp_path)  # a name that is not UTF-8
        assert (status, out) == (2, "") and not list(tmp_path.iterdir())
        assert_one_line(err, flag)


# --------------------------------------------------------------------------------- output folder


@pytest.mark.parametrize("name", ["file", "file/run", "/proc/run", "/dev/null", "x" * 300])
def test_output_folder_that_cannot_be(refused, tmp_path, name):
    (tmp_path / "file").write_text("kept")
    data = write_data(tmp_path / "data")
    flags = ["--input_data_dir", data, "--batch_size", 16, "--output_dir", name]
    refused(flags, "--output_dir " + name)


@pytest.mark.parametrize("name", ["", "a\nb", "a\0b", "run*", "[1]"])
def test_output_folder_that_tensorflow_cannot_open(refused, name):
    refused(["--output_dir", name], "--output_dir")


def test_output_folder_that_is_read_only(finished, tmp_path):
    there = tmp_path / "there"
    shutil.copytree(str(finished), str(there))
    (there / "empty").mkdir()
    bind = ["mount", "--bind", str(there), str(there)]
    if shutil.which("mount") is None or subprocess.call(bind, stderr=subprocess.DEVNULL):
        pytest.skip("needs the right to mount")
    try:
        subprocess.check_call(["mount", "-o", "remount,ro,bind", str(there)])
        before = tree(there)
        for name in ("run", "new", "empty"):
            flags = ["--input_data_dir", finished / "data", "--batch_size", 16]
            status, out, err = run(*flags, "--output_dir", there / name)
            assert (status, out) == (2, ""), err
            assert_one_line(err, f"--output_dir {there / name}", "ead-only")
        assert tree(there) == before
    finally:
        subprocess.check_call(["umount", str(there)])


def test_folder_that_is_not_a_run(refused, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"meow")
    refused(["--output_dir", "photos"], "--output_dir photos")
    refused(["--output_dir", "photos", "--sample", 3], "--output_dir photos")


@pytest.mark.parametrize(
    "contents",
    ["[]", "{", "[" * 100_000, '{"seed": 1}', '{"seed": -1, "data": "x"}', '{"a\\nb": 1}', "\xff"]
    + ["null", '"seed"', '{"seed": [0], "data": ""}', '{"help": "", "data": ""}', "[[1, 2]]"],
)
def test_run_whose_flags_are_damaged(refused, tmp_path, contents):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "flags.json").write_bytes(contents.encode("latin-1"))
    refused(["--output_dir", "run"], "--output_dir run")
    refused(["--output_dir", "run", "--sample", 3], "--output_dir run")


# ------------------------------------------------------------------------------------ checkpoints


def damage_all(folder):
    for path, what in zip(sorted(folder.glob("*.index")), (".index", ".data-00000-of-00001")):
        os.truncate(str(path.with_suffix(what)), 100)


def change_shapes(folder):
    wrong = variables(folder)
    wrong = {
        name: np.repeat(value, 2, -1) if value.ndim else value for name, value in wrong.items()
    }
    for path in folder.glob("model.ckpt-*.index"):
        write_checkpoint(path.with_suffix(""), wrong)


def change_names(folder):
    wrong = {"other/" + name: value for name, value in variables(folder).items()}
    for path in folder.glob("model.ckpt-*.index"):
        write_checkpoint(path.with_suffix(""), wrong)


def test_sample_without_a_run(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(["--sample", 3], "--sample", "--output_dir")
    refused(["--sample", 3, "--output_dir", "nowhere"], "--output_dir")
    refused(["--sample", 3, "--output_dir", "empty"], "--output_dir")


@pytest.mark.parametrize("damage", [damage_all, change_shapes, change_names])
def test_checkpoints_that_cannot_be_used(finished, tmp_path, damage):
    folder = tmp_path / "run"
    shutil.copytree(str(finished / "run"), str(folder))
    damage(folder)
    before = tree(folder)
    processes = [start("--output_dir", folder, *f) for f in (["--sample", 3], ["--max_steps", 10])]
    for process in processes:
        status, out, err = end(process)
        assert (status, out) == (2, ""), err
        assert_one_line(err, folder)
    assert tree(folder) == before


def test_sample_on_a_run_without_a_checkpoint(finished, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(str(finished / "run" / "flags.json"), str(folder))
    assert json.loads((folder / "flags.json").read_text())["batch_size"] == 16
    before = tree(folder)
    status, out, err = run("--output_dir", folder, "--sample", 3)
    assert (status, out) == (2, "") and tree(folder) == before
    assert_one_line(err, "--output_dir", folder)
