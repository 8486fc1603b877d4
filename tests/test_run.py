"""A training run and its folder: the console, the files, the curves, the pictures, --sample."""

import helpers
import numpy as np
import pytest
from PIL import Image, ImageSequence

import gan_mnist

RUN = "--output_dir=run"
STEPS = [0, 100, 200, 500, 1000, 1450]
PICTURES = [f"samples/step_{step:07d}.png" for step in STEPS]
CURVES = ["losses/D_loss", "losses/G_loss"]
CURVES += ["probabilities/D_real", "probabilities/D_fake", "accuracy/D"]


def test_the_console_tells_data_run_progress_and_where_the_results_are(whole):
    data, run, *progress, pictures, tensorboard = whole.out.strip().split("\n")
    assert f"{helpers.TRAIN}, 300 images" in data and f"New run: {whole.folder}" in run
    shown = helpers.shown(whole.folder)
    for step, line in zip([100, 1000, 1450], progress, strict=True):
        losses = [f"{tag[7:]} {dict(shown[tag])[step]:.3f}, " for tag in CURVES[:2]]
        assert line.startswith(f"step {step}/1450: {losses[0]}{losses[1]}")
        assert "steps/s" in line and "s left" in line
    assert f"{whole.folder}/samples.gif" in pictures and f"{whole.folder}/curves.png" in pictures
    assert tensorboard.endswith(f'tensorboard --logdir "{whole.folder.parent}"')


def test_the_folder_has_the_documented_files_and_no_others(whole):
    (events,) = whole.folder.glob("events.out.tfevents.*")
    names = ["checkpoint", events.name, "flags.json", "curves.png", "samples.gif", *PICTURES]
    for name in ("model.ckpt-100", "model.ckpt-1000", "model.ckpt-1450"):
        names += [f"{name}.index", f"{name}.data-00000-of-00001"]
    assert helpers.tree(whole.folder).keys() == {whole.folder / name for name in names}


def test_curves_show_256_held_out_digits_and_z_every_100_steps_and_at_the_last(whole, data):
    shown = helpers.shown(whole.folder)
    assert shown.keys() == {*CURVES, "samples"}
    for tag in CURVES:
        assert [step for step, _ in shown[tag]] == [*range(0, 1401, 100), 1450]
    x = gan_mnist.load_images(data)[-256:]
    z = gan_mnist.noise(256, np.random.default_rng([0, 0]))
    curves = whole.gan.session.run(whole.gan.curves, {whole.gan.x: x, whole.gan.z: z})
    for point in gan_mnist.tf.Summary.FromString(curves).value:
        assert shown[point.tag][-1][1] == pytest.approx(point.simple_value, rel=1e-4)


def test_files_tensorboard_and_the_animation_show_64_digits_of_the_same_z(whole):
    files = [(whole.folder / name).read_bytes() for name in PICTURES]
    assert helpers.shown(whole.folder)["samples"] == list(zip(STEPS, files))
    with Image.open(whole.folder / "samples.gif") as animation:
        frames = [frame.convert("L").tobytes() for frame in ImageSequence.Iterator(animation)]
    assert frames == [Image.open(whole.folder / name).tobytes() for name in PICTURES]
    z = gan_mnist.noise(256, np.random.default_rng([0, 0]))[:64]
    new = gan_mnist.GAN(gan_mnist.parse_flags([]))
    for player, step, name in ((new, 0, PICTURES[0]), (whole.gan, 1450, PICTURES[-1])):
        expected = gan_mnist.grid(gan_mnist.generate(player, z), f"step {step}")
        assert Image.open(whole.folder / name).tobytes() == expected.tobytes()


@pytest.mark.parametrize("g_loss, half", [("non_saturating", 0.693), ("minimax", -0.693)])
def test_curves_png_has_the_curves_and_is_dashed_where_D_answers_one_half(g_loss, half, copy):
    curves, halves = helpers.curves_png(gan_mnist, RUN, f"--g_loss={g_loss}")
    assert curves == [helpers.shown(copy)[tag] for tag in CURVES]
    assert halves == pytest.approx([1.386, half, 0.5, 0.5], abs=1e-3)


@pytest.mark.parametrize("steps, found", [(2000, 1500), (1460, 1460)])
def test_weights_that_are_not_finite_are_found_before_they_are_saved(steps, found, copy, folder):
    line = "        last = step == flags.max_steps\n"
    update = "gan.session.run(gan.G_update, {gan.z: np.full([1, Z_SIZE], np.nan)})"
    blow_up = f"        if step == 1460:\n            {update}\n"  # the last update in the step
    program = helpers.load(helpers.edited(folder, (line, blow_up + line)))
    (error,) = helpers.call(program, RUN, f"--max_steps={steps}").err.splitlines()
    assert f"not finite at step {found}" in error
    result = helpers.call(gan_mnist, RUN, "--max_steps=1460")
    assert "Resumed run: run at step 1450" in result.out
    assert all(np.isfinite(array).all() for array in helpers.variables("run", 1460).values())


def digits_in(path, side):
    """Returns the digits in a square picture with that many in a row: uint8 [n, 28, 28]."""
    square = np.array(Image.open(path))[: 56 * side : 2, ::2]  # of twice the size
    return square.reshape(side, 28, side, 28).swapaxes(1, 2).reshape(-1, 28, 28)


@pytest.mark.parametrize("n, side, seed", [(1, 1, 0), (30, 6, 5)])
def test_sample_writes_digits_as_an_array_and_as_a_square_picture(n, side, seed, copy, whole):
    before = helpers.tree(copy)
    helpers.call(gan_mnist, RUN, f"--sample={n}", f"--seed={seed}")
    z = gan_mnist.noise(n, np.random.default_rng([seed, 0, 1]))
    expected = gan_mnist.generate(whole.gan, z).reshape(n, 28, 28)
    np.testing.assert_array_equal(np.load(copy / "generated.npy"), expected, strict=True)
    drawn = digits_in(copy / "generated.png", side)
    assert (drawn[:n] == expected).all() and not drawn[n:].any()
    changed = dict(helpers.tree(copy).items() - before.items())
    assert {path.name for path in changed} == {"generated.npy", "generated.png"}


def test_sample_draws_other_digits_than_training_and_than_another_seed(folder):
    helpers.call(gan_mnist, RUN, "--max_steps=1")  # a trained G may give the same image for all z
    digits = [digits_in("run/samples/step_0000001.png", 8)]
    for seed in (0, 1):
        helpers.call(gan_mnist, RUN, "--sample=64", f"--seed={seed}")
        digits.append(np.load("run/generated.npy"))
    assert len(np.unique(np.concatenate(digits), axis=0)) == 3 * 64
