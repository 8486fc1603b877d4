"""A run that is killed, stopped, extended or broken stays what it would have been, or says why."""

import concurrent.futures
import itertools
import json
import random
import re
import shutil
import signal
import time
import types

import numpy as np
import pytest
from conftest import ONE, SETTING, TAGS, Run, call, differing, one_line, options, run, start, tree

import gan_mnist
from gan_mnist import CHUNK


@pytest.fixture(scope="module")
def stopped(request, data, tmp_path_factory):
    """A run that ended early, was extended, killed, stopped by Ctrl-C and went on to its end; and
    exit status, standard output and error of each start."""
    cwd = tmp_path_factory.mktemp("stopped")
    state = cwd / "run" / "checkpoint"

    def job():
        flags = options(input_data_dir=data, max_steps=1000, summary_steps=35)
        ends = [run("--output_dir=run", *flags, cwd=cwd, clock=True)]
        for number in (signal.SIGKILL, signal.SIGINT):
            newest = state.read_bytes()
            process = start("--output_dir=run", f"--max_steps={ONE.steps}", cwd=cwd, clock=True)
            while process.poll() is None and state.read_bytes() == newest:
                time.sleep(0.01)
            time.sleep(random.uniform(0, 0.3))
            process.send_signal(number)
            out, err = process.communicate()
            ends.append((process.returncode, out.decode(), err.decode()))
        return ends + [run("--output_dir=run", f"--max_steps={ONE.steps}", cwd=cwd, clock=True)]

    job = concurrent.futures.ThreadPoolExecutor(1).submit(job)
    request.getfixturevalue("runs")  # these are made at the same time
    return Run(state.parent), job.result()


def test_a_run_extended_killed_and_stopped_ends_as_one_never_stopped(stopped, runs):
    (ours, ends), whole = stopped, runs["one"]
    assert [status for status, *_ in ends] == [0, -signal.SIGKILL, 130, 0]
    assert differing(ours.variables(), whole.variables()) == set()
    curves, expected = ours.shown(), whole.shown()
    for tag in {*TAGS.curves, TAGS.score, TAGS.pictures}:
        assert curves[tag] == expected[tag], tag
    for pattern in ("samples/*", "samples.gif", "losses.png"):
        files = [{p.name: p.read_bytes() for p in r.folder.glob(pattern)} for r in (ours, whole)]
        assert files[0] == files[1] and files[0], pattern
    assert len(list(ours.folder.glob("model.ckpt-*.index"))) <= 5
    flags = json.loads((ours.folder / "flags.json").read_text())
    assert {name: flags[name] for name in SETTING} == SETTING and flags["max_steps"] == ONE.steps


def test_a_stopped_run_has_said_how_to_go_on_and_shows_no_traceback(stopped):
    assert [err for _, _, err in stopped[1]] == [""] * 4
    assert all("--output_dir run" in out.split("\n")[0] for _, out, _ in stopped[1][::2])


@pytest.fixture
def copy(runs, tmp_path):
    """A finished run in a folder "run"."""
    shutil.copytree(str(runs["one"].folder), str(tmp_path / "run"))
    return tmp_path / "run"


OTHERS = {name: value + 1 if isinstance(value, int) else 0.75 for name, value in SETTING.items()}
OTHERS["g_loss"] = "minimax"


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_flags_that_would_change_the_run_are_refused_by_name(copy, name):
    before = tree(copy)
    status, out, err = call("--output_dir=run", f"--{name}={OTHERS[name]}", cwd=copy.parent)
    assert (status, out) == (2, "") and tree(copy) == before
    one_line(err, f"the run in run has --{name} {SETTING[name]}")


@pytest.fixture(scope="module")
def vanished(data, tmp_path_factory):
    """A run whose folder vanishes after 13 chunks of steps, seven seconds each; and its exit
    status, standard output and error."""
    cwd, chunks = tmp_path_factory.mktemp("vanished"), itertools.count()

    def perf_counter():
        chunk = next(chunks)
        if chunk == 13:
            (cwd / "run").rename(cwd / "elsewhere")
        return 7.0 * chunk

    with pytest.MonkeyPatch.context() as patch:
        clock = types.SimpleNamespace(perf_counter=perf_counter, strftime=time.strftime)
        patch.setattr(gan_mnist, "time", clock)
        flags = options(input_data_dir=data, summary_steps=CHUNK, max_steps=10**6, seed=1)
        return (Run(cwd / "elsewhere"), *call("--output_dir=run", *flags, cwd=cwd))


def test_a_folder_that_vanishes_ends_the_run_with_one_line(vanished):
    _, status, out, err = vanished
    assert status == 1 and "Pictures" not in out
    one_line(err, "run")


def test_at_most_30_seconds_of_work_are_lost(vanished):
    names = vanished[0].folder.glob("model.ckpt-*.index")
    steps = sorted(int(path.stem.split("-")[1]) for path in names)
    seconds = 7 * np.array([0] + steps + [13 * CHUNK]) / CHUNK
    assert steps and np.diff(seconds).max() <= 30
    assert steps[-1] in dict(vanished[0].shown()[TAGS.speed])  # the curves reach as far


def test_the_speed_is_steps_per_second_and_the_time_left_goes_by_it(vanished, stopped):
    speeds = [value for _, value in vanished[0].shown()[TAGS.speed]]
    assert len(speeds) >= 9
    assert speeds == pytest.approx([CHUNK / 7] * len(speeds))
    speeds = [value for _, value in stopped[0].shown()[TAGS.speed]]
    assert max(speeds) <= CHUNK  # a second for each chunk, or for a part of one
    line = re.search(r"step 5000/5110 .*  (\d+) steps/s  (\d+) s left", stopped[1][-1][1])
    rate, left = map(int, line.groups())
    assert left == pytest.approx(110 / rate, abs=1.5)


def test_another_seed_is_another_run(vanished, runs):
    for step in (0, 100):
        assert vanished[0].png(step).read_bytes() != runs["one"].png(step).read_bytes()


def test_a_loss_that_is_not_finite_ends_the_run_with_one_line(copy):
    with gan_mnist.tf.Graph().as_default():
        gan = gan_mnist.GAN(gan_mnist.parse_flags([f"--output_dir={copy}"]))
        gan.session.run(gan.theta_D[3].assign([np.inf]))
        gan.saver.save(gan.session, str(copy / "model.ckpt"), ONE.steps)
    status, out, err = call("--output_dir=run", f"--max_steps={ONE.steps + 100}", cwd=copy.parent)
    assert status == 1 and "Pictures" not in out
    one_line(err, "not finite", f"step {ONE.steps + 1};")
    assert not np.isfinite(dict(Run(copy).shown()[TAGS.curves[0]])[ONE.steps])  # the curve, too
    assert not list(copy.glob(f"model.ckpt-{ONE.steps + 1}*"))


@pytest.mark.parametrize("how, flag", [(call, "--max_steps=9000"), (run, "--sample=3")])
def test_a_damaged_checkpoint_is_said_in_one_line(copy, how, flag):
    path = copy / f"model.ckpt-{ONE.steps}.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:1000])
    status, _, err = how("--output_dir=run", flag, cwd=copy.parent)
    assert status == 1 and not (copy / "generated.npy").exists()
    one_line(err)
