"""Says whether two runs agree to float32 rounding, as those of two TensorFlow versions should.

    python tests/experiments/agree.py RUN OTHER

Compares the newest checkpoints and generated.npy. For runs that left one checkpoint some ten steps
ago: a hundred steps later rounding errors have grown tenfold and more, under any two versions.
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf


def main(*folders):
    """Exits with the first variable that differs by more than 1e-5 of the largest of its kind."""
    ours, theirs = map(tf.train.load_checkpoint, folders)
    values = {name: ours.get_tensor(name) for name in ours.get_variable_to_shape_map()}
    assert sorted(values) == sorted(theirs.get_variable_to_shape_map()), "other variables"
    largest = {}  # of a kind: all D_weight, or all D_Adam; the errors of small ones stem from it
    for name, value in values.items():
        kind = Path(name).name
        largest[kind] = max(largest.get(kind, 0), np.abs(value).max())
    for name, value in values.items():
        difference = np.abs(np.float64(value) - theirs.get_tensor(name)).max()
        assert difference <= 1e-5 * largest[Path(name).name], f"{name}: {difference}"
    digits, others = (np.int32(np.load(f"{folder}/generated.npy")) for folder in folders)
    assert np.abs(digits - others).max() <= 1 and digits.std() > 10, "other digits"
    print(f"{len(values)} variables and {len(digits)} digits agree to float32 rounding")


if __name__ == "__main__":
    main(*sys.argv[1:3])
