"""MNIST and other data sets: reading and refusing."""

import gzip
import hashlib

import numpy as np
import pytest
from conftest import ROOT, TEST, TRAIN, idx, refused, unpacked

import gan_mnist

GOOD = idx(np.arange(24 * 784).reshape(24, 784) % 251)
PACKED = gzip.compress(GOOD)


def test_data_sets_are_read_byte_for_byte_and_the_last_training_images_are_held_out(data):
    digests = [hashlib.sha256(unpacked(name)).hexdigest()[:8] for name in (TRAIN, TEST)]
    assert digests == ["ba891046", "0fa7898d"]  # as sha256sum says of the unpacked files
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
WRONG |= {"gzip called unpacked": ("", PACKED), "empty gzip": (".gz", b"")}
WRONG |= {"another magic number": ("", idx(np.zeros([24, 784]), magic=2052))}
WRONG |= {"images of 784x1": ("", idx(np.zeros([24, 784]), 2051, 784, 1))}


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
