"""XGBoost in a process that was forked from one in which its threads ran."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration

EXPLAIN_AFTER_A_FORK = """
import os, signal
import numpy as np
from bikecast.features import NAMES
from bikecast.models import boosted
from bikecast.models.base import Grid
from bikecast.models.rows import Rows

boosted.ROUNDS, boosted.FEW_ROWS = 5, 0
values = np.random.default_rng(1).random((3_000, len(NAMES)), np.float32)
level, target = values[:, 0] + 1, np.zeros(3_000, int)
trees = boosted.Trees(Grid(24), weather=False)
trees.learn(Rows(values, level, np.round(5 * values[:, 1]), target, target), 24)
restored, kept = boosted.Trees(Grid(24), weather=False), trees.portable()
if os.fork() == 0:
    signal.alarm(20)
    restored.restore(kept)
    for model in (trees, restored):
        print(model.explain(values[:100], level[:100]).shape, flush=True)
    os._exit(0)
os.wait()
"""


def test_trees_explain_after_a_fork():
    """gunicorn forks its workers; OpenMP's threads are gone in them, and waiting for them hangs."""
    done = subprocess.run(
        [sys.executable, "-c", EXPLAIN_AFTER_A_FORK],
        capture_output=True,
        text=True,
        timeout=60,
        # Passive, as in every command: on a busy machine the fit takes a minute otherwise.
        env=os.environ | {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"},
    )
    assert done.stdout == "(100, 8)\n" * 2, done.stderr
