"""The whole script as its users run it: the console, the run's folder, --sample and TensorBoard."""

import collections
import concurrent.futures
import glob
import hashlib
import io
import json
import os
import pty
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import oracle
import pytest
from conftest import ROOT, TEST, TRAIN
from PIL import Image

import gan_mnist

tf = gan_mnist.tf
SCALARS = {"D_loss", "G_loss", "D_real", "D_fake", "parzen_log_likelihood", "steps_per_second"}
PROGRESS = re.compile(r"step (\d+)/60 .*D_loss .*\d.*G_loss .*\d.*\d steps/s .*\d.* left")
Finished = collections.namedtuple("Finished", "folder status stdout stderr")


def command(small_mnist, *more):
    """A command line that trains for a few steps."""
    script = os.path.join(ROOT, "gan_mnist.py")
    short = ["--max_steps", "60", "--batch_size", "16", "--summary_steps", "20"]
    return [sys.executable, script, "--input_data_dir", small_mnist] + short + list(more)


def start(argv, cwd, stdout):
    """The process, with the log level a user has, not the one the script has set in this one."""
    env = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.Popen(argv, cwd=cwd, env=env, stdout=stdout, stderr=subprocess.PIPE)


def run(argv, cwd):
    """Runs a command to its end. Returns: status, stdout, stderr."""
    process = start(argv, cwd, subprocess.PIPE)
    out, err = process.communicate()
    return process.returncode, out.decode(), err.decode()


def run_on_terminal(argv, cwd):
    """As run, with stdout on a pseudo-terminal."""
    master, slave = pty.openpty()
    process, out = start(argv, cwd, slave), b""
    os.close(slave)
    while True:
        try:
            out += os.read(master, 1000)
        except OSError:  # the other end is closed
            break
    os.close(master)
    err = process.communicate()[1]
    return process.returncode, out.decode(), err.decode()


@pytest.fixture(scope="module")
def runs(small_mnist, tmp_path_factory):
    """Four finished runs below outputs/, one of which chose its folder itself."""
    cwd = str(tmp_path_factory.mktemp("work"))
    jobs = {
        "one": (run, ["--output_dir", "outputs/one"]),
        "again": (run, ["--output_dir", os.path.join(cwd, "outputs", "again")]),
        "other_seed": (run_on_terminal, ["--output_dir", "outputs/other_seed", "--seed", "1"]),
        "rarely_seen": (run, ["--summary_steps", "45"]),
    }
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        waiting = {
            name: pool.submit(function, command(small_mnist, *more), cwd)
            for name, (function, more) in jobs.items()
        }
    outputs = os.path.join(cwd, "outputs")
    unnamed = set(os.listdir(outputs)) - set(jobs)
    assert len(unnamed) == 1
    folders = {name: os.path.join(outputs, name) for name in jobs}
    folders["rarely_seen"] = os.path.join(outputs, unnamed.pop())
    return {name: Finished(folders[name], *waiting[name].result()) for name in jobs}


def listing(folder):
    """Paths of all files below the folder."""
    paths = glob.glob(os.path.join(folder, "**"), recursive=True)
    return sorted(os.path.relpath(path, folder) for path in paths if os.path.isfile(path))


def events(folder):
    """All events of the run's event files, by TensorFlow's own reader."""
    paths = sorted(glob.glob(os.path.join(folder, "events.out.tfevents.*")))
    return [event for path in paths for event in tf.train.summary_iterator(path)]


def scalars(folder):
    """{(tag, step): value}."""
    return {
        (value.tag, event.step): value.simple_value
        for event in events(folder)
        for value in event.summary.value
        if value.HasField("simple_value")
    }


