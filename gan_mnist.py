"""The GAN of Goodfellow et al. 2014 (arXiv:1406.2661) on MNIST, in the style of TensorFlow 1.

    python gan_mnist.py  # trains a new run, in a few minutes
    python gan_mnist.py --output_dir outputs/NAME  # starts or resumes the run NAME
    python gan_mnist.py --output_dir outputs/NAME --sample 100  # generates digits with it

A run's folder gets pictures, curves, events, checkpoints. After an edit, start a new run.

A generator G turns noise z into images G(z). A discriminator D answers D(x), the probability that
an image x is a real digit. In turns, D maximizes the value V, and G minimizes it (equation 1):

    min_G max_D  V(D, G) = E_x[log D(x)] + E_z[log(1 - D(G(z)))]

E_x and E_z are means over real digits and noise. D's loss, -V, is a classifier's cross-entropy on
real digits plus that on fakes: log 4 = 1.39 if D answers 1/2 to everything. That is D's best answer
to perfect fakes, but also a weak D's: judge a run by its pictures. G never sees a real digit. It
learns from how D's answer changes with the pixels of G(z). By default, G's loss is
-E_z[log D(G(z))], as V is nearly flat for G if D recognizes every fake (section 3).

Not in the paper: small tanh networks, Adam, the gradient penalty R1, three updates of G for one of
D (with six, G collapses: it draws a few images over and over), and a second G, which draws the
pictures: its weights are those of the first, averaged over recent steps.
"""

import argparse
import gzip
import json
import logging
import os
import sys
import time
import zlib
from datetime import datetime
from pathlib import Path

os.environ["MPLBACKEND"] = "agg"  # a notebook sets one that can fail
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import matplotlib.figure
import numpy as np
import tensorflow.compat.v1 as tf
from PIL import Image, ImageDraw
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

matplotlib.rcdefaults()  # not a user's matplotlibrc
logging.getLogger("tensorboard").setLevel("ERROR")  # it warns about resumed runs
tf.logging.set_verbosity(tf.logging.ERROR)
tf.disable_v2_behavior()  # graphs and sessions
tf.enable_resource_variables()  # variables as in TensorFlow 2

SIDE = 28  # pixels
PIXELS = SIDE * SIDE
Z_SIZE = 100


# ======== The GAN
# -------- networks
# Calling these functions computes no numbers. It adds to a graph, with the flags as constants, and
# session.run computes parts of it. To see h, put h = tf.Print(h, [h]) before its use, not tf.print.
def dense(inputs, units, scope):
    """A dense layer of variables scope/W and scope/b: [batch, n] to [batch, units]."""
    with tf.variable_scope(scope):  # scopes prefix names: G/hidden/W
        initializer = tf.truncated_normal_initializer(stddev=0.1)
        W = tf.get_variable("W", [inputs.shape[-1], units], initializer=initializer)
        b = tf.get_variable("b", [units], initializer=tf.constant_initializer(0.1))
        return tf.matmul(inputs, W) + b


def generator(z, hidden_units):
    """G(z): noise [batch, Z_SIZE] in [-1, 1) to images [batch, PIXELS] in [0, 1], as x is."""
    hidden = tf.tanh(dense(z, hidden_units, "hidden"))
    return tf.sigmoid(dense(hidden, PIXELS, "output"))


def discriminator(x, hidden_units):
    """x [batch, PIXELS] in [0, 1] to logits [batch, 1]. No sigmoid yet: D(x) = sigmoid(logit)."""
    hidden = tf.tanh(dense(x, hidden_units, "hidden"))
    return dense(hidden, 1, "output")


# -------- losses
# Logits avoid log(0): log D = log_sigmoid(logit) and log(1 - D) = log_sigmoid(-logit).
def discriminator_loss(logit_real, logit_fake):
    """D_loss = -V(D, G) = -E_x[log D(x)] - E_z[log(1 - D(G(z)))]."""
    return -tf.reduce_mean(tf.log_sigmoid(logit_real)) - tf.reduce_mean(tf.log_sigmoid(-logit_fake))


def minimax_loss(logit_fake):
    """G_loss = E_z[log(1 - D(G(z)))]. Its slope by the logit is -D: 0 if D is sure of a fake."""
    return tf.reduce_mean(tf.log_sigmoid(-logit_fake))


def non_saturating_loss(logit_fake):
    """G_loss = -E_z[log D(G(z))]. Its slope by the logit is D - 1: -1 if D is sure of a fake."""
    return -tf.reduce_mean(tf.log_sigmoid(logit_fake))


G_LOSSES = {"non_saturating": non_saturating_loss, "minimax": minimax_loss}  # choices of --g_loss


