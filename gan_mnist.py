"""The original GAN (Goodfellow et al. 2014, arXiv:1406.2661) on MNIST, in TensorFlow 1.x style.

A generator G turns noise z into images, a discriminator D distinguishes them from real digits x;
the function play trains them against each other on equation 1 of the paper:

    min_G max_D  V(D, G) = E_x[log D(x)] + E_z[log(1 - D(G(z)))]
"""

import argparse
import gzip
import hashlib
import json
import logging
import os
import shlex
import sys
import time
from pathlib import Path
from subprocess import PIPE, Popen
from urllib.request import urlopen  # import_packages imports np, tf, Image and others later

# ------------------------------------------------------------------------------------------ data
PIXELS = 28 * 28
Z_SIZE = 100
HIDDEN = 128
FILES = {"train-images-idx3-ubyte": 12, "t10k-images-idx3-ubyte": 1}  # minimum number of images
MNIST_DIR = Path(__file__).resolve().with_name("MNIST_data")
MNIST_URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"
MNIST_SHA256 = "626406b879f816a1a33f889ac0273780bee64e9fe8de6a2e9686114d049e77d8"  # both, unpacked


def download(folder):
    """Downloads MNIST, checks its SHA-256 and only then writes both files to the folder."""
    print(f"Downloading MNIST from {MNIST_URL} to {folder}", flush=True)
    files = [urlopen(f"{MNIST_URL}{name}.gz", timeout=30).read() for name in FILES]
    if hashlib.sha256(b"".join(map(gzip.decompress, files))).hexdigest() != MNIST_SHA256:
        raise ValueError("the download has a wrong SHA-256")
    folder.mkdir(exist_ok=True)
    for name, content in zip(FILES, files):
        (folder / f"{name}.gz").write_bytes(content)


