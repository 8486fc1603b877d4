"""What --d_step, --g_step, --r1_gamma and --g_loss do, shown by ten short runs.

    python tests/experiments/study.py outputs/study

Trains each of SETTINGS in a folder of its own there (an existing run is resumed, or used as it is),
prints how each run ended, and draws curves.png, samples.png and, for the runs of COLUMNS alone,
balance.png. Judge a run by the digits of G's own weights: averaged weights hide a collapse.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from matplotlib import rcParams
from matplotlib.figure import Figure
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import gan_mnist

# As github.com/wiseodd/generative-models, GAN/vanilla_gan/gan_tensorflow.py; batch 128, too.
CLASSIC = "--d_learning_rate 0.001 --g_learning_rate 0.001 --beta1 0.9 --beta2 0.999 --r1_gamma 0"
SETTINGS = {
    "default": "",
    "d1-g1": "--g_step 1",
    "d1-g6": "--g_step 6",
    "minimax": "--g_loss minimax",
    "d3-g1": "--d_step 3 --g_step 1",
    "r1_gamma-0": "--r1_gamma 0",
    "g6-r1_gamma-0": "--r1_gamma 0 --g_step 6",
    "minimax-r1_gamma-0": "--r1_gamma 0 --g_loss minimax",
    "classic-d1-g1": CLASSIC + " --g_step 1",
    "slow-G-r1_gamma-0": "--r1_gamma 0 --g_step 1 --g_learning_rate 0.0005",
}
COLUMNS = {"balance": "default", "D wins": "slow-G-r1_gamma-0", "collapse": "g6-r1_gamma-0"}
TAGS = ["losses/D_loss", "losses/G_loss", "probabilities/D_real", "probabilities/D_fake"]
TAGS += ["accuracy/D"]


class Run:
    """A trained run: flags, curves, and digits by G's own weights and by the averaged ones."""

    def __init__(self, folder, settings, max_steps):
        flags = [*settings.split(), f"--max_steps={max_steps}", f"--output_dir={folder}"]
        subprocess.run([sys.executable, gan_mnist.__file__, *flags], check=True)
        self.flags = gan_mnist.parse_flags(flags)
        events = gan_mnist.EventAccumulator(str(folder), {"scalars": 0}).Reload()
        self.curves = [np.array([(p.step, p.value) for p in events.Scalars(tag)]) for tag in TAGS]
        gan = gan_mnist.GAN(self.flags)
        gan.restore(folder)
        z = gan_mnist.noise(10_000, np.random.default_rng(self.flags.seed))
        self.own = gan_mnist.to_pixels(gan.session.run("G/Sigmoid:0", {gan.z: z}))
        self.averaged = gan.generate(z)
        np.save(folder / "own.npy", self.own.reshape(-1, 28, 28))


def print_tables(runs, folder):
    """Prints the means of the curves over the last 1,000 steps, and scores of G's own weights."""
    print("\n| run | D_loss | G_loss | D(x) | D(G(z)) | accuracy of D |")
    print("|---" * 6 + "|", flush=True)
    for name, run in runs.items():
        ends = [curve[curve[:, 0] > curve[-1, 0] - 1000, 1].mean() for curve in run.curves]
        print(f"| {name} |", *(f"{end:.2f} |" for end in ends), flush=True)
    command = [sys.executable, Path(__file__).with_name("evaluate.py")]
    subprocess.run([*command, *(folder / name / "own.npy" for name in runs)], check=True)


def draw_curves(figure, runs, columns):
    """Draws {title: run}: for each the losses above the probabilities. Returns the panels."""
    panels = figure.subplots(2 * len(runs) // columns, columns, sharex=True, sharey="row")
    for number, (title, run) in enumerate(runs.items()):
        row, column = divmod(number, columns)
        losses, probabilities = panels[2 * row : 2 * row + 2, column]
        losses.set(title=title, ylim=(-1.5, 6))  # cuts off the highest peaks
        probabilities.set_ylim(0, 1)
        if column == 0:
            losses.set_ylabel("loss")
            probabilities.set_ylabel("probability")
        G_half = gan_mnist.G_LOSSES[run.flags.g_loss]
        for k, half in enumerate([2 * np.log(2), G_half, 0.5, 0.5]):
            axes = [losses, probabilities][k // 2]
            axes.plot(*run.curves[k].T, f"C{k % 2}", lw=1)
            axes.axhline(half, color=f"C{k % 2}", ls="--", lw=1)
            if column == columns - 1 and k != 3:  # to the right; curve 3 has the line of curve 2
                axes.text(1.02, half, "D = 1/2", transform=axes.get_yaxis_transform(), va="center")
    for axes in panels[-1]:
        axes.set_xlabel("training step")
    labels = ["D_loss and D(x)", "G_loss and D(G(z))"]
    figure.legend(panels[0, 0].lines[::2], labels, loc="outside upper center", ncols=2)
    return panels


def draw_balance(runs):
    """Draws the curves of the runs of COLUMNS, and below them 16 digits of G's own weights."""
    figure = Figure([8.6, 6.8], dpi=100, layout="constrained")
    figure.get_layout_engine().set(rect=[0, 0.37, 1, 0.63])
    columns = {title: runs[name] for title, name in COLUMNS.items()}
    panels = draw_curves(figure, columns, len(columns))
    figure.draw_without_rendering()  # places the panels
    for axes, run in zip(panels[1], columns.values()):
        digits = np.asarray(gan_mnist.grid(run.own[:16], ""))[:-20]  # without the caption
        left = 860 * axes.get_position().intervalx.mean() - len(digits) / 2
        figure.figimage(digits, round(left), 8, cmap="gray", vmin=0, vmax=255)
    return figure


def draw_samples(runs):
    """Draws a row for each run: 16 digits of G's own weights beside 16 of the averaged ones."""
    rows = []
    for name, run in runs.items():
        own = gan_mnist.grid(run.own[:16], f"{name}: G's own weights")
        averaged = gan_mnist.grid(run.averaged[:16], f"{name}: averaged weights")
        rows.append(np.hstack([np.pad(own, [(0, 0), (0, 8)]), averaged]))
    return Image.fromarray(np.vstack(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--max_steps", type=int, default=5000)
    args = parser.parse_args()
    rcParams["font.size"] = 8  # points: 11 pixels
    runs = {name: Run(args.folder / name, SETTINGS[name], args.max_steps) for name in SETTINGS}
    print_tables(runs, args.folder)
    draw_samples(runs).save(args.folder / "samples.png")
    draw_balance(runs).savefig(args.folder / "balance.png")
    figure = Figure([8.6, 8], dpi=100, layout="constrained")
    draw_curves(figure, runs, columns=5)
    figure.savefig(args.folder / "curves.png")