def r1_penalty(logit_real, x, gamma):
    """R1 = gamma / 2 * E_x[|grad_x logit|^2] (arXiv:1801.04406, equation 9)."""
    # Without R1, D's gradient can stay large at real digits, and push even a perfect G away again.
    (gradient,) = tf.gradients(logit_real, x)  # row i: of logit i, if no layer mixes images
    return gamma / 2 * tf.reduce_mean(tf.reduce_sum(gradient**2, axis=1))


# -------- graph
def move_towards(averages, weights):
    """Returns an update that, in step n, moves averages 6 / (n + 5) of the way to the weights.

    Step 1 copies them. Later, the last third of steps has 91 % weight (arXiv:1212.1824, section 4).
    """
    n = tf.Variable(0.0, trainable=False, name="n").assign_add(1.0)  # the step: 1, 2, ...
    share = 6 / (n + 5)
    return tf.group(*[a.assign_add(share * (w - a)) for a, w in zip(averages, weights)])


class GAN:
    """The graph of the networks, losses and updates, and a session, which holds the variables.

    session.run(part, {placeholder: array}) computes a part, given the inputs that it needs:

        D_update, D_loss, curves         x and z
        G_update, G_loss, generated      z
        average_update, losses_at_half   none
    """

    def __init__(self, flags):
        tf.reset_default_graph()
        tf.set_random_seed(flags.seed)
        self.x = tf.placeholder(tf.float32, [None, PIXELS], name="x")  # an input; None: any size
        self.z = tf.placeholder(tf.float32, [None, Z_SIZE], name="z")
        with tf.variable_scope("G"):
            fake = generator(self.z, flags.hidden_units)
        with tf.variable_scope("D"):
            logit_real = discriminator(self.x, flags.hidden_units)
        with tf.variable_scope("D", reuse=True):  # the same D: get_variable returns its variables
            logit_fake = discriminator(fake, flags.hidden_units)
        logit_real.shape.assert_is_compatible_with([None, 1])  # one logit for each image
        theta_G = tf.trainable_variables("G/")  # G's weights
        theta_D = tf.trainable_variables("D/")

        with tf.name_scope("D_loss"):  # a name_scope is a box in TensorBoard's graph
            self.D_loss = discriminator_loss(logit_real, logit_fake)
        with tf.name_scope("G_loss"):
            self.G_loss = G_LOSSES[flags.g_loss](logit_fake)
        with tf.name_scope("R1"):
            R1 = r1_penalty(logit_real, self.x, flags.r1_gamma) if flags.r1_gamma else 0.0
        with tf.name_scope("D_update"):  # one Adam step on D_loss + R1, which moves only theta_D
            D_adam = tf.train.AdamOptimizer(flags.d_learning_rate, flags.beta1, flags.beta2)
            self.D_update = D_adam.minimize(self.D_loss + R1, var_list=theta_D)
        with tf.name_scope("G_update"):  # the gradient reaches theta_G through D, which is fixed
            G_adam = tf.train.AdamOptimizer(flags.g_learning_rate, flags.beta1, flags.beta2)
            self.G_update = G_adam.minimize(self.G_loss, var_list=theta_G)
        strays = [v.name for v in tf.trainable_variables() if v not in theta_G + theta_D]
        if strays:  # such as a tf.Variable in D, which the second call does not share
            raise ValueError(f"No optimizer trains {strays}: use get_variable, inside a network")

        with tf.variable_scope("G_average"):  # the second G, which no optimizer changes
            self.generated = generator(self.z, flags.hidden_units)
            averages = tf.trainable_variables("G_average/")  # non-trainable state is not averaged
            self.average_update = move_towards(averages, theta_G)

        with tf.name_scope("curves"):  # of the first G, which plays against D
            D_real = tf.reduce_mean(tf.sigmoid(logit_real))
            D_fake = tf.reduce_mean(tf.sigmoid(logit_fake))
            correct = tf.concat([logit_real > 0, logit_fake <= 0], axis=0)  # logit 0 is D = 1/2
            accuracy = tf.reduce_mean(tf.cast(correct, tf.float32))
            zero = tf.zeros([1, 1])  # for dashed lines in curves.png
            self.losses_at_half = [discriminator_loss(zero, zero), G_LOSSES[flags.g_loss](zero)]
        # Add summaries here, outside scopes. A scope's name as tag ("R1", "D/hidden") gets "_1".
        tf.summary.scalar("losses/D_loss", self.D_loss)  # without R1
        tf.summary.scalar("losses/G_loss", self.G_loss)
        tf.summary.scalar("probabilities/D_real", D_real)
        tf.summary.scalar("probabilities/D_fake", D_fake)
        tf.summary.scalar("accuracy/D", accuracy)
        self.curves = tf.summary.merge_all()  # all above; for curves.png, see draw_curves

        config = tf.ConfigProto(intra_op_parallelism_threads=1)  # for small layers; 0: all cores
        config.gpu_options.allow_growth = True
        self.session = tf.Session(config=config)
        self.session.run(tf.global_variables_initializer())
        self.saver = tf.train.Saver(save_relative_paths=True)  # runs can be moved
        self.session.graph.finalize()  # no new operations from here on