def load_data(folder):
    """Reads images in MNIST's format, .gz or unpacked; a folder without any gets MNIST. Returns:
    training, validation (the last twelfth, 5,000 at most) and test images, uint8 [n, 784]."""
    images = []
    for name, least in FILES.items():
        path = folder / name if (folder / name).exists() else folder / f"{name}.gz"
        try:
            if not any(folder.glob("*idx*")) and (folder.is_dir() or folder == MNIST_DIR):
                download(folder)
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        except Exception as error:  # noqa: BLE001 (urllib, gzip and zlib each raise their own)
            fail(f"--input_data_dir: {path} is missing or damaged: {error}")
        header = np.array([2051, len(data) // PIXELS, 28, 28], ">u4").tobytes()  # 2051: images
        if data[:16] != header or len(data) % PIXELS != 16 or len(data) < least * PIXELS:
            fail(f"--input_data_dir: {path} is not an IDX file of {least} or more 28x28 images")
        images.append(np.frombuffer(data, np.uint8, offset=16).reshape(-1, PIXELS))
    train, test = images
    n = len(train) - min(5000, len(train) // 12)
    return train[:n], train[n:], test


# -------------------------------------------------------------------------------------- networks
def layer(inputs, units, scope, activation):
    """[batch, n] to [batch, units]: activation(inputs W + b). A scope used again shares W and b."""
    normal = tf.truncated_normal_initializer(stddev=0.1)
    with tf.variable_scope(scope, reuse=tf.AUTO_REUSE):  # scope[0] is the player, G or D
        W = tf.get_variable(scope[0] + "_weight", [inputs.shape[-1], units], initializer=normal)
        b = tf.get_variable(scope[0] + "_bias", [units], initializer=tf.constant_initializer(0.1))
        return activation(tf.matmul(inputs, W) + b)


def generator(z):
    """G(z): noise [batch, 100] in [-1, 1) to images [batch, 784] in [0, 1]."""
    hidden = layer(z, HIDDEN, "G_nn1", tf.tanh)
    return layer(hidden, PIXELS, "G_nn2", tf.sigmoid)


def discriminator(x):
    """Images [batch, 784] in [0, 1] to logits [batch, 1]; D(x) = sigmoid(logit)."""
    hidden = layer(x, HIDDEN, "D_nn1", tf.tanh)
    return layer(hidden, 1, "D_nn2", tf.identity)


# ---------------------------------------------------------------------------------------- losses
# from logits, so that there is no log(0): -log D = softplus(-logit), -log(1 - D) = softplus(logit)
def discriminator_loss(logit_real, logit_fake):
    """D_loss = -V(D, G) = -E_x[log D(x)] - E_z[log(1 - D(G(z)))], equation 1."""
    return tf.reduce_mean(tf.nn.softplus(-logit_real)) + tf.reduce_mean(tf.nn.softplus(logit_fake))


def generator_loss(logit_fake, kind):
    """G_loss: non_saturating, -E_z[log D(G(z))], section 3; or minimax, E_z[log(1 - D(G(z)))]."""
    if kind == "minimax":
        return -tf.reduce_mean(tf.nn.softplus(logit_fake))
    return tf.reduce_mean(tf.nn.softplus(-logit_fake))  # stronger gradient when D is confident


def r1_penalty(logit_real, x, gamma):
    """R1: gamma / 2 E_x[|grad_x logit|^2] (Mescheder et al. 2018, arXiv:1801.04406, equation 9)."""
    (gradient,) = tf.gradients(logit_real, x)  # of each logit with respect to its x
    return gamma / 2 * tf.reduce_mean(tf.reduce_sum(gradient**2, axis=1))


# ----------------------------------------------------------------------------------------- graph
class GAN:
    """The graph and its session. Raises: ValueError if neither D nor G trains some variable."""

    def __init__(self, flags, images):
        tf.reset_default_graph()
        tf.set_random_seed(flags.seed)
        self.global_step = tf.train.get_or_create_global_step()  # updates of D and of G
        with tf.name_scope("minibatch"):  # a new one for every update
            preload = tf.placeholder(tf.uint8, images.shape)
            stored = tf.Variable(preload, trainable=False, collections=[])  # in no checkpoint
            seeds = [flags.seed, self.global_step]  # a resumed run draws the same minibatches
            uniform = tf.random.stateless_uniform([flags.batch_size, 1 + Z_SIZE], seeds)
            rows = tf.cast(len(images) * uniform[:, 0], tf.int32)  # column 0; the others are z
            x = tf.cast(tf.gather(stored, rows), tf.float32) / 255
            z = 2 * uniform[:, 1:] - 1
        self.x = tf.placeholder_with_default(x, [None, PIXELS], name="input")  # or what is fed
        self.z = tf.placeholder_with_default(z, [None, Z_SIZE], name="Z")

        logit_real = discriminator(self.x)
        logit_fake = discriminator(generator(self.z))
        with tf.name_scope("D_loss"):
            self.D_loss = discriminator_loss(logit_real, logit_fake)
            penalty = r1_penalty(logit_real, self.x, flags.r1_gamma) if flags.r1_gamma else 0.0
            D_objective = self.D_loss + penalty
        with tf.name_scope("G_loss"):
            self.G_loss = generator_loss(logit_fake, flags.g_loss)

        theta_D = tf.trainable_variables("D_")
        theta_G = tf.trainable_variables("G_")
        others = {v.name for v in tf.trainable_variables()} - {v.name for v in theta_D + theta_G}
        if others:
            raise ValueError(f"neither D nor G trains {others}: start their scope with D_ or G_")
        with tf.name_scope("D_Adam"):
            D_adam = tf.train.AdamOptimizer(flags.d_learning_rate, flags.beta1, flags.beta2)
            self.D_update = D_adam.minimize(D_objective, self.global_step, var_list=theta_D)
        with tf.name_scope("G_Adam"):
            G_adam = tf.train.AdamOptimizer(flags.g_learning_rate, flags.beta1, flags.beta2)
            G_update = G_adam.minimize(self.G_loss, self.global_step, var_list=theta_G)
            average = tf.train.ExponentialMovingAverage(flags.ema_decay, self.global_step)
            with tf.control_dependencies([G_update]):
                self.G_update = average.apply(theta_G)
        averaged = lambda getter, **kwargs: average.average(getter(**kwargs))
        with tf.name_scope("samples"), tf.variable_scope("", custom_getter=averaged):
            self.samples = generator(self.z)  # here get_variable returns the averages of theta_G
        self.graph_def = tf.get_default_graph().as_graph_def()  # without summaries and Saver
        tf.summary.scalar("losses/D_loss", self.D_loss)
        tf.summary.scalar("losses/G_loss", self.G_loss)
        tf.summary.scalar("probabilities/D_real", tf.reduce_mean(tf.sigmoid(logit_real)))
        tf.summary.scalar("probabilities/D_fake", tf.reduce_mean(tf.sigmoid(logit_fake)))
        self.curves = tf.summary.merge_all()  # record writes these and any tf.summary added above
        self.session = tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=1))  # faster
        self.session.run([tf.global_variables_initializer(), stored.initializer], {preload: images})
        self.saver = tf.train.Saver(save_relative_paths=True)

    def restore(self, folder):
        """Restores the newest model.ckpt-*, without the file checkpoint. Returns: whether any."""
        steps = sorted(int(p.stem.split("-")[1]) for p in folder.glob("model.ckpt-[0-9]*.index"))
        paths = [f"{folder}/model.ckpt-{step}" for step in steps]
        if paths:
            self.saver.restore(self.session, paths[-1])
            self.saver.recover_last_checkpoints(paths)
        return bool(paths)

    def digits(self, n, seed):
        """n digits generated with the averaged weights of G, determined by seed: uint8 [n, 784]."""
        z = np.random.RandomState(seed).uniform(-1, 1, [n, Z_SIZE])
        return np.uint8(255 * self.session.run(self.samples, {self.z: z}) + 0.5)


# ------------------------------------------------------------------------------------- summaries
def parzen_log_likelihood(samples, images, sigma=0.2):
    """Mean log-likelihood of images in nats, Gaussians at samples (section 5); uint8 [n, 784]."""
    centers = samples / np.float32(255)
    log_sums = []
    for block in np.array_split(images / np.float32(255), len(images) // 500 + 1):  # saves memory
        squares = np.sum(block**2, axis=1)[:, None] + np.sum(centers**2, axis=1)
        exponents = (block @ centers.T - squares / 2) / np.float32(sigma**2)  # -|x-c|^2 / 2sigma^2
        log_sums.append(np.logaddexp.reduce(exponents, axis=1))
    log_scale = np.log(len(centers)) + PIXELS / 2 * np.log(2 * np.pi * sigma**2)
    return np.concatenate(log_sums).mean() - log_scale


def save_grid(path, digits):
    """Saves digits, uint8 [n, 784], as a PNG: a square grid at twice the size, its name below."""
    side = int(np.ceil(np.sqrt(len(digits))))
    padded = np.pad(digits, [(0, side**2 - len(digits)), (0, 0)])
    grid = padded.reshape(side, side, 28, 28).swapaxes(1, 2).reshape(side * 28, side * 28)
    picture = Image.fromarray(np.pad(grid.repeat(2, axis=0).repeat(2, axis=1), [(0, 20), (0, 0)]))
    ImageDraw.Draw(picture).text([4, side * 56 + 4], path.stem, fill=255)
    picture.save(path)


def save_losses(path, g_loss):
    """Plots the curves in the event files beside path. Dashed: the values if D = 1/2 throughout."""
    G_half = -np.log(2) if g_loss == "minimax" else np.log(2)
    curves = [("losses/D_loss", "D_loss", 2 * np.log(2)), ("losses/G_loss", "G_loss", G_half)]
    curves += [("probabilities/D_real", "D(x)", 0.5), ("probabilities/D_fake", "D(G(z))", 0.5)]
    events = EventAccumulator(str(path.parent), {"scalars": 0}).Reload()
    figure = Figure([9, 6], layout="constrained")
    panels = figure.subplots(2, 1, sharex=True).repeat(2)  # two curves in each
    for k, (axes, (tag, label, value)) in enumerate(zip(panels, curves)):
        points = events.Scalars(tag) if tag in events.Tags()["scalars"] else []
        axes.plot([p.step for p in points], [p.value for p in points], f"C{k % 2}", label=label)
        axes.axhline(value, color=f"C{k % 2}", linestyle="--")
        axes.set(title=tag.split("/")[0], xlabel="training step")
        axes.legend(loc="center left", bbox_to_anchor=[1, 0.5])
    figure.savefig(path)


def recorder(gan, flags, steps_done, validation, test):
    """Opens the run's folder and records its state. Returns: record, to call after every step."""
    folder = Path(flags.output_dir)
    text = json.dumps(vars(flags), indent=4)
    (folder / "flags.part").write_text(text)
    (folder / "flags.part").replace(folder / "flags.json")  # never half-written
    writer = tf.summary.FileWriter(str(folder))
    # START: TensorBoard discards points from this step on, which a killed process left
    writer.add_session_log(tf.SessionLog(status=tf.SessionLog.START), steps_done)
    if steps_done == 0:
        writer.add_graph(None, graph_def=gan.graph_def)
        writer.add_summary(gan.session.run(tf.summary.text("flags", tf.constant(text))))
    z = np.random.RandomState(flags.seed).uniform(-1, 1, [256, Z_SIZE])
    feed = {gan.x: validation[:256] / np.float32(255), gan.z: z}
    started = time.perf_counter()
    last_save = -np.inf

    def record(step, D_loss, G_loss):
        nonlocal last_save
        if not np.isfinite(D_loss + G_loss):
            fail(f"loss not finite at step {step}: start a new run with lower learning rates", 1)
        last = step == flags.max_steps
        now = time.perf_counter()
        speed = (step - steps_done) / (now - started)
        summary = tf.Summary()
        if step % flags.summary_steps == 0:
            summary.MergeFromString(gan.session.run(gan.curves, feed))
            if step > steps_done:
                summary.value.add(tag="speed/steps_per_second", simple_value=speed)
        if last or step in (0, 100, 200, 500, 1000, 2000) or step % 2500 == 0:
            path = folder / "samples" / f"step_{step:07d}.png"
            save_grid(path, gan.digits(64, flags.seed))
            summary.value.add(tag="samples", image={"encoded_image_string": path.read_bytes()})
            score = parzen_log_likelihood(gan.digits(10_000, flags.seed + 1), test[:200])
            summary.value.add(tag="score/parzen_log_likelihood", simple_value=score)
        if summary.value:
            writer.add_summary(summary, step)
            writer.flush()  # before the checkpoint: no point up to it can be missing
        due = last or now - last_save > 5  # seconds
        if due:
            folder.resolve(strict=True)  # error if deleted: save would recreate it
            gan.saver.save(gan.session, f"{folder}/model.ckpt", step, write_meta_graph=False)
            last_save = now
        in_place = sys.stdout.isatty() and not last
        if step > steps_done and (due or (in_place and step % 50 == 0)):
            line = f"step {step}/{flags.max_steps}, {(flags.max_steps - step) / speed:.0f} s left, "
            line += f"{speed:.0f} steps/s, minibatch D_loss {D_loss:.3f} G_loss {G_loss:.3f}"
            print(line.ljust(79), end="\r" if in_place else "\n", flush=True)

    record(steps_done, 0.0, 0.0)  # the state before the next update; these losses are not shown
    return record


# ------------------------------------------------------------------------- training and sampling
def play(gan, flags, steps_done, record):
    """Algorithm 1 of the paper, up to --max_steps (with Adam, and g_step updates of G)."""
    update_D = gan.session.make_callable([gan.D_loss, gan.D_update])
    update_G = gan.session.make_callable([gan.G_loss, gan.G_update])
    for step in range(steps_done + 1, flags.max_steps + 1):
        for _ in range(flags.d_step):  # D learns to distinguish x from G(z)
            D_loss, _ = update_D()
        for _ in range(flags.g_step):  # G learns to fool D
            G_loss, _ = update_G()
        record(step, D_loss, G_loss)


def train(flags):
    """Trains the run in --output_dir, new or resumed, up to --max_steps, and shows its results."""
    images, validation, test = load_data(Path(flags.input_data_dir or MNIST_DIR))
    gan = GAN(flags, images)
    folder = Path(flags.output_dir)
    gan.restore(folder)
    step = int(gan.session.run(gan.global_step)) // (flags.d_step + flags.g_step)
    if step >= flags.max_steps:
        print(f"Run finished at step {step}; --max_steps extends it; missing files are skipped")
    else:
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        print(f"Run: {folder} (resume with --output_dir {shlex.quote(str(folder))})", flush=True)
        record = recorder(gan, flags, step, validation, test)
        play(gan, flags, step, record)
    pngs = [Image.open(path).copy() for path in sorted(folder.glob("samples/step_*.png"))]
    ms = [1000] * 6 + [300] * len(pngs)  # slower at the first six, which are early
    if pngs:
        gif = folder / "samples.gif"
        pngs[0].save(gif, save_all=True, append_images=pngs[1:], duration=ms, loop=0)
    save_losses(folder / "losses.png", flags.g_loss)
    score = parzen_log_likelihood(gan.digits(10_000, flags.seed + 1), test)
    print(f"Parzen log-likelihood: {score:.1f} nats. Pictures: samples.gif, losses.png in {folder}")
    tensorboard = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder.parent)]
    print("Curves:", *map(shlex.quote, tensorboard), flush=True)


