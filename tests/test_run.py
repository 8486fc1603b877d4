"""The whole script as its users run it: the console, the run's folder, repeating it, --sample."""

import json
import re

import conftest as c
import numpy as np
import oracle
import pytest
from conftest import CURVES, PICTURE_STEPS, SETTING, STEPS, call, options, pixels, png, shown, tree
from PIL import Image

import gan_mnist

SEED = SETTING["seed"]
PROGRESS = r"step (\d+)/{}, \d+ s left, \d+ steps/s,\D+ -?\d+\.\d+\D+ -?\d+\.\d+ *"


def console(run, last):
    """Checks the form of a run's output. Returns: its progress lines."""
    first, *lines = re.split("[\n\r]", run.out.rstrip())
    steps = [re.fullmatch(PROGRESS.format(last), line) for line in lines]
    name, count = f"outputs/{run.folder.name}", sum(map(bool, steps))
    assert all(steps[:count]) and int(steps[count - 1].group(1)) == last
    assert first.startswith(f"Run: {name} ") and f"--output_dir {name}" in first and run.err == ""
    assert all(file in run.out for file in ("samples.gif", "losses.png"))
    assert lines[-1].endswith("-m tensorboard.main --logdir outputs")
    return lines[:count]


def test_progress_is_plain_lines_in_a_file_and_one_updated_line_on_a_terminal(runs):
    console(runs["whole"], STEPS)
    assert "\r" not in runs["whole"].out
    lines = console(runs["short"], 300)
    assert runs["short"].out.count("\r") == len(lines) - 1 > 3
    assert len(set(map(len, lines))) == 1  # each covers the one before


def test_the_folder_has_the_documented_files_only_and_checkpoints_hold_no_images(runs, data):
    folder = runs["whole"].folder
    found = {str(path.relative_to(folder)) for path in tree(folder)}
    expected = {"checkpoint", "flags.json", "losses.png", "samples.gif", "samples"}
    expected |= {f"samples/step_{step:07d}.png" for step in PICTURE_STEPS}
    others = re.compile(r"events\.out\.tfevents\..*|model\.ckpt-\d+\.(index|data-00000-of-00001)")
    assert {name for name in found if not others.fullmatch(name)} == expected
    assert f"model.ckpt-{STEPS}.index" in found and len(list(folder.glob("events.*"))) == 1
    flags = SETTING | {"max_steps": STEPS, "summary_steps": 50, "input_data_dir": str(data)}
    assert json.loads((folder / "flags.json").read_text()).items() >= flags.items()
    values, names = c.variables(folder), [*oracle.NAMES["D"], *oracle.NAMES["G"]]
    assert values["global_step"] == STEPS * (SETTING["d_step"] + SETTING["g_step"])
    slots = {name for name in values if name.startswith(tuple(names))} - set(names)
    assert {name + "/ExponentialMovingAverage" for name in oracle.NAMES["G"]} <= slots
    assert len(slots) == 4 + 2 * len(names)  # with Adam's m and v
    assert all(values[name].shape == () for name in set(values) - slots - set(names))


def test_curves_show_the_networks_on_held_out_images_at_every_summary_step(runs, data):
    folder, steps = runs["whole"].folder, list(range(0, STEPS + 1, 50))
    theta, curves = c.variables(folder), shown(folder)
    expected = {tag: steps for tag in CURVES}
    expected |= {c.SCORE: PICTURE_STEPS, c.PICTURES: PICTURE_STEPS, c.SPEED: steps[1:]}
    assert {tag: list(points) for tag, points in curves.items()} == expected
    _, validation, test = gan_mnist.load_data(data)
    z = np.float32(np.random.RandomState(SEED).uniform(-1, 1, [256, 100]))
    real = oracle.discriminator(theta, validation / 255)[1]
    fake = oracle.discriminator(theta, oracle.generator(theta, z)[1])[1]
    losses = oracle.discriminator_loss(real, fake), oracle.generator_loss(fake, "non_saturating")
    expected = [*losses, oracle.sigmoid(real).mean(), oracle.sigmoid(fake).mean()]
    assert [curves[tag][STEPS] for tag in CURVES] == pytest.approx(expected, rel=1e-4)
    samples = np.uint8(oracle.digits(theta, 10_000, SEED + 1) + 0.5)
    score = oracle.log_likelihoods(test, samples, 0.2).mean()
    assert curves[c.SCORE][STEPS] == pytest.approx(score, abs=0.3)
    printed = re.search(r"log-likelihood\D*?(-?\d+\.\d)", runs["whole"].out)[1]
    assert float(printed) == pytest.approx(score, abs=0.3)


