"""Runs that are killed, stopped, extended or damaged: same results as without, or a clear error."""

import itertools
import shutil
import signal
import time
import types

import conftest as c
import numpy as np
import pytest
from conftest import STEPS, call, newest, one_line, options, refused, shown, tree, variables

import gan_mnist

FOLDER = "--output_dir=run"


def test_a_run_extended_killed_and_stopped_equals_an_uninterrupted_one(runs):
    ours, whole = runs["interrupted"], runs["whole"]
    assert [status for status, *_ in ours.ends] == [0, -signal.SIGKILL, 130, 0]
    assert c.differing(variables(ours.folder), variables(whole.folder)) == set()
    curves, expected = shown(ours.folder), shown(whole.folder)
    for tag in {*c.CURVES, c.SCORE, c.PICTURES}:
        assert curves[tag] == expected[tag], tag
    for pattern in ("samples/*", "samples.gif", "losses.png"):
        files = [{p.name: p.read_bytes() for p in r.folder.glob(pattern)} for r in (ours, whole)]
        assert files[0] == files[1] and files[0], pattern
    assert len(list(ours.folder.glob("model.ckpt-*.index"))) <= 5
    for status, out, err in ours.ends:
        assert "--output_dir run" in out.split("\n")[0]
        assert err.count("\n") == (status == 130)


OTHERS = {name: value + 1 if isinstance(value, int) else 0.75 for name, value in c.SETTING.items()}
OTHERS["g_loss"] = "minimax"


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_flags_that_would_change_the_run_are_refused_by_name(copy, name):
    flags = [FOLDER, f"--{name}={OTHERS[name]}", f"--max_steps={STEPS + 1}"]
    refused(copy.parent, *flags, parts=[f"--{name} {c.SETTING[name]}"])


def clock(monkeypatch, seconds, at, event):
    """Advances the script's clock by seconds at each reading; at reading number at, calls event."""
    looks = itertools.count()

    def perf_counter():
        look = next(looks)
        if look == at:
            event()
        return seconds * look

    times = vars(time) | {"perf_counter": perf_counter}
    monkeypatch.setattr(gan_mnist, "time", types.SimpleNamespace(**times))


def test_a_vanished_folder_is_reported_and_at_most_30_seconds_of_work_are_lost(
    data, tmp_path, monkeypatch
):
    folder = tmp_path / "elsewhere"
    clock(monkeypatch, 7.0, 24, lambda: (tmp_path / "run").rename(folder))
    flags = options(input_data_dir=data, output_dir="run", max_steps=1000, summary_steps=1)
    status, out, err = call(*flags, cwd=tmp_path)
    assert status == 1 and "Pictures" not in out and not (tmp_path / "run").exists()
    one_line(err, "run")
    steps = sorted(int(path.stem.split("-")[1]) for path in folder.glob("model.ckpt-*.index"))
    assert len(steps) > 1 and 7 * np.diff([*steps, 24]).max() <= 30  # a step takes seven seconds
    assert max(shown(folder)[c.CURVES[0]]) >= steps[-1]  # the curves reach as far


def test_a_run_stopped_at_once_can_be_sampled(data, tmp_path, monkeypatch):
    clock(monkeypatch, 1e-3, 4, lambda: signal.raise_signal(signal.SIGINT))
    flags = options(input_data_dir=data, output_dir="run", max_steps=1000)
    assert call(*flags, cwd=tmp_path)[0] == 130
    assert newest(tmp_path / "run") == 0 and c.CURVES[0] in shown(tmp_path / "run")
    assert call(FOLDER, "--sample=3", cwd=tmp_path)[0] == 0
    assert np.load(tmp_path / "run" / "generated.npy").shape == (3, 28, 28)


@pytest.mark.parametrize("flags", [[], ["--max_steps=5"]], ids=["same", "fewer steps"])
def test_a_finished_run_says_so_and_draws_what_is_missing(copy, flags):
    before, drawn = tree(copy), {copy / "losses.png", copy / "samples.gif"}
    for path in drawn:
        path.unlink()
    status, out, err = call(FOLDER, *flags, cwd=copy.parent)
    after = tree(copy)
    assert (status, err) == (0, "") and "finished" in out and set(after) == set(before)
    assert {p for p in before if after[p] != before[p]} <= drawn  # they have another time
    assert all(after[path][0] == before[path][0] for path in drawn)


@pytest.mark.parametrize("pattern, left", [("events.*", "samples.gif"), ("samples", "losses.png")])
def test_missing_files_of_a_finished_run_are_left_out_and_the_rest_is_drawn(copy, pattern, left):
    for path in [*copy.glob(pattern), copy / "losses.png", copy / "samples.gif"]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    status, out, _ = call(FOLDER, cwd=copy.parent)
    assert status == 0 and (copy / left).exists() and "nats" in out


STATES = {"missing": None, "empty": b"", "text": b"garbage {{", "binary": b"\xff\xfe\0"}


@pytest.mark.parametrize("contents", STATES.values(), ids=STATES)
def test_a_damaged_checkpoint_file_loses_no_work(copy, contents):
    (copy / "checkpoint").unlink()
    if contents is not None:
        (copy / "checkpoint").write_bytes(contents)
    (copy / "model.ckpt-900.index").write_bytes(b"not the newest")
    assert call(FOLDER, f"--max_steps={STEPS + 3}", cwd=copy.parent)[0] == 0
    assert variables(copy)["global_step"] == (STEPS + 3) * 3


@pytest.mark.parametrize("flag", ["--max_steps=9000", "--sample=3"])
@pytest.mark.parametrize("end", ["data-00000-of-00001", "index"])
def test_a_truncated_checkpoint_is_reported_in_one_line_and_sample_needs_one(copy, end, flag):
    path = copy / f"model.ckpt-{STEPS}.{end}"
    path.write_bytes(path.read_bytes()[:100])
    refused(copy.parent, FOLDER, flag, parts=["run"], status=(1,))
    for path in copy.glob("model.ckpt-*"):
        path.unlink()
    refused(copy.parent, FOLDER, "--sample=3", parts=["run"])


def test_a_loss_that_is_not_finite_ends_the_run_with_one_line(copy):
    flags = gan_mnist.parse_flags([f"--output_dir={copy}"])
    gan = gan_mnist.GAN(flags, np.zeros([1, 784], np.uint8))
    gan.restore(copy)
    (bias,) = gan.session.graph.get_collection("trainable_variables", "D_nn2/D_bias")
    bias.load([np.inf], gan.session)
    gan.saver.save(gan.session, f"{copy}/model.ckpt-{STEPS}", write_meta_graph=False)
    status, out, err = call(FOLDER, f"--max_steps={STEPS + 100}", cwd=copy.parent)
    assert status == 1 and "Pictures" not in out and newest(copy) == STEPS
    one_line(err, "not finite", f"step {STEPS + 1}", "new run")
    assert not np.isfinite(shown(copy)[c.CURVES[0]][STEPS])  # the curve, too


def test_runs_in_a_moved_checkout_can_be_resumed(data, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(data, here / "MNIST_data")
    shutil.copy(c.ROOT / "gan_mnist.py", here)
    script = {"program": ["gan_mnist.py"]}
    assert c.run(*options(output_dir="run", max_steps=2), cwd=here, **script)[0] == 0
    here.rename(there)
    assert c.run(FOLDER, "--max_steps=4", cwd=there, **script)[0] == 0
    assert variables(there / "run")["global_step"] == 12