def sample(flags):
    """Generates digits with the averaged weights of a run: generated.png and generated.npy."""
    gan = GAN(flags, np.zeros([1, PIXELS], np.uint8))  # needs no data
    if not gan.restore(Path(flags.output_dir)):
        fail(f"--output_dir {flags.output_dir}: no checkpoint there, which --sample needs")
    digits = gan.digits(flags.sample, flags.seed)
    np.save(f"{flags.output_dir}/generated.npy", digits.reshape(-1, 28, 28))
    save_grid(Path(flags.output_dir, "generated.png"), digits)
    print(f"{len(digits)} digits: {flags.output_dir}/generated.npy and generated.png", flush=True)


# ---------------------------------------------------------------------------------- command line
NUMBERS = (  # name, default, minimum, maximum, meaning
    ("max_steps", 25_000, 1, 9_999_999, "training steps"),
    ("batch_size", 128, 1, 10_000, "minibatch size"),
    ("d_step", 1, 1, 20, "updates of D per training step"),
    ("g_step", 2, 1, 20, "updates of G per training step"),
    ("r1_gamma", 3.0, 0.0, 1000.0, "weight of D's gradient penalty; 0: none"),
    ("d_learning_rate", 1e-3, 0.0, 10.0, "Adam's learning rate for D"),
    ("g_learning_rate", 8e-3, 0.0, 10.0, "Adam's learning rate for G"),
    ("beta1", 0.0, 0.0, 0.999, "Adam's decay of the mean gradient"),
    ("beta2", 0.99, 0.0, 0.99999, "Adam's decay of the mean squared gradient"),
    ("ema_decay", 0.9999, 0.0, 0.999999, "largest decay of the average of G's weights; 0: none"),
    ("seed", 0, 0, 2**31 - 2, "random seed; with --sample, of z"),
    ("summary_steps", 100, 1, 10**9, "steps between two points of the curves"),
    ("sample", 0, 0, 100_000, "no training: generate N digits with the run in --output_dir"),
)
MUTABLE = ("max_steps", "summary_steps", "sample", "input_data_dir", "output_dir")  # when resuming


