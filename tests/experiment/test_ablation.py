"""Ablations: the objective of each method, and the command from training to the table."""

import json
from dataclasses import replace

import pytest

from tests.compiling import compiled_quickly
from tests.training.toy import toy_detector_with, toy_experiment
from ugs_jax import losses
from ugs_jax.cli import main
from ugs_jax.detectors import Postprocess
from ugs_jax.experiment import fitting
from ugs_jax.experiment.ablation import DEFAULT_METHODS, METHODS, ablation
from ugs_jax.objectives import (
    UGS,
    BoxRegression,
    FittedGrid,
    Grid,
    GridPoints,
    Quality,
    SecondStage,
    SideUGS,
    Uncertainty,
)

WHOLE = UGS(
    Grid(1.0, 2.0, 4),
    GridPoints((-1.0, 0.0, 0.2, 0.5, 1.5)),
    um=Uncertainty("entropy", 0.3),
    weight=0.75,
    box_weight=0.25,
    second_stage=SecondStage(8),
    quality=Quality(4),
)


def test_methods_differ_in_one_part_of_the_config():
    config = toy_experiment(WHOLE)
    found = {key: one.localization for key, one in zip(METHODS, ablation(config, tuple(METHODS)), strict=True)}
    assert found["l2"] == BoxRegression(losses.l2, space="offsets")
    assert found["ciou"] == BoxRegression(losses.ciou)
    # WHOLE weighs cross entropy by 0.75 and boxes by 0.25: rows without a box loss have all of it in the cross entropy.
    paper = replace(WHOLE, weight=1.0, box_weight=0.0, second_stage=None, quality=None)
    even = {"center": Grid(1.0, 0.0, 4), "size": Grid(1.5, 0.0, 4)}
    assert found["ur"] == paper
    assert found["um_entropy"] == replace(paper, refinement=None)
    assert found["um_match"] == replace(paper, refinement=None, um=Uncertainty("match", 0.3))
    assert found["in"] == replace(paper, refinement=None, um=None)
    assert found["ce"] == replace(found["in"], **even)
    assert found["um"] == replace(found["um_entropy"], **even)
    assert found["um_ur"] == replace(paper, **even)
    assert found["fitted"] == replace(paper, center=FittedGrid(4), size=FittedGrid(4))
    assert found["box"] == replace(found["in"], weight=0.75, box_weight=0.25)
    assert found["box_um_ur"] == replace(paper, weight=0.75, box_weight=0.25)
    assert found["second"] == replace(found["box"], second_stage=SecondStage(8))
    assert found["quality"] == replace(found["box"], quality=Quality(4))
    assert found["config"] == WHOLE


def test_methods_of_side_ugs_differ_in_the_same_parts():
    grid = GridPoints((-1.0, 0.0, 0.5, 1.0, 3.0))
    whole = SideUGS(
        grid=grid,
        um=Uncertainty("entropy", 0.3),
        weight=0.75,
        box_weight=0.25,
        second_stage=SecondStage(8),
        quality=Quality(4),
    )
    config = toy_experiment(whole)
    found = {key: one.localization for key, one in zip(METHODS, ablation(config, tuple(METHODS)), strict=True)}
    paper = replace(whole, weight=1.0, box_weight=0.0, second_stage=None, quality=None)
    even = GridPoints((-1.0, 0.0, 1.0, 2.0, 3.0))
    assert found["ur"] == paper
    assert found["in"] == replace(paper, refinement=None, um=None)
    assert found["ce"] == replace(found["in"], grid=even)
    assert found["um_ur"] == replace(paper, grid=even)
    assert found["fitted"] == replace(paper, grid=FittedGrid(4))
    assert found["box"] == replace(found["in"], weight=0.75, box_weight=0.25)
    assert found["second"] == replace(found["box"], second_stage=SecondStage(8))
    assert found["config"] == whole
    assert [one.name for one in ablation(config, ("ciou", "config"))] == ["CIoU", "SideUGS as in the config"]
    fitted = toy_experiment(SideUGS(grid=FittedGrid(6)))
    assert [one.localization.grid for one in ablation(fitted, ("ur", "fitted"))] == [SideUGS().grid, FittedGrid(22)]


def test_a_config_with_another_objective_gets_the_default_one():
    config = toy_experiment(BoxRegression())
    _, whole = ablation(config, ("ciou", "config"))
    assert whole == replace(config, name="UGS as in the config", localization=UGS())
    assert [one.name for one in ablation(config)] == [METHODS[key].name for key in DEFAULT_METHODS]


