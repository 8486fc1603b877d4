"""Measures how fast gan_mnist.py trains, beside other ways to train the same GAN on this machine.

    python tests/benchmark.py [--rounds 5] [--batch 64 256] [--only NAME ...] [--peers-python PATH]

Every contender runs as a process of its own, and they take turns within each round, so that a
ratio compares two measurements taken under the same conditions. Start-up and compilation are left
out of the time of a step; the summaries of gan_mnist.py are in it. PyTorch and JAX are optional
(tests/benchmark-requirements.txt) and may belong to another interpreter, --peers-python. Nothing
is asserted: the list of targets at the end says what held, and the exit status is 0.
"""

import argparse
import functools
import glob
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np  # TensorFlow only where needed: a child's peak memory starts at its parent's

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SCRIPT = os.path.join(ROOT, "gan_mnist.py")
OURS, FEED, SGEMM, FIRST_STEP = "gan_mnist.py", "feed_dict loop", "SGEMM", "first step"
Z_DIM, HIDDEN, PIXELS, TRAINING_IMAGES, ALL_IMAGES = 100, 128, 784, 55_000, 70_000
LEARNING_RATE, BETA1, DROPOUT, EMA_DECAY = 1e-3, 0.5, 0.35, 0.9999

# ---------------------------------------------------------------------------------------------
# The contenders: each trains the GAN in this process and returns what it measured
# ---------------------------------------------------------------------------------------------


def training_images():
    """Returns the first 55,000 training images, uint8 [55000, 784]."""
    with gzip.open(os.path.join(ROOT, "MNIST_data", "train-images-idx3-ubyte.gz")) as file:
        return np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, PIXELS)[:TRAINING_IMAGES]


def timed(train, steps, warm_up=200):
    """Calls train(steps) after a warm-up; train returns the last D_loss and G_loss."""
    train(warm_up)
    start = time.perf_counter()
    losses = train(steps)
    return {"ms": (time.perf_counter() - start) / steps * 1e3, "losses": losses}


def run_script(*flags):
    """Runs gan_mnist.py in a fresh folder; returns what spawn does and its summaries."""
    with tempfile.TemporaryDirectory() as folder:
        folder = os.path.join(folder, "run")
        run = spawn([sys.executable, SCRIPT, "--output_dir", folder, *map(str, flags)])
        return run, read_summaries(folder) if run["status"] == 0 else []


def whole_script(batch, steps):
    """gan_mnist.py itself; its own event file, read from outside, tells its speed."""
    run, summaries = run_script(
        "--batch_size", batch, "--max_steps", steps, "--d_step", 1, "--g_step", 1
    )
    if run["status"]:
        return {"skipped": f"exit status {run['status']}: {run['stderr']}"}
    if len(summaries) < 2:
        return {"skipped": f"too few summaries in {steps} steps"}
    first, last = summaries[0], summaries[-1]  # compiled before step 0, scored after the last
    ms = (last["time"] - first["time"]) / (last["step"] - first["step"]) * 1e3
    return {"ms": ms, "losses": [last["D_loss"], last["G_loss"]], "peak": run["peak"]}


def first_step(batch, steps):
    """gan_mnist.py from Enter to the summary of step 1, in seconds."""
    run, summaries = run_script("--max_steps", 2, "--summary_steps", 1)
    times = [s["time"] - run["start"] for s in summaries if s["step"] == 1]
    return {"seconds": times[0]} if times else {"skipped": run["stderr"]}


