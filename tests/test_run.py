"""The whole script as its users run it: the console, the run's folder, repeating it, --sample."""

import json
import re
import shutil

import numpy as np
import oracle
import pytest
from conftest import ONE, SETTING, TAGS, Run, call, options, pixels, tree
from PIL import Image

import gan_mnist

SEED, RUN = SETTING["seed"], "Run: {0} (if stopped, --output_dir {0} goes on)"
PROGRESS = r"step (\d+)/{}  D_loss \d+\.\d+  G_loss \d+\.\d+  \d+ steps/s  \d+ s left *"


def test_in_a_file_there_are_plain_lines_and_no_noise(runs):
    first, *steps, empty, score, pictures, curves = runs["one"].out.split("\n")[:-1]
    name = "outputs/" + runs["one"].folder.name
    progress = [re.fullmatch(PROGRESS.format(ONE.steps), line) for line in steps]
    assert [match and match.group(1) for match in progress] == ["5000", str(ONE.steps)]
    assert (first, empty, runs["one"].err) == (RUN.format(name), "", "")
    assert re.fullmatch(r"Parzen log-likelihood -?\d+\.\d \+- \d+\.\d nats, sigma 0\.\d+", score)
    files = f"samples/step_{ONE.steps:07d}.png", "samples.gif", "losses.png"
    assert pictures == "Pictures: " + ", ".join(f"{name}/{file}" for file in files)
    assert re.fullmatch(r"Curves: /\S+ -m tensorboard.main --logdir outputs", curves)


def test_on_a_terminal_progress_stays_in_place(runs):
    lines = runs["terminal"].out.split("\n")
    *steps, end = lines[1].split("\r")
    progress = [re.fullmatch(PROGRESS.format(300), piece) for piece in steps]
    assert [match and match.group(1) for match in progress] == ["100", "200", "300"]
    assert (end, len(lines), runs["terminal"].err) == ("", 6, "")


def test_the_folder_holds_the_files_of_the_contract_and_nothing_else(runs):
    folder = runs["one"].folder
    found = {str(path.relative_to(folder)) for path in tree(folder)}
    expected = {"checkpoint", "flags.json", "losses.png", "samples.gif", "samples"}
    expected |= {f"samples/step_{step:07d}.png" for step in ONE.pictures}
    others = re.compile(r"events\.out\.tfevents\..*|model\.ckpt-\d+\.(index|data-00000-of-00001)")
    assert {name for name in found if not others.fullmatch(name)} == expected
    assert f"model.ckpt-{ONE.steps}.index" in found and len(list(folder.glob("events.*"))) == 1


def test_flags_are_kept_in_flags_json_and_shown_as_text(runs, data):
    expected = dict(SETTING, max_steps=ONE.steps, summary_steps=ONE.every, input_data_dir=str(data))
    expected.update(output_dir="outputs/" + runs["one"].folder.name, sample=0)
    assert json.loads((runs["one"].folder / "flags.json").read_text()) == expected
    curves = runs["one"].shown()
    ((step, text),) = next(curves[tag] for tag in curves if TAGS.text in tag)
    lines = {line.strip() for line in text.splitlines()}
    assert step == 0 and lines == {f"--{name} {value}" for name, value in expected.items()}


def test_curves_have_a_point_at_every_summary_step(runs):
    curves, steps = runs["one"].shown(), list(range(0, ONE.steps + 1, ONE.every))
    expected = {tag: steps for tag in TAGS.curves}
    expected.update({TAGS.score: ONE.pictures, TAGS.pictures: ONE.pictures})
    expected[TAGS.speed] = sorted({*steps, *ONE.pictures} - {0})
    curves = {tag: points for tag, points in curves.items() if TAGS.text not in tag}
    assert {tag: [step for step, _ in points] for tag, points in curves.items()} == expected


def test_curves_show_the_networks_without_dropout_on_images_held_out(runs, data):
    run, (_, validation, test) = runs["one"], gan_mnist.load_data(data)
    theta, curves = run.variables(), run.shown()
    z = np.float32(np.random.RandomState(SEED).uniform(-1, 1, [256, 100]))
    real = oracle.discriminator(theta, validation / 255.0)[1]
    fake = oracle.discriminator(theta, oracle.generator(theta, z)[1])[1]
    losses = oracle.discriminator_loss(real, fake), oracle.generator_loss(fake, "non_saturating")
    expected = [*losses, oracle.sigmoid(real).mean(), oracle.sigmoid(fake).mean()]
    assert [curves[tag][-1][0] for tag in TAGS.curves] == [ONE.steps] * 4
    assert [curves[tag][-1][1] for tag in TAGS.curves] == pytest.approx(expected, rel=1e-4)
    samples = np.uint8(oracle.digits(theta, 10_000, SEED + 1) + 0.5)
    score = gan_mnist.parzen_log_likelihood(samples, validation, test)
    assert curves[TAGS.score][-1][1] == pytest.approx(score[0], abs=0.1)
    printed = re.search(r"(-?[\d.]+) \+- ([\d.]+) nats, sigma ([\d.]+)", run.out).groups()
    assert [float(number) for number in printed] == pytest.approx(score, abs=0.1)