# -------- training
def noise(n, rng):
    """Draws z, uniform in [-1, 1): float32 [n, Z_SIZE]."""
    return 2 * rng.random([n, Z_SIZE], dtype=np.float32) - 1


def minibatch(images, n, rng):
    """Draws n of images [all, PIXELS], with replacement: x [n, PIXELS]."""
    return images[rng.integers(len(images), size=n)]


def train_step(gan, flags, images, rng):
    """Does a step of the paper's algorithm 1, where d_step is called k and g_step is 1."""
    for _ in range(flags.d_step):  # D learns to distinguish x from G(z)
        x = minibatch(images, flags.batch_size, rng)
        z = noise(flags.batch_size, rng)
        gan.session.run(gan.D_update, {gan.x: x, gan.z: z})
    for _ in range(flags.g_step):  # G learns to fool D
        z = noise(flags.batch_size, rng)
        gan.session.run(gan.G_update, {gan.z: z})
    gan.session.run(gan.average_update)  # the second G follows the first


# ======== The program around it
DATA_DIR = "MNIST_data"
MNIST_URL = "https://storage.googleapis.com/cvdf-datasets/mnist/train-images-idx3-ubyte.gz"
MNIST_SHA256 = "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
HELD_OUT = 256  # last images, not trained on: for the curves, with as many fixed z
PICTURE_STEPS = [m * 10**k for k in range(2, 7) for m in (1, 2, 5)]  # use multiples of 100


# -------- flags
def parse_flags(argv=None):
    """Parses the command line, which overrides a run's flags.json, which overrides the defaults."""
    formatter = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(formatter_class=formatter, allow_abbrev=False)
    new_run = datetime.now().strftime("outputs/%Y-%m-%d_%H-%M-%S-%f")
    parser.add_argument("--input_data_dir", type=Path, default=DATA_DIR, help="folder of IDX files")
    parser.add_argument("--output_dir", type=Path, default=new_run, help="folder of the run")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="generate N digits")
    parser.add_argument("--seed", type=int, default=0, help="random seed, also of --sample")
    parser.add_argument("--g_loss", choices=G_LOSSES, default="non_saturating", help="loss of G")
    # These were tuned together. With 512 hidden units, digits are better, but slower.
    parser.add_argument("--max_steps", type=int, default=17_000, help="training steps")
    parser.add_argument("--batch_size", type=int, default=64, help="images in a minibatch")
    parser.add_argument("--d_step", type=int, default=1, help="updates of D in a training step")
    parser.add_argument("--g_step", type=int, default=3, help="updates of G in a training step")
    parser.add_argument("--r1_gamma", type=float, default=0.75, help="weight of the penalty R1")
    parser.add_argument("--d_learning_rate", type=float, default=0.0013, help="Adam's rate for D")
    parser.add_argument("--g_learning_rate", type=float, default=0.005, help="Adam's rate for G")
    parser.add_argument("--beta1", type=float, default=0.0, help="decay of Adam's mean gradient")
    parser.add_argument("--beta2", type=float, default=0.99, help="decay of Adam's mean square")
    parser.add_argument("--hidden_units", type=int, default=256, help="size of the hidden layers")
    flags = parser.parse_args(argv)  # first, to learn the run's folder
    saved = flags.output_dir / "flags.json"
    if saved.exists():
        print(f"Flags not given are taken from {saved}")
        parser.set_defaults(**json.loads(saved.read_text()))
        flags = parser.parse_args(argv)
    if flags.output_dir == Path() or set("[]*?\\") & set(flags.output_dir.as_posix()):
        parser.error("--output_dir must be a folder of its own, without wildcards [ ] * ? \\")
    for name in ("max_steps", "batch_size", "d_step", "g_step", "hidden_units", "seed", "sample"):
        least = 0 if name in ("seed", "sample") else 1
        if getattr(flags, name) < least:
            parser.error(f"--{name} must be at least {least}")
    return flags


