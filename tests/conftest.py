"""Fixtures that more than one file uses; a test pays only for those that it names."""

import shutil
import sys

import helpers
import pytest

sys.path.insert(0, str(helpers.SCRIPT.parent))
import gan_mnist


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder with MNIST's first 300 images. A run trains on 44 of them and holds out 256."""
    folder = tmp_path_factory.mktemp("data")
    images = gan_mnist.load_images(helpers.ROOT / "MNIST_data")[:300]
    (folder / helpers.TRAIN).write_bytes(helpers.idx(images))
    return folder


@pytest.fixture
def folder(data, tmp_path, monkeypatch):
    """The folder in which the test runs; it has nothing but MNIST_data, with those images."""
    (tmp_path / "MNIST_data").symlink_to(data)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def whole(data, tmp_path_factory):
    """A run of 1,450 steps: what it printed, whole.folder, and whole.gan with its last weights."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    flags = [f"--input_data_dir={data}", "--batch_size=16", "--max_steps=1450"]
    whole = helpers.call(gan_mnist, f"--output_dir={folder}", *flags)
    assert whole.status == 0, whole.err
    whole.folder = folder
    whole.gan = gan_mnist.GAN(gan_mnist.parse_flags([f"--output_dir={folder}"]))
    gan_mnist.GAN(gan_mnist.parse_flags(["--hidden_units=8"]))  # whole.gan keeps its own graph
    assert gan_mnist.restore(whole.gan, folder) == 1450
    return whole


@pytest.fixture
def copy(whole, folder):
    """A copy of that run in the test's folder, where its name is run."""
    return shutil.copytree(whole.folder, folder / "run")
