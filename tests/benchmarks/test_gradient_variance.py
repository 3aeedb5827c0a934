import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline import Batch
from experiments.benchmarks.gradient_statistics import (
    SIZES,
    Norms,
    compare,
    gradient_norms,
    measures,
    probe,
    restricted,
    shared,
)
from experiments.benchmarks.gradient_variance import Settings
from tests.benchmarks.running import result_with_the_toy
from tests.flags import QUICKLY
from tests.training.test_objective import ARCH, L1, random_outputs
from tests.training.toy import random_batch
from ugs_jax.boxes import Anchors
from ugs_jax.detectors import localize
from ugs_jax.experiment import LossWeights
from ugs_jax.training import objective
from ugs_jax.training.matching import match

pytestmark = pytest.mark.slow


def batch_of(boxes):
    boxes = np.asarray(boxes, np.float32)
    fields = dict.fromkeys(Batch._fields, np.zeros(0, np.float32))
    return Batch(**{**fields, "boxes": boxes, "mask": boxes[..., 2] > 0})


def random_probes(seed):
    rng = np.random.default_rng(seed)
    return {name: rng.uniform([1, 0.5, 0.1, 0.1], [2, 1, 0.9, 0.9], (20, 4)) for name in SIZES}


def equal_norms(batch):
    norms = np.where(batch.mask, 1.0, 0.0)
    return Norms(norms[..., None], norms)


def test_a_restricted_batch_has_the_boxes_of_one_size():
    batch = batch_of([[[0, 0, 4, 16], [0, 0, 40, 40], [0, 0, 0, 0]], [[5, 5, 12, 12], [9, 9, 18, 17], [0, 0, 0, 0]]])
    assert restricted(batch, 0, 32).mask.tolist() == [[True, False, False], [True, True, False]]
    assert restricted(batch, 8, 32).mask.tolist() == [[True, False, False], [False, True, False]]
    assert restricted(batch, 32, np.inf).mask.tolist() == [[False, True, False], [False, False, False]]


def test_groups_estimate_variance_and_squared_mean_without_bias():
    rng = np.random.default_rng(0)
    mean, deviation, count = np.array([3.0, -1.0]), 0.5, 4
    batches = [batch_of([[[0, 0, 10, 10]]])] * count
    found = [probe(lambda _: rng.normal(mean, deviation), equal_norms, batches)["lt32"] for _ in range(2000)]
    # Standard errors: of v 2σ²/√(3 · 2000) = 0.0065, of s about 2σ|m|/√(4 · 2000) = 0.035; five of them.
    noise, signal, *inequality = np.mean(found, axis=0)
    assert noise == pytest.approx(2 * deviation**2, abs=0.033)
    assert signal == pytest.approx(mean @ mean, abs=0.18)
    assert inequality == [0, 0]


def test_variance_and_squared_mean_equal_the_pairwise_definitions():
    rng = np.random.default_rng(1)
    gradients = rng.normal(1, 1, (3, 5))
    draws = itertools.cycle(gradients)
    noise, signal, *_ = probe(lambda _: next(draws), equal_norms, [batch_of([[[0, 0, 40, 40]]])] * 3)["ge32"]
    pairs = [(gradients[i], gradients[j]) for i in range(3) for j in range(i)]
    assert noise == pytest.approx(np.mean([0.5 * np.sum((a - b) ** 2) for a, b in pairs]), rel=1e-12)
    assert signal == pytest.approx(np.mean([a @ b for a, b in pairs]), rel=1e-12)


def test_sizes_that_only_one_group_has_are_left_out():
    batches = [batch_of([[[0, 0, 10, 10]]]), batch_of([[[0, 0, 40, 40]]])]
    assert set(probe(lambda _: np.ones(2), equal_norms, batches)) == {"all"}


def test_inequality_is_the_squared_coefficient_of_variation_of_nonzero_norms():
    small, large = [0, 0, 10, 10], [0, 0, 40, 40]
    batches = [batch_of([[small, small, large], [small, large, large]])] * 2
    boxes = np.array([[1.0, 2.0, 50.0], [0.0, 60.0, 70.0]])  # the third small box has no positive
    positives = np.stack([boxes, np.where(boxes > 1, 7.0, 0.0)], axis=-1)  # some have two
    found = probe(lambda _: np.ones(2), lambda _: Norms(positives, boxes), batches)
    np.testing.assert_allclose(found["lt32"].of_boxes, np.var([1, 2, 1, 2], ddof=1) / 1.5**2)
    np.testing.assert_allclose(found["ge32"].of_boxes, np.var([50, 60, 70] * 2, ddof=1) / 60**2)
    pulls = [1, 2, 7] * 2
    np.testing.assert_allclose(found["lt32"].of_positives, np.var(pulls, ddof=1) / np.mean(pulls) ** 2)


