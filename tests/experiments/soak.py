"""Kills a run again and again (kill -9), resumes it, and compares it with one never stopped.

python tests/experiments/soak.py
"""

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import gan_mnist

# the script with a clock that is a hundred times too fast, so that it saves checkpoints often
HASTY = f"""import os, sys, time; sys.path.insert(0, {sys.path[0]!r}); import gan_mnist
sys.stdout = open(os.devnull, "w")  # hundreds of progress lines
clock = time.perf_counter; time.perf_counter = lambda: 100 * clock(); gan_mnist.main()"""


def command(folder, max_steps, *python):
    """The command of a run with small minibatches."""
    flags = f"--max_steps {max_steps} --batch_size 16 --output_dir {folder}"
    return [sys.executable, *python, *flags.split()]


def outcome(folder):
    """What kills must not change: {name: bytes of a variable or picture, or points}."""
    reader = gan_mnist.tf.train.load_checkpoint(str(folder))
    events = gan_mnist.EventAccumulator(str(folder), {"scalars": 0, "images": 0}).Reload()
    names = reader.get_variable_to_shape_map()
    found = {name: reader.get_tensor(name).tobytes() for name in names}
    for tag in set(events.Tags()["scalars"]) - {"speed/steps_per_second"}:
        found[tag] = [(point.step, point.value) for point in events.Scalars(tag)]
    found["shown"] = [(one.step, one.encoded_image_string) for one in events.Images("samples")]
    for path in (*folder.glob("samples/*"), folder / "samples.gif", folder / "losses.png"):
        found[path.name] = path.read_bytes()
    return found


def soak(folder, max_steps, times):
    """Compares a run that was never stopped with one that was killed at random moments."""
    whole, killed, states, begin = folder / "whole", folder / "killed", set(), time.time()
    subprocess.run(command(whole, max_steps, "-c", HASTY), check=True)
    limit = 3 * ((whole / "samples/step_0000000.png").stat().st_mtime - begin)
    for count in range(times + 1):
        states.update(path.read_text() for path in killed.glob("checkpoint"))
        seconds = random.uniform(0, limit) if count < times else None
        try:  # the timeout kills the run, in a third of the cases while it starts
            subprocess.run(command(killed, max_steps, "-c", HASTY), check=True, timeout=seconds)
            break
        except subprocess.TimeoutExpired:
            print(f"kill {count + 1} after {seconds:.1f} s", flush=True)
    gan_mnist.import_packages()
    ours, theirs = outcome(whole), outcome(killed)
    different = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    print(f"{count} kills; the run was resumed from {len(states)} different checkpoints")
    print(f"Of {len(ours)} variables, curves and pictures differ: {different or 'none'}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        soak(Path(folder), max_steps=200_000, times=60)
