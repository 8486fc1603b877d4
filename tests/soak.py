"""Long checks, outside of the test run.

python tests/soak.py steps              memory and speed over 200,000 small training steps
python tests/soak.py kills --times 100  kill -9 and resume, again and again, then compare
python tests/soak.py data --times 3     time of a step with a small and with a large data set
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import helpers
import numpy as np


def sample_memory(process):
    """[(time, resident MB)] of a process, once a second, up to its end."""
    found = []
    while process.poll() is None:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                found.append((time.time(), int(line.split()[1]) / 1024))
        time.sleep(1)
    return found


def steps(folder, flags, max_steps):
    """Runs without a stop; prints memory and speed in the first, the middle and the last tenth."""
    every = max_steps // 10
    flags += ["--max_steps", max_steps, "--summary_steps", every]
    # into a file: nobody reads a pipe meanwhile
    with open(str(folder / "output"), "w") as output:
        process = helpers.start("--output_dir", folder / "run", *flags, stdout=output)
        memory = sample_memory(process)
    assert process.returncode == 0, (folder / "output").read_text()
    times = {step: then for step, then, _ in helpers.events(folder / "run")}
    speed, resident = [], []
    for first in range(0, max_steps, every):
        start, stop = times[first], times[first + every]
        speed.append(every / (stop - start))
        resident.append(np.mean([mb for then, mb in memory if start <= then <= stop]))
        print(f"steps {first:7} on: {speed[-1]:6.0f} steps/s, {resident[-1]:6.1f} MB", flush=True)
    print(f"last tenth by first: speed {speed[-1] / speed[0]:.3f}", end=", ")
    print(f"memory {resident[-1] / resident[0]:.3f} ({resident[-1] - resident[0]:+.1f} MB)")


def kills(folder, flags, max_steps, times):
    """Compares a run that was never stopped with one that was killed many times."""
    flags += ["--max_steps", max_steps, "--summary_steps", max_steps // 20]
    status, _, err = helpers.run("--output_dir", folder / "whole", *flags)
    assert (status, err) == (0, ""), err
    print("never stopped: done", flush=True)
    rng = random.Random()
    killed, status, err = helpers.kill_and_resume(folder / "killed", flags, times, rng, print)
    assert (status, err) == (0, ""), err
    helpers.assert_same_run(folder / "killed", folder / "whole")
    print(f"killed {killed} times: variables, curves and pictures are those of the other run")
    assert killed == times, "the run ended before: give it more --max_steps"


def data(folder, max_steps, times):
    """Prints the time of a step on 2,400 and on 60,000 training images, which take turns."""
    helpers.write_data(folder / "small", 2400)
    sets = {"2,400": folder / "small", "60,000": helpers.ROOT / "MNIST_data"}
    for number in range(times):
        speed = {}
        for name, images in sets.items():
            run = folder / f"run-{name}-{number}"
            flags = ["--input_data_dir", images, "--max_steps", max_steps]
            status, _, err = helpers.run("--output_dir", run, *flags, "--summary_steps", max_steps)
            assert (status, err) == (0, ""), err
            (first, start, _), (last, stop, _) = helpers.events(run)
            speed[name] = (stop - start) / (last - first) * 1e3
        small, large = speed.values()
        print(f"{small:.3f} and {large:.3f} ms a step, ratio {large / small:.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["steps", "kills", "data"])
    parser.add_argument("--times", type=int, default=100, help="kills, or turns")
    parser.add_argument("--max_steps", type=int, help="(200,000; 3,000 a kill; 5,000)")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        images = helpers.write_data(folder / "data")
        small = ["--input_data_dir", images, "--batch_size", 16]
        if flags.what == "steps":
            steps(folder, small, flags.max_steps or 200_000)
        elif flags.what == "data":
            data(folder, flags.max_steps or 5000, flags.times)
        else:
            kills(folder, small, flags.max_steps or 3000 * flags.times, flags.times)


if __name__ == "__main__":
    sys.exit(main())
