"""A run that is killed, stopped, extended or broken stays what it would have been, or says why."""

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


def test_a_run_extended_killed_and_stopped_ends_as_one_never_stopped(runs):
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
    """Lets so many seconds pass whenever the script looks; at a certain look something happens."""
    looks = itertools.count()

    def perf_counter():
        look = next(looks)
        if look == at:
            event()
        return seconds * look

    times = vars(time) | {"perf_counter": perf_counter}
    monkeypatch.setattr(gan_mnist, "time", types.SimpleNamespace(**times))


def test_a_folder_that_vanishes_is_told_and_30_seconds_of_work_are_lost_at_most(
    data, tmp_path, monkeypatch
):
    folder = tmp_path / "elsewhere"
    clock(monkeypatch, 7.0, 24, lambda: (tmp_path / "run").rename(folder))
    flags = options(input_data_dir=data, output_dir="run", max_steps=1000, summary_steps=1)
    status, out, err = call(*flags, cwd=tmp_path)
    assert status == 1 and "Pictures" not in out
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


def test_an_extended_run_that_is_stopped_goes_on_to_its_new_end(copy, monkeypatch):
    with monkeypatch.context() as patch:
        clock(patch, 1e-3, 9, lambda: signal.raise_signal(signal.SIGINT))
        assert call(FOLDER, f"--max_steps={STEPS + 20}", cwd=copy.parent)[0] == 130
    assert call(FOLDER, cwd=copy.parent)[0] == 0
    assert newest(copy) == STEPS + 20


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
def test_what_a_finished_run_has_lost_is_left_out_and_the_rest_is_drawn(copy, pattern, left):
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
    before = tree(copy)
    status, _, err = call(FOLDER, f"--max_steps={STEPS + 3}", cwd=copy.parent)
    if status == 0:
        assert variables(copy)["global_step"] == (STEPS + 3) * 3
    else:
        assert tree(copy) == before
        one_line(err, "run/checkpoint")


def test_sample_needs_a_checkpoint(copy):
    for path in copy.glob("model.ckpt-*"):
        path.unlink()
    refused(copy.parent, FOLDER, "--sample=3", parts=["run"])


@pytest.mark.parametrize("flag", ["--max_steps=9000", "--sample=3"])
@pytest.mark.parametrize("end", ["data-00000-of-00001", "index"])
def test_a_truncated_checkpoint_is_told_in_one_short_line(copy, end, flag):
    path = copy / f"model.ckpt-{STEPS}.{end}"
    path.write_bytes(path.read_bytes()[:100])
    before = tree(copy)
    status, _, err = call(FOLDER, flag, cwd=copy.parent)
    assert status == 1 and tree(copy) == before
    one_line(err, "run")
    assert len(err) < 500  # without TensorFlow's traceback


def test_a_loss_that_is_not_finite_ends_the_run_with_one_line(copy):
    flags = gan_mnist.parse_flags([f"--output_dir={copy}"])
    gan = gan_mnist.GAN(flags, np.zeros([1, 784], np.uint8))
    gan.restore(copy)
    (bias,) = gan.session.graph.get_collection("trainable_variables", "D_nn2/D_bias")
    bias.load([np.inf], gan.session)
    gan.saver.save(gan.session, str(copy / "model.ckpt"), STEPS, write_meta_graph=False)
    status, out, err = call(FOLDER, f"--max_steps={STEPS + 100}", cwd=copy.parent)
    assert status == 1 and "Pictures" not in out and newest(copy) == STEPS
    one_line(err, "not finite", f"step {STEPS + 1}", "new run")
    assert not np.isfinite(shown(copy)[c.CURVES[0]][STEPS])  # the curve, too


def test_a_checkout_that_was_moved_goes_on_with_its_runs(data, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(data, here / "MNIST_data")
    shutil.copy(c.ROOT / "gan_mnist.py", here)
    script = {"program": ["gan_mnist.py"]}
    assert c.run(*options(output_dir="run", max_steps=2), cwd=here, **script)[0] == 0
    here.rename(there)
    assert c.run(FOLDER, "--max_steps=4", cwd=there, **script)[0] == 0
    assert variables(there / "run")["global_step"] == 12
