"""The GAN of Goodfellow et al. 2014 (arXiv:1406.2661) on MNIST, as a classic TensorFlow 1 program.

    python gan_mnist.py  # trains a new run
    python gan_mnist.py --output_dir outputs/NAME  # starts or resumes the run NAME
    python gan_mnist.py --output_dir outputs/NAME --sample 100  # generates digits with it

A generator G turns noise z into images, which a discriminator D learns to distinguish from real
digits x. D maximizes the value V of equation 1; G minimizes it or, by default, a variant of it:

    min_G max_D  V(D, G) = E_x[log D(x)] + E_z[log(1 - D(G(z)))]

Not in the paper: these small networks, Adam, more updates of G than of D, the gradient penalty R1,
and samples generated with an average of G's weights.
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

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # fewer start-up messages
import tensorflow.compat.v1 as tf

logging.getLogger("tensorboard").setLevel("ERROR")  # resumed runs make it warn
tf.logging.set_verbosity(tf.logging.ERROR)  # no deprecation warnings
tf.disable_v2_behavior()
tf.enable_resource_variables()  # the average of G reads weights after an update

SIDE = 28  # pixels
PIXELS = SIDE * SIDE
Z_SIZE = 100
DATA_DIR = "MNIST_data"
MNIST_URL = "https://storage.googleapis.com/cvdf-datasets/mnist/train-images-idx3-ubyte.gz"
MNIST_SHA256 = "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
G_LOSSES = {"non_saturating": np.log(2), "minimax": -np.log(2)}  # kinds: values at D = 1/2
PICTURE_STEPS = [digit * 10**k for k in range(2, 7) for digit in (1, 2, 5)]  # 100, 200, 500, ...


# -------- flags
def parse_flags(argv=None):
    """Parses the command line, which overrides a run's flags.json, which overrides the defaults."""
    formatter = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(formatter_class=formatter, allow_abbrev=False)
    new_run = datetime.now().strftime("outputs/%Y-%m-%d_%H-%M-%S-%f")
    parser.add_argument("--input_data_dir", default=DATA_DIR, help="folder of the images")
    parser.add_argument("--output_dir", default=new_run, help="run directory; resumes its run")
    parser.add_argument("--max_steps", type=int, default=18_000, help="training steps")
    parser.add_argument("--batch_size", type=int, default=128, help="images in a minibatch")
    parser.add_argument("--d_step", type=int, default=1, help="updates of D in a training step")
    parser.add_argument("--g_step", type=int, default=3, help="updates of G (6: it may collapse)")
    parser.add_argument("--g_loss", choices=G_LOSSES, default="non_saturating", help="loss of G")
    parser.add_argument("--r1_gamma", type=float, default=0.75, help="weight of the penalty R1")
    parser.add_argument("--d_learning_rate", type=float, default=0.0013, help="Adam's rate for D")
    parser.add_argument("--g_learning_rate", type=float, default=0.007, help="Adam's rate for G")
    parser.add_argument("--beta1", type=float, default=0.0, help="Adam's decay of the gradient")
    parser.add_argument("--beta2", type=float, default=0.99, help="Adam's decay of its squares")
    parser.add_argument(
        "--hidden_units", type=int, default=128, help="hidden size (512: G's rate 0.004)"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="only generate N digits")
    flags = parser.parse_args(argv)  # tells the run directory
    saved = Path(flags.output_dir, "flags.json")
    if saved.exists():
        parser.set_defaults(**json.loads(saved.read_text()))
        flags = parser.parse_args(argv)
    if not flags.output_dir or set("[]*?") & set(flags.output_dir):
        parser.error("--output_dir must not be empty or have a wildcard of TensorFlow's: [ ] * ?")
    for name in ("max_steps", "batch_size", "d_step", "g_step", "hidden_units", "seed", "sample"):
        least = 0 if name in ("seed", "sample") else 1
        if getattr(flags, name) < least:
            parser.error(f"--{name} must be at least {least}")
    return flags


