"""The detector as pure functions of plain dictionaries."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.flags import QUICKLY
from ugs_jax.detectors import Architecture, Detector, Postprocess, YOLOv5, YOLOv8, detect, suppress
from ugs_jax.detectors.architecture import published_anchors
from ugs_jax.objectives import DFL, UGS, BoxRegression, Quality, SecondStage, SideRegression

ANCHORS = (((4, 5), (8, 10), (13, 11)), ((20, 14), (16, 30), (33, 23)), ((40, 60), (62, 45), (59, 90)))
ARCH = Architecture("p", False, 3, ANCHORS)
OPTIONS = Postprocess(score_threshold=0.0, pre_nms_topk=50, max_detections=20)


@pytest.fixture(scope="module")
def detector():
    return Detector(ARCH, UGS())


@pytest.fixture(scope="module")
def variables(detector):
    return detector.init(0)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3)).astype(np.uint8)


def leaves(tree):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def test_variables_are_plain_dictionaries_of_float32(variables):
    for tree in variables:
        assert all(
            isinstance(key, jax.tree_util.DictKey) for path, _ in jax.tree.leaves_with_path(tree) for key in path
        )
        assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {jnp.dtype("float32")}


def test_num_parameters_counts_what_init_makes(detector, variables):
    assert detector.num_parameters() == sum(leaf.size for leaf in jax.tree.leaves(variables[0]))


@pytest.mark.parametrize("other", [BoxRegression(), DFL()])
def test_objectives_have_equal_initial_weights_except_for_the_localizers(variables, other):
    params, stats = Detector(ARCH, other).init(0)
    ours, theirs = leaves(variables[0]), leaves(params)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert np.array_equal(ours[name], theirs[name]) == ("localize" not in name), name
    assert all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (stats, variables[1])), strict=True))


ADDED = {
    "second": UGS(second_stage=SecondStage(hidden=8)),
    "quality": UGS(quality=Quality(hidden=6)),
    "both": UGS(second_stage=SecondStage(hidden=8), quality=Quality(hidden=6)),
}


def test_what_objectives_add_leaves_all_other_initial_weights_as_they_are(variables):
    found = {name: leaves(Detector(ARCH, objective).init(0)[0]) for name, objective in ADDED.items()}
    plain = leaves(variables[0])
    assert plain.keys() == found["second"].keys() & found["quality"].keys()
    assert found["both"].keys() == found["second"].keys() | found["quality"].keys()
    for one, other in ((plain, "second"), (plain, "quality"), (found["second"], "both"), (found["quality"], "both")):
        assert all(np.array_equal(leaf, found[other][name]) for name, leaf in one.items())
    added = {name: leaf for name, leaf in found["both"].items() if name not in plain}
    assert {name for name, leaf in added.items() if not np.any(leaf)} == {
        f"['heads'][{level}]['second']['out']['kernel']" for level in range(3)
    }
    drawn = [leaf.tobytes() for leaf in map(np.asarray, added.values()) if leaf.any()]
    assert len(set(drawn)) == len(drawn)  # no layer is drawn like another


def test_parameters_are_those_of_both_stages_and_the_quality_predictor():
    """Parameters of heads with 32, 64 and 128 channels, 3 anchors and 44 outputs each."""
    before, after = (Detector(ARCH, objective) for objective in (UGS(), ADDED["both"]))
    second = sum(5 * width * 8 + 8 + 44 * 8 + 8 * 44 for width in (32, 64, 128))
    quality = 3 * (22 * 6 + 6 + 6 + 1)
    assert after.num_parameters() - before.num_parameters() == second + quality
    assert (after.full_arch.num_outputs, after.full_arch.second_stage, after.full_arch.quality) == (44, 8, 6)
    assert before.full_arch == replace(ARCH, num_outputs=44)


@pytest.mark.slow
def test_detections_are_what_suppression_leaves_of_the_candidates(images):
    detector = Detector(ARCH, ADDED["both"])
    params, stats = detector.init(0)
    for i in range(3):  # a second stage that does something
        out = params["heads"][i]["second"]["out"]
        out["kernel"] = jnp.asarray(np.random.default_rng(i).normal(size=out["kernel"].shape), jnp.float32)
    options = replace(OPTIONS, spread_penalty=1.0, quality_power=0.5, voting=0.1)

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def both(params, stats):
        outputs, _ = detector.apply(params, stats, images, train=False)
        again = detector.apply_heads(params, stats, tuple(level.features for level in outputs.levels))
        candidates = detector.candidates(params, stats, images, options.pre_nms_topk)
        return (
            detector.detect(params, stats, images, options),
            candidates,
            suppress(candidates, options),
            outputs,
            again,
        )

    found, candidates, want, outputs, again = both(params, stats)
    assert candidates.boxes.shape == (2, 50, 4)
    assert np.all((candidates.quality > 0) & (candidates.quality < 1))
    assert np.all(np.diff(candidates.scores) <= 0)
    jax.tree.map(np.testing.assert_array_equal, found, want)
    jax.tree.map(np.testing.assert_array_equal, again, outputs)


def test_another_seed_gives_other_weights(detector, variables):
    ours, theirs = leaves(variables[0]), leaves(detector.init(1)[0])
    drawn = [name for name in ours if "kernel" in name or "score" in name]
    assert not any(np.array_equal(ours[name], theirs[name]) for name in drawn)


def test_scores_start_near_the_share_of_cells_with_an_object(detector, variables):
    """About 8 objects in 640² px, as published; the classes start at 0.6 over their number."""
    for index, stride in enumerate(ARCH.strides):
        bias = np.asarray(variables[0]["heads"][index]["score"]["bias"]).reshape(3, 4)
        reach = 1 / np.sqrt(variables[0]["heads"][index]["score"]["kernel"].shape[0])
        np.testing.assert_allclose(bias[:, 0], np.log(8 * stride**2 / 640**2), atol=reach)
        np.testing.assert_allclose(bias[:, 1:], np.log(0.6 / 2), atol=reach + 1e-4)


def test_training_updates_the_statistics_and_inference_does_not(detector, variables, images):
    params, stats = variables
    run = jax.jit(detector.apply, static_argnames="train", compiler_options=QUICKLY)
    outputs, moved = run(params, stats, images, train=True)
    assert jax.tree.structure(moved) == jax.tree.structure(stats)
    assert not any(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (moved, stats)), strict=True))
    for level, stride in zip(outputs.levels, ARCH.strides, strict=True):
        rows, columns = 64 // stride, 96 // stride
        assert level.features.shape[:3] == (2, rows, columns)
        assert level.objectness.shape == (2, rows, columns, 3)
        assert level.classes.shape == (2, rows, columns, 3, 3)
        assert np.all(np.isfinite(level.classes))


def test_detections_are_those_of_its_outputs_and_compile_once(detector, variables, images):
    traced = []

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def both(params, stats, images):
        traced.append(images.shape)
        outputs, kept = detector.apply(params, stats, images, train=False)
        assert kept is stats
        direct = detect(*outputs, detector.localization, detector.arch, OPTIONS)
        return detector.detect(params, stats, images, OPTIONS), direct

    got, want = both(*variables, images)
    assert got.boxes.shape == (2, 20, 4)
    assert np.all(got.valid[:, 0])
    jax.tree.map(np.testing.assert_array_equal, got, want)
    both(*variables, images[::-1].copy())
    assert len(traced) == 1


def test_half_precision_keeps_scores_parameters_and_statistics_in_float32(variables, images):
    half = Detector(Architecture("p", False, 3, ANCHORS, dtype=jnp.bfloat16), UGS())
    outputs, stats = jax.eval_shape(lambda p, s: half.apply(p, s, images, train=True), *variables)
    assert {level.features.dtype for level in outputs.levels} == {jnp.dtype("bfloat16")}
    rest = [(level.objectness, level.classes) for level in outputs.levels], outputs.localizers, stats
    assert {leaf.dtype for leaf in jax.tree.leaves(rest)} == {jnp.dtype("float32")}
    assert jax.tree.map(jnp.shape, stats) == jax.tree.map(jnp.shape, variables[1])


@pytest.mark.parametrize(("height", "width", "fit"), [(64, 80, "64×96"), (48, 64, "64×64"), (1, 33, "32×64")])
def test_images_that_the_levels_cannot_divide_are_refused_with_the_size_to_pad_to(
    detector, variables, height, width, fit
):
    with pytest.raises(ValueError, match=f"multiples of 32, got {height}×{width}; letterbox or pad .* to {fit}"):
        detector.apply(*variables, np.zeros((1, height, width, 3), np.uint8), train=False)


@pytest.mark.slow
def test_without_kept_activations_loss_gradient_and_statistics_are_the_same():
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    found = []
    with jax.enable_x64(True):
        for remat in (False, True):
            detector = Detector(replace(ARCH, remat=remat, dtype=jnp.float64), BoxRegression())
            variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), detector.init(0))

            def loss(params, stats, detector=detector):
                outputs, stats = detector.apply(params, stats, images, train=True)
                return sum(jnp.sum(jnp.sin(x)) for level in outputs.levels for x in level), stats

            found.append(jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=QUICKLY)(*variables))
    same, other = (jax.tree.leaves(jax.device_get(values)) for values in found)
    assert jax.tree.structure(found[0]) == jax.tree.structure(found[1])
    for kept, again in zip(same, other, strict=True):
        assert kept.dtype == np.float64
        np.testing.assert_allclose(again, kept, rtol=1e-11, atol=1e-11 * np.abs(kept).max())


@pytest.mark.parametrize("network", [YOLOv5, YOLOv8])
def test_a_fresh_layer_starts_where_its_objective_says(network):
    """Boxes of regression start as their anchors, centred in their cells, and those of sides with two strides."""
    arch = Architecture("p", False, 3, published_anchors(network, False), network=network)
    largest = 0.0 if network is YOLOv8 else 0.25  # drawn there, as PyTorch's
    for objective, start in ((BoxRegression(), 0.0), (SideRegression(), 1.0), (DFL(start=-2), 0.0)):
        params, _ = Detector(arch, objective).init(0)
        for head in params["heads"].values():
            np.testing.assert_allclose(head["localize"]["bias"], start, rtol=0, atol=0.0 if start else largest)
