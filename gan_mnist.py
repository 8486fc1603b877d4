"""The original GAN (Goodfellow et al. 2014, arXiv:1406.2661) on MNIST, in TensorFlow 1.x style.

A generator G turns noise z into digits, a discriminator D tells them from real digits x, and both
learn by playing against each other (GAN.play: read it first) for the value function, equation 1:

    min_G max_D  V(D, G) = E_x[log D(x)] + E_z[log(1 - D(G(z)))]
"""

import argparse
import gzip
import hashlib
import json
import logging
import os
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image


def import_tensorflow():
    """Imports TensorFlow as tf; late, for it takes seconds, and --help should not wait for them."""
    global tf
    sys.stderr = os.fdopen(os.dup(2), "w", 1)  # a copy, for Python's own messages
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # and TensorFlow's C++ writes nowhere
    logging.disable(logging.WARNING)
    import tensorflow.compat.v1 as tf

    tf.disable_eager_execution()
    tf.enable_resource_variables()  # without this and the next line 1.15 cannot compile the game
    tf.enable_control_flow_v2()


def fail(message, status=2):
    """Ends the script with one line; status 2: the user can mend it, 1: a fault on the way."""
    print("gan_mnist.py: error:", *str(message).split("Original stack")[0].split(), file=sys.stderr)
    sys.exit(status)


# ------------------------------------------------------------------------------------------ data

PIXELS, Z_SIZE, HIDDEN = 28 * 28, 100, 128
CHUNK = 100  # training steps that are drawn, and played, at one go
MNIST_URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"
MNIST = {  # file: SHA-256 of its download
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
}


def download(folder):
    """Fetches MNIST's two files into the folder once both are known to be right, or ends."""
    if not folder.is_dir():
        fail(f"--input_data_dir {folder}: no such folder; an empty one gets MNIST by download")
    try:
        files = {}
        for name, digest in MNIST.items():
            with urllib.request.urlopen(f"{MNIST_URL}{name}.gz", timeout=30) as answer:
                files[name] = answer.read()
            if hashlib.sha256(files[name]).hexdigest() != digest:
                raise ValueError(f"{name}.gz came with a wrong checksum")
        for name, content in files.items():
            (folder / f"{name}.gz").write_bytes(content)
    except Exception as error:  # noqa: BLE001, urllib raises classes of all kinds
        fail(f"--input_data_dir {folder}: put {'.gz and '.join(MNIST)}.gz there; {error}")


def read_idx(path):
    """The images of an IDX file, .gz or unpacked: uint8 [n, 784]; else the script ends."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        images = np.frombuffer(content, np.uint8, offset=16).reshape(-1, PIXELS)
        if np.frombuffer(content[:16], ">u4").tolist() != [2051, len(images), 28, 28]:
            raise ValueError("not an IDX file of 28x28 images")
    except Exception as error:  # noqa: BLE001, gzip, zlib and NumPy each have classes of their own
        fail(f"{path}: missing or damaged: {error}")
    return images


def load_data(folder):
    """Images to train, validate (the last twelfth, 5,000 at most) and test: uint8 [n, 784]."""
    paths = [folder / name if (folder / name).exists() else folder / f"{name}.gz" for name in MNIST]
    if not any(path.exists() for path in paths):
        download(folder)
    train, test = map(read_idx, paths)
    n = len(train) - min(5000, len(train) // 12)
    return train[:n], train[n:], test


def draw_chunk(flags, images, number):
    """All random draws of CHUNK steps, from the seed and the chunk's number alone.

    Returns: x, uint8 [CHUNK, d_step, batch, 784]; z, float32 in [0, 1), [CHUNK, d_step + g_step,
    batch, 100]; keep, for each call of D the hidden units that dropout keeps, bool [CHUNK,
    2 d_step + g_step, batch, 128].
    """
    rng = np.random.Generator(np.random.SFC64([flags.seed, number]))
    d, g, batch = flags.d_step, flags.g_step, flags.batch_size
    x = images[rng.integers(len(images), size=[CHUNK, d, batch])]
    z = rng.random([CHUNK, d + g, batch, Z_SIZE], np.float32)
    chance = rng.integers(256, size=[CHUNK, 2 * d + g, batch, HIDDEN], dtype=np.uint8)
    return x, z, chance >= 256 * flags.dropout  # a byte is drawn faster than a float


def minibatches(flags, chunk, i):
    """Step i of a chunk, in the graph: iterators over x in [0, 1], z in [-1, 1) and keep, now the
    factors of D's hidden units [batch, 128]. Each `next` is a minibatch not used before."""
    x, z, keep = [tf.cast(tf.gather(draws, i), tf.float32) for draws in chunk]
    x, z, keep = x / 255, 2 * z - 1, keep / (1 - flags.dropout)  # the mean of keep is 1 again
    return iter(tf.unstack(x)), iter(tf.unstack(z)), iter(tf.unstack(keep))


