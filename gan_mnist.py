"""The original GAN (Goodfellow et al. 2014, arXiv:1406.2661) on MNIST, in TensorFlow 1.x style.

The generator G turns noise z into digits, the discriminator D tells them from real digits x, and
both learn by playing against each other for the value function (equation 1 of the paper):

    min_G max_D  V(D, G) = E_x[log D(x)] + E_z[log(1 - D(G(z)))]

The file reads in the order in which it runs: data, networks, losses, updates, summaries, loop,
command line. The GAN itself is networks, losses and updates; the rest feeds, shows and keeps it.
"""

import argparse
import contextlib
import difflib
import fcntl
import functools
import gzip
import hashlib
import json
import os
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import time
import zlib
from datetime import datetime, timedelta

import numpy as np
from PIL import Image


class BadInput(Exception):
    """What the user can mend: one line and exit status 2, before anything is written."""


@functools.lru_cache(maxsize=1)
def import_tensorflow():
    """Imports TensorFlow as tf; late, for it takes seconds, and --help should not wait for them."""
    global tf
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # C++ writes to file 2 whatever the log level: that is silenced, Python's stderr is a copy of it
    sys.stderr = os.fdopen(os.dup(2), "w", 1, errors="backslashreplace")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    import tensorflow.compat.v1 as tf

    tf.logging.set_verbosity(tf.logging.ERROR)
    tf.disable_eager_execution()
    tf.enable_resource_variables()  # without this and the next line 1.15 cannot compile the game
    tf.enable_control_flow_v2()


# ------------------------------------------------------------------------------------------ data

PIXELS, MOST_IMAGES = 28 * 28, 1_000_000
MNIST = {  # file: SHA-256 of its unpacked bytes
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
}
MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)


def read_idx(path):
    """Reads an IDX file of 28x28 images, gzipped if it ends in .gz: uint8 [n, 784], 255 is white.

    Raises: BadInput if it is anything else, damaged, or holds more than MOST_IMAGES.
    """
    try:
        with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
            magic, n, *size = np.frombuffer(file.read(16).ljust(16, b"\0"), ">u4").tolist()
            right = (magic, *size) == (2051, 28, 28) and 0 < n <= MOST_IMAGES
            pixels = file.read(right * n * PIXELS + 1)  # no more, however much a gzip bomb holds
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: damaged or unreadable ({error}); fetch it again") from error
    if not right or len(pixels) != n * PIXELS:
        raise BadInput(
            f"{path}: magic number {magic}{' (labels)' * (magic == 2049)}, {n} images of {size}, "
            f"{16 + len(pixels)} bytes read; needed are 2051, 1 to {MOST_IMAGES} images of [28, 28]"
        )
    return np.frombuffer(pixels, np.uint8).reshape(n, PIXELS)


def sha256(images):
    """SHA-256 of the unpacked IDX file that holds these images."""
    digest = hashlib.sha256(np.array([2051, len(images), 28, 28], ">u4"))
    digest.update(images)
    return digest.hexdigest()


def download(name, folder):
    """Fetches one of MNIST's files into folder, under its name only if whole and right."""
    import_tensorflow()
    socket.setdefaulttimeout(30)
    reasons = []
    for url in (f"{mirror}{name}.gz" for mirror in MIRRORS):
        try:
            with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as scratch:
                file = tf.keras.utils.get_file("file.gz", url, cache_dir=scratch, cache_subdir="")
                images = read_idx(file)
                if sha256(images) != MNIST[name]:
                    raise OSError("wrong checksum")
                os.replace(file, os.path.join(folder, name + ".gz"))
                return images
        except Exception as error:  # noqa: BLE001, get_file raises no narrower class
            reasons.append(f"{url}: {'damaged' if isinstance(error, BadInput) else error}")
    wanted = ".gz, ".join(MNIST)
    raise BadInput(f"--input_data_dir {folder}: put {wanted}.gz there; {'; '.join(reasons)}")


