"""What the tests share: small data sets, starting the script, reading and comparing its runs."""

import gzip
import io
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import time
import types
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores Ctrl-C
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import gan_mnist

gan_mnist.import_packages()
gan_mnist.import_packages = lambda: None  # already done in this process
tf = gan_mnist.tf

LIMIT = 120  # seconds that a process may take before it is killed
TRAIN, TEST = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"
CURVES = ["losses/D_loss", "losses/G_loss", "probabilities/D_real", "probabilities/D_fake"]
SCORE, SPEED, PICTURES = "score/parzen_log_likelihood", "speed/steps_per_second", "samples"
# every flag that the numbers of a run depend on
SETTING = {"batch_size": 16, "d_step": 2, "g_step": 1, "g_loss": "non_saturating", "seed": 3}
SETTING |= {"r1_gamma": 0.5, "d_learning_rate": 2e-3, "g_learning_rate": 3e-3}
SETTING |= {"beta1": 0.5, "beta2": 0.98, "ema_decay": 0.99}
STEPS = 2600  # of the run "whole", and where it has pictures:
PICTURE_STEPS = [0, 100, 200, 500, 1000, 2000, 2500, STEPS]


def unpacked(name):
    return gzip.decompress((ROOT / "MNIST_data" / f"{name}.gz").read_bytes())


def idx(images, magic=2051, rows=28, columns=28):
    """The bytes of an IDX file; the keywords make a wrong one."""
    header = np.array([magic, len(images), rows, columns], ">u4")
    return header.tobytes() + np.uint8(images).tobytes()


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder with the first 240 training images, gzipped, and 60 test images of MNIST."""
    folder = tmp_path_factory.mktemp("data")
    train, test = (np.frombuffer(unpacked(n), np.uint8, offset=16) for n in (TRAIN, TEST))
    (folder / f"{TRAIN}.gz").write_bytes(gzip.compress(idx(train.reshape(-1, 784)[:240])))
    (folder / TEST).write_bytes(idx(test.reshape(-1, 784)[:60]))
    return folder


def options(**changes):
    """The setting as a command line, with changes and further flags."""
    return [f"--{name}={value}" for name, value in {**SETTING, **changes}.items()]


def call(*argv, cwd):
    """The script's main in this process. Returns: exit status, standard output and error."""
    status, out, err = 0, io.StringIO(), io.StringIO()
    before = os.getcwd()
    os.chdir(cwd)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            gan_mnist.main([str(arg) for arg in argv])
    except SystemExit as end:
        status = end.code
    finally:
        os.chdir(before)
    return status, out.getvalue(), err.getvalue()


def start(*argv, cwd, program=(ROOT / "gan_mnist.py",), stdout=subprocess.PIPE, **environment):
    argv = [str(arg) for arg in (sys.executable, *program, *argv)]
    environment = os.environ | environment
    return subprocess.Popen(argv, cwd=cwd, stdout=stdout, stderr=subprocess.PIPE, env=environment)


def finish(process):
    """Waits for a process, but not forever. Returns: exit status, standard output and error."""
    try:
        out, err = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, (out or b"").decode(), err.decode()


def run(*argv, **keywords):
    return finish(start(*argv, **keywords))


def run_on_terminal(*argv, cwd):
    """Like run, with standard output (4 kB at most) on a terminal."""
    master, slave = pty.openpty()
    status, _, err = finish(start(*argv, cwd=cwd, stdout=slave))
    os.close(slave)
    out = os.read(master, 4096).decode().replace("\r\n", "\n")
    os.close(master)
    return status, out, err


CLOCK = f"""
import itertools, sys, types
sys.path.insert(0, {str(ROOT)!r})
import gan_mnist
looks = itertools.count()  # a tenth of a second passes whenever the script looks
time = types.SimpleNamespace(**vars(gan_mnist.time))
time.perf_counter = lambda: next(looks) / 10
gan_mnist.time = time
gan_mnist.main()
"""


