"""Runs that are repeated, stopped, killed, resumed, extended, moved or given other flags."""

import random
import shutil
import signal
import time
from pathlib import Path

import helpers
import pytest

import gan_mnist

RUN = "--output_dir=run"


def outcome(folder):
    """Returns what a run of 1,500 steps ends with: its variables, pictures and curves."""
    patterns = ["model.ckpt-1500*", "samples/*", "samples.gif", "losses.png"]
    paths = [path for pattern in patterns for path in Path(folder).glob(pattern)]
    return {**helpers.shown(folder), **{path.name: path.read_bytes() for path in paths}}


def test_a_run_stopped_killed_and_extended_ends_like_one_never_interrupted(whole, folder):
    flags = ["--batch_size=16", "--max_steps=1500"]
    seed = random.randrange(10**6)
    print(f"The moments of Ctrl-C and kill -9 are drawn with seed {seed}")
    random.seed(seed)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
    beside = helpers.start(helpers.SCRIPT, *flags, "--output_dir=beside")
    ends = []
    for number, file, steps in (
        (signal.SIGINT, "samples/step_0000000.png", 500),
        (signal.SIGKILL, "model.ckpt-1000.index", 1500),
    ):
        process = helpers.start(helpers.SCRIPT, RUN, *flags)
        helpers.wait_until(Path("run", file).exists)
        time.sleep(random.uniform(0, 0.3))
        process.send_signal(number)
        ends.append(helpers.finish(process))
        ends.append(helpers.call(gan_mnist, RUN, *flags, f"--max_steps={steps}"))
    assert [end.status for end in ends] == [1, 0, -signal.SIGKILL, 0]
    assert '--output_dir "run"' in ends[0].err.splitlines()[-1]
    for end, state, step in zip(ends, ["New", "New", "Resumed", "Resumed"], [0, 0, 500, 1000]):
        assert f"{state} run: run at step {step}\n" in end.out
    assert helpers.finish(beside).status == 0
    expected = outcome(whole.folder)
    for found in (outcome("run"), outcome("beside")):
        assert [n for n in {**found, **expected} if found.get(n) != expected.get(n)] == []


def test_a_resumed_run_has_its_own_flags_those_that_are_given_and_defaults(copy, data):
    (copy / "flags.json").write_text('{"d_step": 2}')  # as if the other flags were new
    shutil.copytree(data, "other")
    given = ["--input_data_dir=other", "--g_step=1"]
    for step in range(1501, 1505):
        result = helpers.call(gan_mnist, RUN, *given, f"--max_steps={step}")
        assert "other/" in result.out.splitlines()[0]
        given = []  # they are kept
    flags, default = gan_mnist.parse_flags([RUN]), gan_mnist.parse_flags([])
    assert (flags.d_step, flags.g_step, flags.batch_size) == (2, 1, default.batch_size)
    assert len(list(copy.glob("*.index"))) == 5  # the newest checkpoints


@pytest.mark.parametrize("flag", ["--max_steps=1501", "--sample=3"])
def test_another_network_is_an_error_that_names_the_first_difference(flag, copy):
    units = f"--hidden_units={gan_mnist.parse_flags([RUN]).hidden_units + 1}"
    (line,) = helpers.refused(gan_mnist, RUN, units, flag)
    helpers.call(gan_mnist, units, "--output_dir=other", "--max_steps=1")
    saved, other = helpers.variables(copy, 1500), helpers.variables("other", 1)
    first = min(name for name in saved if saved[name].shape != other[name].shape)
    assert f" {first} " in line and "new run" in line


def test_a_finished_run_says_so_and_draws_again(copy):
    before = helpers.tree(copy)
    result = helpers.call(gan_mnist, RUN)
    assert "Finished" in result.out and "1500" in result.out and "--max_steps" in result.out
    changed = dict(helpers.tree(copy).items() - before.items())
    assert {path.name for path in changed} == {"losses.png", "samples.gif"}


def test_a_run_in_a_moved_checkout_is_resumed(folder, monkeypatch):
    for name, steps in (("here", 2), ("there", 4)):
        monkeypatch.chdir(Path().absolute().rename(folder.with_name(name)))
        assert helpers.call(gan_mnist, RUN, f"--max_steps={steps}").status == 0
    assert len(list(Path("run").glob("*.index"))) == 2