# -------- runs
def start_or_resume(flags):
    """Trains a run, new or resumed, and draws its curves and animation."""
    folder = flags.output_dir
    gan = GAN(flags)
    steps_done = restore(gan, folder)
    if steps_done >= flags.max_steps:
        print(f"Finished run: {folder} is at step {steps_done}; a larger --max_steps extends it")
    else:
        images = load_images(flags.input_data_dir)
        kind = "Resumed" if steps_done else "New"
        print(f"{kind} run: {folder} at step {steps_done}", flush=True)
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        (folder / "flags.json").write_text(json.dumps(vars(flags), default=str, indent=4))
        train(gan, flags, images[:-HELD_OUT], images[-HELD_OUT:], steps_done)
    draw_curves(folder, gan.session.run(gan.losses_at_half))
    first, *others = [Image.open(p).copy() for p in sorted(folder.glob("samples/step_*.png"))]
    first.save(folder / "samples.gif", save_all=True, append_images=others, duration=1000, loop=0)
    print(f"Pictures: {folder}/samples.gif and {folder}/curves.png")
    print(f'TensorBoard: tensorboard --logdir "{folder.parent}"')


def train(gan, flags, images, held_out, steps_done):
    """Trains up to flags.max_steps, with curves, pictures and checkpoints."""
    folder = flags.output_dir
    fixed_z = noise(HELD_OUT, np.random.default_rng([flags.seed, 0]))
    fixed = {gan.x: held_out, gan.z: fixed_z}
    first_step = steps_done + 1 if steps_done else 0
    suffix = f".{first_step:07d}"  # file names tell only seconds
    writer = tf.summary.FileWriter(str(folder), gan.session.graph, filename_suffix=suffix)
    # Makes TensorBoard drop what a killed process wrote from first_step on.
    writer.add_session_log(tf.SessionLog(status=tf.SessionLog.START), first_step)
    if steps_done == 0:
        writer.add_summary(gan.session.run(gan.curves, fixed), 0)
        write_samples(gan, fixed_z[:64], writer, folder, 0)
    start = time.time()

    for step in range(steps_done + 1, flags.max_steps + 1):
        rng = np.random.default_rng([flags.seed, step])  # the same x and z after resuming
        train_step(gan, flags, images, rng)

        last = step == flags.max_steps
        if step % 100 == 0 or last:
            curves, D_loss, G_loss = gan.session.run([gan.curves, gan.D_loss, gan.G_loss], fixed)
            writer.add_summary(curves, step)
            if not np.isfinite(D_loss + G_loss):  # such weights are never saved
                sys.exit(f"Loss not finite at step {step}: try a new run, e.g. with lower rates.")
            if step in PICTURE_STEPS or last:
                write_samples(gan, fixed_z[:64], writer, folder, step)
            if step % 1000 == 0 or step == 100 or last:
                writer.flush()  # before save, so that no event up to a checkpoint is missing
                gan.saver.save(gan.session, f"{folder}/model.ckpt", step, write_meta_graph=False)
                speed = (step - steps_done) / (time.time() - start)
                left = (flags.max_steps - step) / speed
                state = f"D_loss {D_loss:.3f}, G_loss {G_loss:.3f}, {speed:.0f} steps/s"
                print(f"step {step}/{flags.max_steps}: {state}, {left:.0f} s left", flush=True)


def generate(gan, z):
    """Generates images with the second G: uint8 [n, PIXELS], from z [n, Z_SIZE]."""
    images = gan.session.run(gan.generated, {gan.z: z})
    return np.uint8(np.clip(np.rint(255 * images), 0, 255))  # for a tanh G, scale x and this


def sample(flags):
    """Generates flags.sample digits with the run in flags.output_dir."""
    folder = flags.output_dir
    gan = GAN(flags)
    if restore(gan, folder) == 0:
        sys.exit(f"No checkpoint in {folder}: --sample needs the folder of a run")
    z = noise(flags.sample, np.random.default_rng([flags.seed, 0, 1]))  # other z than training
    images = generate(gan, z)
    np.save(folder / "generated.npy", images.reshape(-1, SIDE, SIDE))
    grid(images, f"seed {flags.seed}").save(folder / "generated.png")
    print(f"{len(images)} digits: generated.npy and generated.png in {folder}")


# -------- files
def restore(gan, folder):
    """Restores the newest checkpoint. Returns its training step, or 0 if there is none."""
    state = tf.train.get_checkpoint_state(str(folder))
    if state is None:
        return 0
    path = state.model_checkpoint_path
    saved = tf.train.NewCheckpointReader(path).get_variable_to_shape_map()
    shapes = {v.op.name: v.shape.as_list() for v in gan.session.graph.get_collection("variables")}
    for name in sorted({*saved, *shapes}):  # Saver does not compare shapes
        if saved.get(name) != shapes.get(name):
            sys.exit(f"{path} belongs to another network: {name} differs. Start a new run.")
    gan.saver.restore(gan.session, path)
    gan.saver.recover_last_checkpoints(state.all_model_checkpoint_paths)  # keeps 5
    return int(path.split("-")[-1])