# -------------------------------------------------------------------------------------- networks
def layer(inputs, units, scope, activation):
    """Fully connected: activation(inputs W + b); a second call with the same scope reuses W, b."""
    normal, constant = tf.truncated_normal_initializer(stddev=0.1), tf.constant_initializer(0.1)
    with tf.variable_scope(scope, reuse=tf.AUTO_REUSE):
        W = tf.get_variable(scope[0] + "_weight", [inputs.shape[-1], units], initializer=normal)
        b = tf.get_variable(scope[0] + "_bias", [units], initializer=constant)
        return activation(tf.matmul(inputs, W) + b)


def generator(z):
    """G(z): noise [batch, 100], uniform in [-1, 1), to images [batch, 784] in (0, 1)."""
    hidden = layer(z, HIDDEN, "G_nn1", tf.tanh)
    return layer(hidden, PIXELS, "G_nn2", tf.sigmoid)


def discriminator(x, keep=None):
    """The logit [batch, 1] of D(x), x [batch, 784] in [0, 1]; keep: see minibatches."""
    hidden = layer(x, HIDDEN, "D_nn1", tf.tanh)
    return layer(hidden if keep is None else hidden * keep, 1, "D_nn2", tf.identity)


# ---------------------------------------------------------------------------------------- losses
def cross_entropy(logit, label):
    """Minibatch mean of -log D (label 1) or -log(1 - D) (label 0); from logits, so no log(0)."""
    labels = tf.fill(tf.shape(logit), label)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logit))


def discriminator_loss(logit_real, logit_fake):
    """D_loss = -V(D, G) of equation 1; 2 log 2 = 1.386 if D can only guess."""
    return cross_entropy(logit_real, 1.0) + cross_entropy(logit_fake, 0.0)


def generator_loss(logit_fake, kind):
    """G_loss: minimax E[log(1 - D(G(z)))]; else -E[log D(G(z))], steeper if D wins (section 3)."""
    return -cross_entropy(logit_fake, 0.0) if kind == "minimax" else cross_entropy(logit_fake, 1.0)