def parse_flags(argv):
    """The flags in argv; the defaults are those of the existing run in --output_dir, if any."""
    parser = argparse.ArgumentParser("gan_mnist.py", usage=argparse.SUPPRESS, allow_abbrev=False)
    folder = time.strftime("outputs/%Y-%m-%d_%H-%M-%S.") + f"{time.time_ns() // 1000 % 10**6:06}"
    parser.add_argument("--input_data_dir", default="", help="folder of IDX files (MNIST_data)")
    parser.add_argument("--output_dir", default=folder, help="run directory, new or to be resumed")
    kinds = ["non_saturating", "minimax"]
    parser.add_argument("--g_loss", default=kinds[0], choices=kinds, help=f"G's loss ({kinds[0]})")
    for name, value, _, _, text in NUMBERS:
        parser.add_argument("--" + name, default=value, type=type(value), help=f"{text} ({value})")
    flags = parser.parse_args(argv)
    if not flags.output_dir or (set("[]*?\\") - {os.sep}) & set(flags.output_dir):
        fail(f"--output_dir {flags.output_dir!r}: must not be empty or contain [ ] * ? \\")
    path = Path(flags.output_dir, "flags.json")
    try:
        flags.output_dir.encode(sys.stdout.encoding or "utf-8")  # it will be printed
        saved = json.loads(path.read_text()) if path.exists() else vars(flags)
        if {n: type(v) for n, v in saved.items()} != {n: type(v) for n, v in vars(flags).items()}:
            raise ValueError("not the flags of this script, or a value of the wrong type")
    except (OSError, ValueError, AttributeError) as error:
        fail(f"{path}: {error}")
    flags = parser.parse_args(argv, argparse.Namespace(**saved))
    for name, _, least, most, _ in NUMBERS:
        if not least <= vars(flags)[name] <= most:
            fail(f"--{name} {vars(flags)[name]}: must be from {least} to {most}")
    changed = [f"--{n} {v}" for n, v in saved.items() if v != vars(flags)[n] and n not in MUTABLE]
    if changed and not flags.sample:
        fail(f"cannot resume {flags.output_dir}: it was trained with {' '.join(changed)}")
    return flags


