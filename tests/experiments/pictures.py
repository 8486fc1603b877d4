"""Draws README's animation, digits.gif, and its quiz, quiz.png, into outputs/readme.

    python gan_mnist.py --output_dir outputs/default
    python gan_mnist.py --output_dir outputs/default --sample 10000 --seed 1
    python tests/experiments/pictures.py outputs/default

Prints the answer to the quiz.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import gan_mnist

FOLDER = Path("outputs/readme")
CELL = 2 * gan_mnist.SIDE  # pixels of a digit, which is drawn at twice its size
SEED = 1  # of the choice of digits and of their order in the quiz


def write(picture, place, text):
    """Writes text into a picture, its upper left corner at place."""
    ImageDraw.Draw(picture).text(place, text, fill=255, font=ImageFont.load_default(15))


def draw_animation(run, real):
    """Draws the samples of a run beside real digits, six rows and columns of each."""
    size = 6 * CELL
    frames = []
    for path in sorted((run / "samples").glob("step_*.png")):
        frame = Image.new("L", [2 * size + CELL, size + 24])
        write(frame, [4, 2], f"generated, after {int(path.stem[5:]):,} training steps")
        write(frame, [size + CELL + 4, 2], "real")
        frame.paste(Image.open(path).crop([0, 0, size, size]), [0, 24])
        frame.paste(gan_mnist.grid(real[:36], ""), [size + CELL, 24])
        frames.append(frame)
    milliseconds = [1000] * (len(frames) - 1) + [3000]
    options = {"save_all": True, "append_images": frames[1:], "duration": milliseconds, "loop": 0}
    frames[0].save(FOLDER / "digits.gif", **options)


def draw_quiz(generated, real):
    """Draws 16 real and 16 generated digits in four rows, and prints which are the real ones."""
    order = np.random.default_rng(SEED).permutation(32)
    mixed = np.concatenate([real[36:52], generated[:16]])[order]
    picture = Image.new("L", [24 + 8 * CELL, 24 + 4 * CELL])
    for k, image in enumerate(mixed):
        row, column = divmod(k, 8)
        place = [24 + column * CELL, 24 + row * CELL]
        picture.paste(gan_mnist.grid(image[None], "").crop([0, 0, CELL, CELL]), place)
        write(picture, [8, place[1] + 18], "abcd"[row])
        write(picture, [place[0] + 24, 3], str(column + 1))
    picture.save(FOLDER / "quiz.png")
    print("real:", *("abcd"[k // 8] + str(k % 8 + 1) for k in range(32) if order[k] < 16))


def main():
    """Draws both pictures from the run that is named on the command line."""
    run = Path(sys.argv[1])
    held_out = gan_mnist.load_images(Path(gan_mnist.DATA_DIR))[-5000:]
    real = held_out[np.random.default_rng(SEED).permutation(len(held_out))]
    draw_animation(run, real)
    draw_quiz(np.load(run / "generated.npy").reshape(-1, gan_mnist.PIXELS), real)


if __name__ == "__main__":
    main()