def test_pictures_are_what_the_averaged_weights_draw_from_one_z_and_the_events_have_them(runs):
    run = runs["one"]
    for step, encoded in run.shown()[TAGS.pictures]:
        assert run.png(step).read_bytes() == encoded
        assert pixels(run.png(step)).shape == (448, 448)
    with gan_mnist.tf.Graph().as_default():
        session = gan_mnist.GAN(gan_mnist.parse_flags(options())).session
        first = session.run({v.op.name: v for v in gan_mnist.tf.global_variables()})
    for step, values in ((0, first), (ONE.steps, run.variables())):
        expected = oracle.digits(values, 64, SEED).reshape(8, 8, 28, 28).swapaxes(1, 2)
        drawn = pixels(run.png(step))[::2, ::2]
        assert np.abs(drawn - expected.reshape(224, 224)).max() <= 0.51  # rounded


def test_the_animation_shows_every_picture_in_turn_and_holds_the_last(runs):
    times = []
    with Image.open(str(runs["one"].folder / "samples.gif")) as animation:
        assert (animation.format, animation.n_frames) == ("GIF", len(ONE.pictures))
        for k, step in enumerate(ONE.pictures):
            animation.seek(k)
            times.append(animation.info["duration"])
            assert (np.array(animation.convert("L")) == pixels(runs["one"].png(step))).all()
    assert len(set(times[:-1])) == 1 and times[-1] >= 5 * times[0]


def test_losses_png_is_a_figure_with_curves(runs):
    figure = pixels(runs["one"].folder / "losses.png")[..., :3]
    assert min(figure.shape[:2]) >= 500 and (figure == 255).all(2).mean() > 0.5
    for panel in np.array_split(figure, 2):
        for colour in ([31, 119, 180], [255, 127, 14]):  # matplotlib's blue and orange
            assert (panel == colour).all(2).sum() > 200


def test_the_same_flags_and_seed_give_the_same_run_however_often_it_is_looked_at(runs):
    one, other = runs["one"], runs["terminal"]
    assert one.folder != other.folder and one.folder.parent == other.folder.parent
    curves, others = one.shown(), other.shown()
    for tag, common in [(tag, 9) for tag in TAGS.curves] + [(TAGS.score, 3), (TAGS.pictures, 3)]:
        curve, other = dict(curves[tag]), dict(others[tag])
        both = set(curve) & set(other)
        assert len(both) == common and [curve[s] for s in both] == [other[s] for s in both]


def test_sample_draws_the_averaged_weights_anew_each_time_and_touches_nothing_else(runs, tmp_path):
    folder, drawn = tmp_path / "run", []
    shutil.copytree(str(runs["one"].folder), str(folder))
    before = tree(folder)
    for n, seed in ((30, SEED), (30, 5), (1, 5), (30, SEED)):
        flags = ["--output_dir=run", "--sample", n] + (["--seed=5"] if seed == 5 else [])
        status, out, err = call(*flags, cwd=tmp_path)
        assert (status, out.count("\n"), err) == (0, 1, "")
        assert "run/generated.npy" in out and "run/generated.png" in out
        digits = np.load(str(folder / "generated.npy"))
        assert digits.dtype == np.uint8 and digits.shape == (n, 28, 28)
        expected = oracle.digits(Run(folder).variables(), n, seed)
        assert np.abs(digits.reshape(n, 784) - expected).max() <= 0.51
        gan_mnist.save_grid(tmp_path / "grid.png", digits.reshape(n, 784))
        assert (tmp_path / "grid.png").read_bytes() == (folder / "generated.png").read_bytes()
        drawn.append(digits.tobytes())
    assert drawn[0] == drawn[3] != drawn[1]
    after = tree(folder)
    assert {path.name for path in set(after) - set(before)} == {"generated.npy", "generated.png"}
    assert before == {path: after[path] for path in before}
