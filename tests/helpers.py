"""What the tests on real processes share: small data, starts of the script, looks at a run."""

import gzip
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "gan_mnist.py"
TRAIN, TEST = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"


def idx(images, magic=2051, rows=28, columns=28, n=None):
    """The bytes of an IDX file; the keywords make a wrong one."""
    header = np.array([magic, len(images) if n is None else n, rows, columns], ">u4")
    return header.tobytes() + np.uint8(images).tobytes()


def digits(name, first, n):
    """uint8 [n, 784]: some of MNIST's own images."""
    with gzip.open(str(ROOT / "MNIST_data" / (name + ".gz"))) as file:
        pixels = file.read(16 + (first + n) * 784)[16 + first * 784 :]
    return np.frombuffer(pixels, np.uint8).reshape(n, 784)


def write_data(folder, n=240, first=0):
    """Writes a small data set: n images to train with and 60 to test with."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / (TRAIN + ".gz")).write_bytes(gzip.compress(idx(digits(TRAIN, first, n))))
    (folder / TEST).write_bytes(idx(digits(TEST, first, 60)))
    return folder


def command(*flags, **constants):
    """The command that starts the script, with other values for some of its constants."""
    if not constants:
        return [sys.executable, str(SCRIPT), *map(str, flags)]
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import gan_mnist\n"
    code += "".join(f"gan_mnist.{name} = {value!r}\n" for name, value in constants.items())
    return [sys.executable, "-c", code + "sys.exit(gan_mnist.main())", *map(str, flags)]


def start(*flags, cwd=ROOT, stdout=subprocess.PIPE, **constants):
    """A process of the script."""
    streams = {"stdout": stdout, "stderr": subprocess.PIPE, "universal_newlines": True}
    return subprocess.Popen(command(*flags, **constants), cwd=str(cwd), **streams)


def end(process):
    """Waits. Returns: exit status, standard output, standard error."""
    try:
        out, err = process.communicate(timeout=600)
    finally:
        process.kill()
    return process.returncode, out, err


def run(*flags, cwd=ROOT, **constants):
    """Starts the script and waits. Returns: exit status, standard output, standard error."""
    return end(start(*flags, cwd=cwd, **constants))


def assert_one_line(err, *parts):
    """Standard error is one line of the contract's form and has the parts in it."""
    assert err.startswith("gan_mnist.py: error: "), err
    assert err.count("\n") == 1 and err.endswith("\n") and "Traceback" not in err, err
    for part in parts:
        assert str(part) in err, err


def tree(folder):
    """What a folder holds: {path: contents and time of change}."""
    paths = sorted(Path(str(folder)).rglob("*"))
    files = {path: path.is_file() and path.read_bytes() for path in paths}
    return {str(p): held and (held, p.stat().st_mtime_ns) for p, held in files.items()}


def checkpoints(folder):
    """Steps of the checkpoints in a run's folder, oldest first."""
    return sorted(int(p.name[11:-6]) for p in Path(str(folder)).glob("model.ckpt-*.index"))


def variables(folder, step=None):
    """All variables in a checkpoint of a run, the newest unless said: {name: array}."""
    import tensorflow.compat.v1 as tf

    step = checkpoints(folder)[-1] if step is None else step
    reader = tf.train.NewCheckpointReader(str(folder / f"model.ckpt-{step}"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def write_checkpoint(path, values):
    """Writes a checkpoint of these variables: {name: array}."""
    import tensorflow.compat.v1 as tf

    with tf.Graph().as_default(), tf.Session() as session:
        held = {name: tf.Variable(value, use_resource=False) for name, value in values.items()}
        session.run(tf.global_variables_initializer())
        tf.train.Saver(held).save(session, str(path), write_meta_graph=False, write_state=False)


def events(folder):
    """The summaries in all event files of a run, in their order: [(step, time, {tag: value})]."""
    import tensorflow.compat.v1 as tf

    tf.logging.set_verbosity(tf.logging.ERROR)
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        try:
            for event in tf.train.summary_iterator(str(path)):
                values = {
                    v.tag: v.image.encoded_image_string or v.simple_value
                    for v in event.summary.value
                    if v.tag != "steps_per_second"
                }
                if "D_loss" in values:
                    found.append((event.step, event.wall_time, values))
        except tf.errors.DataLossError:  # the last record, cut off by a kill
            pass
    return found


def assert_same_run(folder, other):
    """Two finished runs are equal: variables bit for bit, curves step by step, pictures."""
    ours, theirs = variables(folder), variables(other)
    assert sorted(ours) == sorted(theirs) and len(ours) > 20
    for name in ours:
        assert ours[name].tobytes() == theirs[name].tobytes(), name
    curves = [[(step, values) for step, _, values in events(f)] for f in (folder, other)]
    assert curves[0] == curves[1]
    for pattern in ("samples/*", "samples.gif", "losses.png"):
        pictures = [{p.name: p.read_bytes() for p in f.glob(pattern)} for f in (folder, other)]
        assert pictures[0] == pictures[1] and pictures[0], pattern


def await_training(process, folder, beyond):
    """Waits for a checkpoint beyond that step. Returns: False if the process ended before."""
    while process.poll() is None:
        if folder.is_dir() and max(checkpoints(folder), default=-1) > beyond:
            return True
        time.sleep(0.02)
    return False


def kill_and_resume(folder, flags, times, rng, tell=lambda line: None):
    """Starts a run, kills it (-9) at random moments and resumes it, at last up to its end.

    The first kill comes while the run is starting, the others after its first new checkpoint.
    Returns: how many kills met a running process; the status of the last start.
    """
    kills = 0
    while True:
        newest = max(checkpoints(folder), default=-1) if folder.is_dir() else -1
        given = flags if not (folder / "flags.json").exists() else ()
        process = start("--output_dir", folder, *given, CHECKPOINT_SECONDS=0.2)
        if kills < times:
            if kills:
                await_training(process, folder, newest)
            else:
                while process.poll() is None and not (folder / "flags.json").exists():
                    time.sleep(0.02)
            time.sleep(rng.uniform(0, 0.6))
            process.send_signal(signal.SIGKILL)
        status, _, err = end(process)
        if status != -signal.SIGKILL:
            return kills, status, err
        kills += 1
        tell(f"kill {kills}: at step {max(checkpoints(folder), default=0)} or after")
