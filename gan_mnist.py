"""The original GAN (Goodfellow et al. 2014, arXiv:1406.2661) on MNIST, in TensorFlow 1.x style.

The generator G turns noise z into digits, the discriminator D tells them from real digits x, and
both learn by playing against each other for the value function (equation 1 of the paper):

    min_G max_D  V(D, G) = E_x[log D(x)] + E_z[log(1 - D(G(z)))]

The file reads in the order in which it runs: data, networks, losses, updates, score, pictures,
training, command line.
"""

import argparse
import concurrent.futures
import contextlib
import datetime
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


class LazyTensorFlow:
    """tensorflow.compat.v1, imported at first use: --help and mistyped flags answer at once."""

    def __getattr__(self, name):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with open(os.devnull, "w") as nowhere, os.fdopen(os.dup(2), "w") as stderr:
            os.dup2(nowhere.fileno(), 2)  # a missing GPU is reported whatever the log level
            try:
                import tensorflow.compat.v1 as v1
            finally:
                os.dup2(stderr.fileno(), 2)
        v1.logging.set_verbosity(v1.logging.ERROR)
        v1.disable_eager_execution()
        v1.enable_resource_variables()  # XLA needs these two; in TensorFlow 2 they are the default
        v1.enable_control_flow_v2()
        globals()["tf"] = v1
        return getattr(v1, name)


tf = LazyTensorFlow()


class BadInput(Exception):
    """What the user can mend: exit status 2, and nothing was written."""


class Fault(Exception):
    """What went wrong while training: exit status 1, the state up to the last checkpoint kept."""


# ------------------------------------------------------------------------------------------ data