# -------------------------------------------------------------------------------------- the game
class GAN:
    """The two players, theta_D and theta_G with a solver each, and the game between them."""

    def play(self, first, last, *chunk):
        """THE GAME (algorithm 1): steps first to last - 1 of a chunk. Returns: the last losses."""
        i, D_loss, G_loss = first, 0.0, 0.0
        while i < last and tf.is_finite(D_loss + G_loss):  # by tf.function a loop of the graph
            x, z, keep = minibatches(self.flags, chunk, i)
            for _ in range(self.flags.d_step):  # D learns to tell x from G(z), theta_G rests
                logit_real = discriminator(next(x), next(keep))
                logit_fake = discriminator(generator(next(z)), next(keep))
                D_loss = discriminator_loss(logit_real, logit_fake)
                self.D_solver.minimize(D_loss, var_list=self.theta_D)

            for _ in range(self.flags.g_step):  # G learns to fool D, theta_D rests
                logit_fake = discriminator(generator(next(z)), next(keep))
                G_loss = generator_loss(logit_fake, self.flags.g_loss)
                self.G_solver.minimize(G_loss, var_list=self.theta_G)
                self.average.apply(self.theta_G)  # of which samples are drawn
            self.step.assign_add(1)
            i += 1
        return D_loss, G_loss

    def __init__(self, flags):
        """Makes all variables, and the losses to look at; restores the run's checkpoint if any."""
        self.flags, self.step = flags, tf.train.get_or_create_global_step()
        tf.set_random_seed(flags.seed)
        self.x = tf.placeholder(tf.float32, [None, PIXELS], name="input")
        self.z = tf.placeholder(tf.float32, [None, Z_SIZE], name="Z")
        logit_real, logit_fake = discriminator(self.x), discriminator(generator(self.z))
        with tf.name_scope("D_loss"):
            D_loss = discriminator_loss(logit_real, logit_fake)
        with tf.name_scope("G_loss"):
            G_loss = generator_loss(logit_fake, flags.g_loss)
        self.theta_D, self.theta_G = tf.trainable_variables("D_"), tf.trainable_variables("G_")
        self.D_solver = self.adam(flags.d_learning_rate, "D_Adam")
        self.G_solver = self.adam(flags.g_learning_rate, "G_Adam")
        # never run: TensorBoard draws them, and Adam's variables cannot be made inside a loop
        self.D_solver.minimize(D_loss, var_list=self.theta_D)
        self.G_solver.minimize(G_loss, var_list=self.theta_G)
        self.drawing = tf.get_default_graph().as_graph_def()
        self.charts = {"losses/D_loss": D_loss, "losses/G_loss": G_loss}
        self.charts["probabilities/D_real"] = tf.sigmoid(logit_real)
        self.charts["probabilities/D_fake"] = tf.sigmoid(logit_fake)
        self.average = tf.train.ExponentialMovingAverage(flags.ema_decay, self.step)
        self.average.apply(self.theta_G)  # never run, likewise
        averaged = lambda getter, **k: self.average.average(getter(**k))  # for get_variable
        with tf.variable_scope("", custom_getter=averaged):
            self.G_average = generator(self.z)  # draws better digits than theta_G itself
        self.session, self.saver = tf.Session(), tf.train.Saver(save_relative_paths=True)
        self.session.run(tf.global_variables_initializer())
        kept = tf.train.get_checkpoint_state(flags.output_dir)
        if kept:
            self.saver.restore(self.session, kept.model_checkpoint_path)
            self.saver.recover_last_checkpoints(kept.all_model_checkpoint_paths)

    def adam(self, rate, name):
        """Adam with a learning rate that halves every --lr_half_life steps; 0 stands for never."""
        half_life = self.flags.lr_half_life or np.inf
        decayed = lambda: tf.train.exponential_decay(rate, self.step, half_life, 0.5)
        return tf.train.AdamOptimizer(decayed, self.flags.beta1, self.flags.beta2, name=name)

    def compile(self, *chunk):
        """Makes play_compiled(first, last, *chunk): play by XLA or, where that fails, without."""
        arguments, game = (np.int32(0), np.int32(0), *chunk), tf.function(self.play)
        inputs = [tf.placeholder(a.dtype, a.shape) for a in arguments]
        try:
            losses = tf.xla.experimental.compile(game, inputs)
            self.session.run(losses, dict(zip(inputs, arguments)))  # 0 to 0: it compiles, no more
        except Exception as error:  # noqa: BLE001, the class depends on the platform
            losses = game(*inputs)
            print("No XLA, so training is slower:", str(error).split("\n")[0][:200])
        self.play_compiled = self.session.make_callable(losses, inputs)

    def digits(self, n, seed):
        """n digits of the averaged G, the same for the same seed: uint8 [n, 784]."""
        z = np.random.RandomState(seed).uniform(-1, 1, [n, Z_SIZE])
        return np.uint8(255 * self.session.run(self.G_average, {self.z: z}) + 0.5)