# -------- networks
def dense(inputs, units, scope):
    """A fully connected layer, inputs @ W + b: [batch, n] to [batch, units]."""
    with tf.variable_scope(scope):
        normal = tf.truncated_normal_initializer(stddev=0.1)
        W = tf.get_variable("W", [inputs.shape[-1], units], initializer=normal)
        b = tf.get_variable("b", [units], initializer=tf.constant_initializer(0.1))
        return tf.matmul(inputs, W) + b


def generator(z, hidden_units):
    """G(z): noise [batch, 100] in [-1, 1) to images [batch, 784] in [0, 1]."""
    hidden = tf.tanh(dense(z, hidden_units, "nn1"))
    return tf.sigmoid(dense(hidden, PIXELS, "nn2"))


def discriminator(x, hidden_units):
    """Images [batch, 784] in [0, 1] to logits [batch, 1], where D(x) = sigmoid(logit)."""
    hidden = tf.tanh(dense(x, hidden_units, "nn1"))
    return dense(hidden, 1, "nn2")


# -------- losses
# Logits avoid log(0): log D = log_sigmoid(logit) and log(1 - D) = log_sigmoid(-logit).
def discriminator_loss(logit_real, logit_fake):
    """D_loss = -V(D, G) = -E_x[log D(x)] - E_z[log(1 - D(G(z)))], equation 1."""
    return -tf.reduce_mean(tf.log_sigmoid(logit_real)) - tf.reduce_mean(tf.log_sigmoid(-logit_fake))


def generator_loss(logit_fake, kind):
    """Returns G_loss (section 3). Raises ValueError for an unknown kind."""
    if kind == "minimax":
        return tf.reduce_mean(tf.log_sigmoid(-logit_fake))  # E_z[log(1 - D(G(z)))]
    if kind == "non_saturating":  # a stronger gradient where D is sure that G(z) is fake
        return -tf.reduce_mean(tf.log_sigmoid(logit_fake))  # -E_z[log D(G(z))]
    raise ValueError(f"unknown kind of G_loss: {kind}")


def r1_penalty(logit_real, x, gamma):
    """R1 = gamma / 2 E_x[|grad_x logit|^2] keeps D flat at real x (arXiv:1801.04406, eq. 9)."""
    (gradient,) = tf.gradients(logit_real, x)  # of the sum of logits; logit i depends on x[i] only
    return gamma / 2 * tf.reduce_mean(tf.reduce_sum(gradient**2, axis=1))


