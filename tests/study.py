"""What --d_step and --g_step do, shown by real runs.

    python tests/study.py [--max_steps N] FOLDER

Trains every setting of SETTINGS into FOLDER/<name> (a run that is there already is continued, or
used as it is), prints a table of how each ended, and draws FOLDER/study.png: a row of sample grids
for each setting, a column for each of COLUMNS steps. `python tests/evaluate.py` scores the digits
that are left in FOLDER/<name>/generated.npy.
"""

import argparse
import os
import subprocess
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "gan_mnist.py")
CLASSIC = (
    "--batch_size 256 --d_learning_rate 1e-3 --g_learning_rate 1e-3 --lr_half_life 0 "
    "--beta1 0.9 --beta2 0.999 --dropout 0 --ema_decay 0"
)
SETTINGS = {
    "d1-g1": "--d_step 1 --g_step 1",
    "d1-g3": "--d_step 1 --g_step 3",
    "d3-g1": "--d_step 3 --g_step 1",
    "classic-d1-g1": CLASSIC + " --d_step 1 --g_step 1",
    "classic-d1-g2": CLASSIC + " --d_step 1 --g_step 2",
}
COLUMNS = (500, 1000, 2500, 5000, 10000)
TAGS = ("D_loss", "G_loss", "D_real", "D_fake", "parzen_log_likelihood")


def run(name, folder, max_steps):
    """Trains one setting and leaves 10,000 of its digits."""
    command = [sys.executable, SCRIPT, "--output_dir", folder]
    settings = SETTINGS[name].split() + ["--max_steps", str(max_steps), "--summary_steps", "500"]
    subprocess.run(command + settings, check=True)
    if not os.path.exists(os.path.join(folder, "generated.npy")):
        subprocess.run([*command, "--sample", "10000", "--seed", "1"], check=True)


def last_values(folder, max_steps):
    """The scalars of a run at its last step: {tag: value}."""
    import tensorflow.compat.v1 as tf

    values = {}
    for name in sorted(os.listdir(folder)):
        if name.startswith("events.out.tfevents"):
            for event in tf.train.summary_iterator(os.path.join(folder, name)):
                if event.step == max_steps:
                    values.update((v.tag, v.simple_value) for v in event.summary.value)
    return values


def draw(folder, steps):
    """Draws the pictures of all the settings at the steps into one."""
    from matplotlib import image
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.3 * len(steps), 2.4 * len(SETTINGS)))
    axes = figure.subplots(len(SETTINGS), len(steps), squeeze=False)
    for row, name in zip(axes, SETTINGS):
        for ax, step in zip(row, steps):
            png = os.path.join(folder, name, "samples", f"step_{step:07d}.png")
            ax.imshow(image.imread(png)[:112, :112], cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
        row[0].set_ylabel(name)
    for ax, step in zip(axes[0], steps):
        ax.set_title(f"step {step}")
    figure.tight_layout()
    figure.savefig(os.path.join(folder, "study.png"), dpi=70)


def main():
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--max_steps", type=int, default=10000)
    flags = parser.parse_args()
    for name in SETTINGS:
        run(name, os.path.join(flags.folder, name), flags.max_steps)
    print(f"{'setting':16}" + "".join(f"{tag:>23}" for tag in TAGS))
    for name in SETTINGS:
        values = last_values(os.path.join(flags.folder, name), flags.max_steps)
        print(f"{name:16}" + "".join(f"{values[tag]:23.3f}" for tag in TAGS))
    draw(flags.folder, [step for step in COLUMNS if step <= flags.max_steps])


if __name__ == "__main__":
    main()