# ------------------------------------------------------------------------------------- summaries
def parzen_log_likelihood(samples, validation, test):
    """Returns: mean log-likelihood of test in nats, its standard error, and sigma: by a Gaussian
    of width sigma on each sample, the sigma best for validation (section 5). All uint8 [n, 784]."""
    samples = np.float32(samples) / 255

    def log_densities(images, widths):  # the nearest sample is factored out: no exp underflows
        images = np.float32(images) / 255
        squares = (images**2).sum(1)[:, None] + (samples**2).sum(1) - 2 * images @ samples.T
        nearest = squares.min(1, keepdims=True)
        means = np.array([np.exp((nearest - squares) / np.float32(w)).mean(1) for w in widths])
        return np.log(means) - nearest.T / widths - PIXELS / 2 * np.log(np.pi * widths)

    widths = 2 * np.geomspace(0.1, 0.5, 25)[:, None] ** 2  # 2 sigma^2
    best = widths[log_densities(validation, widths).mean(1).argmax()]
    blocks = np.array_split(test, len(test) // 500 + 1)  # so that memory stays small
    scores = np.concatenate([log_densities(block, best[None])[0] for block in blocks])
    return scores.mean(), scores.std() / np.sqrt(len(scores)), np.sqrt(best.item() / 2)


def save_grid(path, digits):
    """Writes the digits, uint8 [n, 784], as one square PNG, twice enlarged."""
    side = int(np.ceil(np.sqrt(len(digits))))
    grid = np.pad(digits, [(0, side**2 - len(digits)), (0, 0)])
    grid = grid.reshape(side, side, 28, 28).swapaxes(1, 2).reshape(side * 28, side * 28)
    Image.fromarray(grid.repeat(2, 0).repeat(2, 1)).save(path)


def save_curves(path, tags):
    """Draws the curves of the run beside it: points light, the mean of their neighbours dark."""
    from matplotlib.figure import Figure  # here, for these take their time
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events, figure = EventAccumulator(str(path.parent), {"scalars": 0}).Reload(), Figure((8, 7))
    panels = figure.subplots(2, 1, sharex=True)
    for axes, pair, optimum in zip(panels, (tags[:2], tags[2:]), (2 * np.log(2), 0.5)):
        for tag, color in zip(pair, ("C0", "C1")):
            steps, values = np.array([(point.step, point.value) for point in events.Scalars(tag)]).T
            means = [values[abs(steps - step) <= 0.1 * step].mean() for step in steps]
            axes.plot(steps, values, color, alpha=0.3)
            axes.plot(steps, means, color, label=tag)
        axes.axhline(optimum, color="gray", ls="--", label=f"optimum of {pair[0]}")
        axes.set_xscale("symlog", linthresh=min(1000, steps[-1] / 10 + 1))
        axes.legend()
    panels[1].set_xlabel("training step")
    figure.savefig(path, bbox_inches="tight")


# ------------------------------------------------------------------------------------------ loop
def watch(gan, flags, held_out, step):
    """A tf.Summary of what is due at this step: a point of the curves; a picture, with score."""
    (validation, test), summary = held_out, tf.Summary()
    if step % flags.summary_steps == 0:
        z = np.random.RandomState(flags.seed).uniform(-1, 1, [256, Z_SIZE])
        feed = {gan.x: np.float32(validation[:256]) / 255, gan.z: z}
        for tag, value in gan.session.run(gan.charts, feed).items():
            summary.value.add(tag=tag, simple_value=value.mean())
    if step in (0, 100, 200, 500, 1000, 2000, flags.max_steps) or step % 5000 == 0:
        png = Path(flags.output_dir, "samples", f"step_{step:07d}.png")
        save_grid(png, gan.digits(64, flags.seed))
        summary.value.add(tag="samples", image={"encoded_image_string": png.read_bytes()})
        samples = gan.digits(10_000, flags.seed + 1)  # of other z than the picture
        score = parzen_log_likelihood(samples, validation[:20], test[:200])  # an estimate
        summary.value.add(tag="score/parzen_log_likelihood", simple_value=score[0])
    return summary


def finish(gan, flags, held_out):
    """Draws the curves and the animation, scores the samples, says where the pictures are."""
    (validation, test), folder = held_out, Path(flags.output_dir)
    save_curves(folder / "losses.png", list(gan.charts))
    pngs = sorted(folder.glob("samples/step_*.png"))
    first, *others = [Image.open(png).copy() for png in pngs]  # a copy closes its file
    times, gif = [300] * len(others) + [3000], folder / "samples.gif"  # milliseconds
    first.save(gif, save_all=True, append_images=others, duration=times, loop=0)
    score = parzen_log_likelihood(gan.digits(10_000, flags.seed + 1), validation[:500], test)
    print("\nParzen log-likelihood {:.1f} +- {:.1f} nats, sigma {:.3f}".format(*score))
    print(f"Pictures: {pngs[-1]}, {gif}, {folder / 'losses.png'}")
    print(f"Curves: {sys.executable} -m tensorboard.main --logdir {folder.parent}")


def train(flags):
    """Plays the game up to --max_steps, with points, pictures and checkpoints on the way."""
    images, *held_out = load_data(Path(flags.input_data_dir))
    folder = Path(flags.output_dir)
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    (folder / "flags.part").write_text(json.dumps(vars(flags), indent=2, default=str))
    (folder / "flags.part").replace(folder / "flags.json")  # whole, whenever the script is killed
    print(f"Run: {folder} (if stopped, --output_dir {folder} goes on)")
    import_tensorflow()
    gan, in_place = GAN(flags), sys.stdout.isatty()
    step = first_step = int(gan.session.run(gan.step))
    chunk = draw_chunk(flags, images, step // CHUNK)
    gan.compile(*chunk)
    writer = tf.summary.FileWriter(flags.output_dir)
    # with START, TensorBoard drops what a killed process has shown from this step on
    writer.add_session_log(tf.SessionLog(status=tf.SessionLog.START), step)
    if step == 0:
        writer.add_graph(None, graph_def=gan.drawing)
        text = "".join(f"    --{name} {value}\n" for name, value in vars(flags).items())
        writer.add_summary(gan.session.run(tf.summary.text("flags", tf.constant(text))))
    writer.add_summary(watch(gan, flags, held_out, step), step)
    start = saved = time.perf_counter()

    while step < flags.max_steps:
        first, to_point = step % CHUNK, flags.summary_steps - step % flags.summary_steps
        last = min(CHUNK, first + to_point, first + flags.max_steps - step)
        if first == 0:
            chunk = draw_chunk(flags, images, step // CHUNK)
        D_loss, G_loss = gan.play_compiled(first, last, *chunk)
        step += last - first
        if not np.isfinite(D_loss + G_loss):
            writer.flush()
            fail(f"a loss is not finite at step {gan.session.run(gan.step)}; try lower rates", 1)

        summary, now = watch(gan, flags, held_out, step), time.perf_counter()
        rate = (step - first_step) / (now - start)
        if summary.value:
            summary.value.add(tag="speed/steps_per_second", simple_value=rate)
            writer.add_summary(summary, step)
        if step == flags.max_steps or now > saved + 10:
            writer.flush()  # first, for what is after a checkpoint is played again
            gan.saver.save(gan.session, f"{folder}/model.ckpt", step, write_meta_graph=False)
            saved = now
        if step == flags.max_steps or step % (100 if in_place else 5000) == 0:
            line = f"step {step}/{flags.max_steps}  D_loss {D_loss:.3f}  G_loss {G_loss:.3f}  "
            line += f"{rate:.0f} steps/s  {(flags.max_steps - step) / rate:.0f} s left  "
            print(line, end="\r" if in_place else "\n", flush=True)
    writer.close()
    finish(gan, flags, held_out)


def sample(flags):
    """Draws digits with the averaged weights of a run: generated.png, generated.npy."""
    import_tensorflow()
    gan, npy = GAN(flags), Path(flags.output_dir, "generated.npy")
    if not gan.saver.last_checkpoints:
        fail(f"--output_dir {flags.output_dir}: no checkpoint there, which --sample needs")
    digits = gan.digits(flags.sample, flags.seed)
    np.save(npy, digits.reshape(-1, 28, 28))
    save_grid(npy.with_suffix(".png"), digits)
    print(f"{len(digits)} digits: {npy}, {npy.with_suffix('.png')}")


# ---------------------------------------------------------------------------------- command line

FLAGS = (  # name, default, least, most, meaning
    ("sample", 0, 0, 100_000, "no training: draw this many digits with the run in --output_dir"),
    ("max_steps", 75_000, 1, 9_999_999, "training steps"),
    ("batch_size", 128, 1, 10_000, "images, or z, in a minibatch"),
    ("d_step", 1, 1, 20, "updates of D in a training step"),
    ("g_step", 1, 1, 20, "updates of G in a training step"),
    ("d_learning_rate", 1e-3, 0.0, 10.0, "Adam's learning rate for D"),
    ("g_learning_rate", 8e-3, 0.0, 10.0, "Adam's learning rate for G"),
    ("lr_half_life", 20_000, 0, 10**9, "steps in which both learning rates halve; 0: never"),
    ("beta1", 0.0, 0.0, 0.999, "Adam's decay of its mean gradient"),
    ("beta2", 0.99, 0.0, 0.99999, "Adam's decay of its mean squared gradient"),
    ("dropout", 0.5, 0.0, 0.9, "share of D's hidden units left out at random"),
    ("ema_decay", 0.9999, 0.0, 0.999999, "decay of the average of G's weights; 0: none"),
    ("seed", 0, 0, 2**31 - 2, "of all that is random; with --sample, of the z"),
    ("summary_steps", 100, 1, 10**9, "steps between two points of the curves"),
)
MAY_CHANGE = {"max_steps", "summary_steps", "input_data_dir", "output_dir"}


def parse_flags(argv):
    """Flags from argv, then from the run in --output_dir; a wrong one ends the script."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.description, parser.error = __doc__.split("\n")[0], fail
    folder = Path(__file__).resolve().with_name("MNIST_data")
    parser.add_argument("--input_data_dir", default=folder, type=os.path.abspath, help="IDX files")
    folder = f"outputs/{time.strftime('%m%d-%H%M%S')}-{os.getpid()}"
    parser.add_argument("--output_dir", default=folder, help="this run; one that is there goes on")
    kinds = ["non_saturating", "minimax"]
    parser.add_argument("--g_loss", default=kinds[0], choices=kinds, help="what G minimises")
    for name, default, _, _, meaning in FLAGS:
        parser.add_argument("--" + name, type=type(default), default=default, help=meaning)
    # parsed twice: to find the run, then with its flags as the defaults
    file = Path(parser.parse_args(argv).output_dir, "flags.json")
    saved = json.loads(file.read_text()) if file.exists() else {}
    parser.set_defaults(**saved)
    flags = parser.parse_args(argv)
    for name, _, least, most, _ in FLAGS:
        if not least <= vars(flags)[name] <= most:
            fail(f"--{name} {vars(flags)[name]}: it must be from {least} to {most}")
    changed = [n for n in saved if n not in MAY_CHANGE and saved[n] != vars(flags)[n]]
    if changed and not flags.sample:
        fail(f"the run in {flags.output_dir} has {', '.join(f'--{n} {saved[n]}' for n in changed)}")
    return flags


def main(argv=None):
    """Runs the command line. Exit status: 0 done, 1 fault, 2 bad input, 130 Ctrl-C."""
    try:
        flags = parse_flags(argv)
        sample(flags) if flags.sample else train(flags)
    except KeyboardInterrupt:
        print("\nStopped")
        sys.exit(130)
    except Exception as error:  # noqa: BLE001, one line for all, and no traceback
        fail(f"{type(error).__name__}: {error}", 1 if "tensorflow" in sys.modules else 2)


if __name__ == "__main__":
    main()
