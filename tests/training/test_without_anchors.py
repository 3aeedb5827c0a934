"""Runs of networks without anchors, with each assigner: resumed to the same result, compiled once, logged whole."""

from pathlib import Path

import pytest

from tests.training.toy import bits, rows, toy_experiment, toy_runs
from ugs_jax.detectors import CenterSampling, ReceptiveField, TaskAligned
from ugs_jax.experiment import Network, config, fitting
from ugs_jax.objectives import DFL, UGS, BoxRegression, Quality, SecondStage
from ugs_jax.runs import read_experiment
from ugs_jax.training import loop, train
from ugs_jax.training.feature_gradients import FEATURE_GRADIENTS
from ugs_jax.training.sharpness import SHARPNESS

pytestmark = pytest.mark.slow

RUNS = {
    "UGS, TAL, YOLOv8": (UGS(second_stage=SecondStage(8), quality=Quality(6)), TaskAligned(widen="second")),
    "DFL, RFLA": (DFL(), ReceptiveField()),
    "CIoU, FCOS": (BoxRegression(), CenterSampling()),
}
"""The first one trains the real network, the others the toy, which compiles quickly."""


@pytest.fixture(scope="module")
def programs():
    """Programs of the training steps, the last one last."""
    built = []
    with toy_runs(), pytest.MonkeyPatch.context() as patch:
        build = loop.build_program
        patch.setattr(loop, "build_program", lambda *given: built.append(build(*given)) or built[-1])
        yield built


@pytest.mark.parametrize("name", RUNS)
def test_a_run_stopped_within_an_epoch_and_resumed_is_bit_identical(name, programs, tmp_path, monkeypatch):
    if name.endswith("YOLOv8"):
        monkeypatch.setattr(fitting, "detector_with", config.detector_with)
    localization, assigner = RUNS[name]
    network = Network("p", p2=False, kind="yolov8", assigner=assigner)
    experiment = toy_experiment(localization, network=network)
    whole = train(experiment, tmp_path / "whole")
    train(experiment, tmp_path / "run", stop_after=4)
    resumed = train(experiment, tmp_path / "run", resume=True)
    assert bits(resumed.state) == bits(whole.state)
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()
    assert read_experiment(tmp_path / "run") == experiment
    assert programs[-1].step._cache_size() == 1
    check_log(tmp_path / "run")


def check_log(folder: Path) -> None:
    """Unknown are only curvatures of sizes without boxes, and norms at features that boxes and classes do not share."""
    logged = rows(folder, "train")
    assert len(logged) == 6
    assert any(row["positives"] > 0 for row in logged)
    for row in logged:
        unknown = {key for key, value in row.items() if value is None}
        assert unknown <= {*SHARPNESS, *FEATURE_GRADIENTS, *([] if row["positives"] else ["uncertainty"])}
        assert unknown >= {*FEATURE_GRADIENTS}
        assert row["objectness"] == 0
