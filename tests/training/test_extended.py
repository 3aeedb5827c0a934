"""Extension of a run: the learning rate from the step that it continues from, and exact resuming after it."""

import math
import shutil
from dataclasses import replace

import pytest

from tests.training.toy import bits, rows, toy_experiment, toy_runs
from ugs_jax.training import train

SHORT = toy_experiment(epochs=2)  # 3 steps an epoch, half an epoch of warm-up to 0.01, then a cosine down to 5 %
LONG = replace(SHORT, epochs=4)


def planned(step, total, warmup=2):
    """Learning rate of a step, counted from 0, in a run of `total` steps."""
    if step < warmup:
        return 0.01 * (0.5 + 0.5 * step / warmup)
    share = (step - warmup) / (total - warmup)
    return 0.01 * (0.05 + 0.95 * (1 + math.cos(math.pi * share)) / 2)


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [None, 4], ids=["finished", "stopped"])
def test_from_the_resumed_step_the_learning_rate_is_that_of_the_new_number_of_epochs(stopped, tmp_path):
    folder, start = tmp_path / "run", stopped or 6
    with toy_runs():
        train(SHORT, folder, stop_after=stopped)
        shutil.copytree(folder, tmp_path / "killed")
        whole = train(LONG, folder, resume=True)
        train(LONG, tmp_path / "killed", resume=True, stop_after=8)
        again = train(LONG, tmp_path / "killed", resume=True)
    rates = [row["learning_rate"] for row in rows(folder, "train")]
    want = [planned(step, 6) for step in range(start)] + [planned(step, 12) for step in range(start, 12)]
    assert rates == pytest.approx(want, rel=1e-5)
    assert bits(again.state) == bits(whole.state)
    assert (tmp_path / "killed" / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()
