"""Multi-scale training in the loop: one program for each size, no throughput for steps that compile, exact resuming."""

from dataclasses import replace

import numpy as np
import pytest

from tests.training.toy import bits, rows, toy_experiment, toy_runs
from ugs_jax.training import loop, train

SIZES = ((64, 64), (64, 96), (96, 96))
PLAIN = toy_experiment(epochs=3)
EXPERIMENT = replace(PLAIN, loader=replace(PLAIN.loader, image_sizes=SIZES))


@pytest.mark.slow
def test_each_size_compiles_once_and_a_resumed_run_sees_the_same_sizes(tmp_path, monkeypatch):
    programs = []
    with toy_runs():
        build = loop.build_program
        monkeypatch.setattr(loop, "build_program", lambda *given: programs.append(build(*given)) or programs[-1])
        whole = train(EXPERIMENT, tmp_path / "whole")
        train(EXPERIMENT, tmp_path / "run", stop_after=4)
        resumed = train(EXPERIMENT, tmp_path / "run", resume=True)
    sizes = [EXPERIMENT.loader.size_at(step) for step in range(9)]
    first = {sizes.index(size) for size in sizes}
    assert len(first) > 1
    assert programs[-1].step._cache_size() == len(first)
    timed = [row["images_per_second"] for row in rows(tmp_path / "whole", "timing")]
    assert [i for i, rate in enumerate(timed) if rate is None] == sorted(first)
    assert bits(resumed.state) == bits(whole.state)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    assert np.isfinite([row["loss"] for row in rows(tmp_path / "whole", "train")]).all()
