"""Comparison tables: means, spread, and the epochs to the baseline's best."""

import json

import pytest

from ugs_jax.report import RunError, compare, comparison_table, epochs_to_reach, estimate, read_groups, read_run


def write_run(folder, name, seed, aps, side=64):
    folder.mkdir(parents=True)
    config = {"name": name, "localization": name, "seed": seed, "dataset": "tiny", "image_size": [side, side]}
    (folder / "config.json").write_text(json.dumps(config))
    rows = [
        {"kind": "eval", "step": 10 * i, "epoch": float(i), "ap": ap, "ap_tiny": ap and ap / 2, "ap_medium": None}
        for i, ap in enumerate(aps, start=1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def groups(tmp_path):
    def runs(name, curves):
        return [write_run(tmp_path / f"{name}{seed}", name, seed, aps) for seed, aps in enumerate(curves)]

    return {
        "CIoU": runs("CIoU", [[0.1, 0.18, 0.2, 0.2], [0.1, 0.2, 0.2, 0.3]]),
        "UGS": runs("UGS", [[0.26, 0.3, 0.3, 0.4], [0.2, 0.3, 0.3, 0.5]]),
        "L2": runs("L2", [[0.1, 0.1, 0.1, 0.1]]),
        "DFL": runs("DFL", [[0.1, 0.3, 0.3, 0.2], [0.1, 0.1, 0.1, 0.2]]),
    }


def test_an_estimate_has_the_sample_standard_deviation():
    got = estimate([1.0, 2.0, 3.0, 6.0])
    assert (got.mean, got.spread, got.count) == (3.0, pytest.approx((14 / 3) ** 0.5), 4)
    assert estimate([1.0]).spread is None
    assert estimate([]) is None


def test_means_and_spreads_are_those_of_the_best_epochs(groups):
    comparison = compare(read_groups(groups))
    baseline, ugs, l2, _ = comparison.methods
    assert baseline.seeds == (0, 1)
    assert baseline.scores["ap"].mean == pytest.approx(0.25)
    assert baseline.scores["ap"].spread == pytest.approx(0.1 / 2**0.5)  # of 0.2 and 0.3, with n − 1
    assert ugs.scores["ap_tiny"].mean == pytest.approx(0.225)
    assert (l2.scores["ap"].spread, l2.scores["ap"].count) == (None, 1)
    assert "ap_medium" not in baseline.scores


def test_epochs_to_the_baselines_best_and_their_ratio(groups):
    comparison = compare(read_groups(groups))
    baseline, ugs, l2, dfl = comparison.methods
    assert comparison.methods[0].target == pytest.approx(0.25)
    assert baseline.epochs_to_target.mean == pytest.approx(3.5)  # own bests at epochs 3 and 4
    assert baseline.times_earlier == pytest.approx(1.0)
    assert ugs.epochs_to_target.mean == pytest.approx(1.5)
    assert ugs.times_earlier == pytest.approx(3.5 / 1.5)
    assert (l2.reached, l2.epochs_to_target, l2.times_earlier) == (0, None, None)
    assert (dfl.reached, dfl.epochs_to_target, dfl.times_earlier) == (1, None, None)


def test_nearly_reaching_follows_one_rule_for_all_methods(groups):
    baseline, ugs, *_ = compare(read_groups(groups)).methods
    assert baseline.epochs_to_nearly is None  # seed 0 never has 95 % of the mean best
    assert ugs.epochs_to_nearly.mean == pytest.approx(1.5)


def test_the_first_evaluation_that_reaches_the_target_counts(groups):
    run = read_run(groups["CIoU"][1])
    assert epochs_to_reach(run, 0.2) == 2.0
    assert epochs_to_reach(run, 0.31) is None


def test_the_table_shows_seeds_and_no_spread_for_a_single_seed(groups):
    table = comparison_table(groups).splitlines()
    assert table[0].startswith("| method | seeds | AP | tiny | epochs to baseline's best | times earlier |")
    assert table[2].startswith("| CIoU | 2 | 25.0 ± 7.1 | 12.5 ± 3.5 | 3.5 ± 0.7 | 1.00 |")
    assert table[3].startswith("| UGS | 2 | 45.0 ± 7.1 | 22.5 ± 3.5 | 1.5 ± 0.7 | 2.33 |")
    assert table[4] == "| L2 | 1 | 10.0 | 5.0 | reached by 0 of 1 | – | – |"
    assert table[5].startswith("| DFL | 2 | 25.0 ± 7.1 | 12.5 ± 3.5 | reached by 1 of 2 | – |")
    assert "Baseline: CIoU, whose best AP is 25.0" in table[-1]
    assert "differ in length" not in table[-1]


def test_each_image_size_has_a_baseline_of_its_own(tmp_path):
    sides = {"A 32": (32, [0.1, 0.2]), "A 64": (64, [0.3, 0.5]), "B 32": (32, [0.2, 0.3]), "B 64": (64, [0.4, 0.4])}
    groups = {name: [write_run(tmp_path / name, name, 0, aps, side)] for name, (side, aps) in sides.items()}
    found = {method.name: method for method in compare(read_groups(groups)).methods}
    assert {name: method.baseline for name, method in found.items()} == {
        "A 32": "A 32", "A 64": "A 64", "B 32": "A 32", "B 64": "A 64",
    }  # fmt: skip
    assert found["B 32"].times_earlier == 2
    assert (found["B 64"].target, found["B 64"].reached) == (0.5, 0)
    text = comparison_table(groups)
    assert "Baseline of each image size: A 32, whose best AP is 20.0" in text
    assert "; A 64, whose best AP is 50.0" in text


def test_a_baseline_with_an_ap_of_zero_is_reached_by_no_method(tmp_path):
    groups = {
        name: [write_run(tmp_path / name, name, 0, aps)] for name, aps in {"A": [0.0, 0.0], "B": [0.0, 0.2]}.items()
    }
    for method in compare(read_groups(groups)).methods:
        assert (method.epochs_to_target, method.times_earlier, method.epochs_to_nearly) == (None, None, None)
    _, _, one, other, *_ = comparison_table(groups).splitlines()
    assert one.endswith("| – | – | – |")
    assert other.endswith("| – | – | – |")


def test_the_table_warns_of_runs_of_different_length(groups, tmp_path):
    groups["short"] = [write_run(tmp_path / "short", "short", 0, [0.1, 0.2])]
    assert "**The runs differ in length** (epochs: CIoU 4, UGS 4, L2 4, DFL 4, short 2)." in comparison_table(groups)


def test_a_comparison_can_be_written_as_json(groups):
    comparison = compare(read_groups(groups))
    assert json.loads(json.dumps(comparison.json()))["methods"][1]["scores"]["ap"]["mean"] == pytest.approx(0.45)


def test_a_run_without_scores_is_refused(tmp_path):
    folder = write_run(tmp_path / "run", "CIoU", 0, [None])
    with pytest.raises(RunError, match=r"run: expected a scored run, found no AP in its metrics"):
        comparison_table({"CIoU": [folder]})
