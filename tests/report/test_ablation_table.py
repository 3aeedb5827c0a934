"""Table of an ablation, from hand-made logs."""

import json

import pytest

from tests.report.test_comparisons import write_run
from ugs_jax.report import StepCost, ablate, ablation_table, read_run
from ugs_jax.report.ablation import under_32


def run_with(folder, name, seed, ap, rows):
    write_run(folder, name, seed, [ap])
    with (folder / "metrics.jsonl").open("a") as file:
        for i, row in enumerate(rows):
            file.write(json.dumps({"kind": "train", "step": i + 1, "epoch": 0.1 * i, **row}) + "\n")
    return folder


def row(tiny, small, medium=100.0):
    sizes = {"tiny": tiny, "small": small, "medium": medium, "very_tiny": None}
    return {f"gradient_variance_{name}": value for name, value in sizes.items()} | {
        f"curvature_{name}": value and 10 * value for name, value in sizes.items()
    }


@pytest.fixture
def groups(tmp_path):
    late = [row(1.0, 3.0), row(None, 8.0), row(3.0, 5.0), row(None, None)]
    return {
        "L2": [run_with(tmp_path / "a", "L2", 0, 0.1, [row(50.0, 70.0)] * 3 + late)],
        "CE": [
            run_with(tmp_path / f"b{seed}", "CE", seed, 0.2 + seed / 10, [row(1.0, 1.0 + 2 * seed)] * 2)
            for seed in (0, 1)
        ],
    }


def test_measures_are_of_small_boxes_in_the_second_half_of_training(groups):
    assert under_32(read_run(groups["L2"][0]), "gradient_variance") == 4.0  # of 2, 8 and 4; no row without small boxes
    assert under_32(read_run(groups["L2"][0]), "curvature") == 40.0
    assert under_32(read_run(groups["L2"][0]), "box_curvature") is None


def test_the_table_has_a_row_for_each_method_and_defines_its_columns(groups):
    costs = {"L2": StepCost(0.0123, 1.0, (1.0, 1.0), 1.0), "CE": StepCost(0.013, 1.057, (1.03, 1.104), 1.02)}
    header, _, l2, ce, _, text = ablation_table(ablate(groups, costs)).splitlines()
    assert header == "| method | seeds | AP | tiny | gradient variance | curvature | step time | memory |"
    assert l2 == "| L2 | 1 | 10.0 | 5.0 | 4.00 | 40.00 | 1.00 | 1.00 |"
    assert ce == "| CE | 2 | 25.0 ± 7.1 | 12.5 ± 3.5 | 1.50 ± 0.71 | 15.00 ± 7.07 | 1.06 [1.03, 1.10] | 1.02 |"
    assert "over that of L2 (12.3 ms)" in text


def test_without_costs_the_table_has_no_cost_columns(groups):
    table = ablation_table(ablate(groups))
    assert "step time" not in table
    assert "Step time" not in table


def test_everything_is_plain_json(groups):
    found = ablate(groups, {"CE": StepCost(0.013, 1.057, (1.03, 1.104), 1.02)}).json()
    assert json.loads(json.dumps(found))["gradient_variance_under_32_px"]["CE"]["mean"] == 1.5
