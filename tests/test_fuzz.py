"""No input makes anything else than a right result or one line that says what is wrong."""

import contextlib
import gzip
import io
import math
import os
import tempfile
import zlib

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

import gan_mnist

many = settings(max_examples=800, deadline=None, database=None, derandomize=True)

# ------------------------------------------------------------------------------------------- IDX

odd = [0, 1, 27, 28, 29, 784, 2049, 2050, 2051, 1_000_000, 1_000_001, 2**31, 2**32 - 1]
headers = st.lists(st.sampled_from(odd) | st.integers(0, 2**32 - 1), min_size=4, max_size=4)


@st.composite
def idx_files(draw):
    """Bytes of an IDX file: good, with a wrong header, with wrong bytes, cut off or too long."""
    n = draw(st.integers(1, 3))
    header = draw(st.just([2051, n, 28, 28]) | headers)
    pixels = bytes(range(256)) * 10
    return np.array(header, ">u4").tobytes() + pixels[: n * 784 + draw(st.integers(-1, 1))]


@st.composite
def damaged(draw, files):
    """The same, with up to three bytes changed, cut off at any place, or with bytes behind."""
    contents = bytearray(draw(files))
    for _ in range(draw(st.integers(0, 3))):
        contents[draw(st.integers(0, len(contents) - 1))] = draw(st.integers(0, 255))
    stop = draw(st.just(len(contents)) | st.integers(0, len(contents)))
    return bytes(contents[:stop]) + draw(st.just(b"") | st.binary(max_size=20))


raw = idx_files() | damaged(idx_files()) | st.binary(max_size=100)
packed = raw.map(gzip.compress) | damaged(raw.map(gzip.compress)) | st.binary(max_size=100)


def images_in(contents):
    """What an IDX file holds by the letter of the format: [n, 784], None if it is not right."""
    magic, n, rows, columns = (int.from_bytes(contents[i : i + 4], "big") for i in (0, 4, 8, 12))
    if (magic, rows, columns) == (2051, 28, 28) and 0 < n == (len(contents) - 16) / 784:
        return [list(contents[i : i + 784]) for i in range(16, len(contents), 784)]


def unpacked(contents):
    try:
        return gzip.decompress(contents)
    except (OSError, EOFError, zlib.error):
        return b""


def read(contents, end):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "images" + end)
        with open(path, "wb") as file:
            file.write(contents)
        try:
            images = gan_mnist.read_idx(path)
        except gan_mnist.BadInput as error:
            assert path in str(error) and "\n" not in str(error)
            return None
    assert images.dtype == np.uint8 and images.shape[1:] == (784,)
    return images.tolist()


@many
@given(raw)
def test_idx_files(contents):
    assert read(contents, "") == images_in(contents)


@many
@given(packed)
def test_packed_idx_files(contents):
    assert read(contents, ".gz") == images_in(unpacked(contents))


# ---------------------------------------------------------------------------------- command line

FLAGS = ["max_steps", "batch_size", "d_step", "g_step", "d_learning_rate", "g_learning_rate"]
FLAGS += ["lr_half_life", "beta1", "beta2", "dropout", "ema_decay", "seed", "summary_steps"]
FLAGS += ["sample", "g_loss", "input_data_dir", "output_dir", "help", "no_such_flag"]

characters = st.characters() | st.integers(0xD800, 0xDFFF).map(chr) | st.sampled_from("\0\n\r= -")
numbers = st.integers().map(str) | st.floats().map(repr) | st.integers(-2, 100).map(str)
words = ["", "-", "--", "-1", "nan", "1e400", "minimax", ".", "/", "/proc/x", "\0", "a\nb", "٣"]
values = st.sampled_from(words) | numbers | st.text(characters, max_size=8)
names = st.sampled_from(FLAGS).map("--{}".format) | st.text(characters, max_size=12)
joined = st.tuples(names, values).map("=".join)
arguments = st.lists(joined | names | values | st.sampled_from(FLAGS), max_size=6)
pairs = st.lists(
    st.tuples(st.sampled_from(FLAGS[:13]), numbers), max_size=3, unique_by=lambda p: p[0]
)
likely = pairs.map(lambda chosen: [f"--{name}={value}" for name, value in chosen])


def started_with(argv):
    """Runs main on flags that end before anything is started. Returns: status, both streams."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = gan_mnist.main(argv + ["--input_data_dir", "/no/such/folder"])
        except SystemExit as end:
            assert end.code == 0 and "--help" in out.getvalue()
            return 0, out.getvalue(), err.getvalue()
    return status, out.getvalue(), err.getvalue()


@many
@given(arguments | likely)
@example(["--batch_size=--"])
@example(["--output_dir=--"])
def test_command_line(argv):
    status, out, err = started_with(argv)
    if status:
        assert status == 2 and out == ""
        assert err.startswith("gan_mnist.py: error: ") and len(err.splitlines()) == 1, err
    else:
        assert out.startswith("usage: gan_mnist.py") and err == ""


@many
@given(arguments | likely)
@example(["--batch_size=--"])
@example(["--output_dir=--"])
def test_flags_that_are_taken_are_right(argv):
    try:
        flags = vars(gan_mnist.parse_flags(argv))
    except (gan_mnist.BadInput, SystemExit):
        return
    assert all(type(flags[name]) in (int, float) for name in FLAGS[:13])
    assert all(math.isfinite(flags[name]) and flags[name] >= 0 for name in FLAGS[:13])
    assert min(flags["max_steps"], flags["batch_size"], flags["summary_steps"]) > 0
    assert flags["d_step"] + flags["g_step"] > 0 and max(flags["beta1"], flags["dropout"]) < 1
    assert all(type(flags[name]) is str for name in ("g_loss", "input_data_dir", "output_dir"))


@many
@given(likely)
def test_a_flag_is_taken_as_given(argv):
    try:
        flags = vars(gan_mnist.parse_flags(argv))
    except gan_mnist.BadInput as error:
        assert "--" in str(error)
        return
    given = {arg[2:].split("=")[0]: float(arg.split("=")[1]) for arg in argv}
    assert {name: flags[name] for name in given} == given
