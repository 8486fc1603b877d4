"""What --d_step, --g_step, --r1_gamma and --g_loss do, shown by ten short runs.

    python tests/experiments/study.py outputs

Trains each of SETTINGS in a folder of its own there (an existing run is resumed, or used as it is),
prints how each run ended, and draws samples.png: digits by G's own weights, and by the average of
them, which is what a run's samples/ shows.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from pictures import PANELS, draw, write

import gan_mnist

CLASSIC = "--d_learning_rate 0.001 --g_learning_rate 0.001 --beta1 0.9 --beta2 0.999 --r1_gamma 0"
SETTINGS = {
    "balance": "",
    "collapse": "--g_step 6",
    "d-wins": "--r1_gamma 0 --g_step 1 --g_learning_rate 0.0005",
    "minimax": "--g_loss minimax",
    "d1-g1": "--g_step 1",
    "d3-g1": "--d_step 3 --g_step 1",
    "no-R1": "--r1_gamma 0",
    "no-R1-collapse": "--r1_gamma 0 --g_step 6",
    "no-R1-minimax": "--r1_gamma 0 --g_loss minimax",
    "classic": CLASSIC + " --batch_size 128 --g_step 1",
}
N = 10_000  # digits that are scored


def train(folder, settings, args):
    """Trains a run. Returns its digits by G's own weights and by the average, uint8 [N, 784]."""
    flags = [*settings.split(), f"--max_steps={args.max_steps}", f"--seed={args.seed}"]
    flags.append(f"--output_dir={folder}")
    subprocess.run([sys.executable, gan_mnist.__file__, *flags], check=True)
    flags = gan_mnist.parse_flags(flags)
    gan = gan_mnist.GAN(flags)
    gan_mnist.restore(gan, folder)
    z = gan_mnist.noise(N, np.random.default_rng([flags.seed, 0]))  # the first 64: of samples/
    own = np.uint8(np.rint(255 * gan.session.run("G/Sigmoid:0", {gan.z: z})))
    averaged = gan_mnist.generate(gan, z)
    np.save(folder / "own.npy", own.reshape(-1, 28, 28))
    np.save(folder / "averaged.npy", averaged.reshape(-1, 28, 28))
    return own, averaged


def ends(folder):
    """Returns the means of a run's five curves over its last 1,000 steps."""
    events = gan_mnist.EventAccumulator(str(folder), {"scalars": 0}).Reload()
    curves = [events.Scalars(tag) for tags in PANELS.values() for tag in tags]
    return [np.mean([p.value for p in c if p.step > c[-1].step - 1000]) for c in curves]


def draw_samples(digits):
    """Draws {name: (own, averaged)}, 16 digits of each, as two columns of runs."""
    size = 4 * 56
    width, height = 2 * size + 24, size + 48
    whole = Image.new("L", [2 * width - 16, (len(digits) + 1) // 2 * height])
    for number, (name, kinds) in enumerate(digits.items()):
        row, column = divmod(number, 2)
        left, top = column * width, row * height
        write(whole, [left + 4, top + 2], f"{name}: G's own weights | their average")
        for k, images in enumerate(kinds):
            whole.paste(draw(images[:16]), [left + k * (size + 8), top + 24])
    return whole


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--max_steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=SETTINGS, metavar="NAME")
    args = parser.parse_args()
    digits = {name: train(args.folder / name, SETTINGS[name], args) for name in args.only}
    print("\n| run | D_loss | G_loss | D(x) | D(G(z)) | accuracy of D |\n" + 6 * "|---" + "|")
    for name in digits:
        print(f"| {name} |", *(f"{end:.2f} |" for end in ends(args.folder / name)), flush=True)
    draw_samples(digits).save(args.folder / "samples.png")
    command = [sys.executable, Path(__file__).with_name("evaluate.py")]
    files = [args.folder / name / f"{kind}.npy" for name in digits for kind in ("own", "averaged")]
    subprocess.run([*command, *files], check=True)
