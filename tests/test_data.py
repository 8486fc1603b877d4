"""The training images: where they are found, what is refused, when MNIST is downloaded."""

import gzip
import hashlib
from pathlib import Path

import helpers
import numpy as np
import pytest

import gan_mnist

TRAIN = helpers.TRAIN
DEFAULT = Path(gan_mnist.DATA_DIR)
IMAGES = np.arange(257 * 784).reshape(257, 784) % 251 / 255
GOOD = helpers.idx(IMAGES)
PACKED = gzip.compress(GOOD)
NAMES = [TRAIN, f"{TRAIN}.gz", "train-images.idx3-ubyte", f"emnist-letters-{TRAIN}.gz"]
NAMES += [f"raw/{TRAIN}.gz", f"{TRAIN}/{TRAIN}"]  # folders below, even of the same name


@pytest.mark.parametrize("content", [GOOD, PACKED], ids=["unpacked", "packed"])
@pytest.mark.parametrize("name", NAMES)
def test_images_are_found_by_name_and_unpacked_by_content(name, content, tmp_path, capsys):
    (tmp_path / f".{TRAIN}").write_bytes(b"hidden")
    (tmp_path / "further" / "down").mkdir(parents=True)
    (tmp_path / "further" / "down" / TRAIN).write_bytes(b"not the topmost")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content)
    images = gan_mnist.load_images(tmp_path)
    assert helpers.idx(images) == GOOD and images.dtype == np.float32
    assert f"{name}, 257 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(GOOD[:-1], id="a byte missing"),
        pytest.param(GOOD + b"0", id="a byte too many"),
        pytest.param(helpers.idx(IMAGES[:256]), id="no more than are held out"),
        pytest.param(helpers.idx(IMAGES, magic=2049), id="labels"),
        pytest.param(GOOD[:4] + b"\xff" + GOOD[5:], id="negative number"),
        pytest.param(helpers.idx(np.zeros([257, 32 * 32]), side=32), id="32x32"),
        pytest.param(b"<html>Not found</html>", id="text"),
        pytest.param(PACKED[:-9], id="gzip without its end"),
        pytest.param(PACKED[:10] + b"\xff" * 99, id="other bytes in the gzip"),
    ],
)
def test_a_bad_file_is_an_error_in_one_line_that_names_it(content, folder):
    (folder / "data").mkdir()
    (folder / "data" / f"{TRAIN}.gz").write_bytes(content)
    (line,) = helpers.refused(gan_mnist, "--input_data_dir=data", "--max_steps=1")
    assert f"data/{TRAIN}.gz " in line


@pytest.fixture
def site(folder, monkeypatch):
    """The file that is downloaded instead of MNIST. There is none yet, and MNIST_data is empty."""
    assert gan_mnist.MNIST_URL.endswith(f"/mnist/{TRAIN}.gz")
    assert gan_mnist.MNIST_SHA256.startswith("440fcabf73cc546f")
    site = folder / "site.gz"
    monkeypatch.setattr(gan_mnist, "MNIST_URL", site.as_uri())
    monkeypatch.setattr(gan_mnist, "MNIST_SHA256", hashlib.sha256(PACKED).hexdigest())
    (folder / "MNIST_data").unlink()
    (folder / "MNIST_data").mkdir()
    return site


def test_MNIST_is_downloaded_into_the_default_folder_only(site):
    site.write_bytes(PACKED)
    for name in (".", "none"):
        (line,) = helpers.refused(gan_mnist, f"--input_data_dir={name}", "--max_steps=1")
        assert line.endswith(name)
    assert helpers.idx(gan_mnist.load_images(DEFAULT)) == GOOD
    site.unlink()
    assert helpers.idx(gan_mnist.load_images(DEFAULT)) == GOOD
    assert [path.name for path in DEFAULT.iterdir()] == [f"{TRAIN}.gz"]


def test_a_failed_download_tells_what_to_do_and_does_not_block_the_next_start(site, capsys):
    with pytest.raises(Exception, match="fetch failure"):  # as without a network
        gan_mnist.load_images(DEFAULT)
    assert f"{site.as_uri()}. You can also put it into MNIST_data" in capsys.readouterr().out
    (DEFAULT / "mnist.part").write_bytes(PACKED[:99])  # as after a power failure
    site.write_bytes(GOOD)
    for _ in range(2):  # a file with another hash is not used, not even at the next start
        with pytest.raises(ValueError, match="hash"):
            gan_mnist.load_images(DEFAULT)
    site.write_bytes(PACKED)
    assert helpers.idx(gan_mnist.load_images(DEFAULT)) == GOOD
