"""The runs in TensorBoard's own server, over HTTP as a browser asks it."""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from contextlib import suppress

import pytest
from conftest import CURVES, LIMIT, PICTURES, SCORE, SPEED, STEPS, options, shown, tf
from google.protobuf import text_format

import gan_mnist

SCALARS = "plugin/scalars/scalars"


@pytest.fixture(scope="module")
def ask(runs):
    """A function that queries a server on the runs and returns the text of its answer."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    argv = [sys.executable, "-m", "tensorboard.main", "--host=127.0.0.1", f"--port={port}"]
    argv.append(f"--logdir={runs['whole'].folder.parent}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(what, **query):
        url = f"http://127.0.0.1:{port}/data/{what}?{urllib.parse.urlencode(query)}"
        with opener.open(url, timeout=60) as answer:
            return answer.read().decode()

    def ends():
        """The steps up to which the server has read the runs."""
        with suppress(OSError):
            names = [runs[name].folder.name for name in ("whole", "short")]
            curves = [ask(SCALARS, run=name, tag=SCORE) for name in names]
            return [json.loads(curve)[-1][1] for curve in curves]

    server = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + LIMIT
    while ends() != [STEPS, 300] and server.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    yield ask
    server.kill()
    server.wait(timeout=LIMIT)


def test_runs_stand_side_by_side_with_their_curves_pictures_and_flags(ask, runs):
    names = {runs[name].folder.name for name in ("whole", "short")}
    folder, expected = runs["whole"].folder, shown(runs["whole"].folder)
    scalars = {*CURVES, SCORE, SPEED}
    assert set(json.loads(ask("runs"))) == names
    tags = json.loads(ask("plugin/scalars/tags"))
    assert {name: set(tags[name]) for name in tags} == {name: scalars for name in names}
    for tag in scalars:
        points = json.loads(ask(SCALARS, run=folder.name, tag=tag))
        assert {step: value for _, step, value in points} == expected[tag]
    images = json.loads(ask("plugin/images/tags"))
    assert {name: list(images[name]) for name in images} == {n: [PICTURES] for n in names}
    (tag,) = json.loads(ask("plugin/text/tags"))[folder.name]
    (text,) = json.loads(ask("plugin/text/text", run=folder.name, tag=tag))
    assert "batch_size" in text["text"] and "16" in text["text"]


def test_the_graph_reads_as_a_drawing_of_the_algorithm_and_is_the_one_that_runs(ask, runs, data):
    served = ask("plugin/graphs/graph", run=runs["whole"].folder.name, conceptual="false")
    graph = text_format.Parse(served, tf.GraphDef())
    box = lambda name: name.lstrip("^").split(":")[0].split("/")[0]  # before it is opened
    edges = {(box(name), box(node.name)) for node in graph.node for name in node.input}
    into = {b: {a for a, other in edges if other == b != a} for _, b in edges}
    (draws,) = into["Z"]  # what draws x and z is one box
    expected = {"input": {draws}, "G_nn1": {"Z"}, "G_nn2": {"G_nn1"}, "D_nn1": {"input"}}
    expected |= {"D_nn2": {"D_nn1"}, "D_nn1_1": {"G_nn2", "D_nn1"}}  # which shares its variables
    expected |= {"D_nn2_1": {"D_nn1_1", "D_nn2"}, "G_loss": {"D_nn2_1"}}
    assert {b: into[b] - {"D_Adam", "G_Adam"} for b in expected} == expected
    assert into["D_loss"] >= {"D_nn2", "D_nn2_1"}
    assert "D_loss" in into["D_Adam"] and "G_loss" in into["G_Adam"]
    parts = {*expected, "Z", "samples", "D_loss", "D_Adam", "G_Adam", "global_step", draws}
    assert {box(node.name) for node in graph.node} - {"R1"} == parts
    others = re.compile("(?i)while|^if$|cluster|XLA|PartitionedCall|save|restore|summary")
    assert [node.name for node in graph.node if others.search(node.op)] == []
    assert len(graph.library.function) == 0 and len(graph.node) > 100
    images = gan_mnist.load_data(data)[0]
    gan = gan_mnist.GAN(gan_mnist.parse_flags(options()), images)
    running = {node.name: node for node in gan.session.graph.as_graph_def().node}
    for node in graph.node:
        assert node.op == running[node.name].op and node.input == running[node.name].input
    assert {gan.D_update.name, gan.G_update.name} <= {node.name for node in graph.node}
