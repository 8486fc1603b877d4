"""The original GAN (Goodfellow et al. 2014, arXiv:1406.2661) on MNIST, in TensorFlow 1.x style.

The generator G turns noise z into digits, the discriminator D tells them from real digits x, and
both learn by playing against each other for the value function (equation 1 of the paper):

    min_G max_D  V(D, G) = E_x[log D(x)] + E_z[log(1 - D(G(z)))]

The file reads in the order in which it runs: data, networks, losses, updates, score and pictures,
training, command line.
"""

import argparse
import contextlib
import difflib
import fcntl
import functools
import gzip
import hashlib
import itertools
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
import zlib

import numpy as np
from PIL import Image


@contextlib.contextmanager
def silent_stderr():
    """Keeps off the console what TensorFlow's C++ side says whatever the log level."""
    with open(os.devnull, "w") as nowhere, os.fdopen(os.dup(2), "w") as stderr:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr.fileno(), 2)


class LazyTensorFlow:
    """tensorflow.compat.v1, imported at first use: --help and mistyped flags answer at once."""

    def __getattr__(self, name):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with silent_stderr():
            from tensorflow.compat import v1
        v1.logging.set_verbosity(v1.logging.ERROR)
        v1.disable_eager_execution()
        v1.enable_resource_variables()  # these two, TensorFlow 2's default, let XLA compile a loop
        v1.enable_control_flow_v2()
        globals()["tf"] = v1
        return getattr(v1, name)


tf = LazyTensorFlow()


class BadInput(Exception):
    """What the user can mend: exit status 2, before anything is written."""


