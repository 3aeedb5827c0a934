"""Stabilizer study: its definition of stable, on hand-made trajectories, and descents with known results."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline import TrainLoader
from experiments.stabilizer_study import boxes, cost, detector, report, toy
from experiments.stabilizer_study.descent import OPTIMIZERS, Arm, Problem, Trajectories, descend
from experiments.stabilizer_study.ranges import Range, first_to_stay, reached, stable, widest
from tests.compiling import compiled_quickly
from tests.training.toy import toy_detector_with
from ugs_jax.analysis.step_cost import Times
from ugs_jax.experiment import SGD, AdamW, Network

pytestmark = pytest.mark.slow

ANCHORS = tuple(tuple((s * w, s * h) for w, h in ((0.8, 1.0), (1.2, 0.9), (1.0, 1.6))) for s in (5.0, 8.0, 16.0))
FALLING = np.linspace(1.0, 0.1, 20)


@pytest.fixture(scope="module", autouse=True)
def quick():
    with compiled_quickly():
        yield


def columns(*losses):
    return np.stack(losses, axis=-1)


def test_stable_is_finite_throughout_and_below_the_start_at_the_end_for_every_box():
    spike = np.where(np.arange(20) == 5, 1e9, FALLING)  # comes back
    broken = np.where(np.arange(20) == 5, np.nan, FALLING)
    endless = np.where(np.arange(20) == 5, np.inf, FALLING)
    rising = 2 - FALLING
    flat = np.ones(20)
    lucky = np.select(
        [np.arange(20) == 0, np.arange(20) == 19], [1.0, 0.5], 1.8
    )  # below the start in the last row, not in the last tenth
    assert stable(columns(FALLING, spike))
    for bad in (broken, endless, rising, flat, lucky):
        assert not stable(columns(bad))
        assert not stable(columns(FALLING, bad))


def test_stable_judges_each_learning_rate_by_itself():
    losses = np.stack([columns(FALLING, FALLING), columns(FALLING, 2 - FALLING)], axis=1)  # [time, rates, boxes]
    assert stable(losses).tolist() == [True, False]


def test_reached_needs_stability_and_every_group_good_throughout_the_last_tenth():
    late = np.arange(20) >= 18
    too_late = np.arange(20) >= 19
    assert reached(columns(FALLING), columns(late, late))
    assert not reached(columns(FALLING), columns(late, too_late))
    assert not reached(columns(2 - FALLING), columns(late))


def test_the_target_counts_from_when_it_is_kept():
    good = np.array([0, 1, 0, 0, 1, 1], bool)
    assert first_to_stay(good) == 4
    assert first_to_stay(~good) == -1
    assert first_to_stay(np.ones(3, bool)) == 0


def test_a_range_ends_at_the_first_bad_learning_rate_and_is_open_at_the_last_one_tried():
    rates = 10.0 ** np.arange(7)
    found = widest(rates, np.array([1, 1, 0, 1, 1, 1, 0], bool))
    assert found == Range(1e3, 1e5, open_below=False, open_above=False)
    assert found.width == pytest.approx(100)
    assert widest(rates, np.ones(7, bool)) == Range(1.0, 1e6, open_below=True, open_above=True)
    assert widest(rates, np.zeros(7, bool)).width == 0
    assert widest(rates, np.arange(7) == 2).width == 1


@pytest.mark.parametrize("arm", [Arm(every=1), Arm(per_box=1.0), Arm(bound=True)])
def test_descent_on_a_quadratic_is_unchanged_below_the_stable_rate_and_stable_above_it(arm):
    edge = 2 / 100  # the largest eigenvalue is 100
    rates = edge * np.array([0.4, 0.9, 1.1, 100.0])
    with jax.enable_x64(True):
        problem = toy.quadratic(10.0, seed=0)
        plain = descend(problem, "SGD", Arm(), rates, steps=200, records=20)
        saved = descend(problem, "SGD", arm, rates, steps=200, records=20)
    assert stable(plain.losses).tolist() == [True, True, False, False]
    assert stable(saved.losses).all()
    # Up to 1/κ no arm has anything to do, whatever the direction; other programs may round otherwise.
    np.testing.assert_allclose(saved.losses[:, 0], plain.losses[:, 0], rtol=1e-10)
    assert saved.shortened[0] == 0


def test_plain_descent_is_the_power_of_a_matrix():
    with jax.enable_x64(True):
        problem = toy.quadratic(10.0, seed=1)
        found = descend(problem, "SGD", Arm(), np.array([0.003, 0.01]), steps=40, records=4)
        start, rate = np.asarray(problem.start)[0], 0.01
        h = np.asarray(jax.hessian(lambda x: problem.loss(x[None])[0])(problem.start[0]))
    for row, steps in enumerate((0, 10, 20, 30, 40)):
        x = np.linalg.matrix_power(np.eye(20) - rate * h, steps) @ start
        # 40 products of 20×20 matrices round by less than 1e-12 of the start
        np.testing.assert_allclose(found.losses[row, 1, 0], 0.5 * x @ h @ x, rtol=1e-9, atol=1e-12)
    assert found.steps.tolist() == [0, 10, 20, 30, 40]


def test_half_steps_to_the_minimum_are_faster_than_full_steps_if_curvatures_differ():
    with jax.enable_x64(True):
        problem = toy.quadratic(1e3, seed=0)
        ends = [
            descend(problem, "SGD", Arm(every=1, fraction=c), np.array([10.0]), steps=200, records=10).losses[-1, 0, 0]
            for c in (1.0, 0.5)
        ]
    assert ends[1] < 0.1 * ends[0]


@pytest.mark.parametrize("arm", [Arm(value=1.0), Arm(per_box_value=1.0)])
def test_at_a_kink_no_curvature_helps_and_the_limit_by_value_does(arm):
    tip = Problem(jnp.array([[3.0]]), lambda x: 2 * jnp.abs(x).sum(axis=-1), lambda x: -jnp.abs(x).sum(axis=-1))
    rates = np.array([1e-3, 0.7, 1e6])
    curved = descend(tip, "SGD", Arm(every=1), rates, steps=20, records=20)
    valued = descend(tip, "SGD", arm, rates, steps=20, records=20)
    assert stable(curved.losses).tolist() == [True, True, False]
    assert curved.losses[-1, 1, 0] > 0.1  # goes to and fro across the tip
    assert stable(valued.losses).all()
    np.testing.assert_allclose(valued.losses[-1, 1:], 0, atol=1e-5)
    np.testing.assert_array_equal(valued.losses[:, 0], curved.losses[:, 0])


def test_the_limit_by_value_of_the_detector_shortens_long_steps_and_infinity_turns_it_off(monkeypatch):
    settings = detector.Settings(file="unused", epochs=1, train_images=12, val_images=4)
    monkeypatch.setattr(
        detector, "build_detector", lambda experiment, data: toy_detector_with(experiment, ANCHORS, len(data.classes))
    )
    cell = detector.Cell("ciou", "SGD", "plain", 1e4, 0)
    experiment = detector.experiment_of(cell, settings)
    experiment = replace(experiment, loader=replace(experiment.loader, batch_size=4), network=Network("p", p2=False))
    train, val = (experiment.data.open(split) for split in ("train", "val"))
    loader = TrainLoader(train, experiment.loader)
    batches = [loader.batch_at(i) for i in range(3)]
    program = detector.build(experiment, None, train, val, total=3)
    rows = [detector.run(cell._replace(member=name), program, batches, 1e4) for name in ("plain", "value")]
    assert rows[0]["shortened"] == 0
    assert rows[1]["shortened"] > 0
    assert rows[1]["loss"] != rows[0]["loss"]


def test_all_methods_start_at_the_anchors_and_half_of_the_targets_are_one_px_away():
    scene = boxes.draw_scene(4, seed=0)
    shift = (scene.targets[:, :2] + scene.targets[:, 2:]) / 2
    np.testing.assert_allclose(np.abs(shift[1::2]), 1.0)
    assert np.all(np.abs(shift[::2]) <= 0.3 * np.repeat(boxes.SIZES, 2)[:, None])
    with jax.enable_x64(True):
        starts = [np.asarray(p.score(p.start)) for p in (boxes.make_problem(n, scene) for n in boxes.NAMES)]
    for start in starts[1:]:
        np.testing.assert_allclose(start, starts[0], rtol=1e-9)
    with pytest.raises(ValueError, match="expected an even number"):
        boxes.draw_scene(3, seed=0)


def test_l2_in_px_has_the_stable_rate_of_the_smallest_box_and_the_per_box_limit_raises_it():
    scene = boxes.draw_scene(2, seed=0)
    # At the start ŵ is the anchor's side a: κ = 2(1 + log(w/a))/a² for the sides, 2/a² for the centre.
    side = np.max(scene.targets[:2, 2:] - scene.targets[:2, :2])
    edge = 2 / (2 * (1 + np.log(side / 4)) / 4**2)
    with jax.enable_x64(True):
        problem = boxes.make_problem("L2 px", scene)
        rates = edge * np.array([0.5, 2.5, 1e5])
        plain = descend(problem, "SGD", Arm(), rates, steps=200, records=20)
        limited = descend(problem, "SGD", Arm(per_box=1.0), rates, steps=200, records=20)
    assert stable(plain.losses).tolist() == [True, False, False]
    assert stable(limited.losses).all()
    # With κ_max = 1/rate below the curvature of every box, all of them take Newton-like steps.
    assert np.all(limited.scores[-1, 2] > 0.99)


def test_a_loss_that_was_not_finite_once_is_recorded_as_nan_from_then_on():
    with jax.enable_x64(True):
        found = descend(toy.rosenbrock(), "SGD", Arm(), np.array([1e-4, 10.0]), steps=40, records=4)
    assert np.isfinite(found.losses[:, 0]).all()
    assert np.isnan(found.losses[1:, 1]).all()
    assert not stable(found.losses)[1]


def test_steps_are_a_multiple_of_records_and_the_optimizers_are_those_of_optax():
    with pytest.raises(ValueError, match="steps: expected a multiple of 100"):
        descend(toy.rosenbrock(), "SGD", Arm(), np.ones(1), steps=150)
    assert set(OPTIMIZERS) == {"SGD", "momentum", "Adam"}


def test_the_judgement_of_boxes_takes_the_slowest_size():
    losses = np.tile(FALLING[:, None, None], (1, 2, 7))
    scores = np.full((20, 2, 7), 0.95)
    scores[:, 0, 6] = 0.5  # at the first learning rate the largest size never gets there
    scores[:7, 1, 0] = 0.1
    row = boxes.judge(Trajectories(np.arange(20) * 10, losses, scores, np.zeros(2)), np.array([1.0, 10.0]), boxes=7)
    assert row["stable"]["width"] == pytest.approx(10)
    assert (row["reaches"]["low"], row["reaches"]["high"], row["best_rate"]) == (10.0, 10.0, 10.0)
    assert row["steps_by_size"] == [70, 0, 0, 0, 0, 0, 0]
    assert row["worst_iou"] == [0.5, 0.95]


def test_runs_of_the_detector_are_all_combinations_that_have_an_effect():
    settings = detector.Settings(file="unused", seeds=(0, 1), factors=(1.0,))
    cells = list(detector.cells(settings))
    assert len(cells) == len(set(cells)) == 2 * 2 * (5 + 4)
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
    experiment = detector.experiment_of(detector.Cell("ugs", "SGD", "every 10", 10.0, 1), settings)
    assert isinstance(experiment.optimizer, SGD)
    assert experiment.loader.seed == experiment.seed == 1
    assert isinstance(detector.experiment_of(cells[0], settings).optimizer, AdamW)


def test_a_non_finite_run_counts_with_an_ap_of_zero():
    row = {"method": "ugs", "optimizer": "SGD", "member": "plain", "factor": 1.0, "bad_step": -1, "ap": 0.3}
    found = detector.summary([row, {**row, "bad_step": 7, "ap": None}])
    assert found == {
        "ugs SGD plain 1": {"ap": pytest.approx(0.15), "spread": pytest.approx(0.3 / 2**0.5), "runs": 2, "broken": 1}
    }


def test_finished_runs_are_read_back(tmp_path):
    file = tmp_path / "runs.jsonl"
    assert detector.read(file) == []
    file.write_text(json.dumps({"ap": 0.25}) + "\n" + json.dumps({"ap": None}) + "\n")
    assert detector.read(file) == [{"ap": 0.25}, {"ap": None}]


def test_the_last_line_is_json(capsys):
    boxes.main(boxes.Settings(problems=("L2 px",), arms=("plain",), steps=100, starts=2, low=0, high=1, per_decade=1))
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["arm"] for row in result["rows"]] == ["plain"]
    assert result["rates"] == [1.0, 10.0]


def test_the_cost_of_a_product_is_separate_from_the_other_costs():
    rng = np.random.default_rng(0)
    plain = rng.uniform(1.0, 1.01, 50)
    curved = 1.1 * plain + 2 * (np.arange(50) % 5 == 0)
    a, b, c = (Times(list(x), list(x)) for x in (plain, 1.05 * plain, curved))
    for found in (cost.ratios(a, b, c, every=5)[kind] for kind in Times._fields):
        assert found["without_product"][0] == pytest.approx(1.05, abs=1e-4)
        assert found["between_products"][0] == pytest.approx(1.1, abs=1e-4)
        assert found["product"][0] == pytest.approx(2.0, rel=0.01)  # in steps of 1 to 1.01 s
    with pytest.raises(ValueError, match="multiples of every=5"):
        cost.Cost(warmup=3)


def test_the_added_time_of_the_optimizer_is_the_difference_of_medians():
    rng = np.random.default_rng(0)
    plain = rng.uniform(0.020, 0.021, 50)
    found = cost.added([Times([], list(plain)), Times([], list(plain + 0.002))])
    assert found["added"] == pytest.approx(0.002, rel=1e-6)
    assert found["interval"] == [pytest.approx(0.002, rel=1e-6)] * 2  # turns are drawn in pairs
    assert 0.020 <= found["without"] <= 0.021


def test_tables_mark_open_ends_of_ranges():
    low, inner = Range(1.0, 10.0, True, False), Range(1.0, 1e6, False, True)
    found = [{**one._asdict(), "width": one.width} for one in (Range(), low, inner)]
    assert [report.rate_range(one) for one in found] == ["none", "≤ 1 to 10 (≥ 10)", "1 to ≥ 1e+06 (≥ 1e+06)"]
    assert [report.upper_end(one) for one in found] == ["none", "10", "≥ 1e+06"]


def test_the_figure_is_drawn_from_the_given_results(tmp_path):
    rates, worst = [0.1, 1.0, 10.0], [0.5, 0.9, 0.0]
    row = {"problem": "UGS logits", "optimizer": "SGD", "arm": "plain", "worst_iou": worst}
    path = report.plot([{"rates": rates, "rows": [row]}], tmp_path / "figure.png")
    assert path.stat().st_size > 0
