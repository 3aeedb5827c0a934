import functools

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from tests.reference.boxes_by_hand import greedy_suppression
from ugs_jax.boxes import Kept, non_maximum_suppression

N = 14


@functools.partial(jax.jit, static_argnames=("iou_threshold", "max_outputs", "class_agnostic"))
def suppress(boxes, scores, classes, iou_threshold=0.5, max_outputs=N, class_agnostic=False) -> Kept:
    return non_maximum_suppression(
        boxes, scores, classes, iou_threshold=iou_threshold, max_outputs=max_outputs, class_agnostic=class_agnostic
    )


def rows(kept: Kept) -> list[int]:
    return np.asarray(kept.index)[np.asarray(kept.valid)].tolist()


# Few values: equal scores, equal boxes, IoU equal to the threshold, padding, reversed boxes are all frequent.
@given(
    hnp.arrays(np.int32, (N, 4), elements=st.integers(0, 8)),
    hnp.arrays(np.int32, N, elements=st.integers(-1, 5)),
    hnp.arrays(np.int32, N, elements=st.integers(0, 2)),
    st.sampled_from([0.0, 0.25, 0.5, 0.6]),
    st.booleans(),
)
def test_the_result_equals_that_of_a_greedy_loop(corners, ranks, classes, threshold, class_agnostic):
    boxes, scores = corners.astype(np.float32), (ranks / 5).astype(np.float32)
    kept = suppress(jnp.array(boxes), jnp.array(scores), jnp.array(classes), threshold, N, class_agnostic)
    # The IoU of small integers is the correctly rounded quotient in either precision, so both see ties as ties.
    assert rows(kept) == greedy_suppression(
        boxes.tolist(), scores.tolist(), classes.tolist(), threshold, class_agnostic
    )


def crowd(seed, n):
    rng = np.random.default_rng(seed)
    center, size = rng.uniform(0, 100, (n, 2)), rng.uniform(4, 20, (n, 2))
    boxes = np.concatenate([center - size / 2, center + size / 2], -1).astype(np.float32)
    return boxes, rng.uniform(0.001, 1, n).astype(np.float32), rng.integers(0, 3, n).astype(np.int32)


@pytest.mark.parametrize("seed", range(3))
def test_the_result_equals_that_of_a_greedy_loop_in_a_crowd(seed):
    boxes, scores, classes = crowd(seed, 200)
    kept = suppress(jnp.array(boxes), jnp.array(scores), jnp.array(classes), 0.3, 200)
    assert rows(kept) == greedy_suppression(boxes.tolist(), scores.tolist(), classes.tolist(), 0.3)


def test_the_longest_chain_of_suppressions_is_followed_to_its_end():
    # Each box overlaps only its neighbours: the second goes because of the first, so the third stays, and so on.
    left = np.arange(60, dtype=np.float32)
    boxes = jnp.array(np.stack([left, 0 * left, left + 1.9, 0 * left + 1], -1))
    kept = suppress(boxes, jnp.linspace(1.0, 0.5, 60), jnp.zeros(60, jnp.int32), 0.3, 60)
    assert rows(kept) == list(range(0, 60, 2))


def test_boxes_are_kept_at_the_threshold_and_dropped_above_it():
    boxes = jnp.array([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 2.0]])  # IoU 1/2
    scores, classes = jnp.array([0.9, 0.8]), jnp.zeros(2, jnp.int32)
    assert rows(suppress(boxes, scores, classes, 0.5)) == [0, 1]
    assert rows(suppress(boxes, scores, classes, 0.49)) == [0]


def test_boxes_suppress_only_their_own_class_even_at_coordinates_of_a_million_px():
    boxes = jnp.array([[1e6, 1e6, 1e6 + 4, 1e6 + 4]] * 3)
    scores, classes = jnp.array([0.5, 0.9, 0.7]), jnp.array([7, 7, 2000])
    assert rows(suppress(boxes, scores, classes)) == [1, 2]
    assert rows(suppress(boxes, scores, classes, class_agnostic=True)) == [1]


def test_padding_is_never_kept_and_suppresses_nothing():
    boxes = jnp.array([[0.0, 0.0, 4.0, 4.0]] * 4)
    kept = suppress(boxes, jnp.array([jnp.nan, -jnp.inf, 0.0, 0.2]), jnp.zeros(4, jnp.int32))
    assert rows(kept) == [3]
    assert np.asarray(kept.index)[1:].tolist() == [0] * (N - 1)


def test_only_padding_gives_no_box():
    assert rows(suppress(jnp.zeros((3, 4)), jnp.zeros(3), jnp.zeros(3, jnp.int32))) == []


def test_the_best_are_kept_when_there_are_too_many():
    boxes = jnp.array([[10.0 * i, 0.0, 10.0 * i + 5, 5.0] for i in range(6)])
    kept = suppress(boxes, jnp.array([0.1, 0.6, 0.3, 0.5, 0.2, 0.4]), jnp.zeros(6, jnp.int32), max_outputs=3)
    assert rows(kept) == [1, 3, 5]


def test_a_batch_under_vmap_gives_each_image_its_own_result():
    images = [crowd(seed, 50) for seed in range(3)]
    batch = [jnp.array(np.stack(part)) for part in zip(*images, strict=True)]
    kept = jax.jit(jax.vmap(functools.partial(non_maximum_suppression, iou_threshold=0.2, max_outputs=50)))(*batch)
    for image, index, valid in zip(images, kept.index, kept.valid, strict=True):
        boxes, scores, classes = (part.tolist() for part in image)
        assert rows(Kept(index, valid)) == greedy_suppression(boxes, scores, classes, 0.2)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_boxes_and_scores_are_accepted(dtype):
    boxes = jnp.array([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 8.0, 7.0], [100.0, 0.0, 108.0, 8.0]], dtype)
    assert rows(suppress(boxes, jnp.array([0.5, 0.75, 0.25], dtype), jnp.zeros(3, jnp.int32))) == [1, 2]


@pytest.mark.parametrize(("threshold", "outputs", "message"), [(1.5, 3, "iou_threshold"), (0.5, 0, "max_outputs")])
def test_settings_out_of_range_are_refused(threshold, outputs, message):
    with pytest.raises(ValueError, match=f"{message}: expected"):
        non_maximum_suppression(
            jnp.zeros((3, 4)), jnp.zeros(3), jnp.zeros(3, jnp.int32), iou_threshold=threshold, max_outputs=outputs
        )