def feed_dict_loop(batch, steps):
    """The plain TensorFlow 1 script: placeholders, and one session.run for each update."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow.compat.v1 as tf

    tf.logging.set_verbosity(tf.logging.ERROR)
    tf.disable_v2_behavior()

    def dense(x, units, scope):
        with tf.variable_scope(scope, reuse=tf.AUTO_REUSE):
            normal = tf.truncated_normal_initializer(stddev=0.1)
            weight = tf.get_variable("weight", [x.shape[1], units], initializer=normal)
            bias = tf.get_variable("bias", [units], initializer=tf.constant_initializer(0.1))
            return tf.matmul(x, weight) + bias

    def discriminate(x):
        hidden = tf.nn.dropout(tf.tanh(dense(x, HIDDEN, "D_nn1")), rate=DROPOUT)
        return dense(hidden, 1, "D_nn2")

    def cross_entropy(logits, label):
        labels = tf.fill(tf.shape(logits), label)
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(logits=logits, labels=labels))

    x = tf.placeholder(tf.float32, [None, PIXELS])
    z = tf.placeholder(tf.float32, [None, Z_DIM])
    fake = tf.sigmoid(dense(tf.tanh(dense(z, HIDDEN, "G_nn1")), PIXELS, "G_nn2"))
    fake_logits = discriminate(fake)
    d_loss = cross_entropy(discriminate(x), 1.0) + cross_entropy(fake_logits, 0.0)
    g_loss = cross_entropy(fake_logits, 1.0)
    theta_d = tf.trainable_variables("D_")
    theta_g = tf.trainable_variables("G_")
    d_update = tf.train.AdamOptimizer(LEARNING_RATE, BETA1).minimize(d_loss, var_list=theta_d)
    g_update = tf.train.AdamOptimizer(LEARNING_RATE, BETA1).minimize(g_loss, var_list=theta_g)
    with tf.control_dependencies([g_update]):
        g_update = tf.train.ExponentialMovingAverage(EMA_DECAY).apply(theta_g)

    images, rng = training_images(), np.random.default_rng()

    def noise():
        return rng.random([batch, Z_DIM], np.float32) * 2 - 1

    def minibatch():
        return images[rng.integers(len(images), size=batch)] / np.float32(255)

    def train(steps):
        for _ in range(steps):
            _, d = session.run([d_update, d_loss], feed_dict={x: minibatch(), z: noise()})
            _, g = session.run([g_update, g_loss], feed_dict={z: noise()})
        return [float(d), float(g)]

    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        return timed(train, steps)


def pytorch(batch, steps, compiled):
    """PyTorch: modules and fused Adam; compiled: both updates through torch.compile."""
    import torch
    from torch import nn
    from torch.nn.functional import softplus
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    def dense(inputs, units):
        layer = nn.Linear(inputs, units)
        nn.init.trunc_normal_(layer.weight, std=0.1, a=-0.2, b=0.2)
        nn.init.constant_(layer.bias, 0.1)
        return layer

    generate = nn.Sequential(dense(Z_DIM, HIDDEN), nn.Tanh(), dense(HIDDEN, PIXELS), nn.Sigmoid())
    discriminate = nn.Sequential(
        dense(PIXELS, HIDDEN), nn.Tanh(), nn.Dropout(DROPOUT), dense(HIDDEN, 1)
    )
    settings = {"lr": LEARNING_RATE, "betas": (BETA1, 0.999), "fused": True}
    d_adam = torch.optim.Adam(discriminate.parameters(), **settings)
    g_adam = torch.optim.Adam(generate.parameters(), **settings)
    average = AveragedModel(generate, multi_avg_fn=get_ema_multi_avg_fn(EMA_DECAY))
    images = torch.from_numpy(training_images().copy())

    def noise():
        return torch.rand(batch, Z_DIM) * 2 - 1

    def d_update():
        x = images[torch.randint(len(images), (batch,))].float() / 255
        with torch.no_grad():
            fake = generate(noise())
        loss = softplus(-discriminate(x)).mean() + softplus(discriminate(fake)).mean()
        d_adam.zero_grad()
        loss.backward()
        d_adam.step()
        return loss.detach()

    def g_update():
        loss = softplus(-discriminate(generate(noise()))).mean()
        g_adam.zero_grad()
        loss.backward()
        g_adam.step()
        return loss.detach()

    if compiled:
        d_update, g_update = torch.compile(d_update), torch.compile(g_update)

    def train(steps):
        for _ in range(steps):
            discriminate.requires_grad_(True)
            d = d_update()
            discriminate.requires_grad_(False)
            g = g_update()
            average.update_parameters(generate)
        return [float(d), float(g)]

    return timed(train, steps)


def jax_jit(batch, steps, scan_length):
    """JAX with Optax: one jit of a scan of so many training steps, its state donated."""
    import jax
    import optax
    from jax import numpy as jnp
    from jax.nn import softplus

    def dense(key, inputs, units):
        weight = 0.1 * jax.random.truncated_normal(key, -2, 2, [inputs, units])
        return {"weight": weight, "bias": jnp.full([units], 0.1)}

    def apply(layer, x):
        return x @ layer["weight"] + layer["bias"]

    def generate(theta_g, z):
        return jax.nn.sigmoid(apply(theta_g[1], jnp.tanh(apply(theta_g[0], z))))

    def discriminate(theta_d, x, key):
        keep = jax.random.bernoulli(key, 1 - DROPOUT, [batch, HIDDEN])
        hidden = jnp.where(keep, jnp.tanh(apply(theta_d[0], x)) / (1 - DROPOUT), 0)
        return apply(theta_d[1], hidden)

    def d_loss(theta_d, x, fake, keys):
        real = softplus(-discriminate(theta_d, x, keys[0])).mean()
        return real + softplus(discriminate(theta_d, fake, keys[1])).mean()

    def g_loss(theta_g, theta_d, z, key):
        return softplus(-discriminate(theta_d, generate(theta_g, z), key)).mean()

    adam = optax.adam(LEARNING_RATE, b1=BETA1)

    def noise(key):
        return jax.random.uniform(key, [batch, Z_DIM], minval=-1, maxval=1)

    def step(images, state, _):
        theta_d, theta_g, d_adam, g_adam, average, key = state
        key, *keys = jax.random.split(key, 7)
        x = images[jax.random.randint(keys[0], [batch], 0, len(images))] / jnp.float32(255)
        fake = generate(theta_g, noise(keys[1]))
        d, gradient = jax.value_and_grad(d_loss)(theta_d, x, fake, keys[2:4])
        update, d_adam = adam.update(gradient, d_adam)
        theta_d = optax.apply_updates(theta_d, update)
        g, gradient = jax.value_and_grad(g_loss)(theta_g, theta_d, noise(keys[4]), keys[5])
        update, g_adam = adam.update(gradient, g_adam)
        theta_g = optax.apply_updates(theta_g, update)
        average = optax.incremental_update(theta_g, average, 1 - EMA_DECAY)
        return (theta_d, theta_g, d_adam, g_adam, average, key), (d, g)

    @functools.partial(jax.jit, donate_argnums=0)
    def train_scan(state, images):
        state, losses = jax.lax.scan(functools.partial(step, images), state, length=scan_length)
        return state, (losses[0][-1], losses[1][-1])

    images = jnp.asarray(training_images())
    keys = jax.random.split(jax.random.key(time.time_ns() % 2**31), 5)
    theta_d = [dense(keys[0], PIXELS, HIDDEN), dense(keys[1], HIDDEN, 1)]
    theta_g = [dense(keys[2], Z_DIM, HIDDEN), dense(keys[3], HIDDEN, PIXELS)]
    average = jax.tree.map(jnp.copy, theta_g)
    state = theta_d, theta_g, adam.init(theta_d), adam.init(theta_g), average, keys[4]

    def train(steps):
        nonlocal state
        for _ in range(steps // scan_length):
            state, losses = train_scan(state, images)
        return [float(loss) for loss in losses]

    return timed(train, -(-steps // scan_length) * scan_length)


def sgemm(batch, steps, size=2048, repeats=45):
    """The machine's rate of float32 matrix products in GFLOP/s: NumPy's, over some seconds.

    The median, for a contender's time of a step is no best moment either.
    """
    a = np.random.default_rng(0).random([size, size], np.float32)
    product, times = a @ a, []
    for _ in range(repeats):
        start = time.perf_counter()
        np.matmul(a, a, out=product)
        times.append(time.perf_counter() - start)
    return {"gflops": 2 * size**3 / median(times) / 1e9, "best": 2 * size**3 / min(times) / 1e9}


CONTENDERS = {
    OURS: whole_script,
    FEED: feed_dict_loop,
    "PyTorch eager": functools.partial(pytorch, compiled=False),
    "PyTorch compiled": functools.partial(pytorch, compiled=True),
    "JAX jit": functools.partial(jax_jit, scan_length=1),  # XLA removes a loop of one
    "JAX scan": functools.partial(jax_jit, scan_length=100),
}
MEASUREMENTS = {**CONTENDERS, SGEMM: sgemm, FIRST_STEP: first_step}
PEERS = [name for name in CONTENDERS if name not in (OURS, FEED)]
RIVALS = [name for name in PEERS if name != "JAX jit"]  # those of the target; the table has all

# ---------------------------------------------------------------------------------------------
# Measuring from outside
# ---------------------------------------------------------------------------------------------


def median(values):
    """The median, or None of nothing."""
    return statistics.median(values) if values else None


def spawn(command):
    """Runs a command; returns its exit status, seconds, peak MB, start, stdout, end of stderr."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TF_", "XLA_"))}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start = time.time()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        seconds = time.time() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        for file in (out, err):
            file.seek(0)
        return {
            "status": process.returncode,
            "seconds": seconds,
            "peak": megabytes(usage),
            "start": start,
            "stdout": out.read(),
            "stderr": (err.read().strip().splitlines() or [""])[-1],
        }