def load_images(folder):
    """Reads the topmost file *train-images?idx3-ubyte* in the folder: [n, PIXELS] in [0, 1].

    Downloads MNIST if the default folder has none. Exits if there is none or a bad one.
    """
    found = folder.rglob("*train-images?idx3-ubyte*")  # ? is a hyphen or a dot
    paths = [path for path in found if path.is_file() and not path.name.startswith(".")]
    if not paths and folder == Path(DATA_DIR):
        print(f"Downloading {MNIST_URL}. You can also put it into {folder} by hand.")
        options = {"cache_dir": ".", "cache_subdir": DATA_DIR, "file_hash": MNIST_SHA256}
        part = Path(tf.keras.utils.get_file("mnist.part", MNIST_URL, **options))
        paths = [part.with_name("train-images-idx3-ubyte.gz")]
        part.replace(paths[0])  # TensorFlow 2 checked the hash
    if not paths:
        sys.exit(f"No file train-images-idx3-ubyte (or .gz) below folder {folder}")
    path = min(paths, key=lambda path: (len(path.parts), path))
    content = path.read_bytes()
    try:
        if content[:2] == b"\x1f\x8b":  # gzip
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        sys.exit(f"{path} is damaged: {error}")
    count, rest = divmod(len(content) - 16, PIXELS)
    header = np.array([2051, count, SIDE, SIDE], ">i4").tobytes()  # 2051: IDX, bytes, 3 axes
    if rest or count <= HELD_OUT or content[:16] != header:
        sys.exit(f"{path} is not a complete IDX file of over {HELD_OUT} images of {SIDE}x{SIDE}")
    print(f"Data: {path}, {count} images")
    return np.frombuffer(content, np.uint8, offset=16).reshape(-1, PIXELS) / np.float32(255)


def write_samples(gan, z, writer, folder, step):
    """Writes images of z as a PNG and as an event for TensorBoard."""
    path = folder / "samples" / f"step_{step:07d}.png"
    grid(generate(gan, z), f"step {step}").save(path)
    image = tf.Summary.Image(encoded_image_string=path.read_bytes())
    writer.add_summary(tf.Summary(value=[tf.Summary.Value(tag="samples", image=image)]), step)


def grid(images, caption):
    """Arranges images, uint8 [n, PIXELS], in a square, at twice their size, above a caption."""
    rows = int(np.ceil(np.sqrt(len(images))))
    tiles = np.pad(images, [(0, rows**2 - len(images)), (0, 0)]).reshape(rows, rows, SIDE, SIDE)
    square = tiles.swapaxes(1, 2).reshape(rows * SIDE, rows * SIDE)  # via [row, y, column, x]
    doubled = square.repeat(2, axis=0).repeat(2, axis=1)
    picture = Image.fromarray(np.pad(doubled, [(0, 20), (0, 0)]))
    ImageDraw.Draw(picture).text([4, len(doubled) + 4], caption, fill=255)
    return picture


def draw_curves(folder, losses_at_half):
    """Draws a run's curves into curves.png."""
    panels = [
        (["losses/D_loss", "losses/G_loss"], losses_at_half),
        (["probabilities/D_real", "probabilities/D_fake"], [0.5]),
        (["accuracy/D"], [0.5]),
    ]
    events = EventAccumulator(str(folder), {"scalars": 0}).Reload()  # 0: keeps all points
    figure = matplotlib.figure.Figure([9, 8], layout="constrained")
    figure.suptitle("dashed: if D answers 1/2 to everything")
    for axes, (tags, at_half) in zip(figure.subplots(len(panels), sharex=True), panels):
        for tag in tags:
            points = events.Scalars(tag)
            axes.plot([p.step for p in points], [p.value for p in points], label=tag)
        for color, value in zip(["C0", "C1"], at_half):
            axes.axhline(value, color=color, linestyle="--")
        axes.legend()
    figure.axes[-1].set_xlabel("training step")
    figure.savefig(folder / "curves.png")


def main():
    flags = parse_flags()
    command = sample if flags.sample else start_or_resume
    try:
        command(flags)
    except KeyboardInterrupt:
        sys.exit(f'\nStopped. --output_dir "{flags.output_dir}" resumes at its last checkpoint.')


if __name__ == "__main__":
    main()