# -------- graph
class GAN:
    """The graph and its session. Raises ValueError if neither D nor G trains a variable."""

    def __init__(self, flags):
        tf.reset_default_graph()  # of an earlier GAN
        tf.set_random_seed(flags.seed)
        self.x = tf.placeholder(tf.float32, [None, PIXELS], name="input")
        self.z = tf.placeholder(tf.float32, [None, Z_SIZE], name="Z")
        with tf.variable_scope("G"):
            fake = generator(self.z, flags.hidden_units)
        with tf.variable_scope("D"):
            logit_real = discriminator(self.x, flags.hidden_units)
            D_real = tf.reduce_mean(tf.sigmoid(logit_real))
        with tf.variable_scope("D", reuse=True):  # the same D, with its variables
            logit_fake = discriminator(fake, flags.hidden_units)
            D_fake = tf.reduce_mean(tf.sigmoid(logit_fake))
        theta_G = tf.trainable_variables("G/")
        theta_D = tf.trainable_variables("D/")

        with tf.name_scope("D_loss"):
            self.D_loss = discriminator_loss(logit_real, logit_fake)
            R1 = r1_penalty(logit_real, self.x, flags.r1_gamma) if flags.r1_gamma else 0.0
        with tf.name_scope("G_loss"):
            self.G_loss = generator_loss(logit_fake, flags.g_loss)
        with tf.name_scope("accuracy"):  # above 0, the logit says real
            right = tf.concat([logit_real > 0, logit_fake <= 0], axis=0)
            accuracy = tf.reduce_mean(tf.cast(right, tf.float32))
        with tf.name_scope("D_update"):  # G stays as it is; the curve of D_loss is without R1
            D_adam = tf.train.AdamOptimizer(flags.d_learning_rate, flags.beta1, flags.beta2)
            self.D_update = D_adam.minimize(self.D_loss + R1, var_list=theta_D)
        with tf.name_scope("G_update"):  # D stays as it is
            n = tf.Variable(0.0, trainable=False, name="count")  # of G's updates; float, as decays
            G_adam = tf.train.AdamOptimizer(flags.g_learning_rate, flags.beta1, flags.beta2)
            G_minimize = G_adam.minimize(self.G_loss, var_list=theta_G, global_step=n)

        # Averaged weights generate better digits. Update i of n weighs about i**3 in this average;
        # 1 - 6 / (n + 5), i**5, forgets sooner (Shamir and Zhang 2013, arXiv:1212.1824, section 4).
        with tf.name_scope("average"), tf.control_dependencies([G_minimize]):  # after the update
            ema = tf.train.ExponentialMovingAverage(1 - 4 / (n + 3))
            update_average = ema.apply(theta_G)
        self.G_update = tf.group(G_minimize, update_average)

        def averaged(getter, *args, **kwargs):
            """Makes get_variable return a variable's average, if it has one."""
            variable = getter(*args, **kwargs)
            average = ema.average(variable)
            return variable if average is None else average

        with tf.variable_scope("G", reuse=True, custom_getter=averaged):  # the same G, averaged
            self.samples = generator(self.z, flags.hidden_units)

        strays = [v.name for v in tf.trainable_variables() if v.name[:2] not in ("G/", "D/")]
        if strays:  # such as a tf.Variable, which reuse=True does not share
            raise ValueError(f"neither D nor G trains {strays}: use get_variable in their scopes")

        tf.summary.scalar("losses/D_loss", self.D_loss)
        tf.summary.scalar("losses/G_loss", self.G_loss)
        tf.summary.scalar("probabilities/D_real", D_real)
        tf.summary.scalar("probabilities/D_fake", D_fake)
        tf.summary.scalar("accuracy/D", accuracy)
        self.curves = tf.summary.merge_all()

        config = tf.ConfigProto(intra_op_parallelism_threads=1)  # best for small networks; 0: all
        config.gpu_options.allow_growth = True
        self.session = tf.Session(config=config)
        self.session.run(tf.global_variables_initializer())
        self.shapes = {v.op.name: v.shape.as_list() for v in tf.global_variables()}
        self.saver = tf.train.Saver(save_relative_paths=True)  # of a run that may be moved

    def restore(self, folder):
        """Restores the newest checkpoint. Returns its training step, or 0 if there is none."""
        state = tf.train.get_checkpoint_state(str(folder))
        if state is None:
            return 0
        path = state.model_checkpoint_path
        saved = tf.train.NewCheckpointReader(path).get_variable_to_shape_map()
        for name in sorted({*saved, *self.shapes}):  # Saver would not compare shapes
            if saved.get(name) != self.shapes.get(name):
                sys.exit(f"{path} belongs to another network: {name} differs. Start a new run.")
        self.saver.restore(self.session, path)
        self.saver.recover_last_checkpoints(state.all_model_checkpoint_paths)  # so five are kept
        return int(path.split("-")[-1])

    def generate(self, z):
        """Generates images, uint8 [n, 784], from z [n, 100] with the averaged weights of G."""
        return to_pixels(self.session.run(self.samples, {self.z: z}))


# -------- training
def noise(n, rng):
    """Draws z from the prior, uniform in [-1, 1): float32 [n, 100]."""
    return 2 * rng.random([n, Z_SIZE], dtype=np.float32) - 1


def minibatch(images, n, rng):
    """Draws x from the images, uint8 [all, 784]: float32 [n, 784] in [0, 1]."""
    return to_x(images[rng.integers(len(images), size=n)])


def to_x(pixels):
    return pixels / np.float32(255)


def to_pixels(x):
    return np.uint8(np.clip(255 * x + 0.5, 0, 255))


