"""Kills a run again and again (kill -9), resumes it, and compares it with one never stopped.

python tests/experiments/soak.py
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import gan_mnist


def run(folder, max_steps, seconds=None):
    """Starts or resumes a run with small minibatches. Kills it after so many seconds (SIGKILL)."""
    flags = ["--batch_size=8", f"--max_steps={max_steps}", f"--output_dir={folder}"]
    command = [sys.executable, gan_mnist.__file__, *flags]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=seconds)


def outcome(folder):
    """Returns what kills must not change, by name: variables, curves and pictures."""
    reader = gan_mnist.tf.train.load_checkpoint(folder)
    found = {name: reader.get_tensor(name).tobytes() for name in reader.get_variable_to_shape_map()}
    events = gan_mnist.EventAccumulator(folder, {"scalars": 0, "images": 0}).Reload()
    for tag in events.Tags()["scalars"]:
        found[tag] = [(point.step, point.value) for point in events.Scalars(tag)]
    found["images"] = [(one.step, one.encoded_image_string) for one in events.Images("samples")]
    for path in [*Path(folder).rglob("*.png"), Path(folder, "samples.gif")]:
        found[path.name] = path.read_bytes()
    return found


def soak(folder, max_steps, kills, rng):
    """Compares a run that was never stopped with one that was killed at random moments."""
    whole, killed = f"{folder}/whole", f"{folder}/killed"
    begin = time.time()
    run(whole, max_steps)
    start_up = Path(whole, "flags.json").stat().st_mtime - begin
    for _ in range(kills):
        seconds = rng.uniform(0, 3 * start_up)  # a third of the kills come before training
        try:
            run(killed, max_steps, seconds)
        except subprocess.TimeoutExpired:
            newest = gan_mnist.tf.train.latest_checkpoint(killed)
            print(f"killed after {seconds:.1f} s, newest checkpoint: {newest}", flush=True)
    run(killed, max_steps)
    ours, theirs = outcome(whole), outcome(killed)
    different = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    print(f"Of {len(ours)} variables, curves and pictures differ: {different or 'none'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--max_steps", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1000), help="of the moments")
    args = parser.parse_args()
    print(f"Seed of the moments: {args.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        soak(folder, args.max_steps, args.kills, random.Random(args.seed))
