"""How fast gan_mnist.py trains, beside other ways to train the same GAN on this machine.

    python tests/experiments/benchmark.py [--peers-python PATH] [--r1_gamma 0 --g_step 1]

All contenders play the game of the script's defaults, but for flags given here, as processes that
take turns within a round, so that a ratio compares measurements under the same conditions. Start-up
and compilation are not timed; the script's curves, pictures and checkpoints are.
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
from pathlib import Path

import numpy as np  # TensorFlow only in a contender: a child's peak memory starts at its parent's

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
import gan_mnist
from gan_mnist import HIDDEN, PIXELS, Z_SIZE

OURS = "gan_mnist.py"


def training_images():
    """MNIST's first 55,000 training images, uint8 [55000, 784]."""
    with gzip.open(ROOT / "MNIST_data/train-images-idx3-ubyte.gz") as file:
        return np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, PIXELS)[:55_000]


def game(flags):
    """The flags that every contender gets."""
    names = ("batch_size", "d_step", "g_step", "r1_gamma")
    return [part for name in names for part in ("--" + name, str(vars(flags)[name]))]


def timed(play, flags):
    """Milliseconds a training step, for a function that plays so many, after a warm-up."""
    play(500)
    start = time.perf_counter()
    play(flags.steps)
    return (time.perf_counter() - start) / flags.steps * 1e3


def whole_script(flags):
    """gan_mnist.py itself, by its event file: the second half, with the pictures of a long run."""
    with tempfile.TemporaryDirectory() as folder:
        run = [*game(flags), "--max_steps", str(5 * flags.steps), "--output_dir", folder]
        subprocess.run([sys.executable, gan_mnist.__file__, *run], check=True)
        gan_mnist.import_packages()
        events = gan_mnist.EventAccumulator(folder, {"scalars": 0}).Reload()
        points = events.Scalars("losses/D_loss")
    first, *_, last = (point for point in points if point.step >= 2.5 * flags.steps)
    return (last.wall_time - first.wall_time) / (last.step - first.step) * 1e3


def feed_dict_loop(flags):
    """The plain TensorFlow 1 script: minibatches and noise by NumPy, fed in session.run."""
    gan_mnist.import_packages()
    tf = gan_mnist.tf
    x, z = (tf.placeholder(tf.float32, [None, size]) for size in (PIXELS, Z_SIZE))
    logit_real = gan_mnist.discriminator(x)
    logit_fake = gan_mnist.discriminator(gan_mnist.generator(z))
    D_loss = gan_mnist.discriminator_loss(logit_real, logit_fake)
    G_loss = gan_mnist.generator_loss(logit_fake, "non_saturating")
    R1 = gan_mnist.r1_penalty(logit_real, x, flags.r1_gamma) if flags.r1_gamma else 0
    theta_D, theta_G = tf.trainable_variables("D_"), tf.trainable_variables("G_")
    adam = functools.partial(tf.train.AdamOptimizer, beta1=flags.beta1, beta2=flags.beta2)
    D_update = adam(flags.d_learning_rate).minimize(D_loss + R1, var_list=theta_D)
    G_update = adam(flags.g_learning_rate).minimize(G_loss, var_list=theta_G)
    with tf.control_dependencies([G_update]):
        G_update = tf.train.ExponentialMovingAverage(flags.ema_decay).apply(theta_G)
    images, rng = training_images(), np.random.default_rng()
    noise = lambda: rng.random([flags.batch_size, Z_SIZE], np.float32) * 2 - 1

    def play(steps):
        for _ in range(steps):
            for _ in range(flags.d_step):
                rows = rng.integers(len(images), size=flags.batch_size)
                session.run([D_update, D_loss], {x: images[rows] / np.float32(255), z: noise()})
            for _ in range(flags.g_step):
                session.run([G_update, G_loss], {z: noise()})

    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        return timed(play, flags)


def pytorch(flags):
    """PyTorch, eager: modules and fused Adam."""
    import torch
    from torch.nn import Linear, Sequential, Sigmoid, Tanh
    from torch.nn.functional import softplus
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    G = Sequential(Linear(Z_SIZE, HIDDEN), Tanh(), Linear(HIDDEN, PIXELS), Sigmoid())
    D = Sequential(Linear(PIXELS, HIDDEN), Tanh(), Linear(HIDDEN, 1))
    adam = functools.partial(torch.optim.Adam, betas=(flags.beta1, flags.beta2), fused=True)
    D_adam = adam(D.parameters(), flags.d_learning_rate)
    G_adam = adam(G.parameters(), flags.g_learning_rate)
    average = AveragedModel(G, multi_avg_fn=get_ema_multi_avg_fn(flags.ema_decay))
    images = torch.from_numpy(training_images().copy())
    noise = lambda: torch.rand(flags.batch_size, Z_SIZE) * 2 - 1

    def D_loss():
        x = images[torch.randint(len(images), (flags.batch_size,))].float() / 255
        with torch.no_grad():
            fake = G(noise())
        if not flags.r1_gamma:
            return softplus(-D(x)).mean() + softplus(D(fake)).mean()
        real = D(x.requires_grad_())
        (gradient,) = torch.autograd.grad(real.sum(), x, create_graph=True)
        penalty = flags.r1_gamma / 2 * (gradient**2).sum(1).mean()
        return softplus(-real).mean() + softplus(D(fake)).mean() + penalty

    G_loss = lambda: softplus(-D(G(noise()))).mean()

    def update(loss, adam):
        adam.zero_grad()
        loss().backward()
        adam.step()

    def play(steps):
        for _ in range(steps):
            D.requires_grad_(True)
            for _ in range(flags.d_step):
                update(D_loss, D_adam)
            D.requires_grad_(False)
            for _ in range(flags.g_step):
                update(G_loss, G_adam)
                average.update_parameters(G)

    return timed(play, flags)


