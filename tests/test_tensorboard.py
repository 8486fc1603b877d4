"""What TensorBoard's own server makes of the runs, asked over HTTP as the browser asks it."""

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
from conftest import ONE, TAGS, tf
from google.protobuf import text_format

SCALARS = "plugin/scalars/scalars"


@pytest.fixture(scope="module")
def ask(runs):
    """A function that asks a server on the runs for something and returns the answer's bytes."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    argv = [sys.executable, "-m", "tensorboard.main", "--host=127.0.0.1", f"--port={port}"]
    argv.append(f"--logdir={runs['one'].folder.parent}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(what, **query):
        url = f"http://127.0.0.1:{port}/data/{what}?{urllib.parse.urlencode(query)}"
        with opener.open(url, timeout=60) as answer:
            return answer.read().decode()

    def ends():
        """Up to which steps the server has read the runs."""
        with suppress(OSError):
            what = {"tag": TAGS.speed}
            curves = [ask(SCALARS, run=run.folder.name, **what) for run in runs.values()]
            return [json.loads(curve)[-1][1] for curve in curves]

    with subprocess.Popen(argv) as server:
        for _ in range(600):  # a minute, should the server never come so far
            if ends() == [ONE.steps, 300] or server.poll():
                break
            time.sleep(0.1)
        yield ask
        server.terminate()


def test_runs_stand_side_by_side_with_their_curves_pictures_and_flags(ask, runs):
    names, folder = {run.folder.name for run in runs.values()}, runs["one"].folder
    scalars, expected = {*TAGS.curves, TAGS.score, TAGS.speed}, runs["one"].shown()
    assert set(json.loads(ask("runs"))) == names
    tags = json.loads(ask("plugin/scalars/tags"))
    assert {name: set(tags[name]) for name in tags} == {name: scalars for name in names}
    for tag in scalars:
        points = json.loads(ask(SCALARS, run=folder.name, tag=tag))
        assert [(step, value) for _, step, value in points] == expected[tag]
    images = json.loads(ask("plugin/images/tags"))
    assert {name: list(images[name]) for name in images} == {n: [TAGS.pictures] for n in names}
    (tag,) = json.loads(ask("plugin/text/tags"))[folder.name]
    (text,) = json.loads(ask("plugin/text/text", run=folder.name, tag=tag))
    assert "--batch_size 16" in text["text"]


def test_the_graph_reads_as_a_drawing_of_the_algorithm_and_of_nothing_else(ask, runs):
    served = ask("plugin/graphs/graph", run=runs["one"].folder.name, conceptual="false")
    graph = text_format.Parse(served, tf.GraphDef())
    box = lambda name: name.lstrip("^").split(":")[0].split("/")[0]  # before it is opened
    edges = {(box(name), box(node.name)) for node in graph.node for name in node.input}
    into = {b: {a for a, other in edges if other == b != a} for _, b in edges}
    assert into["G_nn1"] == {"Z"} and into["G_nn2"] == {"G_nn1"}
    assert into["D_nn1"] == {"input"} and into["D_nn2"] == {"D_nn1"}
    assert {"G_nn2"} <= into["D_nn1_1"] <= {"G_nn2", "D_nn1"}  # it shares D_nn1's variables
    assert {"D_nn1_1"} <= into["D_nn2_1"] <= {"D_nn1_1", "D_nn2"}
    assert into["D_loss"] == {"D_nn2", "D_nn2_1"} and into["G_loss"] == {"D_nn2_1"}
    assert {"D_Adam", "G_Adam"} <= {box(node.name) for node in graph.node}
    assert {n.name for n in graph.node if n.op == "Placeholder"} == {"Z", "input"}
    others = re.compile("(?i)while|cluster|XLA|PartitionedCall|Average|save|restore|init$")
    assert [node.name for node in graph.node if others.search(node.name + node.op)] == []
    assert len(graph.library.function) == 0