def megabytes(usage):
    """The peak memory in MB (10^6 bytes) in what getrusage or wait4 returned."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def read_summaries(folder):
    """The scalar summaries of a run, in order: step, wall-clock time and values of each."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow.compat.v1 as tf

    tf.logging.set_verbosity(tf.logging.ERROR)
    found = []
    for path in sorted(glob.glob(os.path.join(folder, "events.out.tfevents.*"))):
        for event in tf.train.summary_iterator(path):
            values = {value.tag: value.simple_value for value in event.summary.value}
            if "D_loss" in values:
                found.append({"step": event.step, "time": event.wall_time, **values})
    return found


def default_steps(batch):
    """One or two intervals between summaries of gan_mnist.py, about half a minute's work."""
    return 10_000 if batch < 128 else 5_000


def measure(name, batch, steps, python):
    """Runs one contender in a process of its own; returns its result, or {"skipped": why}."""
    command = [python, os.path.abspath(__file__), "--contender", name]
    run = spawn(command + ["--batch", str(batch), "--steps", str(steps)])
    try:
        result = json.loads(run["stdout"].strip().splitlines()[-1])
    except (IndexError, ValueError):
        result = {"skipped": f"exit status {run['status']}: {run['stderr']}"}
    return result


def run_contender(name, batch, steps):
    """The other side of measure: runs one contender here and prints a line of JSON."""
    import resource

    try:
        result = MEASUREMENTS[name](batch, steps)
    except ImportError as error:
        result = {"skipped": str(error)}
    result.setdefault("peak", megabytes(resource.getrusage(resource.RUSAGE_SELF)))
    print(json.dumps(result))