PIXELS, MOST_IMAGES = 28 * 28, 1_000_000
TRAIN, TEST = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"
MNIST_SHA256 = {  # of the unpacked files
    TRAIN: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    TEST: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
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
            magic, n, *shape = np.frombuffer(file.read(16).ljust(16, b"\0"), ">u4").tolist()
            pixels = file.read(min(n, MOST_IMAGES) * PIXELS + 1)  # bounds what a gzip bomb can do
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: damaged or unreadable ({error}); fetch it again") from error
    if magic != 2051 or shape != [28, 28]:
        what = "labels" if magic == 2049 else f"shape {shape}" if magic == 2051 else "no IDX images"
        raise BadInput(f"{path}: {what}; it must be an IDX file (magic 2051) of 28x28 images")
    if not 0 < n <= MOST_IMAGES or len(pixels) != n * PIXELS:
        raise BadInput(
            f"{path}: its header promises {n} images, it holds {len(pixels) / PIXELS:.2f}; "
            f"1 to {MOST_IMAGES} whole ones are needed"
        )
    return np.frombuffer(pixels, np.uint8).reshape(n, PIXELS)


def sha256(images):
    """SHA-256 of the unpacked IDX file that holds these images."""
    header = np.array([2051, len(images), 28, 28], ">u4").tobytes()
    return hashlib.sha256(header + images.tobytes()).hexdigest()


def download(name, folder):
    """Fetches a file of MNIST; it gets its final name only if it is whole and right."""
    socket.setdefaulttimeout(30)
    reasons = []
    for mirror in MIRRORS:
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as scratch:
            try:
                url = f"{mirror}{name}.gz"
                file = tf.keras.utils.get_file(
                    name + ".gz", url, cache_dir=scratch, cache_subdir=""
                )
                images = read_idx(file)
                if sha256(images) == MNIST_SHA256[name]:
                    os.replace(file, os.path.join(folder, name + ".gz"))
                    return images
                reasons.append(f"{url}: wrong checksum")
            except Exception as error:  # get_file raises no narrower class
                reasons.append(" ".join(str(error).split()))
    raise BadInput(
        f"--input_data_dir {folder}: {name} is not there and could not be downloaded; put "
        f"{TRAIN}.gz and {TEST}.gz there ({'; '.join(reasons)})"
    )


def load_data(folder):
    """Reads the data set, and downloads what is missing of MNIST.

    Returns: uint8 [n, 784] three times: training images, validation images (the last twelfth of
        the training file, 5,000 at most) and test images; and a SHA-256 that names the data set.
    """
    if not os.path.isdir(folder):
        raise BadInput(f"--input_data_dir {folder}: no such folder")
    files = [os.path.join(folder, name + end) for name in (TRAIN, TEST) for end in ("", ".gz")]
    found = {os.path.basename(f).split(".")[0]: read_idx(f) for f in files if os.path.isfile(f)}
    for name in {TRAIN, TEST} - set(found):
        if any(sha256(images) != MNIST_SHA256[other] for other, images in found.items()):
            raise BadInput(f"--input_data_dir {folder}: {name}.gz is missing beside its other half")
        found[name] = download(name, folder)
    train, n = found[TRAIN], len(found[TRAIN])
    split = n - min(5000, n // 12)
    if split == n:
        raise BadInput(f"--input_data_dir {folder}: {n} training images; 12 are the least")
    return train[:split], train[split:], found[TEST], sha256(train) + sha256(found[TEST])


@functools.lru_cache(maxsize=4)
def epoch_order(seed, epoch, n):
    """The order in which an epoch visits the n training images: a permutation of range(n)."""
    return np.random.RandomState([seed, epoch]).permutation(n)


def minibatch_indices(seed, n, start, count):
    """Indices of `count` images from place `start` of the endless row of shuffled epochs."""
    epochs = range(start // n, (start + count) // n + 1)
    row = np.concatenate([epoch_order(seed, epoch, n) for epoch in epochs])
    return row[start % n :][:count]


def chunk_size(flags):
    """How many training steps are drawn, and played, at one go."""
    return max(1, 3200 // flags.batch_size)


def draw_chunk(flags, images, chunk):
    """All that chance decides in a chunk, from the seed and the chunk's number alone.

    Returns: for D's updates minibatches x (0 to 255), z, and the factors of dropout for D(x) and
        D(G(z)); for G's updates z and the factors for D(G(z)). Shapes [step, update, ...].
    """
    size, batch, d_step, g_step = chunk_size(flags), flags.batch_size, flags.d_step, flags.g_step
    uniform = np.random.Generator(np.random.SFC64([flags.seed, chunk])).random

    def z(*shape):
        return uniform([size, *shape, batch, Z_SIZE], dtype=np.float32) * 2 - 1

    def dropout(*shape):
        kept = uniform([size, *shape, batch, HIDDEN], dtype=np.float32) >= flags.dropout
        return kept / np.float32(1 - flags.dropout)

    count = size * d_step * batch
    x = images[minibatch_indices(flags.seed, len(images), chunk * count, count)]
    x = x.reshape(size, d_step, batch, PIXELS)
    return x, z(d_step), dropout(d_step, 2), z(g_step), dropout(g_step)


# -------------------------------------------------------------------------------------- networks

Z_SIZE, HIDDEN = 100, 128


def layer(inputs, units, scope):
    """A fully connected layer, inputs W + b; another call with the same scope shares W and b."""
    with tf.variable_scope(scope, reuse=tf.AUTO_REUSE):
        normal, constant = tf.truncated_normal_initializer(stddev=0.1), tf.constant_initializer(0.1)
        weight = tf.get_variable(
            scope[:2] + "weight", [inputs.shape[-1], units], tf.float32, normal
        )
        bias = tf.get_variable(scope[:2] + "bias", [units], tf.float32, constant)
        return tf.nn.bias_add(tf.matmul(inputs, weight), bias)


def generator(z):
    """G(z): noise [batch, 100], uniform in (-1, 1), to images [batch, 784] in (0, 1)."""
    hidden = tf.tanh(layer(z, HIDDEN, "G_nn1"))
    return tf.sigmoid(layer(hidden, PIXELS, "G_nn2"))


def discriminator(x, dropout=None):
    """D(x): images [batch, 784] to the probability [batch, 1] that they are real, and its logit.

    dropout: factors [batch, 128] for the hidden layer while D or G trains, as in the paper.
    """
    hidden = tf.tanh(layer(x, HIDDEN, "D_nn1"))
    logit = layer(hidden if dropout is None else hidden * dropout, 1, "D_nn2")
    return tf.sigmoid(logit), logit


# ---------------------------------------------------------------------------------------- losses


def cross_entropy(logit, label):
    """Minibatch mean of -log D (label 1) or -log(1 - D) (label 0) in nats, finite for any logit."""
    labels = tf.fill(tf.shape(logit), label)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logit))


def discriminator_loss(logit_real, logit_fake):
    """-V(D, G) of equation 1, which D minimises; 2 log 2 when D can only guess."""
    return cross_entropy(logit_real, 1.0) + cross_entropy(logit_fake, 0.0)


def generator_loss(logit_fake, kind):
    """What G minimises: "minimax", its part of V, E log(1 - D(G(z))); or "non_saturating",
    -E log D(G(z)), whose gradients stay strong while D wins (end of section 3)."""
    if kind == "minimax":
        return -cross_entropy(logit_fake, 0.0)
    return cross_entropy(logit_fake, 1.0)


# --------------------------------------------------------------------------------------- updates


def after(update, tensor):
    """The tensor, once the update is done."""
    with tf.control_dependencies([update]):
        return tf.identity(tensor)


class GAN:
    """The two players as a TensorFlow graph, and the game."""

    def __init__(self, flags):
        """Builds the algorithm once, just as TensorBoard draws it."""
        self.flags, self.step = flags, tf.train.get_or_create_global_step()
        self.x = tf.placeholder(tf.float32, [None, PIXELS], name="input")
        self.z = tf.placeholder(tf.float32, [None, Z_SIZE], name="Z")
        fake = generator(self.z)
        D_real, logit_real = discriminator(self.x)
        D_fake, logit_fake = discriminator(fake)
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
        means = tf.reduce_mean(D_real), tf.reduce_mean(D_fake)
        self.charts = dict(zip(CHARTS, (D_loss, G_loss) + means))

    def adam(self, learning_rate, name):
        """Adam, whose learning rate halves every --lr_half_life training steps (0: never)."""
        halve = tf.train.exponential_decay
        half_life = self.flags.lr_half_life or np.inf
        return tf.train.AdamOptimizer(
            lambda: halve(learning_rate, self.step, half_life, 0.5),
            self.flags.beta1,
            self.flags.beta2,
            name=name,
        )

    def prepare(self, chunk):
        """Adds what the picture leaves out: averages of theta_G, and the game compiled by XLA."""
        self.average = tf.train.ExponentialMovingAverage(self.flags.ema_decay, self.step)
        self.average.apply(self.theta_G)

        def average(getter, *args, **kwargs):
            return self.average.average(getter(*args, **kwargs))

        with tf.variable_scope("", custom_getter=average):
            self.G_average = generator(self.z)
        self.inputs = [tf.placeholder(tf.int32, []), tf.placeholder(tf.int32, [])]
        self.inputs += [tf.placeholder(moves.dtype, moves.shape) for moves in chunk]
        self.losses = tf.xla.experimental.compile(self.play, self.inputs)

    def update_D(self, x, z, dropout):
        """One Adam update of theta_D on a minibatch x (0 to 255) and z. Returns D_loss before it."""
        _, logit_real = discriminator(tf.cast(x, tf.float32) / 255, dropout[0])
        _, logit_fake = discriminator(generator(z), dropout[1])
        D_loss = discriminator_loss(logit_real, logit_fake)
        return after(self.D_solver.minimize(D_loss, var_list=self.theta_D), D_loss)

    def update_G(self, z, dropout):
        """One Adam update of theta_G, and of its average, on z. Returns G_loss before it."""
        _, logit_fake = discriminator(generator(z), dropout)
        G_loss = generator_loss(logit_fake, self.flags.g_loss)
        G_loss = after(self.G_solver.minimize(G_loss, var_list=self.theta_G), G_loss)
        with tf.control_dependencies([G_loss]):
            return after(self.average.apply(self.theta_G), G_loss)

    def play(self, first, last, x, z_D, dropout_D, z_G, dropout_G):
        """THE GAME (algorithm 1 of the paper): training steps first to last - 1 of a chunk.

        Returns both losses of the last step; one that is not finite ends the game at once.
        """

        def training_step(i, D_loss, G_loss):
            for j in range(self.flags.d_step):
                with tf.control_dependencies([D_loss, G_loss]):
                    D_loss = self.update_D(*(tf.gather(move, i)[j] for move in (x, z_D, dropout_D)))
            for j in range(self.flags.g_step):
                with tf.control_dependencies([D_loss, G_loss]):
                    G_loss = self.update_G(*(tf.gather(move, i)[j] for move in (z_G, dropout_G)))
            with tf.control_dependencies([D_loss, G_loss]):
                return after(tf.assign_add(self.step, 1), i + 1), D_loss, G_loss

        def going_on(i, D_loss, G_loss):
            return tf.logical_and(i < last, tf.is_finite(D_loss + G_loss))

        return tf.while_loop(going_on, training_step, [first, 0.0, 0.0])[1:]


# ----------------------------------------------------------------------------- score and pictures

CHARTS = {"D_loss": "D_loss", "G_loss": "G_loss", "D_real": "D(x)", "D_fake": "D(G(z))"}


def parzen_log_densities(images, samples, sigmas):
    """Log densities, in nats, of images under Gaussian windows on the samples (paper, section 5).

    Both uint8 [n, 784], taken as 0 to 1. Returns: float64 [len(sigmas), len(images)].
    """
    samples, densities = np.float32(samples) / 255, np.empty([len(sigmas), len(images)])
    for first in range(0, len(images), 200):  # block by block, so that memory stays small
        block = np.float32(images[first : first + 200]) / 255
        squares = (block**2).sum(1)[:, None] + (samples**2).sum(1) - 2 * block @ samples.T
        nearest = squares.min(1)
        for row, sigma in zip(densities, sigmas):
            windows = np.exp((nearest[:, None] - squares) / np.float32(2 * sigma**2))
            log_mean = np.log(windows.mean(1, dtype=np.float64)) - nearest / (2 * sigma**2)
            row[first : first + 200] = log_mean - PIXELS / 2 * np.log(2 * np.pi * sigma**2)
    return densities


def parzen_score(samples, validation, test):
    """Mean log-likelihood of test in nats, its standard error, and the sigma best for validation."""
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
    """Yields a binary file that gets its name only when it is complete."""
    with open(path + ".part", "wb") as file:
        yield file
    os.replace(path + ".part", path)


def save_grid(path, digits):
    """Writes the digits as one PNG, white on black."""
    from PIL import Image

    with whole_file(path) as file:
        Image.fromarray(grid(digits)).save(file, "PNG")


def save_animation(path, pngs):
    """Writes the pictures as a GIF of 100 frames at most, the last one held for two seconds."""
    from PIL import Image

    chosen = np.unique(np.linspace(0, len(pngs) - 1, 100).astype(int))
    frames = [Image.open(pngs[k]).copy() for k in chosen]
    times = [100] * (len(frames) - 1) + [2000]  # milliseconds
    with whole_file(path) as file:
        frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0)


def save_curves(path, history):
    """Draws losses and probabilities over the steps; history: {step: {"D_loss": ..., ...}}."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure, steps = Figure(figsize=(8, 7)), sorted(history)
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    for axes, tags in ((above, ("D_loss", "G_loss")), (below, ("D_real", "D_fake"))):
        for tag in tags:
            axes.plot(steps, [history[step][tag] for step in steps], label=CHARTS[tag])
    above.axhline(2 * np.log(2), color="gray", ls="--", label="2 log 2: D_loss at the optimum")
    below.axhline(0.5, color="gray", ls="--", label="1/2: both at the optimum")
    above.set(title="The game, on held-out digits", ylabel="loss (nats)")
    below.set(xlabel="training step", ylabel="probability of being real", ylim=(0, 1))
    above.legend()
    below.legend()
    with whole_file(path) as file:
        figure.savefig(file, format="png", bbox_inches="tight")


# --------------------------------------------------------------------------------------- training


class Run:
    """A run: the game in a session, and the folder that keeps and shows it."""

    def __init__(self, flags, data):
        self.flags, self.folder, self.data = flags, flags.output_dir, data
        self.pool, self.chunks = concurrent.futures.ThreadPoolExecutor(1), {}
        self.history = read_history(self.folder)
        tf.set_random_seed(flags.seed)
        self.gan = GAN(flags)
        self.writer = tf.summary.FileWriter(self.folder)
        if not self.history:
            self.writer.add_graph(tf.get_default_graph())
        self.gan.prepare(self.chunk(0))
        self.saver, self.session = tf.train.Saver(), tf.Session()
        self.session.run(tf.global_variables_initializer())
        self.step = restore(self.session, self.saver, self.folder)
        if self.step is None:
            self.step = 0
            self.save()
        self.saved = self.told = time.time()
        self.since = self.step, self.saved

    def chunk(self, number):
        """What draw_chunk returns; the next chunk is drawn while this one is being played."""
        for n in (number, number + 1):
            if n not in self.chunks:
                self.chunks[n] = self.pool.submit(draw_chunk, self.flags, self.data[0], n)
        self.chunks.pop(number - 1, None)
        return self.chunks[number].result()

    def play_on(self):
        """Plays to the end of the chunk, to the next summary or to the last step."""
        size, every = chunk_size(self.flags), self.flags.summary_steps
        number, first = divmod(self.step, size)
        stop = min(self.step - first + size, self.step - self.step % every + every)
        last = min(stop, self.flags.max_steps) - self.step + first
        feed = dict(zip(self.gan.inputs, (first, last) + self.chunk(number)))
        self.losses = self.session.run(self.gan.losses, feed)
        self.step = int(self.session.run(self.gan.step))
        self.check(*self.losses)

    def check(self, D_loss, G_loss):
        """Raises: Fault if a loss is not finite."""
        if not np.isfinite(D_loss + G_loss):
            raise Fault(
                f"D_loss {D_loss}, G_loss {G_loss} at step {self.step}; model.ckpt-"
                f"{checkpoints(self.folder)[0]} in {self.folder} is good; try lower learning rates"
            )

    def chart(self):
        """The game as it stands, on held-out digits and without dropout."""
        x = np.float32(self.data[1][:1000]) / 255
        z = noise(len(x), self.flags.seed + 1)
        return self.session.run(self.gan.charts, {self.gan.x: x, self.gan.z: z})

    def samples(self, n, seed):
        return draw_samples(self.session, self.gan.G_average, self.gan.z, noise(n, seed))

    def save(self):
        """Writes a checkpoint, if the state is one to go on from."""
        charts = self.chart()
        self.check(charts["D_loss"], charts["G_loss"])
        require_room(self.folder)
        prefix = os.path.join(self.folder, "model.ckpt")
        self.saver.save(self.session, prefix, self.step, write_meta_graph=False)
        self.saved = time.time()

    def summarise(self):
        """Adds this step to curves and pictures, unless it is there from before a stop."""
        if self.step <= max(self.history, default=-1):
            return
        require_room(self.folder)
        (last, then), values = self.since, self.chart()
        digits = self.samples(10000, self.flags.seed + 1)
        score = parzen_score(digits, self.data[1][:100], self.data[2][:300])
        values["parzen_log_likelihood"] = score[0]
        if self.step > last:
            values["steps_per_second"] = (self.step - last) / (time.time() - then)
        png = os.path.join(self.folder, "samples", f"step_{self.step:07d}.png")
        save_grid(png, self.samples(64, self.flags.seed))
        with open(png, "rb") as file:
            image = tf.Summary.Image(encoded_image_string=file.read())
        summary = tf.Summary(value=[tf.Summary.Value(tag="samples", image=image)])
        for tag, value in values.items():
            summary.value.add(tag=tag, simple_value=value)
        self.writer.add_summary(summary, self.step)
        self.writer.flush()
        self.history[self.step], self.since = values, (self.step, time.time())

    def tell(self):
        """The progress line: in place on a terminal, else now and then."""
        now, in_place = time.time(), sys.stdout.isatty()
        if now - self.told > (0.5 if in_place else 15):
            rate = (self.step - self.since[0] + 1e-9) / (now - self.since[1])
            left = datetime.timedelta(seconds=int((self.flags.max_steps - self.step) / rate))
            line = f"step {self.step}/{self.flags.max_steps}  D_loss {self.losses[0]:.3f}  "
            line += f"G_loss {self.losses[1]:.3f}  {rate:.0f} steps/s  {left} left"
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
        print(
            f"\nParzen log-likelihood: {mean:.1f} +- {error:.1f} nats at sigma {sigma:.3f} (MNIST: "
            f"225 +- 2 the paper's larger networks, 241 real digits)\nRun: {self.folder}  with "
            f"samples.gif, losses.png\nLast picture: {pngs[-1]}\nCurves: tensorboard --logdir "
            f"{os.path.dirname(self.folder) or '.'}"
        )


def read_history(folder):
    """What the event files hold: {step: {"D_loss": ..., ...}}, up to where a kill cut them off."""
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
    """Steps of the checkpoints in the folder, newest first."""
    names = [name[11:-6] for name in os.listdir(folder) if name.endswith(".index")]
    return sorted((int(name) for name in names if name.isdigit()), reverse=True)


def restore(session, saver, folder):
    """Restores the newest whole checkpoint. Returns: its step, None if there is none.

    Raises: BadInput if none of the checkpoints there are is whole, or one is of other networks.
    """
    for step in checkpoints(folder):
        path = os.path.join(folder, f"model.ckpt-{step}")
        try:
            saver.restore(session, path)
            return step
        except (tf.errors.InvalidArgumentError, tf.errors.NotFoundError) as error:
            raise BadInput(f"{path}: not a checkpoint of these networks") from error
        except (tf.errors.OpError, ValueError):
            print(f"{path} is damaged; going on from the one before", file=sys.stderr)
    if checkpoints(folder):
        raise BadInput(f"--output_dir {folder}: all its checkpoints are damaged")


def require_room(folder):
    """Raises: Fault if a summary and a checkpoint might not fit on the disk, or folder is gone."""
    if shutil.disk_usage(folder).free < 8 << 20:
        raise Fault(f"{folder}: the disk is nearly full; make room (8 MB) and start again with it")


def train(flags, data):
    """Plays the game to its end, or until Ctrl-C or SIGTERM. Returns: the exit status."""
    stops = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: stops.append(number))
    run = Run(flags, data)
    run.summarise()
    while run.step < flags.max_steps and not stops:
        run.play_on()
        if run.step % flags.summary_steps == 0 or run.step == flags.max_steps:
            run.summarise()
        if time.time() - run.saved > 20:
            run.save()
        run.tell()
    run.save()
    if stops:
        print(f"\nStopped at step {run.step}; to go on, add --output_dir {flags.output_dir}")
        return 128 + stops[0]
    run.finish()
    return 0


def sample(flags):
    """Writes digits of a trained run, with averaged weights: generated.png and generated.npy."""
    z = tf.placeholder(tf.float32, [None, Z_SIZE])
    G_sample, average = generator(z), tf.train.ExponentialMovingAverage(0.0)
    saver = tf.train.Saver(average.variables_to_restore(tf.trainable_variables()))
    with tf.Session() as session:
        if restore(session, saver, flags.output_dir) is None:
            raise BadInput(f"--output_dir {flags.output_dir}: no checkpoint there; train first")
        digits = draw_samples(session, G_sample, z, noise(flags.sample, flags.seed))
    path = os.path.join(flags.output_dir, "generated")
    for end in (".png", ".npy"):  # what was generated before is kept under the next free number
        free = next(n for n in itertools.count(1) if not os.path.exists(f"{path}-{n}{end}"))
        if os.path.exists(path + end):
            os.rename(path + end, f"{path}-{free}{end}")
    save_grid(path + ".png", digits)
    with whole_file(path + ".npy") as file:
        np.save(file, digits.reshape(-1, 28, 28))
    print(f"{len(digits)} digits: {path}.png, {path}.npy")
    return 0


# ---------------------------------------------------------------------------------- command line

FLAGS = {  # name: default, least, most, meaning
    "max_steps": (200_000, 1, 10**9, "training steps"),
    "batch_size": (64, 1, MOST_IMAGES, "images, or z, in a minibatch"),
    "d_step": (1, 0, 100, "updates of D in a training step"),
    "g_step": (1, 0, 100, "updates of G in a training step"),
    "d_learning_rate": (1e-3, 0.0, 10.0, "Adam's learning rate for D"),
    "g_learning_rate": (1e-3, 0.0, 10.0, "Adam's learning rate for G"),
    "lr_half_life": (50_000, 0, 10**9, "training steps in which both halve; 0: never"),
    "beta1": (0.0, 0.0, 0.999, "Adam's beta1, its memory for gradients"),
    "beta2": (0.99, 0.0, 0.99999, "Adam's beta2, its memory for their squares"),
    "dropout": (0.5, 0.0, 0.99, "share of D's hidden units left out in an update"),
    "ema_decay": (0.999, 0.0, 0.99999, "memory of the average of G's weights; 0: the last weights"),
    "seed": (0, 0, 2**31 - 2, "another seed, another run; with --sample, other digits"),
    "summary_steps": (5000, 1, 10**9, "training steps between summaries"),
}
OBSERVERS = {"max_steps", "summary_steps", "input_data_dir", "output_dir", "sample"}


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors take one line."""

    def error(self, message):
        raise BadInput(message)


def between(least, most):
    """An argparse type: a number of the type of the bounds, between them."""

    def parse(text):
        with contextlib.suppress(ValueError):
            if least <= type(least)(text) <= most:
                return type(least)(text)
        kind = "whole number" if isinstance(least, int) else "number"
        raise argparse.ArgumentTypeError(f"must be a {kind} from {least} to {most}, not {text!r}")

    return parse


def folder_name(text):
    """An argparse type: a path that Python and TensorFlow both can open."""
    if not text.isprintable() or set(text) & set("*?[]") or not text:
        raise argparse.ArgumentTypeError(f"{text!r} is empty or holds one of * ? [ ]")
    return text


def parse_flags(argv):
    """The flags in argv, those alone: {name: value}. Raises: BadInput."""
    parser = Parser("gan_mnist.py", description=__doc__.split("\n")[0], allow_abbrev=False)
    add = functools.partial(parser.add_argument, default=argparse.SUPPRESS)
    add("--input_data_dir", type=folder_name, metavar="DIR", help="IDX files, gzipped or not")
    add("--output_dir", type=folder_name, metavar="DIR", help="of this run; if it is one, go on")
    add("--sample", type=between(1, 100_000), metavar="N", help="no training: N digits of the run")
    losses = ["non_saturating", "minimax"]
    add("--g_loss", choices=losses, help="what G minimises (default: non_saturating)")
    for name, (default, least, most, meaning) in FLAGS.items():
        text = f"{meaning} (default: {default})"
        add("--" + name, type=between(least, most), metavar="N", help=text)
    flags, unknown = parser.parse_known_args(argv)
    if unknown:
        known = [action.option_strings[0] for action in parser._actions]
        near = difflib.get_close_matches(unknown[0], known, 1, 0)[0]
        raise BadInput(f"{unknown[0]}: no such flag; is {near} meant?")
    return vars(flags)


def settle_flags(argv):
    """Flags from argv, else those the run in --output_dir was started with, else the defaults.

    Raises: BadInput, also if a flag would change a run that is to go on.
    """
    given, saved = parse_flags(argv), {}
    here = os.path.dirname(os.path.abspath(__file__))
    flags = {"input_data_dir": os.path.join(here, "MNIST_data"), "g_loss": "non_saturating"}
    flags.update((name, setting[0]) for name, setting in FLAGS.items())
    folder = given.get("output_dir", "")
    if os.path.exists(folder):
        saved = saved_flags(folder)
    differ = [
        name
        for name in saved
        if name not in OBSERVERS and given.get(name, saved[name]) != saved[name]
    ]
    if differ and "sample" not in given:
        raise BadInput(
            f"--output_dir {folder}: that run has "
            + ", ".join(f"--{name} {saved[name]}, not {given[name]}" for name in differ)
            + "; leave these out to go on with it, or name a new folder"
        )
    flags = argparse.Namespace(**{**flags, "sample": 0, "data": None, **saved, **given})
    if flags.sample and not saved:
        raise BadInput("--sample needs --output_dir with the folder of a run")
    if not flags.d_step + flags.g_step:
        raise BadInput("--d_step and --g_step are both 0: nobody would learn")
    return flags


def saved_flags(folder):
    """The flags that the run in the folder was started with; {} for an empty folder."""
    try:
        if not os.listdir(folder):
            return {}
        with open(os.path.join(folder, "flags.json")) as file:
            saved = json.loads(file.read() or "{}")
        argv = [f"--{name}={value}" for name, value in saved.items() if name != "data"]
        return {**parse_flags(argv), **({"data": saved["data"]} if saved else {})}
    except (OSError, ValueError, KeyError, AttributeError, BadInput) as error:
        raise BadInput(f"--output_dir {folder}: not a folder with a run ({error})") from error


@contextlib.contextmanager
def claimed_folder(flags):
    """Makes the run's folder, or the next free one, and keeps other processes out of it."""
    try:
        if "output_dir" not in flags:
            name = os.path.join("outputs", time.strftime("%Y%m%d-%H%M%S"))
            names = itertools.chain([name], (f"{name}-{n}" for n in itertools.count(2)))
            flags.output_dir = next(name for name in names if not os.path.exists(name))
        os.makedirs(os.path.join(flags.output_dir, "samples"), exist_ok=True)
        file = open(os.path.join(flags.output_dir, "flags.json"), "a+")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BadInput(f"--output_dir {flags.output_dir}: another process trains there") from error
    except OSError as error:
        raise BadInput(f"--output_dir {flags.output_dir}: cannot be written ({error})") from error
    with file:
        if not file.tell():
            keep = {
                name: value
                for name, value in vars(flags).items()
                if name not in ("sample", "output_dir")
            }
            file.write(json.dumps(keep, indent=2) + "\n")
            file.flush()
        yield


def main(argv=None):
    """Runs the command line. Returns: 0 done, 1 a fault, 2 bad input, 130 Ctrl-C."""
    try:
        flags = settle_flags(argv)
        if flags.sample:
            return sample(flags)
        data = load_data(flags.input_data_dir)
        if len(data[0]) < flags.batch_size:
            raise BadInput(f"--batch_size {flags.batch_size}: only {len(data[0])} training images")
        if flags.data not in (None, data[3]):
            raise BadInput(f"--input_data_dir {flags.input_data_dir}: the run has other images")
        flags.data = data[3]
        with claimed_folder(flags):
            return train(flags, data)
    except KeyboardInterrupt:
        return 130
    except BadInput as error:
        message, status = error, 2
    except (Fault, OSError, tf.errors.OpError) as error:
        message, status = str(error).splitlines()[0], 1
    print(f"\ngan_mnist.py: error: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
