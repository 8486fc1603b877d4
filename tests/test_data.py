"""MNIST and other data sets: reading, refusing, downloading, and what chance draws from them."""

import functools
import gzip
import hashlib
import http.server
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TEST, TRAIN, call, idx, one_line, options, tree, unpacked

import gan_mnist
from gan_mnist import CHUNK

GOOD = idx(np.arange(24 * 784).reshape(24, 784) % 251)


def test_MNIST_is_read_byte_for_byte_and_its_last_5000_training_images_are_held_out():
    facts = {  # what sha256sum says of the unpacked files
        TRAIN: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        TEST: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    }
    assert {name: hashlib.sha256(unpacked(name)).hexdigest() for name in facts} == facts
    train, validation, test = gan_mnist.load_data(ROOT / "MNIST_data")
    assert (train.shape, validation.shape, test.shape) == ((55000, 784), (5000, 784), (10000, 784))
    assert train.dtype == validation.dtype == test.dtype == np.uint8
    assert train.tobytes() + validation.tobytes() == unpacked(TRAIN)[16:]
    assert test.tobytes() == unpacked(TEST)[16:]


def test_a_small_data_set_gzipped_or_not_holds_out_its_last_twelfth(data):
    train, validation, test = gan_mnist.load_data(data)
    assert (len(train), len(validation), len(test)) == (220, 20, 60)
    images = unpacked(TRAIN)[16 : 16 + 240 * 784] + unpacked(TEST)[16 : 16 + 60 * 784]
    assert train.tobytes() + validation.tobytes() + test.tobytes() == images


PACKED = gzip.compress(GOOD)
WRONG = [(".gz", PACKED[:-9]), (".gz", gzip.compress(GOOD[:-784])), (".gz", GOOD), (".gz", b"")]
WRONG += [(".gz", PACKED[:200] + b"garbage" + PACKED[207:]), ("", GOOD[:-1]), ("", GOOD[:-784])]
WRONG += [("", GOOD + bytes(784)), ("", GOOD[:15]), ("", b""), ("", PACKED)]
WRONG += [("", idx(np.zeros([24, 784]), magic=2052)), ("", idx(np.zeros([1, 784]), 2051, 784, 1))]
WRONG += [("", np.array([2049, 24], ">u4").tobytes() + bytes(24))]  # labels


@pytest.mark.parametrize("name", [TRAIN, TEST])
@pytest.mark.parametrize("end, contents", WRONG)
def test_a_damaged_or_wrong_file_is_refused_by_name(tmp_path, name, end, contents):
    for file in (TRAIN, TEST):
        (tmp_path / file).write_bytes(GOOD)
    (tmp_path / name).unlink()
    (tmp_path / (name + end)).write_bytes(contents)
    before = tree(tmp_path)
    status, out, err = call("--input_data_dir", tmp_path, "--max_steps=1", cwd=tmp_path)
    assert (status, out) == (2, "") and tree(tmp_path) == before
    one_line(err, tmp_path / (name + end))


