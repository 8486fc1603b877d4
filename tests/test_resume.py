"""A run survives Ctrl-C, kill -9, damaged checkpoints and a full disk, and stays bit for bit what
it would have been. Everything here happens to real processes and real files."""

import os
import random
import re
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
from helpers import (
    assert_one_line,
    assert_same_run,
    await_training,
    checkpoints,
    end,
    events,
    kill_and_resume,
    run,
    start,
    tree,
    variables,
    write_checkpoint,
    write_data,
)

STEPS, EVERY = 6000, 2000
OFTEN = {"CHECKPOINT_SECONDS": 0.2}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def flags(data):
    small = ["--batch_size", 16, "--summary_steps", EVERY, "--seed", 3, "--lr_half_life", 5000]
    return ["--input_data_dir", data, "--max_steps", STEPS, *small]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, flags):
    """A run that was never stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    status, _, err = run("--output_dir", folder, *flags, **OFTEN)
    assert (status, err) == (0, "")
    assert [step for step, *_ in events(folder)] == [*range(0, STEPS, EVERY), STEPS]
    return folder


@pytest.fixture
def copy(whole, tmp_path):
    shutil.copytree(str(whole), str(tmp_path / "run"))
    return tmp_path / "run"


@pytest.fixture
def mount(tmp_path):
    """Mounts a small file system; called again, changes it."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(options):
        remount = ",remount" if os.path.ismount(str(disk)) else ""
        command = ["mount", "-t", "tmpfs", "-o", options + remount, "tmpfs", str(disk)]
        if shutil.which("mount") is None or subprocess.call(command, stderr=subprocess.DEVNULL):
            pytest.skip("needs the right to mount a tmpfs")
        return disk

    yield mount
    if os.path.ismount(str(disk)):
        subprocess.check_call(["umount", str(disk)])


def test_ctrl_c_sigterm_and_a_second_process(tmp_path, flags, whole):
    folder, beyond, given = tmp_path / "run", 0, flags
    for number in (signal.SIGINT, signal.SIGTERM):
        process = start("--output_dir", folder, *given, **OFTEN)
        assert await_training(process, folder, beyond), end(process)
        status, _, err = run("--output_dir", folder)
        assert status == 2
        assert_one_line(err, folder, "another process")
        process.send_signal(number)
        status, out, err = end(process)
        beyond, given = checkpoints(folder)[-1], ()
        assert (status, err) == (128 + number, "")
        assert f"Stopped at step {beyond}" in out and f"--output_dir {folder}" in out
        assert 0 < beyond < STEPS
    assert run("--output_dir", folder)[0] == 0
    assert_same_run(folder, whole)


def test_ctrl_c_while_the_last_pictures_are_drawn(tmp_path):
    folder = tmp_path / "run"
    process = start("--output_dir", folder, "--max_steps", 1)
    while process.poll() is None and not (folder / "samples.gif").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)  # amid the score of real MNIST, which takes seconds
    status, out, err = end(process)
    assert (status, err) == (130, "") and "Parzen" not in out
    status, out, _ = run("--output_dir", folder)
    assert status == 0 and "Parzen" in out


def test_kill_and_resume(tmp_path, flags, whole):
    kills, status, err = kill_and_resume(tmp_path / "run", flags, 5, random.Random(0))
    assert (status, err) == (0, "") and kills > 1
    assert_same_run(tmp_path / "run", whole)


def test_larger_max_steps_extends_a_finished_run(tmp_path, flags, whole):
    folder = tmp_path / "run"
    assert run("--output_dir", folder, *flags, "--max_steps", EVERY)[0] == 0
    before = tree(folder)
    assert run("--output_dir", folder, "--max_steps", STEPS)[0] == 0
    assert_same_run(folder, whole)
    kept = [name for name in before if re.search(r"tfevents|flags\.json|step_\d+\.png", name)]
    after = tree(folder)
    assert len(kept) == 4 and all(after.get(name) == before[name] for name in kept)


@pytest.mark.parametrize(
    "given, parts",
    [
        (["--seed", "4"], ["--seed", "3", "4"]),
        (["--batch_size", "32", "--d_step", "2"], ["--batch_size", "16", "32", "--d_step", "1"]),
        (["--d_learning_rate", "0.5"], ["--d_learning_rate", "0.5"]),
        (["--lr_half_life", "0"], ["--lr_half_life", "5000"]),
        (["--g_loss", "minimax"], ["--g_loss", "non_saturating", "minimax"]),
        (["--dropout", "0.25", "--beta1", "0.75"], ["--dropout", "0.25", "--beta1", "0.75"]),
    ],
)
def test_flags_that_would_change_the_run_are_refused(whole, given, parts):
    before = tree(whole)
    status, _, err = run("--output_dir", whole, *given)
    assert status == 2 and tree(whole) == before
    assert_one_line(err, whole, *parts)


