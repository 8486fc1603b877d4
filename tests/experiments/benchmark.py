"""How fast gan_mnist.py trains, beside other ways to train the same GAN on this machine.

    python tests/experiments/benchmark.py [--peers-python PATH]

Contenders are processes that take turns within a round, so that a ratio compares two measurements
made under the same conditions. Start-up and compilation are left out; curves, pictures and
checkpoints of gan_mnist.py are not. PyTorch and JAX are optional: see requirements.txt here.
"""

import argparse
import functools
import gzip
import json
import resource
import subprocess
import sys
import tempfile
import time
import timeit
from pathlib import Path

import numpy as np  # TensorFlow only in a contender: a child's peak memory starts at its parent's

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
OURS, SCRIPT = "gan_mnist.py", [sys.executable, str(ROOT / "gan_mnist.py")]
STEPS, PEER_STEPS = 10_000, 2000
Z_SIZE, HIDDEN, PIXELS = 100, 128, 784
D_RATE, G_RATE, BETA1, BETA2, DROPOUT, EMA = 1e-3, 8e-3, 0.0, 0.99, 0.5, 0.9999
# in a step, for an image: products with G_nn1 forward and backward, with G_nn2, with D_nn1
FLOP = 2 * ((2 + 1) * Z_SIZE * HIDDEN + (2 + 2 + 3 + 3) * HIDDEN * PIXELS)


def training_images():
    """MNIST's first 55,000 training images, uint8 [55000, 784]."""
    content = gzip.decompress((ROOT / "MNIST_data/train-images-idx3-ubyte.gz").read_bytes())
    return np.frombuffer(content, np.uint8, offset=16).reshape(-1, PIXELS)[:55_000]


def timed(play):
    """Milliseconds a training step, for a function that plays so many, after a warm-up."""
    play(200)
    start = time.perf_counter()
    play(PEER_STEPS)
    return (time.perf_counter() - start) / PEER_STEPS * 1e3