quick = functools.partial(jax.jit, compiler_options=QUICKLY)


@functools.lru_cache
def norms_of_outputs():
    return quick(lambda outputs, batch: gradient_norms(outputs, batch, L1, ARCH, 4.0))(
        random_outputs(L1), random_batch()
    )


def test_norms_of_positives_are_those_of_their_own_losses():
    outputs, batch = random_outputs(L1), random_batch()
    found = np.asarray(norms_of_outputs().positives)
    wanted = np.zeros_like(found)
    pull = quick(lambda raw, *where: jnp.linalg.norm(jax.grad(lambda r: L1.loss(r, *where).loss)(raw)))
    for level, one in enumerate(match(outputs, batch, ARCH, 4.0)):
        raw = localize(one.localizer, one.features())
        for b, m, k, a in map(tuple, np.argwhere(one.positive)):
            anchors = Anchors(*(part[b, m, k, a] for part in one.anchors))
            wanted[b, m, 9 * level + 3 * k + a] = pull(raw[b, m, k, a], anchors, one.targets[b, m, k, a])
    assert (wanted > 0).sum() > 10
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_norms_of_boxes_are_those_of_dense_gradients():
    """By features of the whole map, one box at a time."""
    outputs, batch = random_outputs(L1), random_batch()
    found = np.asarray(norms_of_outputs().boxes)
    loss_weights = LossWeights(box=1.0, objectness=0.0, classes=0.0)

    def loss(features, mask):
        levels = tuple(level._replace(features=f) for level, f in zip(outputs.levels, features, strict=True))
        value, parts = objective(outputs._replace(levels=levels), batch._replace(mask=mask), L1, ARCH, loss_weights)
        return value * parts["positives"] * batch.boxes.shape[0]  # the sum over positives instead of their mean

    gradient_of = quick(jax.grad(loss))
    for i, j in ((0, 0), (1, 1), (0, 2)):
        mask = np.zeros_like(batch.mask)
        mask[i, j] = batch.mask[i, j]
        gradient = gradient_of([level.features for level in outputs.levels], mask)
        # A cell that two of the box's candidates share would add up here; candidates of one box lie in different cells.
        wanted = np.sqrt(sum(float(jnp.sum(jnp.square(leaf))) for leaf in gradient))
        assert found[i, j] == pytest.approx(wanted, rel=1e-4)


def test_a_gain_changes_only_the_raw_measure():
    probes, rows = random_probes(0), np.arange(20)
    louder = {name: values * [49.0, 49.0, 1.0, 1.0] for name, values in probes.items()}  # gradients times 7
    for name, own in measures(probes, rows).items():
        other = measures(louder, rows)[name]
        for measure in ("between_positives", "between_boxes", "relative", "equal_total", "equal_large"):
            assert other[measure] == pytest.approx(own[measure], rel=1e-12)
        assert other["raw"] == pytest.approx(49 * own["raw"], rel=1e-12)


def test_no_weight_by_size_changes_the_relative_measure():
    probes, rows = random_probes(1), np.arange(20)
    weighted = {name: values * [i + 1.0, i + 1.0, 1.0, 1.0] for i, (name, values) in enumerate(probes.items())}
    for name, own in measures(probes, rows).items():
        assert measures(weighted, rows)[name]["relative"] == pytest.approx(own["relative"], rel=1e-12)


def test_a_method_compared_with_itself_has_the_ratio_one():
    probes = random_probes(2)
    for by_measure in compare(probes, probes, draws=10).values():
        assert all(values == [1.0, 1.0, 1.0] for values in by_measure.values())


def test_the_shared_gradient_leaves_out_the_localization_layers():
    gradient = {
        "head": {"localize": {"kernel": np.ones(5)}, "score": {"kernel": np.full((2, 2), 2.0)}},
        "x": np.ones(1),
    }
    np.testing.assert_array_equal(shared(gradient), [2, 2, 2, 2, 1])


def test_unknown_methods_and_a_single_group_are_refused():
    with pytest.raises(ValueError, match="methods: expected at least two different methods of l2"):
        Settings(methods=("ur", "smoothl1"))
    with pytest.raises(ValueError, match="groups: expected at least 2"):
        Settings(groups=1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Mean of empty slice")  # so few images have no box of some sizes
def test_the_last_line_of_the_benchmark_is_json_with_the_ratio_under_32_px(monkeypatch, capsys):
    arguments = "--steps 2 --probe-every 1 --groups 3 --image-size 64 64 --batch-size 2 --methods ur smooth_l1"
    result = result_with_the_toy("gradient_variance", arguments, monkeypatch, capsys)
    assert result["reported"] == "smooth_l1 over ur"
    assert result["ratios"]["smooth_l1"]["lt32"]["raw"][0] > 0
    assert "variance_ratio_lt32" in result
