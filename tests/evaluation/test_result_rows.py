"""Boxes of a letterboxed batch become rows on the stored images."""

import types

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from ugs_jax.evaluation import CocoScorer, ImageDetections, coco_rows, rows_from_detections, split_batch, to_original


def batch_of(letterbox, original_size, valid=None, image_id=None):
    count = len(letterbox)
    return types.SimpleNamespace(
        image_id=np.arange(count, dtype=np.int32) if image_id is None else np.asarray(image_id, np.int32),
        original_size=np.asarray(original_size, np.int32),
        letterbox=np.asarray(letterbox, np.float32),
        valid=np.ones(count, bool) if valid is None else np.asarray(valid),
    )


def detections_of(boxes, scores, classes, valid):
    return types.SimpleNamespace(
        boxes=np.asarray(boxes, np.float32),
        scores=np.asarray(scores, np.float32),
        classes=np.asarray(classes, np.int32),
        valid=np.asarray(valid, bool),
    )


@hypothesis.given(
    scale=st.floats(0.1, 4),
    pads=st.tuples(st.floats(0, 300), st.floats(0, 300)),
    seed=st.integers(0, 2**31),
)
@hypothesis.settings(deadline=None, max_examples=50)
def test_letterboxing_and_back_gives_the_box_again(scale, pads, seed):
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform(0, [1000, 700], (5, 2, 2)), axis=1)
    original = corners.reshape(5, 4).astype(np.float32)
    boxes = (original * scale + np.tile(pads, 2)).astype(np.float32)
    back = to_original(boxes, np.array([scale, *pads], np.float32), np.array([700, 1000], np.int32))
    # float32 holds coordinates up to 4300 px to 2.5e-4; dividing by the scale enlarges that at most tenfold.
    np.testing.assert_allclose(back, original, atol=5e-3)


def test_boxes_are_clipped_to_the_stored_image():
    boxes = np.array([[[-50.0, -50.0, 900.0, 900.0]]], np.float32)
    back = to_original(boxes, np.array([[2.0, 10.0, 20.0]], np.float32), np.array([[300, 400]], np.int32))
    np.testing.assert_array_equal(back, [[[0, 0, 400, 300]]])


def test_a_padding_row_without_scale_stays_finite():
    boxes = np.full((1, 2, 4), 7.0, np.float32)
    assert np.isfinite(to_original(boxes, np.zeros((1, 3), np.float32), np.zeros((1, 2), np.int32))).all()


def test_rows_carry_width_and_height_and_categories_from_one():
    batch = batch_of([[0.5, 10, 0]], [[600, 800]], image_id=[17])
    found = detections_of([[[60, 50, 110, 75]]], [[0.75]], [[2]], [[True]])
    rows = rows_from_detections(found, batch)
    assert rows == [{"image_id": 17, "category_id": 3, "bbox": [100.0, 100.0, 100.0, 50.0], "score": 0.75}]


def test_deviations_are_divided_by_the_scale_of_the_letterbox():
    batch = batch_of([[0.5, 10, 0]], [[600, 800]], image_id=[17])
    found = detections_of([[[60, 50, 110, 75], [0, 0, 0, 0]]], [[0.75, 0]], [[2, 0]], [[True, False]])
    assert split_batch(found, batch)[0][1].deviation is None
    found.deviation = np.array([[[1, 2, 3, 4], [9, 9, 9, 9]]], np.float32)
    [(image_id, image)] = split_batch(found, batch)
    assert image_id == 17
    assert image.deviation.tolist() == [[2, 4, 6, 8]]


def test_padding_rows_and_invalid_detections_are_left_out():
    batch = batch_of([[1, 0, 0], [0, 0, 0]], [[50, 50], [0, 0]], valid=[True, False])
    boxes = np.tile(np.array([1, 1, 5, 5], np.float32), (2, 3, 1))
    found = detections_of(boxes, np.full((2, 3), 0.5), np.zeros((2, 3)), [[True, False, True], [True, True, True]])
    assert [row["image_id"] for row in rows_from_detections(found, batch)] == [0, 0]
    assert [(image_id, len(image.boxes)) for image_id, image in split_batch(found, batch)] == [(0, 2)]


def test_jax_arrays_are_accepted():
    jnp = pytest.importorskip("jax.numpy")
    batch = batch_of([[1, 0, 0]], [[50, 50]])
    found = detections_of([[[1, 1, 5, 5]]], [[0.5]], [[0]], [[True]])
    on_device = types.SimpleNamespace(**{key: jnp.asarray(value) for key, value in vars(found).items()})
    on_device_batch = types.SimpleNamespace(**{key: jnp.asarray(value) for key, value in vars(batch).items()})
    assert rows_from_detections(on_device, on_device_batch) == rows_from_detections(found, batch)


def test_boxes_outside_the_image_give_no_row():
    batch = batch_of([[1, 0, 100]], [[50, 50]])
    found = detections_of([[[10, 10, 20, 20], [10, 110, 20, 120]]], [[0.9, 0.8]], [[0, 0]], [[True, True]])
    assert [row["bbox"] for row in rows_from_detections(found, batch)] == [[10.0, 10.0, 10.0, 10.0]]


@pytest.mark.parametrize("spoilt", ["boxes", "scores"])
def test_values_that_are_not_finite_are_refused(spoilt):
    image = ImageDetections(np.ones((2, 4), np.float32), np.ones(2, np.float32), np.zeros(2, np.int32))
    getattr(image, spoilt)[1] = np.nan
    with pytest.raises(ValueError, match=r"image 4: expected finite boxes and scores, got .* at detection 1"):
        coco_rows(4, image)


def test_a_perfect_detector_on_letterboxed_batches_scores_one():
    truth = np.array([[12, 8, 30, 20], [100, 90, 130, 140]], np.float32)

    class OneImage:
        classes = ("car",)

        def __len__(self):
            return 1

        def annotations(self, index):
            return types.SimpleNamespace(
                boxes=truth, classes=np.zeros(2, np.int32), ignore=np.zeros((0, 4), np.float32), height=150, width=200
            )

    scorer = CocoScorer(OneImage())
    boxes = truth * 1.6 + np.array([0, 40, 0, 40], np.float32)
    scorer.add_batch(
        detections_of(boxes[None], [[0.9, 0.8]], [[0, 0]], [[True, True]]), batch_of([[1.6, 0, 40]], [[150, 200]])
    )
    assert scorer.score()["ap"] == pytest.approx(1.0)