def fail(message, status=2):
    """Ends the script with one line, padded to cover a progress line. Status: as in main."""
    print(f"gan_mnist.py: error: {str(message).strip().splitlines()[0]:<58}", file=sys.stderr)
    sys.exit(status)


def import_packages():
    """Imports the slow packages, late so that --help is fast; hides stderr unless Python dies."""
    global np, tf, Image, ImageDraw, Figure, EventAccumulator
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # only fatal errors
    code = "import sys; sys.stderr.write(sys.stdin.read())"  # at EOF: when this process dies
    reader = Popen([sys.executable, "-c", code], stdin=PIPE, start_new_session=True)
    stderr = os.dup(2)
    os.dup2(reader.stdin.fileno(), 2)
    try:
        import numpy as np
        import tensorflow.compat.v1 as tf
        from matplotlib.figure import Figure
        from PIL import Image, ImageDraw
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        logging.disable(logging.WARNING)  # deprecations, purged points; tf.logging, too
        tf.disable_v2_behavior()
        tf.enable_resource_variables()  # their reads and updates have a defined order
    finally:
        reader.kill()
        os.dup2(stderr, 2)


def main(argv=None):
    """Runs the command line. Exit status: 0 done, 1 runtime error, 2 bad input, 130 Ctrl-C."""
    flags = parse_flags(argv)
    try:
        import_packages()
        command = sample if flags.sample else train
        command(flags)
    except ImportError as error:
        fail(f"{error}; install the packages: python -m pip install -r requirements.txt")
    except KeyboardInterrupt:
        fail("stopped by Ctrl-C", 130)
    except BrokenPipeError:
        os._exit(1)  # without a message: the reader of the pipe, such as `head`, is gone
    except OSError as error:
        fail(error, 2 if isinstance(error, (FileExistsError, NotADirectoryError)) else 1)
    except tf.errors.OpError as error:
        if (error.op or "{{node" in str(error)) and "save/" not in str(error):
            raise  # an error of the graph; those of files come from the Saver or from no node
        fail(f"{flags.output_dir}: disk full, damaged file or another network ({error!r:.40})", 1)


if __name__ == "__main__":
    main()