@pytest.mark.parametrize("n", [1, 45, 1203])
def test_the_score_is_the_mean_log_likelihood_worked_out_term_by_term(n):
    noise = np.random.RandomState(0).normal(128, 60, [1240, 784])
    samples, images = np.split(np.uint8(noise.clip(0, 255)), [30])
    images = np.concatenate([images, samples // 2 * 2, samples * 0])[-n:]  # far and near
    score = gan_mnist.parzen_log_likelihood(samples, images, 0.3)
    assert score == pytest.approx(oracle.log_likelihoods(images, samples, 0.3).mean(), abs=0.01)


def test_pictures_are_what_the_averaged_weights_draw_from_one_z_and_the_events_have_them(runs):
    folder = runs["whole"].folder
    pictures = shown(folder)[c.PICTURES]
    assert pictures == {step: png(folder, step) for step in PICTURE_STEPS}
    gan = gan_mnist.GAN(gan_mnist.parse_flags(options()), np.zeros([1, 784], np.uint8))
    variables = {v.op.name: v for v in gan.session.graph.get_collection("variables")}
    for step, values in ((0, gan.session.run(variables)), (STEPS, c.variables(folder))):
        grid = oracle.digits(values, 64, SEED).reshape(8, 8, 28, 28).swapaxes(1, 2)
        expected = np.kron(grid.reshape(224, 224), np.ones([2, 2]))
        drawn = pixels(pictures[step])
        assert drawn.shape[1] == 448 and np.abs(drawn[:448] - expected).max() <= 0.51  # rounded


def test_the_animation_shows_every_picture_in_turn_and_losses_png_four_curves(runs):
    folder = runs["whole"].folder
    with Image.open(folder / "samples.gif") as animation:
        assert (animation.format, animation.n_frames) == ("GIF", len(PICTURE_STEPS))
        for k, step in enumerate(PICTURE_STEPS):
            animation.seek(k)
            frame = np.array(animation.convert("L"))
            assert (frame[:448] == pixels(png(folder, step))[:448]).all()
            assert animation.info["duration"] >= 100  # milliseconds
            assert (frame[448:] > 200).any()  # the step is written below
    figure = pixels((folder / "losses.png").read_bytes())[..., :3]
    assert min(figure.shape[:2]) >= 500 and (figure == 255).all(2).mean() > 0.5
    for panel in np.array_split(figure, 2):
        for colour in ([31, 119, 180], [255, 127, 14]):  # matplotlib's blue and orange
            assert (panel == colour).all(2).sum() > 200


def test_the_same_seed_gives_the_same_run_at_any_summary_interval(runs, data, tmp_path):
    whole, short = runs["whole"].folder, runs["short"].folder
    assert whole != short and whole.parent == short.parent
    for tag in CURVES:
        assert shown(whole)[tag][0] == shown(short)[tag][0]
    flags = options(input_data_dir=data, max_steps=100, output_dir="run", seed=4)
    assert call(*flags, cwd=tmp_path)[0] == 0
    for step in (0, 100, 200):
        assert png(whole, step) == png(short, step)
        assert step == 200 or png(whole, step) != png(tmp_path / "run", step)


def test_sample_draws_the_averaged_weights_anew_each_time_and_touches_nothing_else(copy):
    before, drawn, new = tree(copy), [], {"generated.npy", "generated.png"}
    for n, seed in ((30, SEED), (30, 5), (1, 5), (30, SEED)):
        flags = ["--output_dir=run", "--sample", n] + (["--seed=5"] if seed == 5 else [])
        status, out, err = call(*flags, cwd=copy.parent)
        assert (status, out.count("\n"), err) == (0, 1, "") and "run/generated.npy" in out
        digits = np.load(copy / "generated.npy")
        assert digits.dtype == np.uint8 and digits.shape == (n, 28, 28)
        expected = oracle.digits(c.variables(copy), n, seed)
        assert np.abs(digits.reshape(n, 784) - expected).max() <= 0.51
        side = int(np.ceil(np.sqrt(n)))  # in reading order, twice enlarged; what is left is black
        digits = np.concatenate([digits, np.zeros([side**2 - n, 28, 28])])
        grid = np.block([list(digits[row * side : (row + 1) * side]) for row in range(side)])
        picture = pixels((copy / "generated.png").read_bytes())
        assert (picture[: 56 * side] == np.kron(grid, np.ones([2, 2]))).all()
        drawn.append(digits.tobytes())
    after = tree(copy)
    assert drawn[0] == drawn[3] != drawn[1]
    assert {p.name for p in after if after[p] != before.get(p)} - {"run"} == new


def test_the_last_words_of_a_crashing_tensorflow_are_shown(data, tmp_path):
    flags = options(input_data_dir=data, max_steps=1)
    status, _, err = c.run(*flags, cwd=tmp_path, TF_XLA_FLAGS="--typo")
    assert status != 0 and "--typo" in err
    (tmp_path / "tensorflow").mkdir()
    code = "import os\nos.write(2, b'no such instruction')\nos.abort()"
    (tmp_path / "tensorflow" / "__init__.py").write_text(code)
    status, _, err = c.run(*flags, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert status < 0 and "no such instruction" in err


def test_a_folder_name_that_cannot_be_printed_is_refused(data, tmp_path):
    flags = options(input_data_dir=data, max_steps=1, output_dir="zähler")
    status, _, err = c.run(*flags, cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert status == 2 and not list(tmp_path.iterdir())
    c.one_line(err)


def test_an_output_closed_early_ends_the_run_without_a_traceback(data, tmp_path):
    process = c.start(*options(input_data_dir=data, max_steps=300), cwd=tmp_path)
    assert process.stdout.readline().startswith(b"Run: ")
    process.stdout.close()
    process.stdout = None
    status, _, err = c.finish(process)
    assert status in (0, 1) and "Exception" not in err and "Traceback" not in err
