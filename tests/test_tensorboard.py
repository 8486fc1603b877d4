"""A run in TensorBoard's own server, asked over HTTP as a browser does."""

import json
import urllib.request

import helpers
from google.protobuf import text_format
from tensorboard.program import TensorBoard

import gan_mnist

# D_1 is D on G(z), with D's variables. All that a gradient needs leads to its update.
LEADS_TO = {
    "x": {"D", "R1", "D_update"},
    "z": {"G", "G_average", "G_update"},
    "G": {"D_1", "G_average", "D_update", "G_update"},
    "D": {"D_1", "D_loss", "R1", "D_update"},
    "D_1": {"D_loss", "G_loss", "D_update", "G_update"},
    "R1": {"D_update"},
    "D_loss": {"D_update"},
    "G_loss": {"G_update"},
}


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
    boxes = {*LEADS_TO, "D_update", "G_update", "G_average"}  # these last three lead to none
    leads_to = {}
    for node in graph.node:
        for name in node.input:
            start, end = name.lstrip("^").split(":")[0].split("/")[0], node.name.split("/")[0]
            if start != end and {start, end} <= boxes:
                leads_to.setdefault(start, set()).add(end)
    assert leads_to == LEADS_TO
    session = gan_mnist.GAN(gan_mnist.parse_flags([])).session
    running = session.graph.as_graph_def()
    drawn, played = ({(n.name, n.op, *n.input) for n in g.node} for g in (graph, running))
    assert drawn == played and not graph.library.function
    assert session._config.gpu_options.allow_growth  # it does not take a GPU's whole memory
