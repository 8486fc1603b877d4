"""Says whether two runs agree to float32 rounding, as those of two TensorFlow versions should.

    python tests/agree.py RUN OTHER

Compares the newest checkpoints and generated.npy. For runs that left one checkpoint some ten steps
ago: a hundred steps later rounding errors have grown a thousandfold, under any two versions.
"""

import sys
from pathlib import Path

import numpy as np
from helpers import checkpoints, variables


def main(folders):
    assert len({checkpoints(folder)[-1] for folder in folders}) == 1, "runs of different length"
    ours, theirs = (variables(folder) for folder in folders)
    assert sorted(ours) == sorted(theirs) and len(ours) > 20, "other variables"
    for name, value in ours.items():
        difference = np.abs(np.float64(value) - theirs[name]).max()
        assert difference <= 1e-5 * np.abs(value).max(), f"{name}: {difference}"
    digits, others = (np.int32(np.load(str(folder / "generated.npy"))) for folder in folders)
    assert np.abs(digits - others).max() <= 1 and digits.std() > 10, "other digits"
    print(f"{len(ours)} variables and {len(digits)} digits agree to float32 rounding")


if __name__ == "__main__":
    main([Path(path) for path in sys.argv[1:3]])