def measure_rounds(names, batch, arguments):
    """Lets the contenders take turns; returns, for each round, name -> result."""
    names, rounds = [SGEMM] + names, []
    for number in range(1, arguments.rounds + 1):
        rounds.append({})
        for name in list(names):
            steps = (arguments.steps or default_steps(batch)) // (1 if name == OURS else 8)
            python = arguments.peers_python if name in PEERS else sys.executable
            result = measure(name, batch, steps, python)
            if "skipped" in result:
                print(f"{name}: skipped ({result['skipped']})", flush=True)
                names.remove(name)
                continue
            rounds[-1][name] = result
            figures = (
                f"{result['gflops']:.0f} GFLOP/s"
                if name == SGEMM
                else (
                    "{:.3f} ms a step, D_loss {:.3f}, G_loss {:.3f}".format(
                        result["ms"], *result["losses"]
                    )
                )
            )
            print(f"batch {batch} round {number}: {name}: {figures}", file=sys.stderr, flush=True)
    return rounds


def measure_start(rounds):
    """Start-up and memory of a bare import and of the script, taking turns; medians."""
    found = {"import": [], "first step": [], "help": [], "typo": [], "import peak": []}
    for _ in range(rounds):
        run = spawn([sys.executable, "-c", "import tensorflow"])
        found["import"].append(run["seconds"])
        found["import peak"].append(run["peak"])
        result = measure(FIRST_STEP, 0, 0, sys.executable)
        found["first step"] += [result["seconds"]] if "seconds" in result else []
        found["help"].append(spawn([sys.executable, SCRIPT, "--help"])["seconds"])
        found["typo"].append(spawn([sys.executable, SCRIPT, "--batch_sise", "64"])["seconds"])
    return {key: median(values) for key, values in found.items()}


# ---------------------------------------------------------------------------------------------
# The tables
# ---------------------------------------------------------------------------------------------


def step_flop(batch):
    """FLOP of the matrix products in a training step with d_step = g_step = 1."""
    generator = Z_DIM * HIDDEN + HIDDEN * PIXELS  # forward twice, backward once
    discriminator = PIXELS * HIDDEN + HIDDEN  # forward three times, backward about four
    return 2 * batch * (3 * generator + 7 * discriminator)