def train(gan, flags, images, held_out, done):
    """Runs algorithm 1, with g_step updates of G, from step done + 1 to flags.max_steps."""
    folder = Path(flags.output_dir)
    first = done + 1 if done else 0
    # The suffix distinguishes files made in the same second. START hides what a killed process
    # wrote from the step `first` on.
    writer = tf.summary.FileWriter(str(folder), gan.session.graph, filename_suffix=f".{first}")
    writer.add_session_log(tf.SessionLog(status=tf.SessionLog.START), first)
    fixed_z = noise(256, np.random.default_rng(flags.seed))
    fixed = {gan.x: to_x(held_out[:256]), gan.z: fixed_z}  # for all curves
    if done == 0:
        writer.add_summary(gan.session.run(gan.curves, fixed), 0)
        write_samples(gan, fixed_z[:64], writer, folder, 0)
    start = time.time()

    for step in range(done + 1, flags.max_steps + 1):
        rng = np.random.default_rng([flags.seed, step])  # the same draws in a resumed run
        for _ in range(flags.d_step):  # D learns to distinguish x from G(z)
            x = minibatch(images, flags.batch_size, rng)
            z = noise(flags.batch_size, rng)
            D_loss, _ = gan.session.run([gan.D_loss, gan.D_update], {gan.x: x, gan.z: z})
        for _ in range(flags.g_step):  # G learns to fool D
            z = noise(flags.batch_size, rng)
            G_loss, _ = gan.session.run([gan.G_loss, gan.G_update], {gan.z: z})

        if not np.isfinite(D_loss + G_loss):
            writer.flush()
            sys.exit(f"Loss not finite at step {step}: start a new run with lower learning rates.")
        last = step == flags.max_steps
        if step % 100 == 0:
            writer.add_summary(gan.session.run(gan.curves, fixed), step)
        if step in PICTURE_STEPS or last:
            write_samples(gan, fixed_z[:64], writer, folder, step)
        if step % 1000 == 0 or last:
            writer.flush()
            gan.saver.save(gan.session, f"{folder}/model.ckpt", step, write_meta_graph=False)
            speed = (step - done) / (time.time() - start)
            left = (flags.max_steps - step) / speed
            state = f"D_loss {D_loss:.3f}, G_loss {G_loss:.3f}, {speed:.0f} steps/s"
            print(f"step {step}/{flags.max_steps}: {state}, {left:.0f} s left", flush=True)


def start_or_resume(flags):
    """Trains the run in flags.output_dir, new or resumed, and draws its curves."""
    images = load_images(Path(flags.input_data_dir))
    n = len(images) - len(images) // 12  # the other 5,000 are held out
    folder = Path(flags.output_dir)
    gan = GAN(flags)
    done = gan.restore(folder)
    if done >= flags.max_steps:
        print(f"Finished run: {folder} is at step {done}; a larger --max_steps extends it")
    else:
        print(f"{'Resumed' if done else 'New'} run: {folder} at step {done}", flush=True)
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        (folder / "flags.part").write_text(json.dumps(vars(flags), indent=4))
        (folder / "flags.part").replace(folder / "flags.json")  # in one go
        train(gan, flags, images[:n], images[n:], done)
    write_losses(folder, flags.g_loss)
    first, *others = [Image.open(p).copy() for p in sorted(folder.glob("samples/step_*.png"))]
    first.save(folder / "samples.gif", save_all=True, append_images=others, duration=1000, loop=0)
    print(f"Pictures: {folder}/samples.gif and {folder}/losses.png")
    print(f'Curves: "{sys.executable}" -m tensorboard.main --logdir "{folder.parent}"')


# -------- sampling
def sample(flags):
    """Generates flags.sample digits with the run in flags.output_dir."""
    folder = Path(flags.output_dir)
    gan = GAN(flags)
    if gan.restore(folder) == 0:
        sys.exit(f"No checkpoint in {folder}: --sample needs the --output_dir of a trained run")
    images = gan.generate(noise(flags.sample, np.random.default_rng(flags.seed)))
    np.save(folder / "generated.npy", images.reshape(-1, SIDE, SIDE))
    grid(images, f"seed {flags.seed}").save(folder / "generated.png")
    print(f"{len(images)} digits: generated.npy and generated.png in {folder}")