def test_another_data_set_is_refused(whole, tmp_path):
    before, other = tree(whole), write_data(tmp_path / "other", first=240)
    status, _, err = run("--output_dir", whole, "--input_data_dir", other)
    assert status == 2 and tree(whole) == before
    assert_one_line(err, "--input_data_dir", other)


@pytest.mark.parametrize(
    "kinds", [["short data", "wrong data", "short index"], ["no data", "no index"]]
)
def test_the_checkpoint_before_damaged_ones_serves(copy, whole, kinds):
    steps = checkpoints(copy)
    assert len(steps) > len(kinds)
    for kind, step in zip(kinds, reversed(steps)):
        how, what = kind.split()
        (file,) = copy.glob(f"model.ckpt-{step}.{what}*")
        contents = file.read_bytes()
        if how == "no":
            file.unlink()
        elif how == "short":
            file.write_bytes(contents[: len(contents) // 2])
        else:
            half = len(contents) // 2
            file.write_bytes(contents[:half] + bytes([contents[half] ^ 1]) + contents[half + 1 :])
    assert run("--output_dir", copy)[0] == 0
    assert_same_run(copy, whole)


def test_files_cut_off_by_a_kill_do_no_harm(copy, whole):
    for name in ("checkpoint", "flags.json.part", "model.ckpt-7.data-00000-of-00001.tempstate1"):
        (copy / name).write_text("")
    (copy / f"model.ckpt-{STEPS}.index").write_text("")
    for name in ("step_0001234.png.part", ".DS_Store"):
        (copy / "samples" / name).write_text("")
    assert run("--output_dir", copy)[0] == 0
    for name in ("step_0001234.png.part", ".DS_Store"):
        (copy / "samples" / name).unlink()
    assert_same_run(copy, whole)


def test_a_loss_that_is_not_finite_ends_the_run(copy):
    good = variables(copy)
    good["beta1_power"] = np.float32(1)  # makes Adam divide by zero
    write_checkpoint(copy / f"model.ckpt-{STEPS}", good)
    status, _, err = run("--output_dir", copy, "--max_steps", STEPS + 1000)
    assert status == 1
    assert_one_line(err, "nan", f"at step {STEPS + 1}", f"model.ckpt-{STEPS};")
    assert checkpoints(copy)[-1] == STEPS
    assert all(np.isfinite(value).all() for value in variables(copy).values())


@pytest.mark.parametrize("limit", ["size=16m", "nr_inodes=14"])
def test_full_disk(mount, flags, whole, limit):
    folder = mount(limit) / "run"
    status, _, err = run("--output_dir", folder, *flags, CHECKPOINT_SECONDS=0)
    assert status == 1
    assert_one_line(err, folder)
    mount("size=200m,nr_inodes=1000")
    status, _, err = run("--output_dir", folder)
    assert (status, err) == (0, "")
    assert_same_run(folder, whole)


def test_a_disk_full_from_the_start(mount, data):
    folder = mount("nr_inodes=2") / "run"  # one is the disk's own
    flags = ["--input_data_dir", data, "--batch_size", 16, "--max_steps", 1]
    status, out, err = run("--output_dir", folder, *flags)
    assert (status, out) == (2, "") and not list(folder.iterdir())
    assert_one_line(err, f"--output_dir {folder}")
    mount("nr_inodes=1000")
    assert run("--output_dir", folder, *flags)[0] == 0


def test_vanished_output_folder(tmp_path, flags):
    folder = tmp_path / "run"
    flags = [*flags, "--max_steps", 10**9]
    process = start("--output_dir", folder, *flags, CHECKPOINT_SECONDS=0)  # it may vanish amid one
    assert await_training(process, folder, 0), end(process)
    folder.rename(tmp_path / "elsewhere")
    status, _, err = end(process)
    assert status == 1 and not folder.exists()
    assert_one_line(err, folder)


def test_a_new_run_leaves_earlier_ones_alone(tmp_path, flags, whole):
    shutil.copytree(str(whole), str(tmp_path / "outputs" / "first"))
    before = tree(tmp_path / "outputs" / "first")
    assert run(*flags, "--max_steps", 1, cwd=tmp_path)[0] == 0
    assert tree(tmp_path / "outputs" / "first") == before
    assert len(list((tmp_path / "outputs").iterdir())) == 2
