"""How long is long enough? Extends a run again and again, and scores it at each stop.

    python tests/experiments/long_run.py outputs/long --hidden_units 512

Flags of the script are accepted. Prints a table and draws long.png into the folder.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import gan_mnist

STOPS = [20_000, 40_000, 80_000, 160_000, 320_000]


def measure(folder):
    """Returns a row of the table: step, scores, and shares of digits that D takes for real."""
    command = [sys.executable, Path(__file__).with_name("evaluate.py"), folder / "generated.npy"]
    table = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    _, frechet, parzen, *_ = table.splitlines()[-1].split()
    flags = gan_mnist.parse_flags([f"--output_dir={folder}"])
    gan = gan_mnist.GAN(flags)
    step = gan.restore(folder)
    x = gan_mnist.to_x(gan_mnist.load_images(Path(flags.input_data_dir)))
    z = gan_mnist.noise(5000, np.random.default_rng(flags.seed))
    training = gan.session.run("D/nn2/add:0", {gan.x: x[:5000]})  # logits
    held_out = gan.session.run("D/nn2/add:0", {gan.x: x[-5000:]})
    fake = gan.session.run("D_1/nn2/add:0", {gan.z: z})
    shares = [(logits > 0).mean() for logits in (training, held_out, fake)]
    return [step, float(frechet), float(parzen), *shares]


def draw(rows, path):
    """Draws the Frechet distance and the shares of digits that D takes for real."""
    steps, frechet, _, training, held_out, fake = np.transpose(rows)
    figure = Figure([8.6, 6], dpi=100, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(steps, frechet, "C2o-")
    above.set(ylabel="Frechet distance", ylim=(0, None))
    below.plot(steps, training, "C0o-", label="training digits")
    below.plot(steps, held_out, "C1o-", label="held-out digits")
    below.plot(steps, fake, "C3o-", label="G(z)")
    below.set(ylabel="share that D takes for real", ylim=(0, 1))
    below.set(xlabel="training step", xscale="log")
    below.set_xticks(steps, [f"{step:,.0f}" for step in steps])
    below.minorticks_off()
    below.legend(loc="lower right", bbox_to_anchor=[1, 1], ncols=3, frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, nargs="+", default=STOPS)
    args, given = parser.parse_known_args()
    run = [sys.executable, gan_mnist.__file__, f"--output_dir={args.folder}", *given]
    print("| step | Frechet | Parzen | D takes for real: training | held-out | G(z) |")
    print("|---" * 6 + "|", flush=True)
    rows = []
    for steps in args.steps:
        for flag in (f"--max_steps={steps}", "--sample=10000"):
            subprocess.run([*run, flag], check=True, stdout=sys.stderr)
        rows.append(measure(args.folder))
        print("| {} | {:.1f} | {:.0f} | {:.2f} | {:.2f} | {:.2f} |".format(*rows[-1]), flush=True)
    draw(rows, args.folder / "long.png")