def test_fitted_grids_of_the_config_are_used_by_the_methods_for_them_only():
    config = toy_experiment(UGS(FittedGrid(6), FittedGrid(6)))
    whole, fitted, same = (one.localization for one in ablation(config, ("ur", "fitted", "config")))
    assert (whole.center, whole.size) == (Grid(2.0, 1.0, 6), Grid(2.0, 1.0, 6))
    assert (fitted.center, fitted.size) == (FittedGrid(6), FittedGrid(6))
    assert same == config.localization


@pytest.mark.parametrize("methods", [("l2",), ("l2", "l2"), ("l2", "umm")])
def test_invalid_choices_of_methods_are_refused(methods):
    with pytest.raises(ValueError, match="methods: expected at least two different methods of l2, smooth_l1, ciou"):
        ablation(toy_experiment(), methods)


CONFIG = """
from data_pipeline import LoaderOptions
from tests.training.toy import toy_experiment

# Buckets of boxes: the first batches have room for 11, 9 and 16.
loader = LoaderOptions(
    image_size=(64, 64), batch_size=4, max_boxes=16, box_buckets=(9, 11), max_ignore=3, threads=0
)
experiment = toy_experiment(epochs=1, loader=loader)
"""


@pytest.mark.slow
def test_one_command_makes_one_table(tmp_path, monkeypatch, capsys):
    (tmp_path / "config.py").write_text(CONFIG)
    monkeypatch.setattr(fitting, "detector_with", toy_detector_with)
    words = ["ablate", str(tmp_path / "config.py"), "--methods", "l2", "in", "--folder", str(tmp_path / "runs")]
    with compiled_quickly():
        assert main([*words, "--repeats", "2", "--", "--log-every", "2"]) == 0
    printed = capsys.readouterr().out
    header, _, baseline, ours, *_ = (tmp_path / "runs" / "ablation.md").read_text().splitlines()[2:]
    assert header.startswith("| method | seeds | AP | AP50 | AP75 |")
    assert header.endswith("| gradient variance | curvature | step time | memory |")
    assert baseline in printed
    assert baseline.startswith("| L2 | 1 |")
    assert baseline.endswith("| 1.00 | 1.00 |")
    assert ours.startswith("| CE + IN | 1 |")
    found = json.loads((tmp_path / "runs" / "ablation.json").read_text())
    assert found["costs"]["CE + IN"]["time_ratio"] > 0
    assert found["costs"]["CE + IN"]["memory_ratio"] > 1  # more outputs
    assert all(found[f"{measure}_under_32_px"]["L2"]["mean"] > 0 for measure in ("gradient_variance", "curvature"))
    assert (tmp_path / "runs" / "comparison.png").exists()

    before = [(tmp_path / "runs" / name / "metrics.jsonl").stat().st_mtime_ns for name in ("L2-seed0", "CE___IN-seed0")]
    assert main([*words, "--repeats", "0", "--resume", "--", "--log-every", "2"]) == 0  # finished runs are kept
    after = [(tmp_path / "runs" / name / "metrics.jsonl").stat().st_mtime_ns for name in ("L2-seed0", "CE___IN-seed0")]
    assert after == before
    assert "step time" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["ablate", "first_light_ugs", "--methods", "l2", "umm"],
            "methods: expected at least two different methods of l2",
        ),
        (["ablate", "first_light_ugs", "--seeds", "1", "1"], "seeds: expected one or more different seeds, got 1 1"),
        (
            ["compare", "first_light_ugs", "--seeds", "0", "2", "0"],
            "seeds: expected one or more different seeds, got 0 2",
        ),
        (["compare", "first_light_ugs", "first_light_ug"], "did you mean 'first_light_ugs'"),
        (
            ["compare", "first_light_ugs", "first_light_ugs"],
            "expected configs with different names, got 'UGS' twice",
        ),
    ],
)
def test_wrong_arguments_are_refused_before_training(words, message, tmp_path, capsys):
    assert main([*words, "--folder", str(tmp_path / "runs")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_rows_without_deviations_are_not_rescored_by_spread():
    rescored = replace(toy_experiment(UGS()), postprocess=Postprocess(spread_penalty=4.0))
    l2, ugs = ablation(rescored, ("l2", "ur"))
    assert l2.postprocess.spread_penalty == 0
    assert ugs.postprocess.spread_penalty == 4


def test_a_spread_penalty_without_deviations_is_refused_when_the_config_is_built():
    with pytest.raises(ValueError, match=r"postprocess.spread_penalty: expected 0, because BoxRegression predicts no"):
        replace(toy_experiment(BoxRegression()), postprocess=Postprocess(spread_penalty=4.0))