def jax_jit(flags):
    """JAX with Optax: one jitted training step a call."""
    import jax
    import optax
    from jax import numpy as jnp
    from jax.nn import sigmoid, softplus

    def network(theta, inputs):
        (W1, b1), (W2, b2) = theta
        return jnp.tanh(inputs @ W1 + b1) @ W2 + b2

    def D_loss(theta_D, theta_G, x, z):
        real, pull_back = jax.vjp(functools.partial(network, theta_D), x)
        fake = network(theta_D, sigmoid(network(theta_G, z)))
        gradient = pull_back(jnp.ones_like(real))[0] if flags.r1_gamma else jnp.zeros([1, 1])
        penalty = flags.r1_gamma / 2 * (gradient**2).sum(1).mean()
        return softplus(-real).mean() + softplus(fake).mean() + penalty

    def G_loss(theta_G, theta_D, z):
        return softplus(-network(theta_D, sigmoid(network(theta_G, z)))).mean()

    def update(loss, adam, state, theta, *inputs):
        change, state = adam.update(jax.grad(loss)(theta, *inputs), state)
        return optax.apply_updates(theta, change), state

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, images):
        theta_D, theta_G, D_state, G_state, average, key = state
        for _ in range(flags.d_step):
            key, x_key, z_key = jax.random.split(key, 3)
            rows = jax.random.randint(x_key, [flags.batch_size], 0, len(images))
            x = images[rows] / jnp.float32(255)
            theta_D, D_state = update(D_loss, D_adam, D_state, theta_D, theta_G, x, noise(z_key))
        for _ in range(flags.g_step):
            key, z_key = jax.random.split(key)
            theta_G, G_state = update(G_loss, G_adam, G_state, theta_G, theta_D, noise(z_key))
            average = optax.incremental_update(theta_G, average, 1 - flags.ema_decay)
        return theta_D, theta_G, D_state, G_state, average, key

    def play(steps):
        nonlocal state
        for _ in range(steps):
            state = step(state, images)
        jax.block_until_ready(state)

    noise = lambda key: jax.random.uniform(key, [flags.batch_size, Z_SIZE], minval=-1, maxval=1)
    images, key = jnp.asarray(training_images()), jax.random.key(0)
    layer = lambda *shape: (jax.random.normal(key, shape) / 10, jnp.full(shape[1:], 0.1))
    theta_D = [layer(PIXELS, HIDDEN), layer(HIDDEN, 1)]
    theta_G = [layer(Z_SIZE, HIDDEN), layer(HIDDEN, PIXELS)]
    D_adam = optax.adam(flags.d_learning_rate, flags.beta1, flags.beta2)
    G_adam = optax.adam(flags.g_learning_rate, flags.beta1, flags.beta2)
    average = jax.tree.map(jnp.copy, theta_G)
    state = theta_D, theta_G, D_adam.init(theta_D), G_adam.init(theta_G), average, key
    return timed(play, flags)


CONTENDERS = {OURS: whole_script, "feed_dict": feed_dict_loop, "PyTorch": pytorch, "JAX": jax_jit}


def measure(name, flags):
    """A contender's ms a step and peak MB, from a process of its own; None if it does not run."""
    python = sys.executable if name in (OURS, "feed_dict") else flags.peers_python
    command = [python, __file__, "--contender", name, "--steps", str(flags.steps), *game(flags)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    print(f"{name} is left out: {done.stderr.strip().splitlines()[-1]}")


def print_table(flags):
    """Lets the contenders take turns; prints what they did."""
    results = {name: [] for name in CONTENDERS if name in (OURS, *flags.only)}
    for _ in range(flags.rounds):
        for name in list(results):
            result = measure(name, flags)
            results[name].append(result) if result else results.pop(name)
    print(f"\n{' '.join(game(flags))}; medians of {flags.rounds} rounds\n")
    print("| contender | gan_mnist.py is faster by | ms a step | peak MB |")
    print("|---|---|---|---|")
    ours = np.array(results[OURS])[:, 0]
    for name, rounds in results.items():
        ms, peak = np.array(rounds).T
        figures = np.median([ms / ours, ms, peak], axis=1)
        print(f"| {name} |", "{:.2f} | {:.2f} | {:.0f} |".format(*figures), flush=True)


def main():
    """Measures, and prints the tables; or is a contender."""
    flags = gan_mnist.parse_flags([])  # the defaults of the script
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=5, help="turns each contender takes")
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 128, 256], help="batch sizes")
    parser.add_argument("--only", nargs="+", default=CONTENDERS, help="of " + ", ".join(CONTENDERS))
    parser.add_argument("--peers-python", default=sys.executable, help="has PyTorch and JAX")
    parser.add_argument("--steps", type=int, default=2000, help="timed; of the script 5 times more")
    for name, kind in {"d_step": int, "g_step": int, "r1_gamma": float}.items():
        parser.add_argument("--" + name, type=kind, help=f"as the script's: {vars(flags)[name]}")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--batch_size", type=int, help=argparse.SUPPRESS)
    flags = parser.parse_args(namespace=flags)
    if flags.contender:
        ms = CONTENDERS[flags.contender](flags)
        usage = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return print(json.dumps([ms, max(one.ru_maxrss for one in usage) * 1024 / 1e6]))
    for batch in flags.batch:
        flags.batch_size = batch
        print_table(flags)


if __name__ == "__main__":
    main()
