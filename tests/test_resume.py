"""Runs that are repeated, stopped, killed, resumed, extended, moved or given other flags."""

import random
import re
import shutil
import signal
import time
from pathlib import Path

import helpers
import pytest
from tensorflow.compat.v1.train import latest_checkpoint

import gan_mnist

RUN = "--output_dir=run"


def outcome(folder):
    """Returns what a run of 1,450 steps ends with: its variables, pictures and curves."""
    patterns = ["model.ckpt-1450*", "samples/*", "samples.gif", "curves.png"]
    paths = [path for pattern in patterns for path in Path(folder).glob(pattern)]
    return {**helpers.shown(folder), **{path.name: path.read_bytes() for path in paths}}


def test_a_run_stopped_killed_and_extended_ends_like_one_never_interrupted(whole, folder):
    flags = ["--batch_size=16", "--max_steps=1450"]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
    beside = helpers.start(helpers.SCRIPT, *flags, "--output_dir=beside")
    ends = []
    for number, reached, steps in (
        (signal.SIGINT, Path("run/samples/step_0000000.png").exists, 500),
        (signal.SIGKILL, lambda: latest_checkpoint("run") == "run/model.ckpt-1000", 1450),
    ):
        process = helpers.start(helpers.SCRIPT, RUN, *flags)
        helpers.wait_until(reached, process)
        time.sleep(random.uniform(0, 0.3))
        process.send_signal(number)
        ends.append(helpers.finish(process))
        ends.append(helpers.call(gan_mnist, RUN, *flags, f"--max_steps={steps}"))
    assert [end.status for end in ends] == [1, 0, -signal.SIGKILL, 0]
    assert '--output_dir "run"' in ends[0].err.splitlines()[-1]
    states = [re.search(r"(\w+) run: run at step (\d+)\n", end.out).groups() for end in ends]
    assert states[1] in [("New", "0"), ("Resumed", "100")]  # Ctrl-C before step 100, or after it
    assert states[2:] == [("Resumed", "500"), ("Resumed", "1000")]
    assert helpers.finish(beside).status == 0
    expected = outcome(whole.folder)
    for found in (outcome("run"), outcome("beside")):
        assert [n for n in {**found, **expected} if found.get(n) != expected.get(n)] == []


def test_a_resumed_run_has_its_own_flags_those_that_are_given_and_defaults(copy, data):
    (copy / "flags.json").write_text('{"d_step": 2}')  # as if the other flags were new
    shutil.copytree(data, "other")
    given = ["--input_data_dir=other", "--g_step=1"]
    for step in range(1451, 1454):
        result = helpers.call(gan_mnist, RUN, *given, f"--max_steps={step}")
        assert "Data: other/" in result.out
        given = []  # they are kept
    flags, default = gan_mnist.parse_flags([RUN]), gan_mnist.parse_flags([])
    assert (flags.d_step, flags.g_step, flags.batch_size) == (2, 1, default.batch_size)
    assert len(list(copy.glob("*.index"))) == 5  # the newest checkpoints


@pytest.mark.parametrize("flag", ["--max_steps=1451", "--max_steps=1450", "--sample=3"])
def test_a_line_says_that_a_run_that_is_not_new_has_the_flags_of_its_file(flag, copy, whole):
    assert "run/flags.json" in helpers.call(gan_mnist, RUN, flag).out.splitlines()[0]
    assert "flags.json" not in whole.out


@pytest.mark.parametrize("flag", ["--max_steps=1451", "--sample=3"])
def test_another_network_is_an_error_that_names_the_first_difference(flag, copy):
    units = f"--hidden_units={gan_mnist.parse_flags([RUN]).hidden_units + 1}"
    (line,) = helpers.refused(gan_mnist, RUN, units, flag)
    helpers.call(gan_mnist, units, "--output_dir=other", "--max_steps=1")
    saved, other = helpers.variables(copy, 1450), helpers.variables("other", 1)
    first = min(name for name in saved if saved[name].shape != other[name].shape)
    assert f" {first} " in line and "new run" in line


def test_a_finished_run_says_so_and_draws_again(copy):
    before = helpers.tree(copy)
    result = helpers.call(gan_mnist, RUN)
    assert "Finished" in result.out and "1450" in result.out and "--max_steps" in result.out
    changed = dict(helpers.tree(copy).items() - before.items())
    assert {path.name for path in changed} == {"curves.png", "samples.gif"}


def test_a_run_in_a_moved_checkout_is_resumed(folder, monkeypatch):
    for name, steps in (("here", 2), ("there", 4)):
        monkeypatch.chdir(Path().absolute().rename(folder.with_name(name)))
        assert helpers.call(gan_mnist, RUN, f"--max_steps={steps}").status == 0
    assert len(list(Path("run").glob("*.index"))) == 2
