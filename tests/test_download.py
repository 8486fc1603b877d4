"""The download, against a real HTTP server: a file is there whole and right, or not at all."""

import gzip
import hashlib
import http.server
import os
import shutil
import threading

import pytest
from helpers import ROOT, TEST, TRAIN, assert_one_line, end, start, tree

MNIST = ROOT / "MNIST_data"
GOOD = (MNIST / (TEST + ".gz")).read_bytes()
SHA256 = "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"  # unpacked


class Mirror(http.server.BaseHTTPRequestHandler):
    """Serves t10k-images-idx3-ubyte.gz under /good/, and what goes wrong under other names."""

    def do_GET(self):
        folder, name = self.path.strip("/").split("/")
        if folder == "missing" or name != TEST + ".gz":
            return self.send_error(404)
        body = {
            "wrong": gzip.compress(gzip.decompress(GOOD)[:-1] + b"\1"),
            "page": b"<html>Sign in to this network</html>",
            "damaged": GOOD[:1000] + b"\0" * 9 + GOOD[1009:],
        }.get(folder, GOOD)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if folder in ("cut", "stalled") else body)
        self.wfile.flush()
        if folder == "stalled":
            self.server.stop.wait()

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def site():
    class Server(http.server.ThreadingHTTPServer):
        stop = threading.Event()

    with Server(("127.0.0.1", 0), Mirror) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.stop.set()
        server.shutdown()


@pytest.fixture(scope="module")
def fetch(site, tmp_path_factory):
    """Starts a process on a folder where half of MNIST is missing. Returns: folder, process.

    A batch of 60,000 is more than there are training images: it ends once the data are read.
    """

    def fetch(*mirrors):
        folder = tmp_path_factory.mktemp("data")
        shutil.copy(str(MNIST / (TRAIN + ".gz")), str(folder))
        urls = tuple(m if "//" in m else f"{site}{m}/" for m in mirrors)
        flags = ["--input_data_dir", folder, "--batch_size", 60_000]
        return folder, start(*flags, cwd=folder, MIRRORS=urls)

    return fetch


@pytest.fixture(scope="module")
def stalled(fetch):
    """Started first, for it takes the half minute after which a silent mirror is given up."""
    return fetch("stalled", "good")


def assert_fetched(folder, process):
    status, _, err = end(process)
    assert status == 2
    assert_one_line(err, "--batch_size 60000")
    assert sorted(os.listdir(str(folder))) == [TEST + ".gz", TRAIN + ".gz"]
    unpacked = gzip.decompress((folder / (TEST + ".gz")).read_bytes())
    assert hashlib.sha256(unpacked).hexdigest() == SHA256


def test_good_file(stalled, fetch):
    assert_fetched(*fetch("good"))


def test_the_next_mirror_serves(fetch):
    assert_fetched(*fetch("cut", "wrong", "good"))


def test_no_mirror_serves(fetch, site):
    faults = ["missing", "wrong", "page", "damaged", "cut", "http://127.0.0.1:1/"]
    folder, process = fetch(*faults)
    before = tree(folder)
    status, _, err = end(process)
    assert status == 2 and tree(folder) == before
    assert_one_line(err, f"--input_data_dir {folder}", TRAIN + ".gz", TEST + ".gz")
    assert_one_line(err, *(f"{site}{name}/{TEST}.gz" for name in faults[:5]))
    assert "checksum" in err and "127.0.0.1:1/" in err and ".download-" not in err


def test_one_fault_alone_leaves_nothing(fetch):
    started = [fetch(fault) for fault in ("wrong", "cut")]
    before = [tree(folder) for folder, _ in started]  # while both still import TensorFlow
    for (folder, process), files in zip(started, before):
        status, _, err = end(process)
        assert status == 2 and tree(folder) == files
        assert_one_line(err, f"--input_data_dir {folder}")


def test_a_stalled_mirror_is_given_up(stalled):
    assert_fetched(*stalled)
