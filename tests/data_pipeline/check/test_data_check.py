"""Statistics and advice of a data check, against numbers that are counted by hand."""

import cv2
import numpy as np
import pytest

from data_pipeline import Example, dataset_from_examples
from data_pipeline.check import check_splits
from data_pipeline.check.boxes import REPEATED_BOX, TWO_CLASSES, neighbours_of, pairwise_iou
from data_pipeline.check.sizes import size_advice, sizes_of
from data_pipeline.cleaning import UNREADABLE
from tests.reference.boxes_by_hand import iou


def data_set(*images, height=100, width=100, classes=("car", "person"), split="train", ignore=()):
    """Images with rows (x0, y0, x1, y1, class). Their pixels differ."""
    examples = []
    for index, rows in enumerate(images):
        table = np.array(rows, np.float64).reshape(-1, 5)
        pixels = np.random.default_rng((index, len(split))).integers(0, 256, (height, width, 3), np.uint8)
        data = cv2.imencode(".png", pixels)[1].tobytes()
        regions = np.array(ignore, np.float32).reshape(-1, 4) if index == 0 else np.zeros((0, 4), np.float32)
        boxes, labels = table[:, :4].astype(np.float32), table[:, 4].astype(np.int32)
        examples.append(Example(data, boxes, labels, regions, index, f"{split}{index}.png", height, width))
    return dataset_from_examples(examples, classes, split=split)


def square(side, label=0, left=0.0, top=0.0):
    return (left, top, left + side, top + side, label)


def test_iou_agrees_with_the_one_by_hand():
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 20, (12, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, 15, (12, 2))], axis=1)
    wanted = [[0.0 if i == j else iou(a, b) for j, b in enumerate(boxes)] for i, a in enumerate(boxes)]
    np.testing.assert_allclose(pairwise_iou(boxes), wanted, atol=1e-12)


def test_boxes_that_occur_twice_and_boxes_of_two_classes_are_faults():
    dataset = data_set([square(30), square(40, 0, 50, 50), square(30.2), square(40, 1, 50, 50), square(20)])
    _, faults = neighbours_of(dataset)
    assert [(fault.image, fault.place, fault.reason) for fault in faults] == [
        ("train0.png", "car [0, 0, 30.2, 30.2] and car [0, 0, 30, 30]", REPEATED_BOX),
        ("train0.png", "person [50, 50, 90, 90] and car [50, 50, 90, 90]", TWO_CLASSES),
    ]


def test_neighbours_are_counted():
    # The first two overlap by 81/119 of their union; the third is 9 px from the second and 10.05 px from the first.
    rows = [square(10, 0, 50, 50), square(10, 0, 51, 51), square(2, 1, 64, 55), (0, 20, 8, 24, 1)]
    found, faults = neighbours_of(data_set(rows, []))
    assert faults == []
    assert found.suppressed == pytest.approx(2 / 4)
    assert found.close == pytest.approx((1 + 2 + 0 + 0) / 4)
    assert found.cut == pytest.approx(1 / 4)
    assert found.aspect_quantiles[1] == 1.0
    assert found.overlap_quantiles[2] == pytest.approx(81 / 119, abs=0.001)


def test_sizes_are_those_in_the_letterboxed_image():
    dataset = data_set(
        [square(3), square(4, 0, 50), square(20, 1), (0, 0, 128, 32, 1)], [square(150)], height=100, width=200
    )
    found = sizes_of(dataset, (640, 400))  # scale 2, from the width
    # √area 6, 8, 40, 128 and 300 px
    assert list(found.bins.values()) == [0, 1, 1, 0, 1, 2]
    assert list(found.by_class["person"].values()) == [0, 0, 0, 0, 1, 1]
    assert found.images_by_class == {"car": 2, "person": 1}
    assert found.quantiles[3] == 40.0


