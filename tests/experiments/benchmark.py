"""How fast gan_mnist.py trains, beside other ways to train the same GAN on this machine.

    python tests/experiments/benchmark.py                           # the script's default game
    python tests/experiments/benchmark.py --r1_gamma 0 --g_step 1   # the game of the paper

Flags of the script are accepted. The contenders are processes that take turns, so that a ratio
compares measurements under the same conditions. Start-up and compilation are not timed; the
script's curves, pictures and checkpoints are. PyTorch does not average G's weights.
"""

import argparse
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
    timeit(step, number=500)  # warm-up
    return timeit(step, number=flags.steps) / flags.steps * 1e3


def whole_script(flags):
    """Times the second half of a run of gan_mnist.py, by the points of its curves."""
    import gan_mnist

    with tempfile.TemporaryDirectory() as folder:
        run = [*flags.given, f"--batch_size={flags.batch_size}", f"--output_dir={folder}"]
        command = [sys.executable, gan_mnist.__file__, *run, f"--max_steps={2 * flags.steps}"]
        subprocess.run(command, check=True)
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
    run = gan.session.run
    without_average = gan.session.graph.get_operation_by_name("G_update/Adam")
    G_update = without_average if flags.no_average else gan.G_update

    def step():
        for _ in range(flags.d_step):
            x = flags.images[np.random.randint(len(flags.images), size=flags.batch_size)]
            z = np.random.uniform(-1, 1, [flags.batch_size, Z_SIZE])
            run([gan.D_update, gan.D_loss], {gan.x: x, gan.z: z})
        for _ in range(flags.g_step):
            z = np.random.uniform(-1, 1, [flags.batch_size, Z_SIZE])
            run([G_update, gan.G_loss], {gan.z: z})

    return timed(step, flags)


def pytorch(flags):
    """PyTorch, eager: modules and fused Adam."""
    import torch
    from torch.nn import Linear, Sequential, Sigmoid, Tanh
    from torch.nn.functional import softplus

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


if __name__ == "__main__":
    import gan_mnist

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    flag = parser.add_argument
    flag("--batch", type=int, nargs="+", default=[64, 128, 256], help="batch sizes")
    flag("--steps", type=int, default=2000, help="training steps that are timed")
    flag("--rounds", type=int, default=5, help="turns that each contender takes")
    flag("--threads", type=int, default=0, help="TensorFlow's threads in feed_dict_loop")
    flag("--no_average", action="store_true", help="feed_dict_loop does not average G's weights")
    flag("--no_pytorch", action="store_true", help="leaves out PyTorch")
    args, given = parser.parse_known_args()
    flags = argparse.Namespace(**vars(gan_mnist.parse_flags(given)), **vars(args), given=given)
    flags.images = gan_mnist.to_x(gan_mnist.load_images(Path(flags.input_data_dir)))
    contenders = [whole_script, feed_dict_loop]
    if not args.no_pytorch:
        contenders.append(pytorch)
    for batch_size in args.batch:
        flags.batch_size = batch_size
        rounds = []
        for _ in range(args.rounds):
            with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
                rounds.append([pool.apply(contender, [flags]) for contender in contenders])
        print(f"\n| batch {batch_size} {' '.join(given)} | relative | ms a step |\n|---|---|---|")
        times = np.transpose(rounds)
        for contender, row in zip(contenders, times):
            relative = np.median(row / times[0])
            print(f"| {contender.__name__} | {relative:.2f} | {np.median(row):.2f} |", flush=True)
