"""Functions that the tests share: to start the script, to edit it, and to read its runs."""

import contextlib
import importlib.util
import io
import os
import sys
import time
from pathlib import Path
from subprocess import PIPE, Popen
from types import SimpleNamespace
from unittest import mock

import numpy as np
import tensorflow.compat.v1 as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = Path(os.environ.get("GAN_MNIST_SCRIPT", ROOT / "gan_mnist.py"))  # the script under test
LIMIT = 300  # seconds that anything may take
TRAIN = "train-images-idx3-ubyte"


def idx(images, magic=2051, side=28):
    """Returns an IDX file of images in [0, 1]; another magic number or side makes a wrong one."""
    header = np.array([magic, len(images), side, side], ">i4")
    return header.tobytes() + np.uint8(np.rint(255 * images)).tobytes()


def start(*argv, **environment):
    """Starts Python with the arguments, for instance helpers.SCRIPT and its flags."""
    environment = {**os.environ, **environment}
    return Popen([sys.executable, *argv], stdout=PIPE, stderr=PIPE, text=True, env=environment)


def finish(process):
    """Waits for the end of a process. Returns its exit status and what it printed."""
    try:
        out, err = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
    return SimpleNamespace(status=process.returncode, out=out, err=err)


def call(program, *flags):
    """Runs the command line in this process; program is gan_mnist or an edited copy."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    argv = mock.patch.object(sys, "argv", ["gan_mnist.py", *flags])
    with argv, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            program.main()
        except SystemExit as end:
            status = end.code  # or a text, which Python prints before it exits with 1
    return SimpleNamespace(status=status, out=out.getvalue(), err=err.getvalue() or status)


def refused(program, *flags):
    """Checks that the command fails and writes nothing. Returns the lines of its error."""
    before = tree(".")
    result = call(program, *flags)
    assert result.status != 0 and tree(".") == before
    return result.err.splitlines()


def curves_png(program, *flags):
    """Runs the command line. Returns the curves in its curves.png and the heights of dashes."""
    with mock.patch.object(program.matplotlib.figure.Figure, "savefig", autospec=True) as savefig:
        assert call(program, *flags).status == 0
    lines = [line for axes in savefig.call_args.args[0].axes for line in axes.lines]
    curves = [list(zip(*line.get_data())) for line in lines if line.get_linestyle() == "-"]
    return curves, [line.get_ydata()[0] for line in lines if line.get_linestyle() == "--"]


def wait_until(condition, process=None):
    """Waits until the condition, a function, returns something true, or the process has ended."""
    deadline = time.monotonic() + LIMIT
    while not condition() and (process is None or process.poll() is None):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def edited(folder, *edits):
    """Writes a copy of the script with edits, pairs of an old text and a new one, to the folder."""
    text = SCRIPT.read_text()
    for old, new in edits:
        assert text.count(old) == 1, f"not there once: {old}"
        text = text.replace(old, new)
    path = folder / "gan_mnist.py"
    path.write_text(text)
    return path


def load(path):
    """Imports an edited copy of the script."""
    spec = importlib.util.spec_from_file_location("edited", path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program


def tree(folder):
    """Returns all files below a folder: {path: content and time of modification}."""
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def variables(folder, step):
    """Returns the variables in a checkpoint: {name: array}."""
    reader = tf.train.NewCheckpointReader(f"{folder}/model.ckpt-{step}")
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def shown(folder):
    """Returns what TensorBoard shows of a run: {tag: pairs of a step and its value or PNG}."""
    reader = EventAccumulator(str(folder), {"scalars": 0, "images": 0}).Reload()
    tags = reader.Tags()["scalars"]
    found = {tag: [(p.step, p.value) for p in reader.Scalars(tag)] for tag in tags}
    found["samples"] = [(p.step, p.encoded_image_string) for p in reader.Images("samples")]
    return found