@pytest.fixture
def site(tmp_path_factory, monkeypatch):
    """A folder with both files, served over HTTP in place of MNIST's."""
    folder = tmp_path_factory.mktemp("site")
    for name in (TRAIN, TEST):
        (folder / (name + ".gz")).write_bytes(PACKED)
    handler = http.server.SimpleHTTPRequestHandler
    monkeypatch.setattr(handler, "log_message", lambda *args: None)
    handler = functools.partial(handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        digest = hashlib.sha256(PACKED).hexdigest()
        monkeypatch.setattr(gan_mnist, "MNIST", {TRAIN: digest, TEST: digest})
        monkeypatch.setattr(gan_mnist, "MNIST_URL", f"http://127.0.0.1:{server.server_port}/")
        yield folder
        server.shutdown()


@pytest.mark.parametrize("relative", [False, True])
def test_both_files_are_downloaded_into_an_empty_folder(site, tmp_path, monkeypatch, relative):
    monkeypatch.chdir(tmp_path)
    train, validation, test = gan_mnist.load_data(Path("." if relative else str(tmp_path)))
    assert (len(train), len(validation), len(test)) == (22, 2, 24)
    assert sorted(path.name for path in tmp_path.iterdir()) == [TEST + ".gz", TRAIN + ".gz"]


@pytest.mark.parametrize("fault", ["missing", "wrong", "no server", "no folder"])
def test_a_download_that_fails_leaves_nothing(site, tmp_path, monkeypatch, fault):
    folder, second = tmp_path, site / (TEST + ".gz")
    if fault == "missing":
        second.unlink()
    elif fault == "wrong":
        second.write_bytes(gzip.compress(GOOD[:-1] + b"\1"))  # another checksum
    elif fault == "no server":
        monkeypatch.setattr(gan_mnist, "MNIST_URL", "http://127.0.0.1:1/")
    else:
        folder = tmp_path / "none"
    status, _, err = call("--input_data_dir", folder, "--max_steps=1", cwd=tmp_path)
    assert status == 2 and not list(tmp_path.iterdir())
    one_line(err, f"--input_data_dir {folder}")


@pytest.mark.parametrize("there, missing", [(TRAIN, TEST), (TEST, TRAIN)])
def test_half_of_another_data_set_is_refused_not_filled_up(site, tmp_path, there, missing):
    (tmp_path / there).write_bytes(GOOD)
    status, out, err = call("--input_data_dir", tmp_path, "--max_steps=1", cwd=tmp_path)
    assert (status, out, list(tmp_path.iterdir())) == (2, "", [tmp_path / there])
    one_line(err, missing)


def draw(chunk=0, **changes):
    """A chunk's draws from 220 images: their numbers, noise, hidden units that dropout keeps."""
    images = np.repeat(np.arange(220, dtype=np.uint8)[:, None], 784, 1)
    x, z, keep = gan_mnist.draw_chunk(gan_mnist.parse_flags(options(**changes)), images, chunk)
    assert x.dtype == np.uint8 and x.shape[-1] == 784
    return x[..., 0], z, keep


def test_minibatches_are_random_images_and_others_in_every_update():
    x = np.concatenate([draw(chunk, d_step=3, batch_size=64)[0] for chunk in range(2)])
    assert x.shape == (2 * CHUNK, 3, 64)
    assert len(np.unique(x.reshape(-1, 64), axis=0)) == 6 * CHUNK
    counts, mean = np.bincount(x.ravel(), minlength=220), x.size / 220.0
    assert len(counts) == 220 and abs(counts - mean).max() < 6 * np.sqrt(mean)


def test_z_is_uniform_and_fresh_in_every_update():
    z = np.concatenate([draw(chunk, d_step=2, g_step=3)[1] for chunk in range(2)])
    assert z.shape == (2 * CHUNK, 5, 16, 100) and z.dtype == np.float32
    assert len(np.unique(z.reshape(-1, 100), axis=0)) == z.size / 100
    assert 0 <= z.min() < 1e-5 and 1 - 1e-5 < z.max() < 1  # the game takes 2 z - 1: test_game.py
    np.testing.assert_allclose(np.histogram(z, 20, (0, 1))[0], z.size / 20, rtol=0.02)
    z = 2 * z.ravel() - 1
    for lag in (1, 100, 1600):
        assert abs((z[lag:] * z[:-lag]).mean()) < 0.002


@pytest.mark.parametrize("dropout", [0.0, 0.3, 0.5, 0.9])
def test_dropout_keeps_its_share_of_the_units_each_time_others(dropout):
    keep = draw(d_step=2, g_step=3, dropout=dropout)[2]
    assert keep.shape == (CHUNK, 7, 16, 128) and keep.dtype == bool
    assert keep.mean() == pytest.approx(1 - dropout, abs=0.006)
    assert not dropout or len(np.unique(keep.reshape(-1, 128), axis=0)) > keep.size / 130


def test_a_chunk_depends_on_the_seed_and_its_number_alone():
    first = draw(7, seed=4, dropout=0.5)
    draw(8, seed=4)
    np.random.seed(1)
    again = draw(7, seed=4, dropout=0.5, max_steps=9, summary_steps=1, g_learning_rate=1)
    assert all((a == b).all() for a, b in zip(first, again))
    for number, seed in ((8, 4), (7, 5)):
        for a, b in zip(first, draw(number, seed=seed, dropout=0.5)):
            assert (a == b).mean() < 0.51