def run_interrupted(*flags, cwd):
    """A run that ended early, was extended, killed, stopped by Ctrl-C and resumed to its end."""
    folder, fast = cwd / "run", {"cwd": cwd, "program": ["-c", CLOCK]}
    ends = [run("--output_dir=run", *flags, "--max_steps=500", **fast)]
    for number in (signal.SIGKILL, signal.SIGINT):
        before, deadline = newest(folder), time.monotonic() + LIMIT
        process = start("--output_dir=run", f"--max_steps={STEPS}", **fast)
        while newest(folder) == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.3))
        process.send_signal(number)
        ends.append(finish(process))
    ends.append(run("--output_dir=run", **fast))  # the extended --max_steps was saved
    return types.SimpleNamespace(folder=folder, ends=ends)


@pytest.fixture(scope="session")
def runs(data, tmp_path_factory):
    """Finished runs with the same numbers: whole, short (on a terminal) and interrupted."""
    work, other = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("other")
    flags = options(input_data_dir=data, max_steps=STEPS, summary_steps=50)

    def train(how, *more):
        status, out, err = how(*flags, *more, cwd=work)
        assert status == 0, err
        return types.SimpleNamespace(folder=work / out.split()[1], out=out, err=err)

    with ThreadPoolExecutor() as pool:
        jobs = {"interrupted": pool.submit(run_interrupted, *flags, cwd=other)}
        jobs["whole"] = pool.submit(train, run)
        jobs["short"] = pool.submit(train, run_on_terminal, "--max_steps=300", "--summary_steps=7")
        return {name: job.result() for name, job in jobs.items()}


@pytest.fixture
def copy(runs, tmp_path):
    return Path(shutil.copytree(runs["whole"].folder, tmp_path / "run"))


def newest(folder):
    """The step of the newest complete checkpoint, or -1."""
    return max((int(p.stem.split("-")[1]) for p in folder.glob("model.ckpt-*.index")), default=-1)


def variables(folder):
    """All variables of the newest checkpoint: {name: array}."""
    reader = tf.train.NewCheckpointReader(str(folder / f"model.ckpt-{newest(folder)}"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def shown(folder):
    """What TensorBoard's reader keeps of the run: {tag: {step: value}}."""
    reader = EventAccumulator(str(folder), {"scalars": 0, "images": 0}).Reload()
    tags = reader.Tags()
    found = {t: [(e.step, e.value) for e in reader.Scalars(t)] for t in tags["scalars"]}
    for tag in tags["images"]:
        found[tag] = [(e.step, e.encoded_image_string) for e in reader.Images(tag)]
    assert all(len(dict(points)) == len(points) for points in found.values())  # no step twice
    return {tag: dict(points) for tag, points in found.items()}


def png(folder, step):
    return (folder / "samples" / f"step_{step:07d}.png").read_bytes()


def pixels(png):
    return np.array(Image.open(io.BytesIO(png)))


def tree(folder):
    """All below a folder: {path: contents and modification time}."""
    paths = sorted(folder.rglob("*"))
    return {p: p.is_file() and (p.read_bytes(), p.stat().st_mtime_ns) for p in paths}


def differing(a, b):
    """The names of the arrays that differ in a bit."""
    assert set(a) == set(b)
    return {name for name in a if np.asarray(a[name]).tobytes() != np.asarray(b[name]).tobytes()}


def one_line(err, *parts):
    """Standard error is one error line that contains the parts."""
    assert err.startswith("gan_mnist.py: error: ") and err.find("\n") == len(err) - 1, err
    assert all(str(part) in err for part in parts) and len(err) < 500, err


def refused(folder, *flags, parts, status=(2,)):
    """The script refuses the flags with one line that contains the parts, and writes nothing."""
    before = tree(folder)
    ended, _, err = call(*flags, cwd=folder)
    assert ended in status and tree(folder) == before
    one_line(err, *parts)
