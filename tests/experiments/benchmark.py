"""How fast gan_mnist.py trains, beside other ways to train the same GAN on this machine.

    python tests/experiments/benchmark.py                           # the script's default game
    python tests/experiments/benchmark.py --r1_gamma 0 --g_step 1   # the game of the paper

Flags of the script are accepted. The contenders are processes that take turns, so that a ratio
compares measurements under the same conditions. Start-up is not timed; the script's curves,
pictures, checkpoints and average are. The other contenders have none of these. A last table tells
where the time of the script's step goes.
"""

import argparse
import functools
import multiprocessing
import subprocess
import sys
import tempfile
from pathlib import Path
from timeit import timeit

import numpy as np  # TensorFlow is imported only where it is used: PyTorch runs without it

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
PIXELS, Z_SIZE = 784, 100


def timed(step, flags):
    """Times step, a function that does a training step. Returns milliseconds."""
    timeit(step, number=300)  # warm-up
    return timeit(step, number=flags.steps) / flags.steps * 1e3


def whole_script(flags):
    """Times the second half of a run of gan_mnist.py, by the points of its curves."""
    import gan_mnist

    with tempfile.TemporaryDirectory() as folder:
        run = [*flags.given, f"--batch_size={flags.batch_size}", f"--output_dir={folder}"]
        command = [sys.executable, gan_mnist.__file__, *run, f"--max_steps={2 * flags.steps}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        events = gan_mnist.EventAccumulator(folder, {"scalars": 0}).Reload()
    first, *_, last = (p for p in events.Scalars("losses/D_loss") if p.step >= flags.steps)
    return (last.wall_time - first.wall_time) / (last.step - first.step) * 1e3


def feed_dict_loop(flags):
    """Trains the script's graph as most TensorFlow 1 scripts do: NumPy draws z in float64."""
    import gan_mnist
    from gan_mnist import tf

    # The first session of a process sets the number of threads for all its sessions.
    tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=flags.threads))
    gan = gan_mnist.GAN(flags)

    def step():
        for _ in range(flags.d_step):
            x = flags.images[np.random.randint(len(flags.images), size=flags.batch_size)]
            z = np.random.uniform(-1, 1, [flags.batch_size, Z_SIZE])
            gan.session.run([gan.D_update, gan.D_loss], {gan.x: x, gan.z: z})
        for _ in range(flags.g_step):
            z = np.random.uniform(-1, 1, [flags.batch_size, Z_SIZE])
            gan.session.run([gan.G_update, gan.G_loss], {gan.z: z})

    return timed(step, flags)


def pytorch(flags):
    """PyTorch, eager: modules and fused Adam."""
    import torch
    from torch.nn import Linear, Sequential, Sigmoid, Tanh
    from torch.nn.functional import softplus

    torch.set_num_threads(flags.threads or torch.get_num_threads())
    units = flags.hidden_units
    G = Sequential(Linear(Z_SIZE, units), Tanh(), Linear(units, PIXELS), Sigmoid())
    D = Sequential(Linear(PIXELS, units), Tanh(), Linear(units, 1))
    betas = flags.beta1, flags.beta2
    D_adam = torch.optim.Adam(D.parameters(), flags.d_learning_rate, betas, fused=True)
    G_adam = torch.optim.Adam(G.parameters(), flags.g_learning_rate, betas, fused=True)
    images = torch.from_numpy(flags.images)

    def fake():
        return G(2 * torch.rand(flags.batch_size, Z_SIZE) - 1)

    def D_objective():
        x = images[torch.randint(len(images), [flags.batch_size])]
        logit_real = D(x.requires_grad_(flags.r1_gamma > 0))
        D_loss = softplus(-logit_real).mean() + softplus(D(fake().detach())).mean()
        if flags.r1_gamma == 0:
            return D_loss
        (gradient,) = torch.autograd.grad(logit_real.sum(), x, create_graph=True)
        return D_loss + flags.r1_gamma / 2 * (gradient**2).sum(1).mean()

    def step():
        for _ in range(flags.d_step):
            D_adam.zero_grad()
            D_objective().backward(inputs=list(D.parameters()))
            D_adam.step()
        for _ in range(flags.g_step):
            G_adam.zero_grad()
            softplus(-D(fake())).mean().backward(inputs=list(G.parameters()))
            G_adam.step()

    return timed(step, flags)


