"""What --d_step, --g_step, --r1_gamma and --g_loss do, shown by ten short runs.

    python tests/experiments/study.py outputs/study

Trains each of SETTINGS in a folder of its own there (an existing run is resumed, or used as it is),
prints how each run ended, and draws two figures: samples.png, the digits of the same z at some
steps, and curves.png, the losses and probabilities of all runs.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from matplotlib import image
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import gan_mnist

CLASSIC = (  # the settings that copies of this script usually have
    "--batch_size 256 --d_learning_rate 1e-3 --g_learning_rate 1e-3 --beta1 0.9 --beta2 0.999 "
    "--r1_gamma 0 --ema_decay 0 "
)
SETTINGS = {  # name of the run: its flags, and the verdict after looking at it
    "default": ("", "balance"),
    "d1-g1": ("--d_step 1 --g_step 1", "balance"),
    "d1-g5": ("--d_step 1 --g_step 5", "balance, bold strokes"),
    "d3-g1": ("--d_step 3 --g_step 1", "balance, blurred"),
    "minimax": ("--g_loss minimax", "balance"),
    "r1_gamma-0": ("--r1_gamma 0", "unsteady"),
    "g5-r1_gamma-0": ("--g_step 5 --r1_gamma 0", "collapse"),
    "minimax-r1_gamma-0": ("--g_loss minimax --r1_gamma 0", "unsteady"),
    "classic-d1-g1": (CLASSIC + "--d_step 1 --g_step 1", "D wins, noise"),
    "classic-d1-g2": (CLASSIC + "--d_step 1 --g_step 2", "D ahead, noise"),
}
PICTURES = (200, 1000, 5000)  # steps; some of those at which the script draws
CURVES = ("losses/D_loss", "losses/G_loss", "probabilities/D_real", "probabilities/D_fake")
COLUMNS = 5  # runs side by side in curves.png


def train(name, folder, max_steps):
    """Trains a run. Returns its curves, {tag: (steps, values)}, and its Parzen log-likelihood."""
    command = [sys.executable, gan_mnist.__file__, *SETTINGS[name][0].split()]
    command += ["--max_steps", str(max_steps), "--output_dir", str(folder / name)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    score = re.search(r"Parzen log-likelihood: (\S+)", output)[1]
    print(f"{name}: {score} nats", flush=True)
    events = gan_mnist.EventAccumulator(str(folder / name), {"scalars": 0}).Reload()
    curves = {tag: np.array([(e.step, e.value) for e in events.Scalars(tag)]).T for tag in CURVES}
    return curves, score


def print_table(runs):
    """How each run ended: the mean of each curve over the last 1,000 steps, and the score."""
    print("\n| run | D_loss | G_loss | D(x) | D(G(z)) | Parzen | verdict |")
    print("|---" * 7 + "|")
    for name, (curves, score) in runs.items():
        ends = [values[steps > steps[-1] - 1000].mean() for steps, values in curves.values()]
        print(f"| {name} |", *(f"{end:.2f} |" for end in ends), score, "|", SETTINGS[name][1], "|")


def draw_samples(folder, steps):
    """Rows: runs; columns: steps; in a cell the first 16 digits, pixel by pixel."""
    cell, pitch, left, top = 4 * 56, 4 * 56 + 8, 140, 24  # pixels
    width, height = left + pitch * len(steps), top + pitch * len(SETTINGS)
    figure = Figure((width / 100, height / 100), dpi=100)
    for column, step in enumerate(steps):
        x = left + column * pitch + cell / 2
        figure.text(x / width, 1 - 17 / height, f"step {step:,}", ha="center")
    for row, (name, (_, verdict)) in enumerate(SETTINGS.items()):
        y = height - top - cell - row * pitch
        label = name.replace("-r1", "\nr1") + "\n" + verdict.replace(", ", ",\n")
        figure.text(8 / width, (y + cell / 2) / height, label, fontsize=12, va="center")
        for column, step in enumerate(steps):
            grid = image.imread(folder / name / "samples" / f"step_{step:07d}.png")
            x = left + column * pitch
            figure.figimage(grid[:cell, :cell], x, y, cmap="gray", vmin=0, vmax=1)
    figure.savefig(folder / "samples.png")


def draw_curves(runs, path):
    """A pair of panels for each run; dashed: the values at D(x) = D(G(z)) = 1/2."""
    rows = -(-len(runs) // COLUMNS)
    figure = Figure((9, 4 * rows + 0.3), dpi=100, layout="constrained")
    grid = figure.subplots(2 * rows, COLUMNS, squeeze=False)
    for k, (name, (curves, _)) in enumerate(runs.items()):
        flags, verdict = SETTINGS[name]
        panels = grid[k // COLUMNS * 2 :][:2, k % COLUMNS]
        G_optimum = -np.log(2) if "minimax" in flags else np.log(2)
        optima = (2 * np.log(2), G_optimum, 0.5, 0.5)
        for i, ((steps, values), optimum) in enumerate(zip(curves.values(), optima)):
            axes, color = panels[i // 2], f"C{i % 2}"
            axes.plot(steps, values, color, lw=1)
            axes.axhline(optimum, color=color, ls="--", lw=0.8)
            axes.set_xticks([0, steps[-1]])
            axes.tick_params(labelsize=8)
        panels[0].set_title(f"{name}\n{verdict}", fontsize=9)
        panels[0].set_ylim(-1.5, 5)
        panels[1].set_ylim(0, 1)
        panels[1].set_xlabel("training step", fontsize=8, labelpad=-4)
    labels = ["D_loss, below D(x)", "G_loss, below D(G(z))"]
    figure.legend(grid[0, 0].lines[::2], labels, loc="outside upper center", ncols=2)
    figure.savefig(path)


def main():
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--max_steps", type=int, default=5000)
    args = parser.parse_args()
    gan_mnist.import_packages()
    runs = {name: train(name, args.folder, args.max_steps) for name in SETTINGS}
    print_table(runs)
    draw_samples(args.folder, [step for step in PICTURES if step <= args.max_steps])
    draw_curves(runs, args.folder / "curves.png")


if __name__ == "__main__":
    main()