def test_advice_on_small_objects_has_figures_that_are_right():
    # At 640 the scale is 1/2: 38 objects have 6 px, 20 have 12 and 42 have 20. 12 px become 8 px at 640 · 8/6 = 853.
    rows = [square(12)] * 38 + [square(24)] * 20 + [square(40)] * 42
    dataset = data_set(rows, height=1280, width=1280)
    (advice,) = size_advice(dataset, (640, 640), finest_stride=8)
    assert advice == (
        "38 % of your objects are under 8 px at 640: use 960 (0 % under 8 px, 2.25 times the work), tiles of 960 px "
        "(0 % under 8 px, about 4 tiles an image), or P2 (smaller than two cells: 38 % at its stride 4, 58 % at stride "
        "8)."
    )
    assert "P2, which is on (" in size_advice(dataset, (640, 640), finest_stride=4)[0]
    assert size_advice(dataset, (960, 960), finest_stride=8) == []


def test_objects_that_are_tiny_in_the_stored_image_are_said_to_be():
    (advice,) = size_advice(data_set([square(5)] * 3 + [square(30)], height=640, width=640), (640, 640), 8)
    # 1280 is twice the stored size, and tiles of 320 px are enlarged as much: 5 px become 10.
    assert "use 1280 (0 % under 8 px, 4 times the work), tiles of 384 px (0 % under 8 px" in advice
    assert advice.endswith("75 % are under 8 px in the stored images themselves.")


def test_the_stored_resolution_is_advised_if_it_leaves_half_as_many_small_objects():
    # 20 % have 6 px in the stored image, which 1600 would help; 60 % have 9 px, which 1280 helps.
    rows = [square(6)] * 20 + [square(9)] * 60 + [square(50)] * 20
    (advice,) = size_advice(data_set(rows, height=720, width=1280), (640, 640), finest_stride=8)
    assert advice.startswith("80 % of your objects are under 8 px at 640: use 1280 (20 % under 8 px, 4 times the work)")
    assert "tiles of 704 px (20 % under 8 px, about 4 tiles an image)" in advice  # 9 · 640 / 704 = 8.2
    assert advice.endswith("20 % are under 8 px in the stored images themselves.")


def test_a_clean_data_set_is_clean_and_counted():
    train = data_set([square(50), square(20, 1, 70)], [square(60, 1)], ignore=[[1, 2, 3, 4]])
    val = data_set([], [square(50), square(30, 1, 60)], split="val")
    check = check_splits([train, val])
    assert check.clean
    assert [(each.images, each.objects, each.ignore_regions) for each in check.splits] == [(2, 3, 1), (2, 2, 0)]
    assert [each.unlabelled for each in check.splits] == [(), ("val0.png",)]
    assert check.splits[0].crowding == (1.0, 1.05, 1.25, 1.5, 1.75, 1.95, 2.0)
    assert check.advice == ()


def test_advice_on_room_and_classes():
    train = data_set([square(20, 0, 25 * i) for i in range(4)] + [square(20, 0, 25 * i, 50) for i in range(4)], [])
    val = data_set([square(20, 1)], split="val")
    advice = check_splits([train, val], max_boxes=7, max_detections=8).advice
    assert advice == (
        "train: 1 image has more objects than loader.max_boxes = 7; the most is 8. Raise it.",
        "train has no objects of person, which therefore cannot be learned.",
        "val has no objects of car, which therefore get no score.",
    )


def test_rare_classes_are_advice_and_not_a_fault():
    many = [square(4, 0, 6 * (i % 16), 6 * (i // 16)) for i in range(84)]
    check = check_splits([data_set([*many, square(4, 1, 0, 80), square(4, 1, 20, 80)])], image_size=(200, 200))
    assert check.clean
    assert "car has 42 times as many objects as person (84 and 2)" in check.advice[-1]


def test_an_image_that_cannot_be_read_is_a_fault():
    good = data_set([square(50)], [square(40)])
    broken = type(good)(**{**vars(good), "images": [good.images[0], good.images[1][:300]]})
    check = check_splits([broken])
    (fault,) = check.splits[0].faults
    assert (fault.image, fault.reason) == ("train1.png", UNREADABLE)
    assert "expected a whole image" in fault.place


def test_no_splits_are_refused():
    with pytest.raises(ValueError, match="expected at least one split, got none; pass the training images"):
        check_splits([])


def test_a_class_that_reads_like_a_region_to_ignore_is_advised_to_be_ignored():
    check = check_splits([data_set([square(20), square(20, 1)], classes=("car", "ignore"))])
    assert check.advice[0].startswith("'ignore' counts as a class.")