def ratios(rounds, names):
    """How many times faster gan_mnist.py is than the fastest of names, round by round."""
    both = [(r, [r[n]["ms"] for n in names if n in r]) for r in rounds if OURS in r]
    return [min(others) / r[OURS]["ms"] for r, others in both if others]


def shares(rounds, name, batch):
    """The rate of a contender's matrix products in % of SGEMM's, round by round."""
    both = [r for r in rounds if name in r and SGEMM in r]
    return [step_flop(batch) / (r[name]["ms"] * 1e4 * r[SGEMM]["gflops"]) for r in both]


def print_table(rounds, batch):
    """Prints the table of one batch size."""
    rates = [r[SGEMM] for r in rounds if SGEMM in r]
    rate, best = (median([r[key] for r in rates]) or float("nan") for key in ("gflops", "best"))
    print(f"\nBatch {batch}: {step_flop(batch) / 1e6:.0f} MFLOP a step", end=", ")
    print(f"SGEMM {rate:.0f} GFLOP/s (its best moments: {best:.0f})\n")
    print("| contender | gan_mnist.py is faster by | ms a step | min..max | of SGEMM | peak MB |")
    print("|---|---|---|---|---|---|")
    for name in CONTENDERS:
        results = [r[name] for r in rounds if name in r]
        if not results:
            continue
        times = [result["ms"] for result in results]
        ratio, share = median(ratios(rounds, [name])), median(shares(rounds, name, batch))
        cells = [
            name,
            "-" if ratio is None else f"{ratio:.2f} x",
            f"{median(times):.2f}",
            f"{min(times):.2f}..{max(times):.2f}",
            "-" if share is None else f"{share:.0f} %",
            f"{median([result['peak'] for result in results]):.0f}",
        ]
        print("| " + " | ".join(cells) + " |", flush=True)


def print_target(what, value, limit, unit, at_least=False):
    """Prints one target and whether it held; a value of None was not measured."""
    bound = f"{'at least' if at_least else 'at most'} {limit:.4g}{unit}"
    if value is None:
        print(f"  not measured  {what}: {bound}")
    else:
        held = value >= limit if at_least else value <= limit
        print(f"  {'held' if held else 'not held':12}  {what}: {value:.4g}{unit}, {bound}")


def print_targets(tables, start):
    """Prints the list of targets; tables: batch size -> rounds, start: see measure_start."""
    print("\nTargets (medians)\n")
    for batch, rounds in tables.items():
        goals = {64: (2.0, 55), 256: (1.4, 70)}.get(batch)
        if not goals:
            continue
        at = f"batch {batch}: "
        print_target(
            at + "ratio to feed_dict", median(ratios(rounds, [FEED])), goals[0], " x", True
        )
        best = median(ratios(rounds, RIVALS))
        print_target(at + "ratio to best of PyTorch and JAX scan", best, 1.5, " x", True)
        print_target(at + "SGEMM share", median(shares(rounds, OURS, batch)), goals[1], " %", True)
        if start["import peak"]:
            limit = 1.25 * (start["import peak"] + ALL_IMAGES * PIXELS / 1e6)
            peak = median([r[OURS]["peak"] for r in rounds if OURS in r])
            print_target(at + "peak memory, 1.25 x (import + data)", peak, limit, " MB")
    if start["import"]:
        print_target("first step, 2 x import", start["first step"], 2 * start["import"], " s")
    print_target("--help", start["help"], 0.5, " s")
    print_target("mistyped flag", start["typo"], 0.5, " s")


def parse_arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns each contender takes")
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256], help="batch sizes")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, help="just these contenders")
    parser.add_argument("--peers-python", default=sys.executable, help="has torch and/or jax")
    parser.add_argument("--steps", type=int, help="of gan_mnist.py; others: an eighth")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    """Measures, then prints the tables and the targets."""
    arguments = parse_arguments()
    if arguments.contender:
        return run_contender(arguments.contender, arguments.batch[0], arguments.steps)
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    names = [name for name in CONTENDERS if name in (arguments.only or CONTENDERS)]
    tables = {}
    for batch in arguments.batch:
        tables[batch] = measure_rounds(names, batch, arguments)
        print_table(tables[batch], batch)
    start = dict.fromkeys(["import", "first step", "help", "typo", "import peak"])
    if OURS in names and os.path.exists(SCRIPT):
        start = measure_start(arguments.rounds)
    print_targets(tables, start)


if __name__ == "__main__":
    main()
