"""What --d_step and --g_step do, shown by five runs.

    python tests/experiments/study.py outputs/study

Trains each of SETTINGS in a folder of its own there (a run that is there goes on, or is used as it
is), prints how each ended, and draws two figures: samples.png, what the same z gave at some steps,
and curves.png, losses and probabilities of the five runs side by side.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from matplotlib import image
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import gan_mnist

CLASSIC = (  # the settings that copies of this script usually have
    "--batch_size 256 --d_learning_rate 1e-3 --g_learning_rate 1e-3 --lr_half_life 0 "
    "--beta1 0.9 --beta2 0.999 --dropout 0 --ema_decay 0 "
)
SETTINGS = {
    "default-d1-g1": "--d_step 1 --g_step 1",
    "default-d1-g3": "--d_step 1 --g_step 3",
    "default-d3-g1": "--d_step 3 --g_step 1",
    "classic-d1-g1": CLASSIC + "--d_step 1 --g_step 1",
    "classic-d1-g2": CLASSIC + "--d_step 1 --g_step 2",
}
PICTURES = (100, 500, 1000, 5000, 10_000)  # steps; some of those at which the script draws
PANELS = (  # tags with their value when D can only guess, the range shown
    ({"losses/D_loss": 2 * np.log(2), "losses/G_loss": np.log(2)}, (0, 6)),
    ({"probabilities/D_real": 0.5, "probabilities/D_fake": 0.5}, (0, 1)),
)


def read_curves(folder):
    """The curves of a run: {tag: (steps, values)}."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), {"scalars": 0}).Reload()
    tags = events.Tags()["scalars"]
    return {tag: np.array([(e.step, e.value) for e in events.Scalars(tag)]).T for tag in tags}


def print_table(runs):
    """How each run ended: the mean of each curve over the last 1,000 steps."""
    tags = [tag for panel in PANELS for tag in panel[0]] + ["score/parzen_log_likelihood"]
    print("| setting |", *(f"{tag.split('/')[1]} |" for tag in tags))
    print("|---" * (1 + len(tags)) + "|")
    for name, curves in runs.items():
        ends = [values[steps > steps[-1] - 1000].mean() for steps, values in map(curves.get, tags)]
        print(f"| {name} |", *(f"{end:.2f} |" for end in ends))


def draw_samples(folder, steps):
    """Rows: settings; columns: steps; in a cell the first 36 digits, pixel by pixel."""
    cell, pitch, margin = 6 * 28, 6 * 28 + 8, 20  # pixels
    width, height = margin + pitch * len(steps), margin + pitch * len(SETTINGS)
    figure = Figure((width / 100, height / 100), dpi=100)
    for row, name in enumerate(SETTINGS):
        y = height - margin - cell - row * pitch
        figure.text(6 / width, (y + cell / 2) / height, name, rotation=90, va="center")
        for column, step in enumerate(steps):
            x = margin + column * pitch
            figure.text((x + cell / 2) / width, 1 - 14 / height, f"step {step:,}", ha="center")
            grid = image.imread(folder / name / "samples" / f"step_{step:07d}.png")
            figure.figimage(grid[::2, ::2][:cell, :cell], x, y, cmap="gray", vmin=0, vmax=1)
    figure.savefig(folder / "samples.png")


def draw_curves(runs, path):
    """Columns: runs; points light, their mean over 500 steps either side dark, optimum dashed."""
    figure = Figure((9, 4.2), dpi=100, layout="constrained")
    grid = figure.subplots(len(PANELS), len(runs), sharex=True, sharey="row", squeeze=False)
    for panels, (name, curves) in zip(grid.T, runs.items()):
        for axes, (tags, limits) in zip(panels, PANELS):
            for (tag, optimum), color in zip(tags.items(), ("C0", "C1")):
                steps, values = curves[tag]
                means = [values[abs(steps - step) <= 500].mean() for step in steps]
                axes.plot(steps, values, color, alpha=0.3, lw=0.8)
                axes.plot(steps, means, color, label=tag.split("/")[1])
                axes.axhline(optimum, color=color, ls="--", lw=0.8)
            axes.set_ylim(*limits)
        panels[0].set_title(name, fontsize=10)
        panels[-1].set_xlabel("training step")
    for axes in grid[:, 0]:
        axes.legend(fontsize=8)
    figure.savefig(path)


def main():
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--max_steps", type=int, default=10_000)
    args = parser.parse_args()
    for name, flags in SETTINGS.items():
        command = [sys.executable, gan_mnist.__file__, *flags.split(), "--max_steps"]
        command += [str(args.max_steps), "--output_dir", str(args.folder / name)]
        subprocess.run(command, check=True)
    gan_mnist.import_tensorflow()  # in silence; TensorBoard needs it
    runs = {name: read_curves(args.folder / name) for name in SETTINGS}
    print_table(runs)
    draw_samples(args.folder, [step for step in PICTURES if step <= args.max_steps])
    draw_curves(runs, args.folder / "curves.png")


if __name__ == "__main__":
    main()
