"""What the tests share: small data sets, starting the script, reading and comparing its runs."""

import gzip
import io
import os
import pty
import signal
import subprocess
import sys
import types
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores Ctrl-C
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import gan_mnist

gan_mnist.import_tensorflow()
gan_mnist.import_tensorflow = lambda: None  # in this process it has done its work
tf = gan_mnist.tf

TRAIN, TEST = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"
TAGS = types.SimpleNamespace(score="score/parzen_log_likelihood", speed="speed/steps_per_second")
TAGS.pictures, TAGS.text, TAGS.curves = "samples", "flags", ["losses/D_loss", "losses/G_loss"]
TAGS.curves += ["probabilities/D_real", "probabilities/D_fake"]
# every flag that the numbers of a run depend on, by other values than the defaults where one can
SETTING = {"batch_size": 16, "d_step": 1, "g_step": 1, "g_loss": "non_saturating", "seed": 3}
SETTING.update(d_learning_rate=2e-3, g_learning_rate=3e-3, lr_half_life=4000)
SETTING.update(beta1=0.5, beta2=0.98, dropout=0.3, ema_decay=0.99)
ONE = types.SimpleNamespace(steps=5110, every=35)  # the run "one", and where it has pictures
ONE.pictures = [0, 100, 200, 500, 1000, 2000, 5000, ONE.steps]


def unpacked(name):
    """The bytes of one of MNIST's own files."""
    return gzip.decompress((ROOT / "MNIST_data" / (name + ".gz")).read_bytes())


def idx(images, magic=2051, rows=28, columns=28):
    """The bytes of an IDX file; the keywords make a wrong one."""
    header = np.array([magic, len(images), rows, columns], ">u4")
    return header.tobytes() + np.uint8(images).tobytes()


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder with the first 240 training images, gzipped, and 60 test images of MNIST."""
    folder = tmp_path_factory.mktemp("data")
    train, test = (np.frombuffer(unpacked(n), np.uint8, offset=16) for n in (TRAIN, TEST))
    (folder / (TRAIN + ".gz")).write_bytes(gzip.compress(idx(train.reshape(-1, 784)[:240])))
    (folder / TEST).write_bytes(idx(test.reshape(-1, 784)[:60]))
    return folder


CLOCK = f"""
import itertools, sys, time, types
sys.path.insert(0, {str(ROOT)!r})
import gan_mnist
seconds = itertools.count()  # one passes whenever the script looks, which takes a little while
now = lambda: time.sleep(0.003) or next(seconds)
gan_mnist.time = types.SimpleNamespace(perf_counter=now, strftime=time.strftime)
gan_mnist.main()
"""


def options(**changes):
    """The setting as a command line, with changes and further flags."""
    return [f"--{name}={value}" for name, value in {**SETTING, **changes}.items()]


def call(*argv, cwd):
    """The script's main in this process. Returns: exit status, standard output and error."""
    here, status, out, err = os.getcwd(), 0, io.StringIO(), io.StringIO()
    os.chdir(str(cwd))
    try:
        with redirect_stdout(out), redirect_stderr(err), tf.Graph().as_default():
            gan_mnist.main([str(arg) for arg in argv])
    except SystemExit as end:
        status = end.code
    finally:
        os.chdir(here)
    return status, out.getvalue(), err.getvalue()


def start(*argv, cwd, clock=False, stdout=subprocess.PIPE):
    """A process of the script; clock: checkpoints come after so many looks at the clock."""
    argv = [sys.executable, *(["-c", CLOCK] if clock else [ROOT / "gan_mnist.py"]), *argv]
    argv = [str(arg) for arg in argv]
    return subprocess.Popen(argv, cwd=str(cwd), stdout=stdout, stderr=subprocess.PIPE)


def run(*argv, cwd, **keywords):
    """Starts the script and waits. Returns: exit status, standard output and error."""
    process = start(*argv, cwd=cwd, **keywords)
    out, err = process.communicate()
    return process.returncode, out.decode(), err.decode()


def run_on_terminal(*argv, cwd):
    """As run, with standard output on a terminal."""
    master, slave = pty.openpty()
    process, out = start(*argv, cwd=cwd, stdout=slave), b""
    os.close(slave)
    with suppress(OSError):  # the other end is closed
        while True:
            out += os.read(master, 1000)
    os.close(master)
    return process.wait(), out.decode().replace("\r\n", "\n"), process.stderr.read().decode()


@pytest.fixture(scope="session")
def runs(data, tmp_path_factory):
    """Two finished runs with the same numbers, in folders of their own choice."""
    cwd, finished = tmp_path_factory.mktemp("work"), {}
    one = options(input_data_dir=data, max_steps=ONE.steps, summary_steps=ONE.every)
    short = [*one, "--max_steps=300", "--summary_steps=7"]
    for name, how, flags in (("one", run, one), ("terminal", run_on_terminal, short)):
        status, out, err = how(*flags, cwd=cwd)
        assert status == 0, err
        finished[name] = Run(cwd / out.split()[1], out, err)  # Run: outputs/...
    return finished


class Run:
    """A run's folder, what is in it, and what its process said."""

    def __init__(self, folder, out="", err=""):
        self.folder, self.out, self.err = folder, out, err

    def png(self, step):
        """Where the picture of a step is."""
        return self.folder / "samples" / f"step_{step:07d}.png"

    def variables(self):
        """All variables of the last checkpoint: {name: array}."""
        reader = tf.train.NewCheckpointReader(tf.train.latest_checkpoint(str(self.folder)))
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}

    def shown(self):
        """What TensorBoard's reader keeps of the run: {tag: [(step, value)]}."""
        reader = EventAccumulator(str(self.folder), {"scalars": 0, "images": 0}).Reload()
        tags, found = reader.Tags(), {}
        for t in tags["scalars"]:
            found[t] = [(e.step, e.value) for e in reader.Scalars(t)]
        for t in tags["images"]:
            found[t] = [(e.step, e.encoded_image_string) for e in reader.Images(t)]
        for t in tags["tensors"]:
            found[t] = [(e.step, e.tensor_proto.string_val[0].decode()) for e in reader.Tensors(t)]
        return found


def tree(folder):
    """All below a folder: {path: contents and time of change}."""
    paths = sorted(folder.rglob("*"))
    return {p: p.is_file() and (p.read_bytes(), p.stat().st_mtime_ns) for p in paths}


def pixels(path):
    """A picture as an array."""
    with Image.open(str(path)) as picture:
        return np.array(picture)


def differing(a, b):
    """The names of the arrays that differ in a bit."""
    assert set(a) == set(b)
    return {name for name in a if np.asarray(a[name]).tobytes() != np.asarray(b[name]).tobytes()}


def one_line(err, *parts):
    """Standard error is one line of the contract's form, and has the parts in it."""
    assert err.startswith("gan_mnist.py: error: ") and err.find("\n") == len(err) - 1, err
    assert all(str(part) in err for part in parts), err