def whole_script(batch):
    """gan_mnist.py itself, by its event file: the second half, with the pictures of a long run."""
    import gan_mnist

    with tempfile.TemporaryDirectory() as folder:
        flags = f"--batch_size {batch} --max_steps {STEPS} --beta1 {BETA1} --beta2 {BETA2} "
        flags += f"--dropout {DROPOUT} --ema_decay {EMA} --output_dir {folder}"
        subprocess.run(SCRIPT + flags.split(), check=True)
        gan_mnist.import_tensorflow()  # in silence; TensorBoard needs it
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        points = EventAccumulator(folder, {"scalars": 0}).Reload().Scalars("losses/D_loss")
    first, last = points[len(points) // 2], points[-1]
    return (last.wall_time - first.wall_time) / (last.step - first.step) * 1e3


def feed_dict_loop(batch):
    """The plain TensorFlow 1 script: placeholders, and a session.run for each update."""
    import gan_mnist

    gan_mnist.import_tensorflow()
    tf = gan_mnist.tf
    x = tf.placeholder(tf.float32, [None, PIXELS])
    z = tf.placeholder(tf.float32, [None, Z_SIZE])
    keep = lambda: tf.nn.dropout(tf.ones([batch, HIDDEN]), rate=DROPOUT)
    logit_real = gan_mnist.discriminator(x, keep())
    logit_fake = gan_mnist.discriminator(gan_mnist.generator(z), keep())
    D_loss = gan_mnist.discriminator_loss(logit_real, logit_fake)
    G_loss = gan_mnist.generator_loss(logit_fake, "non_saturating")
    theta_D, theta_G = tf.trainable_variables("D_"), tf.trainable_variables("G_")
    D_update = tf.train.AdamOptimizer(D_RATE, BETA1, BETA2).minimize(D_loss, var_list=theta_D)
    G_update = tf.train.AdamOptimizer(G_RATE, BETA1, BETA2).minimize(G_loss, var_list=theta_G)
    with tf.control_dependencies([G_update]):
        G_update = tf.train.ExponentialMovingAverage(EMA).apply(theta_G)
    images, rng = training_images(), np.random.default_rng()
    noise = lambda: rng.random([batch, Z_SIZE], np.float32) * 2 - 1

    def play(steps):
        for _ in range(steps):
            minibatch = images[rng.integers(len(images), size=batch)] / np.float32(255)
            session.run([D_update, D_loss], {x: minibatch, z: noise()})
            session.run([G_update, G_loss], {z: noise()})

    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        return timed(play)


def pytorch(batch, compiled):
    """PyTorch: modules and fused Adam; compiled: both losses through torch.compile."""
    import torch
    from torch import nn
    from torch.nn.functional import softplus
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    G_nn1, G_nn2 = nn.Linear(Z_SIZE, HIDDEN), nn.Linear(HIDDEN, PIXELS)
    D_nn1, D_nn2 = nn.Linear(PIXELS, HIDDEN), nn.Linear(HIDDEN, 1)
    for layer in (G_nn1, G_nn2, D_nn1, D_nn2):
        nn.init.trunc_normal_(layer.weight, std=0.1, a=-0.2, b=0.2)
        nn.init.constant_(layer.bias, 0.1)
    G = nn.Sequential(G_nn1, nn.Tanh(), G_nn2, nn.Sigmoid())
    D = nn.Sequential(D_nn1, nn.Tanh(), nn.Dropout(DROPOUT), D_nn2)
    D_adam = torch.optim.Adam(D.parameters(), D_RATE, (BETA1, BETA2), fused=True)
    G_adam = torch.optim.Adam(G.parameters(), G_RATE, (BETA1, BETA2), fused=True)
    average = AveragedModel(G, multi_avg_fn=get_ema_multi_avg_fn(EMA))
    images = torch.from_numpy(training_images().copy())
    noise = lambda: torch.rand(batch, Z_SIZE) * 2 - 1

    def D_loss():
        x = images[torch.randint(len(images), (batch,))].float() / 255
        with torch.no_grad():
            fake = G(noise())
        return softplus(-D(x)).mean() + softplus(D(fake)).mean()

    def G_loss():
        return softplus(-D(G(noise()))).mean()

    if compiled:  # their gradients, too; fused Adam is as fast outside
        D_loss, G_loss = torch.compile(D_loss), torch.compile(G_loss)

    def play(steps):
        for _ in range(steps):
            for loss, adam in ((D_loss, D_adam), (G_loss, G_adam)):
                D.requires_grad_(loss is D_loss)
                adam.zero_grad()
                loss().backward()
                adam.step()
            average.update_parameters(G)

    return timed(play)


def jax_jit(batch, length):
    """JAX with Optax: a jit of a scan of so many training steps; 1: of just a step."""
    import jax
    import optax
    from jax import numpy as jnp
    from jax.nn import sigmoid, softplus

    def network(theta, inputs, keep=1):
        (W1, b1), (W2, b2) = theta
        return jnp.tanh(inputs @ W1 + b1) * keep @ W2 + b2

    def D_loss(theta_D, x, fake, keep):
        real, fake = network(theta_D, x, keep[0]), network(theta_D, fake, keep[1])
        return softplus(-real).mean() + softplus(fake).mean()

    def G_loss(theta_G, theta_D, z, keep):
        return softplus(-network(theta_D, sigmoid(network(theta_G, z)), keep)).mean()

    def step(images, state, _):
        theta_D, theta_G, D_state, G_state, average, key = state
        key, *keys = jax.random.split(key, 4)
        x = images[jax.random.randint(keys[0], [batch], 0, len(images))] / jnp.float32(255)
        z = jax.random.uniform(keys[1], [2, batch, Z_SIZE], minval=-1, maxval=1)
        keep = jax.random.bernoulli(keys[2], 1 - DROPOUT, [3, batch, HIDDEN]) / (1 - DROPOUT)
        fake = sigmoid(network(theta_G, z[0]))
        update, D_state = D_adam.update(jax.grad(D_loss)(theta_D, x, fake, keep[:2]), D_state)
        theta_D = optax.apply_updates(theta_D, update)
        update, G_state = G_adam.update(jax.grad(G_loss)(theta_G, theta_D, z[1], keep[2]), G_state)
        theta_G = optax.apply_updates(theta_G, update)
        average = optax.incremental_update(theta_G, average, 1 - EMA)
        return (theta_D, theta_G, D_state, G_state, average, key), None

    @functools.partial(jax.jit, donate_argnums=0)
    def scan(state, images):
        return jax.lax.scan(functools.partial(step, images), state, length=length)[0]

    def play(steps):
        nonlocal state
        for _ in range(steps // length):
            state = scan(state, images)
        jax.block_until_ready(state)

    images, key = jnp.asarray(training_images()), jax.random.key(0)
    normal = jax.nn.initializers.truncated_normal(0.1)
    layer = lambda *shape: (normal(key, shape), jnp.full(shape[1:], 0.1))
    theta_D = [layer(PIXELS, HIDDEN), layer(HIDDEN, 1)]
    theta_G = [layer(Z_SIZE, HIDDEN), layer(HIDDEN, PIXELS)]
    D_adam, G_adam = optax.adam(D_RATE, BETA1, BETA2), optax.adam(G_RATE, BETA1, BETA2)
    average = jax.tree.map(jnp.copy, theta_G)
    state = theta_D, theta_G, D_adam.init(theta_D), G_adam.init(theta_G), average, key
    return timed(play)


CONTENDERS = {
    OURS: whole_script,
    "feed_dict": feed_dict_loop,
    "PyTorch": functools.partial(pytorch, compiled=False),
    "torch.compile": functools.partial(pytorch, compiled=True),
    "JAX step": functools.partial(jax_jit, length=1),
    "JAX scan": functools.partial(jax_jit, length=100),
}


def measure(name, batch, python):
    """A contender's ms a step and peak MB, from a process of its own; None if it does not run."""
    command = [python, __file__, "--contender", name, "--batch", str(batch)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    print(f"{name} is left out: {done.stderr.strip().splitlines()[-1]}")


def sgemm(size=2048):
    """NumPy's rate of float32 matrix products in GFLOP/s."""
    a = np.ones([size, size], np.float32)
    return 2 * size**3 / np.median(timeit.repeat(lambda: a @ a, number=1, repeat=20)) / 1e9


def print_table(batch, names, args):
    """Lets the contenders take turns; prints what they did."""
    results, rates = {name: [] for name in names}, []
    for _ in range(args.rounds):
        rates.append(sgemm())
        for name in list(results):
            peer = name not in (OURS, "feed_dict")
            result = measure(name, batch, args.peers_python if peer else sys.executable)
            results[name].append(result) if result else results.pop(name)
    print(f"\nBatch {batch}: {FLOP * batch / 1e6:.0f} MFLOP a step", end=", ")
    print(f"SGEMM {np.median(rates):.0f} GFLOP/s; medians of {args.rounds} rounds\n")
    print("| contender | gan_mnist.py is faster by | ms a step | of SGEMM | peak MB |")
    print("|---|---|---|---|---|")
    ours = np.array(results[OURS])[:, 0]
    for name, rounds in results.items():
        ms, peak = np.array(rounds).T
        figures = np.median([ms / ours, ms, FLOP * batch / (ms * 1e4) / rates, peak], axis=1)
        print(f"| {name} |", "{:.2f} | {:.2f} | {:.0f} % | {:.0f} |".format(*figures))


def start_times():
    """Seconds from Enter to the first picture, of --help, and of an import of TensorFlow."""
    starts, ends = [], []
    with tempfile.TemporaryDirectory() as folder:
        run = [*SCRIPT, "--max_steps", "1", "--output_dir", folder]
        for command in (run, [*SCRIPT, "--help"], [sys.executable, "-c", "import tensorflow"]):
            starts.append(time.time())
            subprocess.run(command, check=True, capture_output=True)
            ends.append(time.time())
        ends[0] = Path(folder, "samples", "step_0000000.png").stat().st_mtime
    return np.subtract(ends, starts)


def main():
    """Measures, and prints the tables; or is a contender."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns each contender takes")
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 128, 256], help="batch sizes")
    parser.add_argument("--only", nargs="+", default=CONTENDERS, help="of " + ", ".join(CONTENDERS))
    parser.add_argument("--peers-python", default=sys.executable, help="has PyTorch and JAX")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contender:
        ms = CONTENDERS[args.contender](args.batch[0])
        usage = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return print(json.dumps([ms, max(one.ru_maxrss for one in usage) * 1024 / 1e6]))
    for batch in args.batch:
        print_table(batch, [name for name in CONTENDERS if name in (OURS, *args.only)], args)
    picture, usage, bare = np.median([start_times() for _ in range(args.rounds)], axis=0)
    print(f"\nFirst picture {picture:.1f} s after Enter, --help in {usage:.2f} s")
    print(f"TensorFlow alone: imported in {bare:.1f} s")


if __name__ == "__main__":
    main()
