"""Draws README's pictures into outputs/readme, from the runs that README.md beside this file lists.

    python tests/experiments/pictures.py

Prints the answer to the quiz, and how many of its digits D gets right.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib import rcParams
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import gan_mnist

FOLDER = Path("outputs/readme")
CELL = 2 * gan_mnist.SIDE  # pixels of a digit, which is drawn at twice its size
SEED = 1  # of the choice of digits and of their order in the quiz
PANELS = {
    "loss": ["losses/D_loss", "losses/G_loss"],
    "probability": ["probabilities/D_real", "probabilities/D_fake"],
    "accuracy of D": ["accuracy/D"],
}


def write(picture, place, text):
    """Writes text into a picture, its upper left corner at place."""
    ImageDraw.Draw(picture).text(place, text, fill=255, font=ImageFont.load_default(15))


def draw(images):
    """Draws a square of images, uint8 [n * n, 784], without a caption."""
    picture = gan_mnist.grid(images, "")
    return picture.crop([0, 0, picture.width, picture.width])


def last_samples(run, rows):
    """Returns the last picture in a run's samples/, cut to its first rows and columns."""
    path = max(Path("outputs", run, "samples").glob("step_*.png"))
    return Image.open(path).crop([0, 0, rows * CELL, rows * CELL])


def draw_animation(run, real):
    """Draws the samples of a run beside real digits, six rows and columns of each."""
    size = 6 * CELL
    frames = []
    for path in sorted(Path("outputs", run, "samples").glob("step_*.png")):
        frame = Image.new("L", [2 * size + CELL, size + 24])
        write(frame, [4, 2], f"generated, after {int(path.stem[5:]):,} training steps")
        write(frame, [size + CELL + 4, 2], "real")
        frame.paste(Image.open(path).crop([0, 0, size, size]), [0, 24])
        frame.paste(draw(real[:36]), [size + CELL, 24])
        frames.append(frame)
    milliseconds = [1000] * (len(frames) - 1) + [5000]
    options = {"save_all": True, "append_images": frames[1:], "duration": milliseconds, "loop": 0}
    frames[0].save(FOLDER / "digits.gif", **options)


def draw_quiz(run, real):
    """Draws 16 real and 16 generated digits in four rows. Prints the answer and D's score."""
    flags = gan_mnist.parse_flags([f"--output_dir=outputs/{run}"])
    gan = gan_mnist.GAN(flags)
    gan_mnist.restore(gan, flags.output_dir)
    z = gan_mnist.noise(16, np.random.default_rng(SEED))
    order = np.random.default_rng(SEED).permutation(32)
    mixed = np.concatenate([real[36:52], gan_mnist.generate(gan, z)])[order]
    picture = Image.new("L", [24 + 8 * CELL, 24 + 4 * CELL])
    for k, image in enumerate(mixed):
        row, column = divmod(k, 8)
        place = [24 + column * CELL, 24 + row * CELL]
        picture.paste(draw(image[None]), place)
        write(picture, [8, place[1] + 18], "abcd"[row])
        write(picture, [place[0] + 24, 3], str(column + 1))
    picture.save(FOLDER / "quiz.png")
    logits = gan.session.run("D/output/add:0", {gan.x: mixed / 255})
    right = (logits[:, 0] > 0) == (order < 16)
    print("real:", *("abcd"[k // 8] + str(k % 8 + 1) for k in range(32) if order[k] < 16))
    print(f"D is right about {right.sum()} of 32")


def draw_side_by_side(name, pictures):
    """Draws {title: picture}, squares of the same size, beside each other."""
    size = max(picture.width for picture in pictures.values())
    whole = Image.new("L", [len(pictures) * (size + 24) - 24, size + 24])
    for number, (title, picture) in enumerate(pictures.items()):
        left = number * (size + 24)
        write(whole, [left + 4, 2], title)
        whole.paste(picture, [left, 24])
    whole.save(FOLDER / name)


def draw_columns(name, runs, loss_limits):
    """Draws {title: run}: the curves of each, and below them digits of its last samples."""
    figure = Figure([8.3, 8.3], dpi=100, layout="constrained")
    grid = figure.subplots(4, len(runs), sharey="row", gridspec_kw={"height_ratios": [3, 3, 2, 6]})
    for column, (title, run) in zip(grid.T, runs.items()):
        column[0].set_title(title)
        events = gan_mnist.EventAccumulator(f"outputs/{run}", {"scalars": 0}).Reload()
        for axes, tags in zip(column, PANELS.values()):
            for tag in tags:
                points = events.Scalars(tag)
                label = tag.split("/")[1] if len(tags) > 1 else None
                axes.plot([p.step for p in points], [p.value for p in points], label=label, lw=1)
        for axes, half in zip([*column[:3], column[0]], [1.386, 0.5, 0.5, 0.693]):
            axes.axhline(half, color="gray", ls="--", lw=1)
        column[2].set_xlabel("training step")
        column[3].imshow(last_samples(run, 5), cmap="gray")
        column[3].axis("off")
    for axes, label in zip(grid[:3, 0], PANELS):
        axes.set_ylabel(label)
    grid[0, 0].set_ylim(*loss_limits)
    for axes in grid[1:3, 0]:
        axes.set_ylim(-0.05, 1.05)
    for axes, place in zip(grid[:2, 0], ["center right", "upper right"]):
        axes.legend(loc=place)
    figure.savefig(FOLDER / name)


def main():
    rcParams["font.size"] = 8  # points: 11 pixels
    held_out = gan_mnist.load_images(Path(gan_mnist.DATA_DIR))[-gan_mnist.HELD_OUT :]
    real = np.uint8(255 * np.random.default_rng(SEED).permutation(held_out) + 0.5)
    draw_animation("default", real)
    draw_quiz("default", real)
    wide = {"real": draw(real[:25])}
    wide["256 hidden units"] = last_samples("default", 5)
    wide["512 hidden units"] = last_samples("wide", 5)
    draw_side_by_side("wide.png", wide)
    edits = {"another layer in D": "deeper-D", "another layer in G": "deeper-G"}
    draw_side_by_side("edits.png", {title: last_samples(run, 6) for title, run in edits.items()})
    calm = {"default flags": "default", "black digits on white": "inverted"}
    draw_columns("balance.png", calm, [0.5, 1.6])
    breaks = {"default flags": "balance", "collapse": "collapse", "D wins": "d-wins"}
    draw_columns("breaks.png", breaks, [0, 6])


if __name__ == "__main__":
    main()