def load_data(folder):
    """Reads the data set, after downloading what is missing of MNIST.

    Returns: uint8 [n, 784] for training, validation (the last twelfth of the training file, 5,000
    at most) and test images, and the SHA-256 of both files. Raises: BadInput.
    """
    if not folder.isprintable() or not os.path.isdir(folder):
        what = "no such folder with a printable name; make it, and MNIST is downloaded there"
        raise BadInput(f"--input_data_dir {folder}: {what}")
    found = {}
    for name in MNIST:
        for path in (os.path.join(folder, name + end) for end in ("", ".gz")):
            if name not in found and os.path.exists(path):
                found[name] = read_idx(path)
    for name in set(MNIST) - set(found):
        if any(sha256(images) != MNIST[other] for other, images in found.items()):
            raise BadInput(f"--input_data_dir {folder}: {name}.gz is missing beside the other file")
        found[name] = download(name, folder)
    train, test = (found[name] for name in MNIST)
    held_out = min(5000, len(train) // 12)
    if not held_out:
        raise BadInput(f"--input_data_dir {folder}: {len(train)} training images are too few")
    return train[:-held_out], train[-held_out:], test, sha256(train) + sha256(test)


@functools.lru_cache(maxsize=2)
def epoch_order(seed, epoch, n):
    """The order in which an epoch visits the n training images."""
    return np.random.RandomState([seed, epoch]).permutation(n)


def minibatch_indices(seed, n, start, count):
    """Indices of `count` images from place `start` of the endless row of shuffled epochs."""
    epochs = range(start // n, (start + count) // n + 1)
    return np.concatenate([epoch_order(seed, e, n) for e in epochs])[start % n :][:count]


def chunk_size(flags):
    """How many training steps are drawn, and played, at one go."""
    return max(1, 3200 // flags.batch_size)


def draw_chunk(flags, images, chunk):
    """All that chance decides in a chunk of steps, from the seed and the chunk's number alone.

    Returns: minibatches x (0 to 255) for the updates of D; random bits, int32, for D's updates and
    for G's, in each row those of z and of dropout. Shapes [step, update, row, column].
    """
    size, batch = chunk_size(flags), flags.batch_size
    rng = np.random.SFC64([flags.seed, chunk])

    def bits(updates, columns):
        raw = rng.random_raw(size * updates * batch * columns // 2)  # 64 bits each
        return raw.view(np.int32).reshape(size, updates, batch, columns)

    count = size * flags.d_step * batch
    x = images[minibatch_indices(flags.seed, len(images), chunk * count, count)]
    x = x.reshape(size, flags.d_step, batch, PIXELS)
    return x, bits(flags.d_step, Z_SIZE + 2 * HIDDEN), bits(flags.g_step, Z_SIZE + HIDDEN)


# -------------------------------------------------------------------------------------- networks

Z_SIZE, HIDDEN = 100, 128


def layer(inputs, units, scope, activation):
    """A fully connected layer: activation(inputs W + b), and inputs W + b itself.

    Another call with the same scope shares W and b.
    """
    normal, constant = tf.truncated_normal_initializer(stddev=0.1), tf.constant_initializer(0.1)
    with tf.variable_scope(scope, reuse=tf.AUTO_REUSE):
        W = tf.get_variable(scope[0] + "_weight", [inputs.shape[-1], units], initializer=normal)
        b = tf.get_variable(scope[0] + "_bias", [units], initializer=constant)
        linear = tf.matmul(inputs, W) + b
        return activation(linear), linear


def generator(z):
    """G(z): noise [batch, 100], uniform in (-1, 1), to images [batch, 784] in (0, 1)."""
    hidden, _ = layer(z, HIDDEN, "G_nn1", tf.tanh)
    return layer(hidden, PIXELS, "G_nn2", tf.sigmoid)[0]


def discriminator(x, dropout=None):
    """D(x): images [batch, 784] to the probability [batch, 1] that they are real, and its logit.

    dropout: factors [batch, 128] of the hidden units in training; the paper's D had dropout too.
    """
    hidden, _ = layer(x, HIDDEN, "D_nn1", tf.tanh)
    return layer(hidden if dropout is None else hidden * dropout, 1, "D_nn2", tf.sigmoid)


# ---------------------------------------------------------------------------------------- losses


def cross_entropy(logit, label):
    """Minibatch mean of -log D (label 1) or -log(1 - D) (label 0), in nats, for any logit."""
    labels = tf.fill(tf.shape(logit), label)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logit))


def discriminator_loss(logit_real, logit_fake):
    """D_loss = -V(D, G) of equation 1; 2 log 2 if D can only guess."""
    return cross_entropy(logit_real, 1.0) + cross_entropy(logit_fake, 0.0)


def generator_loss(logit_fake, kind):
    """G_loss: "minimax" is G's part of V, E[log(1 - D(G(z)))]; "non_saturating" is
    -E[log D(G(z))], which still teaches G when D wins easily (end of section 3)."""
    if kind == "minimax":
        return -cross_entropy(logit_fake, 0.0)
    return cross_entropy(logit_fake, 1.0)


# --------------------------------------------------------------------------------------- updates


class GAN:
    """The two players as a TensorFlow graph, and the game between them."""

    def __init__(self, flags):
        """Builds the algorithm for one minibatch, as TensorBoard draws it."""
        self.flags, self.step = flags, tf.train.get_or_create_global_step()
        self.x = tf.placeholder(tf.float32, [None, PIXELS], name="input")
        self.z = tf.placeholder(tf.float32, [None, Z_SIZE], name="Z")
        D_real, logit_real = discriminator(self.x)
        D_fake, logit_fake = discriminator(generator(self.z))
        with tf.name_scope("D_loss"):
            D_loss = discriminator_loss(logit_real, logit_fake)
        with tf.name_scope("G_loss"):
            G_loss = generator_loss(logit_fake, flags.g_loss)
        self.theta_D, self.theta_G = tf.trainable_variables("D_"), tf.trainable_variables("G_")
        self.D_solver = self.adam(flags.d_learning_rate, "D_Adam")
        self.G_solver = self.adam(flags.g_learning_rate, "G_Adam")
        # these two are for the picture; play, below, makes the same updates, with dropout, in XLA
        self.D_update = self.D_solver.minimize(D_loss, var_list=self.theta_D)
        self.G_update = self.G_solver.minimize(G_loss, var_list=self.theta_G)
        self.charts = {"D_loss": D_loss, "G_loss": G_loss}
        with tf.name_scope("means"):
            self.charts.update(D_real=tf.reduce_mean(D_real), D_fake=tf.reduce_mean(D_fake))

    def adam(self, rate, name):
        """Adam with a learning rate that halves every --lr_half_life steps; 0 stands for never."""
        half_life = self.flags.lr_half_life or np.inf
        decayed = functools.partial(tf.train.exponential_decay, rate, self.step, half_life, 0.5)
        return tf.train.AdamOptimizer(decayed, self.flags.beta1, self.flags.beta2, name=name)

    def compile(self, chunk):
        """Adds what TensorBoard should not draw: averages of theta_G, and the game, for XLA."""
        self.average = tf.train.ExponentialMovingAverage(self.flags.ema_decay, self.step)
        self.average.apply(self.theta_G)

        def averaged(getter, *args, **kwargs):
            return self.average.average(getter(*args, **kwargs))

        with tf.variable_scope("", custom_getter=averaged):
            self.G_average = generator(self.z)
        moves = (np.int32(0), np.int32(0), *chunk)
        self.inputs = [tf.placeholder(move.dtype, move.shape) for move in moves]
        self.losses = tf.xla.experimental.compile(tf.function(self.play), self.inputs)

    def play(self, first, last, x, D_bits, G_bits):
        """THE GAME (the paper's algorithm 1): training steps first to last - 1 of a chunk.

        Returns: both losses of the last step; one that is not finite ends the game at once.
        """
        i, D_loss, G_loss = first, 0.0, 0.0
        while i < last and tf.is_finite(D_loss + G_loss):
            for k in range(self.flags.d_step):
                D_loss = self.update_D(tf.gather(x, i)[k], tf.gather(D_bits, i)[k])
            for k in range(self.flags.g_step):
                G_loss = self.update_G(tf.gather(G_bits, i)[k])
            self.step.assign_add(1)
            i += 1
        return D_loss, G_loss

    def update_D(self, x, bits):
        """One Adam update of theta_D on a minibatch x (0 to 255) and z. Returns: D_loss before."""
        z, *dropout = tf.split(uniform(bits), [Z_SIZE, HIDDEN, HIDDEN], 1)
        images = tf.concat([tf.cast(x, tf.float32) / 255, generator(z)], 0)
        _, logit = discriminator(images, self.dropout(tf.concat(dropout, 0)))  # faster than twice
        D_loss = discriminator_loss(*tf.split(logit, 2))
        self.D_solver.minimize(D_loss, var_list=self.theta_D)
        return D_loss

    def update_G(self, bits):
        """One Adam update of theta_G on z, then of its average. Returns: G_loss before."""
        z, dropout = tf.split(uniform(bits), [Z_SIZE, HIDDEN], 1)
        _, logit_fake = discriminator(generator(z), self.dropout(dropout))
        G_loss = generator_loss(logit_fake, self.flags.g_loss)
        self.G_solver.minimize(G_loss, var_list=self.theta_G)
        self.average.apply(self.theta_G)
        return G_loss

    def dropout(self, chance):
        """Factors [batch, 128]: 0 for a share --dropout of the units; for the others such that
        the mean is 1."""
        kept = chance >= 2 * self.flags.dropout - 1
        return tf.cast(kept, tf.float32) / (1 - self.flags.dropout)


def uniform(bits):
    """Random bits, int32, as numbers uniform in [-1, 1]."""
    return tf.cast(bits, tf.float32) / 2**31


# ------------------------------------------------------------------------------------- summaries


def parzen_log_densities(images, samples, sigmas):
    """Log densities of images under Gaussian windows on the samples (section 5 of the paper).

    Both uint8 [n, 784], taken as 0 to 1. Returns: nats, float64 [len(sigmas), len(images)].
    """
    densities, samples = np.empty([len(sigmas), len(images)]), np.float32(samples) / 255
    norms = np.einsum("ij,ij->i", samples, samples)
    for first in range(0, len(images), 200):  # block by block, so that memory stays small
        block = np.float32(images[first : first + 200]) / 255
        squares = (block**2).sum(1)[:, None] + norms - 2 * block @ samples.T
        nearest = squares.min(1)
        squares -= nearest[:, None]
        for row, sigma in zip(densities, sigmas):
            windows = np.exp(squares / np.float32(-2 * sigma**2))
            log_mean = np.log(windows.mean(1, dtype=np.float64)) - nearest / (2 * sigma**2)
            row[first : first + 200] = log_mean - PIXELS / 2 * np.log(2 * np.pi * sigma**2)
    return densities


def parzen_log_likelihood(samples, validation, test):
    """Mean log-likelihood of test in nats, its standard error, the sigma best for validation."""
    sigmas = np.geomspace(0.1, 0.5, 25)
    sigma = sigmas[parzen_log_densities(validation, samples, sigmas).mean(1).argmax()]
    densities = parzen_log_densities(test, samples, [sigma])[0]
    return densities.mean(), densities.std() / np.sqrt(len(test)), sigma


def noise(n, seed):
    """n z to look at, the same for the same seed: float32 [n, 100]."""
    return np.float32(np.random.RandomState(seed).uniform(-1, 1, [n, Z_SIZE]))


def draw_samples(session, G_sample, z, values):
    """The images that G makes of the values [n, 100] of z: uint8 [n, 784]."""
    blocks = [values[first : first + 1000] for first in range(0, len(values), 1000)]
    return np.concatenate([np.uint8(session.run(G_sample, {z: b}) * 255 + 0.5) for b in blocks])


@contextlib.contextmanager
def whole_file(path):
    """Yields a file that gets its name only when it is complete."""
    with open(path + ".part", "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".part", path)


def save_grid(path, digits):
    """Writes the digits, uint8 [n, 784], as one PNG, about square, white on black."""
    columns = int(np.ceil(np.sqrt(len(digits))))
    rows = -(-len(digits) // columns)
    grid = np.pad(digits, [(0, rows * columns - len(digits)), (0, 0)], "constant")
    grid = grid.reshape(rows, columns, 28, 28).swapaxes(1, 2).reshape(rows * 28, columns * 28)
    with whole_file(path) as file:
        Image.fromarray(grid).save(file, "PNG")


def save_animation(path, pngs):
    """Writes the pictures as a GIF of 100 frames at most, the last one held for two seconds."""
    chosen = np.unique(np.linspace(0, len(pngs) - 1, 100).astype(int))
    first, *others = [Image.open(pngs[k]).copy() for k in chosen]
    times = [100] * len(others) + [2000]  # milliseconds
    with whole_file(path) as file:
        first.save(file, "GIF", save_all=True, append_images=others, duration=times, loop=0)


def save_curves(path, history):
    """Draws losses and probabilities over the steps; history: {step: {"D_loss": ..., ...}}."""
    from matplotlib.figure import Figure  # here, for it takes its time

    figure, steps = Figure(figsize=(8, 7)), sorted(history)
    losses, chances = figure.subplots(2, 1, sharex=True)
    losses.axhline(2 * np.log(2), color="gray", ls="--", label="2 log 2: D_loss at the optimum")
    chances.axhline(0.5, color="gray", ls="--", label="1/2: both at the optimum")
    names = {"D_loss": "D_loss", "G_loss": "G_loss", "D_real": "D(x)", "D_fake": "D(G(z))"}
    for axes, (tag, name) in zip((losses, losses, chances, chances), names.items()):
        axes.plot(steps, [history[step][tag] for step in steps], label=name)
        axes.legend()
    losses.set(title="The game, on held-out digits", ylabel="loss (nats)")
    chances.set(xlabel="training step", ylabel="probability of being real", ylim=(0, 1))
    with whole_file(path) as file:
        figure.savefig(file, format="png", bbox_inches="tight")


def read_history(folder):
    """What the event files hold, {step: {"D_loss": ..., ...}}, up to where a kill cut them off."""
    history = {}
    for path in sorted(tf.gfile.Glob(os.path.join(folder, "events.out.tfevents.*"))):
        with contextlib.suppress(tf.errors.DataLossError):
            for event in tf.train.summary_iterator(path):
                values = {v.tag: v.simple_value for v in event.summary.value}
                if "D_loss" in values:
                    history[event.step] = values
    return history


# ------------------------------------------------------------------------------------------ loop

CHECKPOINT_SECONDS = 20


def checkpoints(folder):
    """Paths of the checkpoints in the folder, oldest first."""
    steps = [name[11:-6] for name in os.listdir(folder) if name.endswith(".index")]
    steps = sorted(int(step) for step in steps if step.isdigit())
    return [os.path.join(folder, f"model.ckpt-{step}") for step in steps]


def restore(session, folder, variables=None):
    """Restores the newest whole checkpoint, if there is one. Returns: the Saver.

    Raises: BadInput if there are some, but none of these networks and whole.
    """
    saver = tf.train.Saver(variables, save_relative_paths=True)
    paths = checkpoints(folder)
    for path in reversed(paths):
        try:
            saver.restore(session, path)
            shaped = tf.global_variables()  # of which Saver does not check the shapes
            if [value.shape for value in session.run(shaped)] != [v.shape for v in shaped]:
                raise ValueError("variables of other shapes")
            saver.recover_last_checkpoints(paths[: paths.index(path) + 1])
            return saver
        except (tf.errors.OpError, ValueError) as error:
            reason = f"{path}: {str(error).splitlines()[0]}"
    if paths:
        raise BadInput(f"--output_dir {folder}: damaged, or of other networks: {reason}")
    return saver


class Run:
    """A run: the game in a session, and the folder that keeps and shows it."""

    def __init__(self, flags, data):
        """Builds and compiles the game; restores it if the folder holds an earlier part of it."""
        self.flags, self.folder, self.data = flags, flags.output_dir, data
        os.makedirs(os.path.join(self.folder, "samples"), exist_ok=True)
        tf.set_random_seed(flags.seed)
        self.gan = GAN(flags)
        picture = tf.get_default_graph().as_graph_def()
        chunk = draw_chunk(flags, data[0], 0)
        self.gan.compile(chunk)
        self.session = tf.Session()
        self.session.run(tf.global_variables_initializer())
        self.saver = restore(self.session, self.folder)
        no_steps = dict(zip(self.gan.inputs, (0, 0, *chunk)))
        self.session.run(self.gan.losses, no_steps)  # here XLA compiles
        self.step = int(self.session.run(self.gan.step))
        self.history = read_history(self.folder)
        self.writer = tf.summary.FileWriter(self.folder)
        if not self.history:
            self.writer.add_graph(None, graph_def=picture)
            table = "".join(f"\n| {name} | {value} |" for name, value in vars(flags).items())
            table = tf.summary.text("flags", tf.constant("| flag | value |\n|---|---|" + table))
            self.writer.add_summary(self.session.run(table))
        os.dup2(sys.stderr.fileno(), 2)  # a crash in C++ may speak from here on
        self.told, self.saved = 0.0, time.monotonic()
        self.first_step, self.start = self.step, self.saved

    def play(self):
        """Plays to the end of the chunk, to the next summary or to the last step."""
        flags, size = self.flags, chunk_size(self.flags)
        chunk, first = divmod(self.step, size)
        due = flags.summary_steps - self.step % flags.summary_steps
        last = min(size, first + due, first + flags.max_steps - self.step)
        moves = (first, last, *draw_chunk(flags, self.data[0], chunk))
        losses = self.session.run(self.gan.losses, dict(zip(self.gan.inputs, moves)))
        self.step = int(self.session.run(self.gan.step))
        self.rate = (self.step - self.first_step) / (time.monotonic() - self.start)
        self.require_finite(*losses)
        self.tell(*losses)

    def require_finite(self, D_loss, G_loss):
        """Raises: RuntimeError if a loss is not finite."""
        if not np.isfinite(D_loss + G_loss):
            raise RuntimeError(
                f"D_loss {D_loss}, G_loss {G_loss} at step {self.step}; the last good state is "
                f"{checkpoints(self.folder)[-1]}; smaller learning rates may help"
            )

    def tell(self, D_loss, G_loss):
        """The progress line: in place on a terminal, a line now and then elsewhere."""
        now, in_place = time.monotonic(), sys.stdout.isatty()
        if now - self.told > (0.5 if in_place else 15) or self.step == self.flags.max_steps:
            self.told = now
            left = timedelta(seconds=int((self.flags.max_steps - self.step) / self.rate))
            line = f"step {self.step}/{self.flags.max_steps}  D_loss {D_loss:.3f}  "
            line += f"G_loss {G_loss:.3f}  {self.rate:.0f} steps/s  {left} left"
            print(f"\r{line}\033[K" if in_place else line, end="" if in_place else "\n", flush=True)

    def png(self, step):
        """Path of a step's picture."""
        return os.path.join(self.folder, "samples", f"step_{step:07d}.png")

    def samples(self, n, seed):
        """n digits of the averaged weights: uint8 [n, 784]."""
        return draw_samples(self.session, self.gan.G_average, self.gan.z, noise(n, seed))

    def summarise(self, charts):
        """Adds this step, with its charts, to curves and pictures."""
        samples = self.samples(10_000, self.flags.seed + 1)
        score = parzen_log_likelihood(samples, self.data[1][:40], self.data[2][:200])  # cheap
        charts["parzen_log_likelihood"] = score[0]
        if self.step > self.first_step:
            charts["steps_per_second"] = self.rate
        save_grid(self.png(self.step), self.samples(64, self.flags.seed))
        with open(self.png(self.step), "rb") as file:
            image = tf.Summary.Image(encoded_image_string=file.read())
        summary = tf.Summary(value=[tf.Summary.Value(tag="samples", image=image)])
        for tag, value in charts.items():
            summary.value.add(tag=tag, simple_value=value)
        self.writer.add_summary(summary, self.step)
        self.writer.flush()
        self.history[self.step] = charts

    def observe(self, over=False):
        """Adds a checkpoint, and before it a summary, where they are due.

        Raises: OSError if they might not fit or the folder is gone; RuntimeError if a loss is not
        finite, for that state is none to go on from.
        """
        due = self.step % self.flags.summary_steps == 0 or self.step == self.flags.max_steps
        if not (due or over or time.monotonic() - self.saved > CHECKPOINT_SECONDS):
            return
        if shutil.disk_usage(self.folder).free < 8 << 20:
            raise OSError(f"the disk of {self.folder} is full: make room (8 MB), then start again")
        x = np.float32(self.data[1][:1000]) / 255  # held-out digits, and no dropout
        feed = {self.gan.x: x, self.gan.z: noise(len(x), self.flags.seed + 1)}
        charts = self.session.run(self.gan.charts, feed)
        self.require_finite(charts["D_loss"], charts["G_loss"])
        if due and self.step > max(self.history, default=-1):  # else it was added before a stop
            self.summarise(charts)
        prefix = os.path.join(self.folder, "model.ckpt")
        try:
            self.saver.save(self.session, prefix, self.step, write_meta_graph=False)
        except ValueError as error:  # Saver's own, for a folder that goes while it writes
            raise OSError(str(error)) from error
        self.saved = time.monotonic()

    def finish(self):
        """Draws the curves and the animation, scores the samples, says where everything is."""
        save_curves(os.path.join(self.folder, "losses.png"), self.history)
        pngs = [self.png(step) for step in sorted(self.history) if os.path.exists(self.png(step))]
        if pngs:
            save_animation(os.path.join(self.folder, "samples.gif"), pngs)
        samples = self.samples(10_000, self.flags.seed + 1)
        score = parzen_log_likelihood(samples, self.data[1][:1000], self.data[2])
        print("Parzen log-likelihood {:.1f} +- {:.1f} nats, sigma {:.3f}".format(*score))
        print("  on MNIST: 225 +- 2 for the paper's larger networks, 241 for real digits")
        print(f"Run: {self.folder} (losses.png, samples.gif)")
        print(f"Last picture: {self.png(max(self.history, default=self.step))}")
        runs = shlex.quote(os.path.dirname(os.path.abspath(self.folder)))
        print(f"Curves: {sys.executable} -m tensorboard.main --logdir {runs}")


def train(flags, data):
    """Plays the game to its end, or until Ctrl-C or SIGTERM. Returns: 0, or 128 + the signal."""
    stops = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: stops.append(number))
    run = Run(flags, data)
    try:
        while not stops and run.step < flags.max_steps:
            run.observe()
            run.play()
        run.observe(over=True)
    finally:
        print()  # ends the progress line
    if stops:
        print(f"Stopped at step {run.step} of {flags.max_steps}. To go on:")
        again = f"--output_dir {shlex.quote(flags.output_dir)} --max_steps {flags.max_steps}"
        print(f"  {sys.executable} {sys.argv[0]} {again}")
        return 128 + stops[0]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # all is saved: no need to wait
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    run.finish()
    return 0


def sample(flags):
    """Draws digits with the averaged weights of a run: generated.png, generated.npy."""
    z = tf.placeholder(tf.float32, [None, Z_SIZE])
    G_sample, average = generator(z), tf.train.ExponentialMovingAverage(0.0)
    with tf.Session() as session:
        names = average.variables_to_restore(tf.trainable_variables())
        restore(session, flags.output_dir, names)
        digits = draw_samples(session, G_sample, z, noise(flags.sample, flags.seed))
    path = os.path.join(flags.output_dir, "generated")
    for end in (".png", ".npy"):
        if os.path.exists(path + end):  # an earlier one is kept, under a name of its own
            os.rename(path + end, f"{path}-{os.stat(path + end).st_mtime_ns}{end}")
    save_grid(path + ".png", digits)
    with whole_file(path + ".npy") as file:
        np.save(file, digits.reshape(-1, 28, 28))
    print(f"{len(digits)} digits: {path}.png, {path}.npy")
    return 0


# ---------------------------------------------------------------------------------- command line

FLAGS = (  # name, default, least, most, meaning
    ("sample", 0, 0, 100_000, "no training: draw so many digits of the run in --output_dir"),
    ("max_steps", 100_000, 1, 10**9, "training steps"),
    ("batch_size", 64, 1, MOST_IMAGES, "images, or z, in a minibatch"),
    ("d_step", 1, 0, 100, "updates of D in a training step"),
    ("g_step", 1, 0, 100, "updates of G in a training step"),
    ("d_learning_rate", 1e-3, 0.0, 10.0, "Adam's learning rate for D"),
    ("g_learning_rate", 8e-3, 0.0, 10.0, "Adam's learning rate for G"),
    ("lr_half_life", 25_000, 0, 10**9, "steps in which both halve; 0: never"),
    ("beta1", 0.5, 0.0, 0.999, "Adam's memory for gradients"),
    ("beta2", 0.99, 0.0, 0.99999, "Adam's memory for their squares"),
    ("dropout", 0.35, 0.0, 0.99, "share of D's hidden units that an update leaves out"),
    ("ema_decay", 0.9999, 0.0, 0.999999, "memory of the average of G's weights"),
    ("seed", 0, 0, 2**31 - 2, "another seed, another run; for --sample: other digits"),
    ("summary_steps", 5000, 1, 10**9, "steps between summaries"),
)
# what may change when a run goes on, for it does not change the run's numbers
OBSERVING = {"max_steps", "summary_steps", "input_data_dir", "output_dir", "sample"}


def parse_flags(argv):
    """Flags from argv; what it does not name has its default. Raises: BadInput."""

    def fail(message):
        raise BadInput(message)

    layout = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser("gan_mnist.py", allow_abbrev=False, formatter_class=layout)
    parser.description, parser.error = __doc__.split("\n")[0], fail
    data_dir = os.path.join(os.path.dirname(os.path.abspath(__file__)), "MNIST_data")
    parser.add_argument("--input_data_dir", default=data_dir, help="the IDX files, .gz or not")
    output_dir = datetime.now().strftime("outputs/%Y%m%d-%H%M%S-%f")
    what = "folder of this run; an earlier run there goes on"
    parser.add_argument("--output_dir", default=output_dir, help=what)
    kinds = ("non_saturating", "minimax")
    parser.add_argument("--g_loss", default=kinds[0], choices=kinds, help="G's loss")
    for name, default, _, _, meaning in FLAGS:
        parser.add_argument("--" + name, type=type(default), default=default, help=meaning)
    flags, unknown = parser.parse_known_args(argv)
    for name, value in vars(flags).items():
        if value == []:  # what --name=-- gives before Python 3.13
            fail(f"--{name}: -- is not a value")
    if unknown:
        near = difflib.get_close_matches(unknown[0], ["--" + name for name in vars(flags)], 1, 0)
        fail(f"{unknown[0]}: no such flag; is {near[0]} meant?")
    for name, _, least, most, _ in FLAGS:
        if not least <= vars(flags)[name] <= most:
            fail(f"--{name} {vars(flags)[name]}: it must be from {least} to {most}")
    if not flags.d_step + flags.g_step:
        fail("--d_step and --g_step are both 0; one at least must learn")
    odd = set(flags.output_dir) & set("*?[]\\") or "://" in flags.output_dir
    if odd or not flags.output_dir or not flags.output_dir.isprintable():  # TensorFlow's patterns
        what = "it is empty, not printable, or holds :// or one of * ? [ ] \\"
        fail(f"--output_dir {flags.output_dir!r}: {what}")
    return flags


def resume_flags(argv, folder):
    """Flags of the run in the folder, and its data. Raises: BadInput if argv would change it."""
    try:
        with open(os.path.join(folder, "flags.json")) as file:
            saved = json.load(file)
        digests = saved.pop("data")
        earlier = [f"--{name}={value}" for name, value in saved.items()]
        saved = vars(parse_flags(earlier))
    except Exception as error:  # whatever else the file may hold
        raise BadInput(f"--output_dir {folder}: flags.json is not of this script") from error
    flags = parse_flags(earlier + argv)
    differ = [
        f"--{name} {value}, not {vars(flags)[name]}"
        for name, value in saved.items()
        if value != vars(flags)[name] and name not in OBSERVING and not flags.sample
    ]
    if differ:
        raise BadInput(f"--output_dir {folder}: the run there has {', '.join(differ)}")
    return flags, digests


def claim(flags, new):
    """Makes the run's folder and keeps other processes out of it while this one lives.

    new: the SHA-256 of the data if the run is to begin, else None. Raises: BadInput.
    """
    folder = flags.output_dir
    try:
        os.makedirs(folder, exist_ok=True)
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError("it is read-only")
        if not flags.sample:
            fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
        if new:
            if set(os.listdir(folder)) - {"flags.json.part"}:
                raise BadInput(f"--output_dir {folder}: neither empty nor a run of this script")
            data_dir = os.path.abspath(flags.input_data_dir)
            saved = {**vars(flags), "input_data_dir": data_dir, "data": new}
            with whole_file(os.path.join(folder, "flags.json")) as file:
                file.write(json.dumps(saved, indent=2).encode())
    except BlockingIOError as error:
        raise BadInput(f"--output_dir {folder}: another process trains there") from error
    except OSError as error:
        raise BadInput(f"--output_dir {folder}: cannot be written, {error}") from error


def start(argv):
    """Does what the flags ask for. Returns: the exit status. Raises: BadInput, other faults."""
    flags, digests, data = parse_flags(argv), None, None
    folder = flags.output_dir
    if os.path.exists(os.path.join(folder, "flags.json")):
        flags, digests = resume_flags(argv, folder)
    if not flags.sample:
        data = load_data(flags.input_data_dir)
        if digests not in (None, data[3]):
            raise BadInput(f"--input_data_dir {flags.input_data_dir}: not the images of the run")
        if len(data[0]) < flags.batch_size:
            raise BadInput(f"--batch_size {flags.batch_size}: there are only {len(data[0])} images")
    elif not (digests and checkpoints(folder)):
        raise BadInput(f"--output_dir {folder}: no checkpoint there; --sample needs a run's folder")
    claim(flags, new=None if digests else data[3])
    import_tensorflow()
    try:
        return sample(flags) if flags.sample else train(flags, data)
    except tf.errors.OpError as error:  # its message goes on for pages
        what = str(error).split("\n")[0][:200]
        raise RuntimeError(f"{what}; is {folder} there, with room?") from error


def main(argv=None):
    """Runs the command line. Returns: 0 done, 1 fault, 2 bad input, 130 Ctrl-C, 143 SIGTERM."""
    try:
        return start(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        return 130
    except (BadInput, ImportError, MemoryError, OSError, RuntimeError) as error:
        print("gan_mnist.py: error:", " ".join(str(error).split()), file=sys.stderr)
        return 2 if isinstance(error, BadInput) else 1


if __name__ == "__main__":
    sys.exit(main())
