"""Says whether two runs agree to float32 rounding, as those of two TensorFlow versions should.

    python tests/experiments/agree.py RUN OTHER

Compares the newest checkpoints and generated.npy. For runs that left one checkpoint some ten steps
ago: a hundred steps later rounding errors have grown tenfold and more, under any two versions.
"""

import sys

import numpy as np
import tensorflow.compat.v1 as tf


def main(*folders):
    """Fails at the first variable that differs by more than 1e-5 of the largest of its kind."""
    ours, theirs = map(tf.train.load_checkpoint, folders)
    values = {name: ours.get_tensor(name) for name in ours.get_variable_to_shape_map()}
    assert sorted(values) == sorted(theirs.get_variable_to_shape_map()), "other variables"
    for name, value in values.items():
        difference = np.abs(np.float64(value) - theirs.get_tensor(name)).max()
        kind = name.split("/")[-1]  # D_Adam, say: a mean near 0 is rounded as its terms are
        largest = max(np.abs(v).max() for n, v in values.items() if n.split("/")[-1] == kind)
        assert difference <= 1e-5 * largest, f"{name}: {difference}"
    digits, others = (np.int32(np.load(f"{folder}/generated.npy")) for folder in folders)
    assert np.abs(digits - others).max() <= 1 and digits.std() > 10, "other digits"
    print(f"{len(values)} variables and {len(digits)} digits agree to float32 rounding")


if __name__ == "__main__":
    main(*sys.argv[1:3])
