"""A run in TensorBoard's own server, asked over HTTP as a browser does."""

import json
import urllib.request

import helpers
from google.protobuf import text_format
from tensorboard.program import TensorBoard

import gan_mnist


def test_tensorboard_shows_curves_pictures_and_the_graph_that_runs_as_a_drawing(whole):
    board = TensorBoard()
    board.configure(["", f"--logdir={whole.folder}", "--host=127.0.0.1", "--port=0"])
    url = f"{board.launch()}data/plugin/"
    browser = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    ask = lambda what: browser.open(url + what, timeout=helpers.LIMIT).read().decode()
    helpers.wait_until(lambda: "samples" in ask("images/tags"))
    shown = helpers.shown(whole.folder)
    pictures = json.loads(ask("images/images?run=.&tag=samples&sample=0"))
    assert [picture["step"] for picture in pictures] == [step for step, _ in shown.pop("samples")]
    assert json.loads(ask("scalars/tags"))["."].keys() == shown.keys()
    last = gan_mnist.parse_flags([]).max_steps  # TensorBoard shows ten pictures of a run at most
    assert len({0, last, *(step for step in gan_mnist.PICTURE_STEPS if step < last)}) <= 10
    graph = text_format.Parse(ask("graphs/graph?run=.&conceptual=false"), gan_mnist.tf.GraphDef())
    edges = set()  # between the boxes that one sees before any is opened
    for node in graph.node:
        for name in node.input:
            edges.add((name.lstrip("^").split(":")[0].split("/")[0], node.name.split("/")[0]))
    networks = {"input", "Z", "G", "D", "D_1"}
    expected = {("Z", "G"), ("input", "D"), ("G", "D_1"), ("D", "D_1")}  # D_1 has D's variables
    assert {(a, b) for a, b in edges if a != b and {a, b} <= networks} == expected
    assert {("D", "D_loss"), ("D_1", "D_loss"), ("D_1", "G_loss")} <= edges
    assert not {("D", "G_loss"), ("G_loss", "D_update"), ("D_loss", "G_update")} & edges
    session = gan_mnist.GAN(gan_mnist.parse_flags([])).session
    running = session.graph.as_graph_def()
    drawn, played = ({(n.name, n.op, *n.input) for n in g.node} for g in (graph, running))
    assert drawn == played and not graph.library.function
    assert session._config.gpu_options.allow_growth  # it does not take a GPU's whole memory
