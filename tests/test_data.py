"""MNIST and other data sets: reading, refusing, downloading."""

import gzip
import hashlib
import re
import shutil

import numpy as np
import pytest
from conftest import ROOT, TEST, TRAIN, finish, idx, refused, start, unpacked

import gan_mnist

GOOD = idx(np.arange(24 * 784).reshape(24, 784) % 251)
PACKED = gzip.compress(GOOD)
OTHERS = {"half of a data set": TEST, "a data set with other names": "train-images.idx3-ubyte"}


def test_data_sets_are_read_byte_for_byte_and_the_last_training_images_are_held_out(data):
    digests = [hashlib.sha256(unpacked(name)).hexdigest()[:8] for name in (TRAIN, TEST)]
    assert digests == ["ba891046", "0fa7898d"]  # of the unpacked files, as published
    digest = hashlib.sha256(unpacked(TRAIN) + unpacked(TEST)).hexdigest()
    assert digest == gan_mnist.MNIST_SHA256
    train, validation, test = gan_mnist.load_data(ROOT / "MNIST_data")
    assert (train.shape, validation.shape, test.shape) == ((55000, 784), (5000, 784), (10000, 784))
    assert train.dtype == validation.dtype == test.dtype == np.uint8
    assert train.tobytes() + validation.tobytes() == unpacked(TRAIN)[16:]
    assert test.tobytes() == unpacked(TEST)[16:]
    # a small data set, one file gzipped and one not, holds out its last twelfth
    train, validation, test = gan_mnist.load_data(data)
    assert (len(train), len(validation), len(test)) == (220, 20, 60)
    images = unpacked(TRAIN)[16 : 16 + 240 * 784] + unpacked(TEST)[16 : 16 + 60 * 784]
    assert train.tobytes() + validation.tobytes() + test.tobytes() == images


WRONG = {"gzip without its end": (".gz", PACKED[:-9]), "not a gzip": (".gz", GOOD)}
WRONG |= {"gzip that lacks an image": (".gz", gzip.compress(GOOD[:-784])), "empty": ("", b"")}
WRONG |= {"garbage in the gzip": (".gz", PACKED[:200] + b"garbage" + PACKED[207:])}
WRONG |= {"byte missing": ("", GOOD[:-1]), "image missing": ("", GOOD[:-784])}
WRONG |= {"image too many": ("", GOOD + bytes(784)), "half a header": ("", GOOD[:15])}
WRONG |= {"magic 2052": ("", idx(np.zeros([24, 784]), magic=2052)), "unnamed gzip": ("", PACKED)}
WRONG |= {"784x1 images": ("", idx(np.zeros([24, 784]), 2051, 784, 1)), "empty .gz": (".gz", b"")}


@pytest.mark.parametrize("name", [TRAIN, TEST])
@pytest.mark.parametrize("end, contents", WRONG.values(), ids=WRONG)
def test_a_damaged_or_wrong_file_is_refused_by_name(tmp_path, name, end, contents):
    other = TEST if name == TRAIN else TRAIN
    (tmp_path / other).write_bytes(GOOD)
    path = tmp_path / (name + end)
    path.write_bytes(contents)
    refused(tmp_path, "--max_steps=1", "--input_data_dir", tmp_path, parts=[path])


@pytest.mark.parametrize("train, test", [(0, 24), (1, 24), (11, 24), (12, 0), (12, 1)])
def test_fewer_than_12_training_images_or_no_test_image_are_refused(tmp_path, train, test):
    for name, count in ((TRAIN, train), (TEST, test)):
        (tmp_path / name).write_bytes(idx(np.zeros([count, 784])))
    if (train, test) == (12, 1):
        assert [len(images) for images in gan_mnist.load_data(tmp_path)] == [11, 1, 1]
    else:
        refused(tmp_path, "--max_steps=1", "--input_data_dir", tmp_path, parts=[tmp_path])


@pytest.fixture
def site(tmp_path_factory, monkeypatch):
    """A folder with both files, which a web server serves in place of MNIST's."""
    folder = tmp_path_factory.mktemp("site")
    for name in (TRAIN, TEST):
        (folder / f"{name}.gz").write_bytes(PACKED)
    server = start("-u", "-m", "http.server", "0", "--bind=127.0.0.1", program=(), cwd=folder)
    port = re.search(r"port (\d+)", server.stdout.readline().decode())[1]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(gan_mnist, "MNIST_URL", f"http://127.0.0.1:{port}/")
    monkeypatch.setattr(gan_mnist, "MNIST_SHA256", hashlib.sha256(2 * GOOD).hexdigest())
    yield folder
    server.kill()
    finish(server)


@pytest.mark.parametrize("default", [False, True], ids=["empty folder", "no default folder"])
def test_MNIST_is_downloaded_once_where_there_is_no_data(site, tmp_path, monkeypatch, default):
    folder = tmp_path / "data" if default else tmp_path
    monkeypatch.setattr(gan_mnist, "MNIST_DIR", tmp_path / "data")
    for _ in range(2):
        train, validation, test = gan_mnist.load_data(folder)
        assert train.tobytes() + validation.tobytes() == test.tobytes() == GOOD[16:]
        assert {path.name for path in folder.iterdir()} == {f"{TRAIN}.gz", f"{TEST}.gz"}
        shutil.rmtree(site, ignore_errors=True)


@pytest.mark.parametrize("fault", ["second file missing", "wrong", *OTHERS, "no folder"])
def test_a_download_that_fails_or_is_not_wanted_writes_nothing(site, tmp_path, fault):
    if fault == "second file missing":
        (site / f"{TEST}.gz").unlink()
    if fault == "wrong":
        (site / f"{TEST}.gz").write_bytes(gzip.compress(GOOD[:-1] + b"\1"))
    if fault in OTHERS:
        (tmp_path / OTHERS[fault]).write_bytes(GOOD)
    folder = tmp_path / "none" if fault == "no folder" else tmp_path
    refused(tmp_path, "--max_steps=1", "--input_data_dir", folder, parts=[folder / TRAIN])