def parts_of_a_step(flags):
    """Returns {part: milliseconds in a training step of the script}.

    The matrix products are a part of the updates, by TensorFlow's own trace.
    """
    import gan_mnist
    from gan_mnist import tf

    gan = gan_mnist.GAN(flags)
    rng = np.random.default_rng(0)
    x = gan_mnist.minibatch(flags.images, flags.batch_size, rng)
    z = gan_mnist.noise(flags.batch_size, rng)
    draw_x = timed(lambda: gan_mnist.minibatch(flags.images, flags.batch_size, rng), flags)
    draw_z = timed(lambda: gan_mnist.noise(flags.batch_size, rng), flags)
    parts = {"draws of x and z": flags.d_step * (draw_x + draw_z) + flags.g_step * draw_z}
    products = []
    for name, update, feed, times in (
        ("updates of D", gan.D_update, {gan.x: x, gan.z: z}, flags.d_step),
        ("updates of G", gan.G_update, {gan.z: z}, flags.g_step),
        ("update of the average", gan.average_update, {}, 1),
    ):
        run = functools.partial(gan.session.run, update, feed)
        parts[name] = times * timed(run, flags)
        options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
        for _ in range(100):
            trace = tf.RunMetadata()
            run(options=options, run_metadata=trace)
            for node in trace.step_stats.dev_stats[0].node_stats:
                if "MatMul" in node.timeline_label.split("=")[-1]:
                    microseconds = node.op_end_rel_micros - node.op_start_rel_micros
                    products.append(times * microseconds / 1e3 / 100)
    parts["of these, matrix products"] = sum(products)
    return parts


CONTENDERS = {
    "the script": (whole_script, None),
    "feed_dict loop, TensorFlow's own threads": (feed_dict_loop, 0),
    "feed_dict loop, one thread": (feed_dict_loop, 1),
    "PyTorch, its own threads": (pytorch, 0),
    "PyTorch, one thread": (pytorch, 1),
}


def measure(name, flags):
    contender, flags.threads = CONTENDERS[name]
    return contender(flags)


if __name__ == "__main__":
    import gan_mnist

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 128, 256], help="batch sizes")
    parser.add_argument("--steps", type=int, default=2000, help="training steps that are timed")
    parser.add_argument("--rounds", type=int, default=5, help="turns that each contender takes")
    parser.add_argument("--only", type=int, default=5, help="the first so many contenders")
    args, given = parser.parse_known_args()
    flags = argparse.Namespace(**vars(gan_mnist.parse_flags(given)), **vars(args), given=given)
    flags.images = gan_mnist.load_images(flags.input_data_dir)
    names = list(CONTENDERS)[: args.only]
    processes = multiprocessing.get_context("spawn")
    for flags.batch_size in args.batch:
        rounds = []
        for _ in range(args.rounds):
            with processes.Pool(1, maxtasksperchild=1) as pool:
                rounds.append([pool.apply(measure, [name, flags]) for name in names])
        print(f"\n| batch {flags.batch_size} {' '.join(given)} | ms a step | relative | from, to |")
        print("|---|---|---|---|")
        times = np.transpose(rounds)
        for name, row in zip(names, times):
            ratios = row / times[0]
            figures = [np.median(row), np.median(ratios), ratios.min(), ratios.max()]
            print("| {} | {:.2f} | {:.2f} | {:.2f}, {:.2f} |".format(name, *figures), flush=True)
        with processes.Pool(1) as pool:
            parts = pool.apply(parts_of_a_step, [flags])
        *first, _ = parts.values()
        print(f"\n| part of a step, batch {flags.batch_size} | ms | share |\n|---|---|---|")
        for name, time in parts.items():
            print(f"| {name} | {time:.2f} | {100 * time / sum(first):.0f} % |", flush=True)
