"""A training run and its folder: the console, the files, the curves, the pictures, --sample."""

import helpers
import numpy as np
import pytest
from PIL import Image, ImageSequence

import gan_mnist

STEPS = [0, 100, 200, 500, 1000, 1500]
PICTURES = [f"samples/step_{step:07d}.png" for step in STEPS]
CURVES = ["losses/D_loss", "losses/G_loss"]
CURVES += ["probabilities/D_real", "probabilities/D_fake", "accuracy/D"]


def test_the_console_tells_data_run_progress_and_where_the_results_are(whole):
    data, run, *progress, pictures, curves = whole.out.strip().split("\n")
    assert f"{helpers.TRAIN}, 3600 images" in data and f"New run: {whole.folder}" in run
    assert [line.split(":")[0] for line in progress] == ["step 1000/1500", "step 1500/1500"]
    assert all(part in progress[0] for part in ("D_loss", "G_loss", "steps/s", "s left"))
    assert f"{whole.folder}/samples.gif" in pictures and f"{whole.folder}/losses.png" in pictures
    assert curves.endswith(f'-m tensorboard.main --logdir "{whole.folder.parent}"')


def test_the_folder_has_the_documented_files_and_no_others(whole):
    (events,) = whole.folder.glob("events.out.tfevents.*")
    names = ["checkpoint", events.name, "flags.json", "losses.png", "samples.gif", *PICTURES]
    for name in ("model.ckpt-1000", "model.ckpt-1500"):
        names += [f"{name}.index", f"{name}.data-00000-of-00001"]
    assert helpers.tree(whole.folder).keys() == {whole.folder / name for name in names}


def test_curves_show_256_held_out_digits_and_z_every_100_steps(whole, data):
    shown = helpers.shown(whole.folder)
    assert shown.keys() == {*CURVES, "samples"}
    for tag in CURVES:
        assert [step for step, _ in shown[tag]] == list(range(0, 1501, 100))
    x = gan_mnist.load_images(data)[3300 : 3300 + 256] / 255
    z = gan_mnist.noise(256, np.random.default_rng(0))
    curves = whole.gan.session.run(whole.gan.curves, {whole.gan.x: x, whole.gan.z: z})
    for point in gan_mnist.tf.Summary.FromString(curves).value:
        assert shown[point.tag][-1][1] == pytest.approx(point.simple_value, rel=1e-4)


def test_files_tensorboard_and_the_animation_show_64_digits_of_the_same_z(whole):
    files = [(whole.folder / name).read_bytes() for name in PICTURES]
    assert helpers.shown(whole.folder)["samples"] == list(zip(STEPS, files))
    with Image.open(whole.folder / "samples.gif") as animation:
        frames = [frame.convert("L").tobytes() for frame in ImageSequence.Iterator(animation)]
    assert frames == [Image.open(whole.folder / name).tobytes() for name in PICTURES]
    z = gan_mnist.noise(256, np.random.default_rng(0))[:64]
    new = gan_mnist.GAN(gan_mnist.parse_flags([]))
    for player, step, name in ((new, 0, PICTURES[0]), (whole.gan, 1500, PICTURES[-1])):
        expected = gan_mnist.grid(player.generate(z), f"step {step}")
        assert Image.open(whole.folder / name).tobytes() == expected.tobytes()


@pytest.mark.parametrize("g_loss, half", [("non_saturating", 0.693), ("minimax", -0.693)])
def test_losses_png_has_the_curves_and_dashed_D_one_half(whole, monkeypatch, g_loss, half):
    figures = []
    monkeypatch.setattr(gan_mnist.Figure, "savefig", lambda figure, _: figures.append(figure))
    gan_mnist.write_losses(whole.folder, g_loss)
    lines = [line for axes in figures[0].axes for line in axes.lines]
    curves = [list(zip(*line.get_data())) for line in lines if line.get_linestyle() == "-"]
    assert curves == [helpers.shown(whole.folder)[tag] for tag in CURVES]
    halves = [line.get_ydata()[0] for line in lines if line.get_linestyle() == "--"]
    assert halves == pytest.approx([1.386, half, 0.5, 0.5, 0.5], abs=1e-3)


def test_a_loss_that_is_not_finite_ends_the_run_before_it_is_saved(copy):
    flags = ["--output_dir=run", "--d_learning_rate=1e38", "--max_steps=2000"]
    (line,) = helpers.call(gan_mnist, *flags).err.splitlines()
    assert "not finite" in line and "new run" in line
    assert not list(copy.glob("model.ckpt-2000*"))


@pytest.mark.parametrize("n, side, seed", [(1, 1, 0), (30, 6, 5)])
def test_sample_writes_digits_as_an_array_and_as_a_square_picture(n, side, seed, copy, whole):
    before = helpers.tree(copy)
    helpers.call(gan_mnist, "--output_dir=run", f"--sample={n}", f"--seed={seed}")
    expected = np.uint8(whole.gan.generate(gan_mnist.noise(n, np.random.default_rng(seed))))
    digits = np.load(copy / "generated.npy")
    np.testing.assert_array_equal(digits, expected.reshape(n, 28, 28), strict=True)
    square = np.array(Image.open(copy / "generated.png"))[: 56 * side : 2, ::2]  # of twice the size
    drawn = square.reshape(side, 28, side, 28).swapaxes(1, 2).reshape(-1, 28, 28)
    assert (drawn[:n] == digits).all() and not drawn[n:].any()
    changed = dict(helpers.tree(copy).items() - before.items())
    assert {path.name for path in changed} == {"generated.npy", "generated.png"}