class Fault(Exception):
    """What went wrong while training: exit status 1, the last checkpoint is good."""


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
            header = file.read(16).ljust(16, b"\0")
            magic, n, *size = np.frombuffer(header, ">u4").tolist()
            if magic != 2051 or size != [28, 28] or not 0 < n <= MOST_IMAGES:
                raise BadInput(
                    f"{path}: magic number {magic}{' (labels)' * (magic == 2049)}, {n} images of "
                    f"size {size}; it must be 2051, 1 to {MOST_IMAGES} images of size [28, 28]"
                )
            pixels = file.read(n * PIXELS + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: damaged or unreadable ({error}); fetch it again") from error
    if len(pixels) != n * PIXELS:
        raise BadInput(f"{path}: too short or too long for its {n} images; fetch it again")
    return np.frombuffer(pixels, np.uint8).reshape(n, PIXELS)


def sha256(images):
    """SHA-256 of the unpacked IDX file that holds these images."""
    digest = hashlib.sha256(np.array([2051, len(images), 28, 28], ">u4").tobytes())
    digest.update(images)
    return digest.hexdigest()


def download(name, folder):
    """Fetches one of MNIST's files into folder, under its name only if whole and right."""
    socket.setdefaulttimeout(30)
    reasons = []
    for url in (f"{mirror}{name}.gz" for mirror in MIRRORS):
        try:
            with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as scratch:
                file = tf.keras.utils.get_file("file.gz", url, cache_dir=scratch, cache_subdir="")
                images = read_idx(file)
                if sha256(images) == MNIST[name]:
                    os.replace(file, os.path.join(folder, name + ".gz"))
                    return images
            reasons.append(f"{url}: wrong checksum")
        except Exception as error:  # noqa: BLE001, get_file raises no narrower class
            reasons.append(str(error))
    wanted = ".gz, ".join(MNIST)
    raise BadInput(f"--input_data_dir {folder}: put {wanted}.gz there; {'; '.join(reasons)}")


def load_data(folder):
    """Reads the data set, after downloading what is missing of MNIST.

    Returns: uint8 [n, 784] for training, validation (the last twelfth of the training file, 5,000
    at most) and test images, and the SHA-256 of both files.
    """
    if "\0" in folder or not os.path.isdir(folder):
        raise BadInput(f"--input_data_dir {folder}: no such folder")
    found = {}
    for name in MNIST:
        path = os.path.join(folder, name)
        if os.path.exists(path) or os.path.exists(path + ".gz"):
            found[name] = read_idx(path if os.path.exists(path) else path + ".gz")
    for name in set(MNIST) - set(found):
        if any(sha256(images) != MNIST[other] for other, images in found.items()):
            raise BadInput(f"--input_data_dir {folder}: {name}.gz is missing beside the other file")
        found[name] = download(name, folder)
    train, test = (found[name] for name in MNIST)
    held_out = min(5000, len(train) // 12)
    if not held_out:
        raise BadInput(f"--input_data_dir {folder}: {len(train)} training images are too few")
    return train[:-held_out], train[-held_out:], test, sha256(train) + sha256(test)


@functools.lru_cache(maxsize=4)
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

    Returns: for D's updates minibatches x (0 to 255), z, and the hidden units that dropout keeps
    for x and for G(z); for G's updates z and the units kept. Shapes [step, update, row, column].
    """
    size, batch, d_step, g_step = chunk_size(flags), flags.batch_size, flags.d_step, flags.g_step
    rng = np.random.Generator(np.random.SFC64([flags.seed, chunk]))

    def z(updates):
        values = rng.random([size, updates, batch, Z_SIZE], dtype=np.float32)
        values *= 2  # in place: a copy would take longer than the drawing
        values -= 1
        return values

    def kept(updates, rows):
        values = rng.integers(1 << 16, size=[size, updates, rows, HIDDEN], dtype=np.uint16)
        return values >= flags.dropout * (1 << 16)

    count = size * d_step * batch
    x = images[minibatch_indices(flags.seed, len(images), chunk * count, count)]
    x = x.reshape(size, d_step, batch, PIXELS)
    return x, z(d_step), kept(d_step, 2 * batch), z(g_step), kept(g_step, batch)


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


def after(update, tensor):
    """The tensor, once the update is done."""
    with tf.control_dependencies([update]):
        return tf.identity(tensor)


class GAN:
    """The two players as a TensorFlow graph, and the game between them."""

    def __init__(self, flags):
        """Builds the algorithm once, as TensorBoard draws it."""
        self.flags, self.step = flags, tf.train.get_or_create_global_step()
        self.x = tf.placeholder(tf.float32, [None, PIXELS], name="input")
        self.z = tf.placeholder(tf.float32, [None, Z_SIZE], name="Z")
        G_sample = generator(self.z)
        D_real, logit_real = discriminator(self.x)
        D_fake, logit_fake = discriminator(G_sample)
        with tf.name_scope("D_loss"):
            D_loss = discriminator_loss(logit_real, logit_fake)
        with tf.name_scope("G_loss"):
            G_loss = generator_loss(logit_fake, flags.g_loss)
        self.theta_D = [v for v in tf.trainable_variables() if v.name.startswith("D_")]
        self.theta_G = [v for v in tf.trainable_variables() if v.name.startswith("G_")]
        self.D_solver = self.adam(flags.d_learning_rate, "D_Adam")
        self.G_solver = self.adam(flags.g_learning_rate, "G_Adam")
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

    def prepare(self, chunk):
        """Adds what the picture leaves out: averages of theta_G, and the game compiled by XLA."""
        self.average = tf.train.ExponentialMovingAverage(self.flags.ema_decay, self.step)
        self.average.apply(self.theta_G)

        def averaged(getter, *args, **kwargs):
            return self.average.average(getter(*args, **kwargs))

        with tf.variable_scope("", custom_getter=averaged):
            self.G_average = generator(self.z)
        self.inputs = [tf.placeholder(tf.int32, []), tf.placeholder(tf.int32, [])]
        self.inputs += [tf.placeholder(array.dtype, array.shape) for array in chunk]
        self.losses = tf.xla.experimental.compile(self.play, self.inputs)

    def update_D(self, x, z, kept):
        """One Adam update of theta_D on a minibatch x (0 to 255) and z. Returns: D_loss before."""
        both = tf.concat([tf.cast(x, tf.float32) / 255, generator(z)], 0)  # faster than one by one
        _, logit = discriminator(both, self.dropout(kept))
        D_loss = discriminator_loss(*tf.split(logit, 2))
        return after(self.D_solver.minimize(D_loss, var_list=self.theta_D), D_loss)

    def update_G(self, z, kept):
        """One Adam update of theta_G on z, then of its average. Returns: G_loss before."""
        _, logit_fake = discriminator(generator(z), self.dropout(kept))
        G_loss = generator_loss(logit_fake, self.flags.g_loss)
        G_loss = after(self.G_solver.minimize(G_loss, var_list=self.theta_G), G_loss)
        with tf.control_dependencies([G_loss]):
            return after(self.average.apply(self.theta_G), G_loss)

    def dropout(self, kept):
        """Factors of mean 1 from the hidden units kept, [batch, 128]."""
        return tf.cast(kept, tf.float32) / (1 - self.flags.dropout)

    def play(self, first, last, *moves):
        """THE GAME (the paper's algorithm 1): training steps first to last - 1 of a chunk.

        Returns: both losses of the last step; one that is not finite ends the game at once.
        """

        def training_step(i, D_loss, G_loss):
            x, z_D, kept_D, z_G, kept_G = (tf.gather(move, i) for move in moves)
            for j in range(self.flags.d_step):
                with tf.control_dependencies([D_loss, G_loss]):
                    D_loss = self.update_D(x[j], z_D[j], kept_D[j])
            for j in range(self.flags.g_step):
                with tf.control_dependencies([D_loss, G_loss]):
                    G_loss = self.update_G(z_G[j], kept_G[j])
            with tf.control_dependencies([D_loss, G_loss]):
                return after(tf.assign_add(self.step, 1), i + 1), D_loss, G_loss

        def goes_on(i, D_loss, G_loss):
            return tf.logical_and(i < last, tf.is_finite(D_loss + G_loss))

        return tf.while_loop(goes_on, training_step, [first, 0.0, 0.0])[1:]


# ---------------------------------------------------------------------------- score and pictures


def parzen_log_densities(images, samples, sigmas):
    """Log densities of images under Gaussian windows on the samples (section 5 of the paper).

    Both uint8 [n, 784], taken as 0 to 1. Returns: nats, float64 [len(sigmas), len(images)].
    """
    densities = np.empty([len(sigmas), len(images)])
    for first in range(0, len(images), 200):  # block by block, so that memory stays small
        block = np.float32(images[first : first + 200]) / 255
        squares = np.empty([len(block), len(samples)], np.float32)
        for start in range(0, len(samples), 1000):
            some = np.float32(samples[start : start + 1000]) / 255
            distances = (block**2).sum(1)[:, None] + (some**2).sum(1) - 2 * block @ some.T
            squares[:, start : start + 1000] = distances
        nearest = squares.min(1)
        squares -= nearest[:, None]
        for row, sigma in zip(densities, sigmas):
            windows = np.exp(squares / np.float32(-2 * sigma**2))
            log_mean = np.log(windows.mean(1, dtype=np.float64)) - nearest / (2 * sigma**2)
            row[first : first + 200] = log_mean - PIXELS / 2 * np.log(2 * np.pi * sigma**2)
    return densities


def parzen_score(samples, validation, test):
    """Mean log-likelihood of test in nats, its standard error, the sigma best for validation."""
    sigmas = np.geomspace(0.1, 0.5, 25)
    sigma = sigmas[parzen_log_densities(validation, samples, sigmas).mean(1).argmax()]
    densities = parzen_log_densities(test, samples, [sigma])[0]
    return densities.mean(), densities.std() / np.sqrt(len(test)), sigma


def noise(n, seed):
    """n z to look at, the same for the same seed: float32 [n, 100]."""
    return np.float32(np.random.RandomState(seed).uniform(-1, 1, [n, Z_SIZE]))


def draw_samples(session, G_sample, z, values):
    """uint8 [n, 784]: the generator's images of the values [n, 100] of z."""
    blocks = [values[first : first + 1000] for first in range(0, len(values), 1000)]
    return np.concatenate([np.uint8(session.run(G_sample, {z: b}) * 255 + 0.5) for b in blocks])


def grid(digits):
    """uint8 [rows * 28, columns * 28]: the digits [n, 784] as one picture, about square."""
    columns = int(np.ceil(np.sqrt(len(digits))))
    rows = -(-len(digits) // columns)
    canvas = np.zeros([rows * columns, PIXELS], np.uint8)
    canvas[: len(digits)] = digits
    return canvas.reshape(rows, columns, 28, 28).swapaxes(1, 2).reshape(rows * 28, columns * 28)


@contextlib.contextmanager
def whole_file(path):
    """Yields a file that gets its name only when it is complete."""
    with open(path + ".part", "wb") as file:
        yield file
    os.replace(path + ".part", path)


def save_grid(path, digits):
    """Writes the digits as one PNG, white on black."""
    with whole_file(path) as file:
        Image.fromarray(grid(digits)).save(file, "PNG")


def save_animation(path, pngs):
    """Writes the pictures as a GIF of 100 frames at most, the last one held for two seconds."""
    chosen = np.unique(np.linspace(0, len(pngs) - 1, 100).astype(int))
    frames = [Image.open(pngs[k]).copy() for k in chosen]
    times = [100] * (len(frames) - 1) + [2000]  # milliseconds
    with whole_file(path) as file:
        frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0)


def save_curves(path, history):
    """Draws losses and probabilities over the steps; history: {step: {"D_loss": ..., ...}}."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here, for it takes its time
    from matplotlib.figure import Figure

    figure, steps = Figure(figsize=(8, 7)), sorted(history)
    FigureCanvasAgg(figure)
    losses, probabilities = figure.subplots(2, 1, sharex=True)
    losses.axhline(2 * np.log(2), color="gray", ls="--", label="2 log 2: D_loss at the optimum")
    probabilities.axhline(0.5, color="gray", ls="--", label="1/2: both at the optimum")
    for axes, tags in (losses, ["D_loss", "G_loss"]), (probabilities, ["D_real", "D_fake"]):
        for tag in tags:
            label = tag.replace("D_real", "D(x)").replace("D_fake", "D(G(z))")
            axes.plot(steps, [history[step][tag] for step in steps], label=label)
        axes.legend()
    losses.set(title="The game, on held-out digits", ylabel="loss (nats)")
    probabilities.set(xlabel="training step", ylabel="probability of being real", ylim=(0, 1))
    with whole_file(path) as file:
        figure.savefig(file, format="png", bbox_inches="tight")


# -------------------------------------------------------------------------------------- training

CHECKPOINT_SECONDS = 20


class Run:
    """A run: the game in a session, and the folder that keeps and shows it."""

    def __init__(self, flags, data):
        self.flags, self.folder, self.data = flags, flags.output_dir, data
        tf.set_random_seed(flags.seed)
        self.gan = GAN(flags)
        picture = tf.get_default_graph().as_graph_def()
        moves = draw_chunk(flags, data[0], 0)
        self.gan.prepare(moves)
        self.saver, self.session = tf.train.Saver(save_relative_paths=True), tf.Session()
        self.session.run(tf.global_variables_initializer())
        with silent_stderr():  # no step is played, but XLA compiles the game
            self.session.run(self.gan.losses, dict(zip(self.gan.inputs, (0, 0) + moves)))
        self.step = restore(self.session, self.saver, self.folder)
        self.told, self.saved = 0.0, time.monotonic()
        self.begun = self.seen = self.step, self.saved
        self.history = read_history(self.folder)
        self.writer = tf.summary.FileWriter(self.folder)
        if not self.history:
            self.writer.add_graph(None, graph_def=picture)
            table = "".join(f"\n| {name} | {value} |" for name, value in vars(flags).items())
            table = tf.summary.text("flags", tf.constant("| flag | value |\n|---|---|" + table))
            self.writer.add_summary(self.session.run(table))

    def play_on(self):
        """Plays to the end of the chunk, to the next summary or to the last step."""
        size, every = chunk_size(self.flags), self.flags.summary_steps
        number, first = divmod(self.step, size)
        steps = min(size - first, every - self.step % every, self.flags.max_steps - self.step)
        moves = draw_chunk(self.flags, self.data[0], number)
        feed = dict(zip(self.gan.inputs, (first, first + steps) + moves))
        losses = self.session.run(self.gan.losses, feed)
        self.step = int(self.session.run(self.gan.step))
        self.require_finite(*losses)
        self.tell(*losses)

    def require_finite(self, D_loss, G_loss):
        """Raises: Fault if a loss is not finite."""
        if not np.isfinite(D_loss + G_loss):
            raise Fault(
                f"D_loss {D_loss}, G_loss {G_loss} at step {self.step}; the last good state is "
                f"{checkpoints(self.folder)[-1]}; smaller learning rates may help"
            )

    def charts(self):
        """The game as it stands, on held-out digits and without dropout."""
        x = np.float32(self.data[1][:1000]) / 255
        feed = {self.gan.x: x, self.gan.z: noise(len(x), self.flags.seed + 1)}
        charts = self.session.run(self.gan.charts, feed)
        self.require_finite(charts["D_loss"], charts["G_loss"])
        return charts

    def samples(self, n, seed):
        return draw_samples(self.session, self.gan.G_average, self.gan.z, noise(n, seed))

    def save(self):
        """Writes a checkpoint, if the state is one to go on from."""
        self.charts()
        require_room(self.folder)
        prefix = os.path.join(self.folder, "model.ckpt")
        self.saver.save(self.session, prefix, self.step, write_meta_graph=False)
        self.saved = time.monotonic()

    def summarise(self):
        """Adds this step to curves and pictures, unless it is there from before a stop."""
        if self.step <= max(self.history, default=-1):
            return
        require_room(self.folder)
        (step, then), values = self.seen, self.charts()
        digits = self.samples(10000, self.flags.seed + 1)
        score = parzen_score(digits, self.data[1][:40], self.data[2][:200])  # cheap estimate
        values["parzen_log_likelihood"] = score[0]
        if self.step > step:
            values["steps_per_second"] = (self.step - step) / (time.monotonic() - then)
        png = os.path.join(self.folder, "samples", f"step_{self.step:07d}.png")
        save_grid(png, self.samples(64, self.flags.seed))
        with open(png, "rb") as file:
            image = tf.Summary.Image(encoded_image_string=file.read())
        summary = tf.Summary(value=[tf.Summary.Value(tag="samples", image=image)])
        for tag, value in values.items():
            summary.value.add(tag=tag, simple_value=value)
        self.writer.add_summary(summary, self.step)
        self.writer.flush()
        self.history[self.step], self.seen = values, (self.step, time.monotonic())

    def tell(self, D_loss, G_loss):
        """The progress line: in place on a terminal, a line now and then elsewhere."""
        now, in_place = time.monotonic(), sys.stdout.isatty()
        if now - self.told > (0.5 if in_place else 15) or self.step == self.flags.max_steps:
            rate = (self.step - self.begun[0]) / (now - self.begun[1])
            minutes, seconds = divmod(int((self.flags.max_steps - self.step) / rate), 60)
            line = f"step {self.step}/{self.flags.max_steps}  D_loss {D_loss:.3f}  "
            line += f"G_loss {G_loss:.3f}  {rate:.0f} steps/s  {minutes} min {seconds} s left"
            print(f"\r{line}\033[K" if in_place else line, end="" if in_place else "\n", flush=True)
            self.told = now

    def finish(self):
        """Draws the curves and the animation, scores the samples, says where everything is."""
        folder = os.path.join(self.folder, "samples")
        pngs = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
        save_curves(os.path.join(self.folder, "losses.png"), self.history)
        save_animation(os.path.join(self.folder, "samples.gif"), pngs)
        digits = self.samples(10000, self.flags.seed + 1)
        mean, error, sigma = parzen_score(digits, self.data[1][:1000], self.data[2])
        print(f"\nParzen log-likelihood {mean:.1f} +- {error:.1f} nats, sigma {sigma:.3f}")
        print("  on MNIST: 225 +- 2 for the paper's larger networks, 241 for real digits")
        print(f"Run: {self.folder} (losses.png, samples.gif)\nLast picture: {pngs[-1]}")
        print(f"Curves: tensorboard --logdir {os.path.dirname(self.folder) or '.'}")


def read_history(folder):
    """What the event files hold, {step: {"D_loss": ..., ...}}, up to where a kill cut them off."""
    history = {}
    for name in sorted(os.listdir(folder)):
        if name.startswith("events.out.tfevents"):
            with contextlib.suppress(tf.errors.DataLossError):
                for event in tf.train.summary_iterator(os.path.join(folder, name)):
                    values = {v.tag: v.simple_value for v in event.summary.value}
                    if "D_loss" in values:
                        history[event.step] = values
    return history


def checkpoints(folder):
    """Paths of the checkpoints in the folder, oldest first."""
    steps = [name[11:-6] for name in os.listdir(folder) if name.endswith(".index")]
    steps = sorted(int(step) for step in steps if step.isdigit())
    return [os.path.join(folder, f"model.ckpt-{step}") for step in steps]


def restore(session, saver, folder):
    """Restores the newest whole checkpoint. Returns: its step, 0 if there is no checkpoint.

    Raises: BadInput if there are some, but none of these networks and whole.
    """
    paths = checkpoints(folder)
    for path in reversed(paths):
        try:
            saver.restore(session, path)
            variables = tf.global_variables()  # of which Saver does not check the shapes
            if [value.shape for value in session.run(variables)] != [v.shape for v in variables]:
                raise ValueError("variables of other shapes")
            saver.recover_last_checkpoints(paths[: paths.index(path) + 1])
            return int(path.split("-")[-1])
        except (tf.errors.OpError, ValueError) as error:
            reason = f"{path}: {str(error).splitlines()[0]}"
    if paths:
        raise BadInput(f"--output_dir {folder}: damaged, or of other networks: {reason}")
    return 0


def require_room(folder):
    """Raises: Fault if a summary and a checkpoint might not fit, OSError if the folder is gone."""
    if shutil.disk_usage(folder).free < 8 << 20:
        raise Fault(f"the disk of {folder} is full (8 MB needed); make room, then start it again")


def train(flags, data):
    """Plays the game to its end, or until Ctrl-C or SIGTERM. Returns: the exit status."""
    stops = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: stops.append(number))
    run = Run(flags, data)
    if run.step == 0:
        run.summarise()
        run.save()
    while run.step < flags.max_steps and not stops:
        run.play_on()
        if run.step % flags.summary_steps == 0 or run.step == flags.max_steps:
            run.summarise()
        if time.monotonic() - run.saved > CHECKPOINT_SECONDS:
            run.save()
    run.save()
    if stops:
        print(f"\nStopped at step {run.step}; to go on: --output_dir {flags.output_dir}")
        return 128 + stops[0]
    run.finish()
    return 0


def sample(flags):
    """Draws digits with the averaged weights of a run: generated.png, generated.npy."""
    z = tf.placeholder(tf.float32, [None, Z_SIZE])
    G_sample, average = generator(z), tf.train.ExponentialMovingAverage(0.0)
    saver = tf.train.Saver(average.variables_to_restore(tf.trainable_variables()))
    with tf.Session() as session:
        if not checkpoints(flags.output_dir):
            raise BadInput(f"--output_dir {flags.output_dir}: no checkpoint there; train first")
        restore(session, saver, flags.output_dir)
        digits = draw_samples(session, G_sample, z, noise(flags.sample, flags.seed))
    path = os.path.join(flags.output_dir, "generated")
    for end in (".png", ".npy"):  # what was drawn before is kept, under the first free number
        earlier = (f"{path}-{n}{end}" for n in itertools.count(1))
        if os.path.exists(path + end):
            os.rename(path + end, next(name for name in earlier if not os.path.exists(name)))
    save_grid(path + ".png", digits)
    with whole_file(path + ".npy") as file:
        np.save(file, digits.reshape(-1, 28, 28))
    print(f"{len(digits)} digits: {path}.png, {path}.npy")
    return 0


# ---------------------------------------------------------------------------------- command line

OBSERVING = {"max_steps", "summary_steps", "input_data_dir", "output_dir", "sample"}


def between(least, most):
    """An argparse type: numbers from least to most, whole if these are."""

    def parse(text):
        with contextlib.suppress(ValueError):
            if least <= type(least)(text) <= most:
                return type(least)(text)
        kind = "whole number" if isinstance(least, int) else "number"
        raise argparse.ArgumentTypeError(f"{text!r} is no {kind} from {least} to {most}")

    return parse


def folder(text):
    """An argparse type: names of folders that TensorFlow takes literally."""
    if not text.isprintable() or not text or set(text) & set("*?[]\\"):
        raise argparse.ArgumentTypeError(f"{text!r} is empty or holds one of * ? [ ] \\")
    return text


class Parser(argparse.ArgumentParser):
    """argparse, with one-line errors."""

    def error(self, message):
        raise BadInput(message)


def parse_flags(argv, saved=None):
    """Flags from argv; what it does not name is as saved, or the default. Raises: BadInput."""
    here, with_defaults = os.path.dirname(__file__), argparse.ArgumentDefaultsHelpFormatter
    parser = Parser("gan_mnist.py", formatter_class=with_defaults, allow_abbrev=False)
    parser.description = __doc__.split("\n")[0]

    def add(name, default, kind, meaning, **more):
        parser.add_argument("--" + name, default=default, type=kind, help=meaning, **more)

    add("input_data_dir", os.path.join(here, "MNIST_data"), str, "the IDX files, .gz or not")
    add("output_dir", "outputs/<date-time>", folder, "this run's; an earlier run there goes on")
    add("sample", 0, between(0, 100_000), "no training: draw so many digits of that run")
    add("max_steps", 100_000, between(1, 10**9), "training steps")
    add("batch_size", 64, between(1, MOST_IMAGES), "images, or z, in a minibatch")
    add("d_step", 1, between(0, 100), "updates of D in a training step")
    add("g_step", 1, between(0, 100), "updates of G in a training step")
    add("g_loss", "non_saturating", str, "G's loss", choices=["non_saturating", "minimax"])
    add("d_learning_rate", 2e-3, between(0.0, 10.0), "Adam's learning rate for D")
    add("g_learning_rate", 8e-3, between(0.0, 10.0), "Adam's learning rate for G")
    add("lr_half_life", 25_000, between(0, 10**9), "steps in which both halve; 0: never")
    add("beta1", 0.5, between(0.0, 0.999), "Adam's memory for gradients")
    add("beta2", 0.99, between(0.0, 0.99999), "Adam's memory for their squares")
    add("dropout", 0.5, between(0.0, 0.99), "share of D's hidden units an update leaves out")
    add("ema_decay", 0.9999, between(0.0, 0.999999), "memory of the average of G's weights")
    add("seed", 0, between(0, 2**31 - 2), "another seed, another run; for --sample: other digits")
    add("summary_steps", 5000, between(1, 10**9), "steps between summaries")
    flags, unknown = parser.parse_known_args(argv, saved)
    if unknown:
        near = difflib.get_close_matches(unknown[0], ["--" + name for name in vars(flags)], 1, 0)
        raise BadInput(f"{unknown[0]}: no such flag; is {near[0]} meant?")
    for name, value in vars(flags).items():
        if value == []:  # what argparse makes of --name=-- before Python 3.13
            raise BadInput(f"--{name}: -- is not a value")
    if not flags.d_step + flags.g_step:
        raise BadInput("--d_step and --g_step are both 0; one at least must learn")
    return flags


def resume_flags(argv, folder):
    """Flags for the run that is in the folder. Raises: BadInput if they would change it."""
    try:
        with open(os.path.join(folder, "flags.json")) as file:
            saved = json.load(file)
        digests = saved.pop("data")
        saved = parse_flags([f"--{name}={value}" for name, value in saved.items()])
    except Exception as error:  # whatever else the file may hold
        raise BadInput(f"--output_dir {folder}: neither empty nor a run of this script") from error
    flags = parse_flags(argv, argparse.Namespace(**vars(saved)))
    differ = [
        f"--{name} {value}, not {vars(flags)[name]}"
        for name, value in vars(saved).items()
        if value != vars(flags)[name] and name not in OBSERVING and not flags.sample
    ]
    if differ:
        raise BadInput(f"--output_dir {folder}: the run there has {', '.join(differ)}")
    return flags, digests


def holds_files(path):
    """Whether there is anything but an empty folder at the path."""
    is_folder = os.path.isdir(path)
    return set(os.listdir(path)) - {"flags.json.part"} if is_folder else os.path.exists(path)


def claim(flags, digests):
    """Makes the run's folder and keeps other processes out of it while this one lives."""
    try:
        if flags.output_dir == "outputs/<date-time>":
            name = os.path.join("outputs", time.strftime("%Y%m%d-%H%M%S"))
            names = itertools.chain([name], (f"{name}-{n}" for n in itertools.count(2)))
            flags.output_dir = next(name for name in names if not os.path.exists(name))
        os.makedirs(flags.output_dir, exist_ok=True)
        if not os.access(flags.output_dir, os.W_OK):
            raise PermissionError("it is read-only")
        fcntl.flock(os.open(flags.output_dir, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
        path = os.path.join(flags.output_dir, "flags.json")
        if not os.path.exists(path):
            with whole_file(path) as file:
                file.write(json.dumps({**vars(flags), "data": digests}, indent=2).encode())
        os.makedirs(os.path.join(flags.output_dir, "samples"), exist_ok=True)
    except BlockingIOError as error:
        raise BadInput(f"--output_dir {flags.output_dir}: another process trains there") from error
    except OSError as error:
        raise BadInput(f"--output_dir {flags.output_dir}: cannot be written, {error}") from error


def main(argv=None):
    """Runs the command line. Returns: 0 done, 1 a fault, 2 bad input, 130 after Ctrl-C."""
    try:
        flags, digests = parse_flags(argv), None
        if holds_files(flags.output_dir):
            flags, digests = resume_flags(argv, flags.output_dir)
        if flags.sample and not digests:
            raise BadInput("--sample: needs --output_dir with the folder of a run")
        if flags.sample:
            return sample(flags)
        data = load_data(flags.input_data_dir)
        if digests not in (None, data[3]):
            raise BadInput(f"--input_data_dir {flags.input_data_dir}: not the images of the run")
        if len(data[0]) < flags.batch_size:
            raise BadInput(f"--batch_size {flags.batch_size}: only {len(data[0])} training images")
        claim(flags, data[3])
        return train(flags, data)
    except SystemExit:  # --help; to look at the clauses below would import TensorFlow
        raise
    except KeyboardInterrupt:
        return 130
    except BadInput as error:
        message, status = error, 2
    except (Fault, OSError) as error:
        message, status = error, 1
    except tf.errors.OpError as error:  # its own message is pages long
        message = f"{type(error).__name__} in {flags.output_dir}: is the folder there, with room?"
        status = 1
    print("gan_mnist.py: error:", " ".join(str(message).split()), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