# -------- files
def load_images(folder):
    """Reads a file named like MNIST's, in the folder or below it: uint8 [n, 784].

    Downloads MNIST if the default folder has none. Exits if there is no such file or it is bad.
    """
    name = "*train-images?idx3-ubyte"  # EMNIST has a prefix; ? is a hyphen or a dot
    found = [*folder.rglob(name), *folder.rglob(f"{name}.gz")]
    paths = [path for path in found if path.is_file() and not path.name.startswith(".")]
    if not paths and folder == Path(DATA_DIR):
        options = {"cache_dir": ".", "cache_subdir": DATA_DIR, "file_hash": MNIST_SHA256}
        paths = [Path(tf.keras.utils.get_file("train-images-idx3-ubyte.gz", MNIST_URL, **options))]
    if not paths:
        sys.exit(f"No file train-images-idx3-ubyte, with or without .gz, below folder {folder}")
    path = min(paths, key=lambda path: (len(path.parts), path))  # nearest to folder
    content = path.read_bytes()
    try:
        if content[:2] == b"\x1f\x8b":  # gzip's first bytes
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        sys.exit(f"{path} is damaged: {error}")
    count = (len(content) - 16) // PIXELS
    header = np.array([2051, count, SIDE, SIDE], ">i4").tobytes()  # 2051: IDX of uint8, 3 axes
    if count < 12 or content[:16] != header:
        sys.exit(f"{path} is not a complete IDX file of 12 or more images of {SIDE}x{SIDE}")
    print(f"Data: {path}, {count} images")
    return np.frombuffer(content, np.uint8, count * PIXELS, offset=16).reshape(-1, PIXELS)


def write_samples(gan, z, writer, folder, step):
    """Writes the averaged G's images of z as a PNG and as an event for TensorBoard."""
    path = Path(folder, "samples", f"step_{step:07d}.png")
    grid(gan.generate(z), f"step {step}").save(path)
    image = tf.Summary.Image(encoded_image_string=path.read_bytes())
    writer.add_summary(tf.Summary(value=[tf.Summary.Value(tag="samples", image=image)]), step)


def grid(images, caption):
    """Returns a picture: a square of images, uint8 [n, 784], at twice their size, and a caption."""
    n = int(np.ceil(np.sqrt(len(images))))
    padded = np.pad(images, [(0, n * n - len(images)), (0, 0)])
    rows = padded.reshape(n, n, SIDE, SIDE).swapaxes(1, 2).reshape(n * SIDE, n * SIDE)
    doubled = rows.repeat(2, axis=0).repeat(2, axis=1)
    picture = Image.fromarray(np.pad(doubled, [(0, 20), (0, 0)]))
    ImageDraw.Draw(picture).text([4, len(doubled) + 4], caption, fill=255)
    return picture


def write_losses(folder, g_loss):
    """Draws the curves of the run into losses.png; dashed: their values at D(x) = D(G(z)) = 1/2."""
    panels = [
        [("losses/D_loss", 2 * np.log(2)), ("losses/G_loss", G_LOSSES[g_loss])],
        [("probabilities/D_real", 0.5), ("probabilities/D_fake", 0.5)],
        [("accuracy/D", 0.5)],
    ]
    events = EventAccumulator(str(folder), {"scalars": 0}).Reload()  # 0: keeps all points
    figure = Figure([9, 8], layout="constrained")
    for axes, curves in zip(figure.subplots(3, 1, sharex=True), panels):
        for tag, half in curves:
            points = events.Scalars(tag)
            (line,) = axes.plot([p.step for p in points], [p.value for p in points], label=tag)
            axes.axhline(half, color=line.get_color(), linestyle="--")
            text = " guessing" if tag == "accuracy/D" else " D = 1/2"
            axes.annotate(text, [1, half], xycoords=("axes fraction", "data"), va="center")
        axes.legend(loc="lower right", bbox_to_anchor=[1, 1], ncol=2, frameon=False)
    for axes in figure.axes[1:]:
        axes.set_ylim(0, 1)
    figure.axes[-1].set_xlabel("training step")
    figure.savefig(folder / "losses.png")


def main():
    """Runs the command line."""
    flags = parse_flags()
    command = sample if flags.sample else start_or_resume
    try:
        command(flags)
    except KeyboardInterrupt:
        sys.exit(f'\nStopped. The same command with --output_dir "{flags.output_dir}" goes on.')


if __name__ == "__main__":
    main()