def variables(folder, step=60):
    """{name: array} of a checkpoint, by TensorFlow's own reader."""
    reader = tf.train.NewCheckpointReader(os.path.join(folder, f"model.ckpt-{step}"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def read(*path):
    """The bytes of a file."""
    with open(os.path.join(*path), "rb") as file:
        return file.read()


def pixels(*path):
    """A picture as an array."""
    with Image.open(os.path.join(*path)) as picture:
        return np.array(picture)


def png_name(step):
    """Path of a step's picture in a run's folder."""
    return os.path.join("samples", f"step_{step:07d}.png")


def expected_digits(folder, step, n, seed):
    """What the oracle draws from a checkpoint's averaged weights: [n, 784], 0.0 to 255.0."""
    theta = variables(folder, step)
    averaged = {name: theta[name + "/ExponentialMovingAverage"] for name in oracle.names("G")}
    return 255 * oracle.generator(averaged, np.float64(gan_mnist.noise(n, seed)))[1]


def rows_of(canvas, n):
    """The first n digits of a grid, in reading order."""
    columns = canvas.shape[1] // 28
    places = [divmod(k, columns) for k in range(n)]
    return [canvas[28 * r : 28 * r + 28, 28 * c : 28 * c + 28].ravel() for r, c in places]


# ---------------------------------------------------------------------------------------- console


def test_runs_end_with_status_0_and_no_noise_from_TensorFlow(runs):
    for finished in runs.values():
        assert (finished.status, finished.stderr) == (0, "")
        assert "tensorflow" not in finished.stdout.lower().replace(finished.folder, "")
        assert "warning" not in finished.stdout.lower()


def test_progress_in_a_file_is_plain_lines(runs):
    for name in ("one", "again", "rarely_seen"):
        out = runs[name].stdout
        assert "\r" not in out and "\033" not in out
        steps = [PROGRESS.fullmatch(line) for line in out.splitlines() if line.startswith("step ")]
        assert steps and None not in steps
        assert steps[-1].group(1) == "60"


def test_progress_on_a_terminal_stays_in_place(runs):
    out = runs["other_seed"].stdout.replace("\r\n", "\n")  # the terminal's own line ends
    shown = [piece for piece in re.split("[\r\n]", out) if piece.startswith("step ")]
    shown = [PROGRESS.fullmatch(piece.replace("\033[K", "").rstrip()) for piece in shown]
    assert len(shown) >= 2 and None not in shown
    assert shown[-1].group(1) == "60"
    first, last = out.index("step "), out.rindex("step ")
    assert "\n" not in out[first:last]  # each one is written over the one before
    assert out[first - 1] == out[last - 1] == "\r"


def test_the_last_lines_name_the_folder_the_picture_and_the_TensorBoard_command(runs):
    for finished in runs.values():
        cwd = os.path.dirname(os.path.dirname(finished.folder))
        end = finished.stdout[finished.stdout.rindex("step 60/60") :]
        logdir = re.search(r" -m tensorboard.main --logdir (\S+)", end).group(1)
        assert os.path.join(cwd, logdir) == os.path.dirname(finished.folder)
        named = {os.path.join(cwd, word) for word in end.split()}
        assert {finished.folder, os.path.join(finished.folder, png_name(60))} <= named
        assert re.search(r"parzen.* -?\d+\.\d \+- \d+\.\d", end, re.IGNORECASE)


# ------------------------------------------------------------------------------------- the folder


def test_the_folder_holds_the_files_of_the_contract_and_nothing_else(runs):
    expected = ["checkpoint", "flags.json", "losses.png", "samples.gif"]
    expected += [png_name(step) for step in (0, 20, 40, 60)]
    found = listing(runs["one"].folder)
    others = [path for path in found if path not in expected]
    assert set(expected) <= set(found)
    assert [p for p in others if not p.startswith(("events.out.tfevents.", "model.ckpt-"))] == []
    assert "model.ckpt-60.index" in others
    assert sum(path.startswith("events.") for path in others) == 1


def test_flags_json_says_what_the_run_was_started_with(runs, small_mnist):
    flags = json.loads(read(runs["one"].folder, "flags.json").decode())
    given = {"max_steps": 60, "batch_size": 16, "summary_steps": 20, "input_data_dir": small_mnist}
    assert {name: flags[name] for name in given} == given
    assert (flags["d_step"], flags["g_step"], flags["seed"]) == (1, 1, 0)
    assert flags["g_loss"] == "non_saturating"
    digests = [hashlib.sha256(read(small_mnist, name)).hexdigest() for name in (TRAIN, TEST)]
    assert all(digest in str(flags["data"]) for digest in digests)


def test_curves_have_every_tag_at_step_0_at_every_summary_and_at_the_last_step(runs):
    for name, steps in (("one", {0, 20, 40, 60}), ("rarely_seen", {0, 45, 60})):
        values = scalars(runs[name].folder)
        expected = {(tag, step) for tag in SCALARS for step in steps}
        assert set(values) == expected - {("steps_per_second", 0)}
        assert np.isfinite(list(values.values())).all()
        for (tag, _), value in values.items():
            assert tag not in ("D_real", "D_fake") or 0 < value < 1
            assert tag != "steps_per_second" or value > 0


def test_events_hold_the_flags_as_text(runs):
    texts = [
        b"".join(value.tensor.string_val).decode()
        for event in events(runs["one"].folder)
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "text"
    ]
    assert len(texts) == 1
    rows = [[cell.strip() for cell in line.split("|")] for line in texts[0].splitlines()]
    for row in (["batch_size", "16"], ["max_steps", "60"], ["g_loss", "non_saturating"]):
        assert [""] + row + [""] in rows


def test_pictures_are_grids_of_64_and_the_same_in_the_events(runs):
    folder = runs["one"].folder
    images = {
        event.step: value.image.encoded_image_string
        for event in events(folder)
        for value in event.summary.value
        if value.HasField("image")
    }
    assert sorted(images) == [0, 20, 40, 60]
    for step, encoded in images.items():
        with Image.open(os.path.join(folder, png_name(step))) as picture:
            assert (picture.format, picture.mode, picture.size) == ("PNG", "L", (224, 224))
        shown = np.array(Image.open(io.BytesIO(encoded)))
        assert (pixels(folder, png_name(step)) == shown).all()


@pytest.mark.parametrize("step", [0, 60])
def test_pictures_are_what_the_averaged_weights_draw_from_the_same_z_white_on_black(runs, step):
    shown = rows_of(pixels(runs["one"].folder, png_name(step)), 64)
    expected = expected_digits(runs["one"].folder, step, 64, 0)
    assert np.abs(shown - expected).max() <= 0.51  # rounded; 255 is white


def test_the_animation_shows_every_picture_in_turn(runs):
    folder = runs["one"].folder
    with Image.open(os.path.join(folder, "samples.gif")) as animation:
        assert (animation.format, animation.n_frames) == ("GIF", 4)
        for k, step in enumerate((0, 20, 40, 60)):
            animation.seek(k)
            assert (np.array(animation.convert("L")) == pixels(folder, png_name(step))).all()


def test_losses_png_is_a_figure_with_curves(runs):
    with Image.open(os.path.join(runs["one"].folder, "losses.png")) as picture:
        assert picture.format == "PNG" and min(picture.size) >= 500
        colours = np.array(picture.convert("RGB")).reshape(-1, 3)
    orange, blue = ([255, 127, 14], [31, 119, 180])  # the first two of matplotlib
    for colour in (orange, blue):
        assert (colours == colour).all(1).sum() > 200
    assert (colours == 255).all(1).mean() > 0.5


# ----------------------------------------------------------------------------------- exact repeat


def differing(a, b):
    """Names of the variables that differ in a bit."""
    assert set(a) == set(b)
    return {name for name in a if a[name].tobytes() != b[name].tobytes()}


def test_the_same_command_gives_the_same_run_bit_for_bit(runs):
    one, again = runs["one"].folder, runs["again"].folder
    assert differing(variables(one), variables(again)) == set()
    for name in [png_name(step) for step in (0, 20, 40, 60)] + ["samples.gif", "losses.png"]:
        assert read(one, name) == read(again, name)
    curves, others = scalars(one), scalars(again)
    assert {k: v for k, v in curves.items() if k[0] != "steps_per_second"} == {
        k: v for k, v in others.items() if k[0] != "steps_per_second"
    }


def test_a_run_is_the_same_however_often_it_is_looked_at(runs):
    one, rarely = runs["one"].folder, runs["rarely_seen"].folder
    assert differing(variables(one), variables(rarely)) == set()
    for step in (0, 60):
        assert read(one, png_name(step)) == read(rarely, png_name(step))
    curves, others = scalars(one), scalars(rarely)
    for tag in SCALARS - {"steps_per_second"}:
        assert curves[tag, 60] == others[tag, 60]


def test_another_seed_is_another_run(runs):
    one, other = variables(runs["one"].folder), variables(runs["other_seed"].folder)
    counts = {"global_step"} | {name for name in one if name.startswith("beta")}
    assert differing(one, other) == set(one) - counts
    start, other_start = variables(runs["one"].folder, 0), variables(runs["other_seed"].folder, 0)
    weights = {f"{player}_nn{k}/{player}_weight" for player in "DG" for k in (1, 2)}
    assert differing(start, other_start) >= weights
    assert len({read(finished.folder, png_name(60)) for finished in runs.values()}) == 2


# --------------------------------------------------------------------------------------- sampling


def sample(folder, n, *more):
    """Runs the script with --sample in this process."""
    with tf.Graph().as_default():
        return gan_mnist.main(["--output_dir", folder, "--sample", str(n)] + list(more))


def test_sample_writes_digits_of_the_averaged_weights_and_keeps_earlier_ones(runs):
    folder = runs["one"].folder
    before = {name: read(folder, name) for name in listing(folder)}
    argv = [sys.executable, os.path.join(ROOT, "gan_mnist.py"), "--sample", "30"]
    status, out, err = run(argv + ["--output_dir", folder], folder)
    assert (status, err) == (0, "") and "generated.npy" in out and "generated.png" in out
    first = read(folder, "generated.npy"), read(folder, "generated.png")
    digits = np.load(os.path.join(folder, "generated.npy"), allow_pickle=False)
    assert digits.dtype == np.uint8 and digits.shape == (30, 28, 28)
    expected = expected_digits(folder, 60, 30, 0)
    assert np.abs(digits.reshape(30, 784) - expected).max() <= 0.51
    shown = rows_of(pixels(folder, "generated.png"), 30)
    assert (shown == digits.reshape(30, 784)).all()

    assert sample(folder, 30) == 0  # the same digits again
    assert (read(folder, "generated.npy"), read(folder, "generated.png")) == first
    assert sample(folder, 30, "--seed", "5") == 0
    other = np.load(os.path.join(folder, "generated.npy"), allow_pickle=False)
    assert np.abs(other.reshape(30, 784) - expected_digits(folder, 60, 30, 5)).max() <= 0.51
    assert (other != digits).any()
    assert sample(folder, 1) == 0
    assert pixels(folder, "generated.png").shape == (28, 28)

    after = {name: read(folder, name) for name in listing(folder)}
    assert before.items() <= after.items()
    for kind, content in zip(("npy", "png"), first):
        written = [after[name] for name in after if re.match("generated.*" + kind, name)]
        assert len(written) == 4 and written.count(content) == 2


# ------------------------------------------------------------------------------------ TensorBoard


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def tensorboard(runs, tmp_path_factory):
    """A function that asks a TensorBoard server on the runs for a path; it returns bytes."""
    import tensorboard.version

    port, log = free_port(), tmp_path_factory.mktemp("tensorboard") / "log"
    argv = [sys.executable, "-m", "tensorboard.main", "--host", "127.0.0.1", "--port", str(port)]
    if not tensorboard.version.VERSION.startswith("1."):
        argv.append("--load_fast=false")
    argv += ["--logdir", os.path.dirname(runs["one"].folder)]

    def ask(path, **query):
        url = f"http://127.0.0.1:{port}{path}?{urllib.parse.urlencode(query)}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=60) as answer:
            return answer.read()

    def all_read():
        """Whether the server is up and has read the last events of all runs."""
        tags = json.loads(ask("/data/plugin/scalars/tags").decode())
        return len(tags) == len(runs) and all(set(tags[name]) >= SCALARS for name in tags)

    with log.open("wb") as file:
        server = subprocess.Popen(argv, stdout=file, stderr=file)
    try:
        for _ in range(600):
            assert server.poll() is None, log.read_text()
            try:
                if all_read():
                    break
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.2)
        yield ask
    finally:
        server.terminate()
        server.wait()


def test_tensorboard_lists_the_runs_side_by_side_with_all_curves(tensorboard, runs):
    names = {os.path.basename(finished.folder) for finished in runs.values()}
    assert set(json.loads(tensorboard("/data/runs").decode())) == names
    tags = json.loads(tensorboard("/data/plugin/scalars/tags").decode())
    assert {name: set(tags[name]) for name in tags} == {name: SCALARS for name in names}
    curve = tensorboard("/data/plugin/scalars/scalars", run="one", tag="D_loss")
    found = {("D_loss", step): value for _, step, value in json.loads(curve.decode())}
    wanted = {k: v for k, v in scalars(runs["one"].folder).items() if k[0] == "D_loss"}
    assert found == pytest.approx(wanted)


def test_tensorboard_shows_the_pictures_and_the_flags(tensorboard, runs):
    tags = json.loads(tensorboard("/data/plugin/images/tags").decode())
    assert {len(tags[os.path.basename(finished.folder)]) for finished in runs.values()} == {1}
    tag = next(iter(tags["one"]))
    query = {"run": "one", "tag": tag, "sample": 0}
    shown = json.loads(tensorboard("/data/plugin/images/images", **query).decode())
    assert [image["step"] for image in shown] == [0, 20, 40, 60]
    queries = [dict(urllib.parse.parse_qsl(image["query"])) for image in shown]
    pngs = [tensorboard("/data/plugin/images/individualImage", **query) for query in queries]
    assert pngs == [read(runs["one"].folder, png_name(step)) for step in (0, 20, 40, 60)]
    tags = json.loads(tensorboard("/data/plugin/text/tags").decode())
    assert len(tags["one"]) == 1
    text = tensorboard("/data/plugin/text/text", run="one", tag=next(iter(tags["one"])))
    assert "batch_size" in json.loads(text.decode())[0]["text"]


@pytest.fixture(scope="module")
def picture(tensorboard):
    """The graph as the server gives it to the browser."""
    from google.protobuf import text_format

    served = tensorboard("/data/plugin/graphs/graph", run="one", conceptual="false")
    return text_format.Parse(served.decode(), tf.GraphDef())


def top_level(graph):
    """The nodes and edges of the picture before a scope is opened."""
    nodes, edges = set(), set()
    for node in graph.node:
        box = node.name.split("/")[0]
        nodes.add(box)
        edges |= {(name.lstrip("^").split(":")[0].split("/")[0], box) for name in node.input}
    return nodes, edges


def test_the_graph_reads_as_a_drawing_of_the_algorithm(picture):
    _, edges = top_level(picture)
    for way in ("Z G_nn1 G_nn2 D_nn1_1 D_nn2_1 D_loss", "input D_nn1 D_nn2 D_loss"):
        boxes = way.split()
        assert {(boxes[k], boxes[k + 1]) for k in range(len(boxes) - 1)} <= edges
    assert ("D_nn2_1", "G_loss") in edges
    into = {
        box: {a for a, b in edges if b == box and a != box}
        for box in ("G_nn1", "G_nn2", "D_nn1", "D_nn2", "D_loss", "G_loss")
    }
    assert into["G_nn1"] == {"Z"} and into["G_nn2"] == {"G_nn1"}
    assert into["D_nn1"] == {"input"} and into["D_nn2"] == {"D_nn1"}
    assert into["D_loss"] == {"D_nn2", "D_nn2_1"} and into["G_loss"] == {"D_nn2_1"}


def test_the_graph_shows_nothing_of_the_compiled_game_and_the_averages(picture):
    nodes, _ = top_level(picture)
    assert {"D_Adam", "G_Adam"} <= nodes
    assert len(picture.library.function) == 0
    built = re.compile(
        "while|cluster|XLA|PartitionedCall|Average|save|restore|init$", re.IGNORECASE
    )
    assert [node.name for node in picture.node if built.search(node.name + node.op)] == []
    placeholders = {node.name for node in picture.node if node.op == "Placeholder"}
    assert placeholders == {"Z", "input"}
