"""Images that occur twice, against copies that are made here: re-encoded, resized, brighter, and different ones."""

import cv2
import numpy as np
import pytest

from data_pipeline import Example, TinyScenes, dataset_from_examples
from data_pipeline.check.duplicates import MOST_BITS, SAME_PIXELS, Leak, leaks_between, near_pairs, repeated_images
from data_pipeline.check.pixels import fingerprints_of, gradient_bits

SCENES = TinyScenes("full", image_size=(320, 320), seed=3)
PICTURES = [cv2.imdecode(np.frombuffer(SCENES.example("train", i).image, np.uint8), 1) for i in range(6)]


def encode(picture, suffix=".png", *options):
    return cv2.imencode(suffix, picture, list(options))[1].tobytes()


def data_set(*files, split="train", boxes=()):
    """Images of given bytes, named 0, 1, …, each with its boxes of class 0."""
    examples = []
    for index, data in enumerate(files):
        shape = cv2.imdecode(np.frombuffer(data, np.uint8), 1).shape if data[:1] != b"?" else (8, 8)
        own = np.array(boxes[index] if boxes else [], np.float32).reshape(-1, 4)
        labels, regions = np.zeros(len(own), np.int32), np.zeros((0, 4), np.float32)
        examples.append(Example(data, own, labels, regions, index, f"{index}.x", shape[0], shape[1]))
    return dataset_from_examples(examples, ["car"], split=split)


def leaks(first, second):
    prints = [fingerprints_of(each) for each in (first, second)]
    return leaks_between([first, second], prints)


def test_equal_pixels_are_found_under_other_names_and_formats():
    first = encode(PICTURES[0])
    dataset = data_set(first, encode(PICTURES[1]), first, encode(PICTURES[0], ".bmp"), boxes=[[1, 1, 9, 9], [], [], []])
    faults = repeated_images(dataset, fingerprints_of(dataset))
    assert [(fault.image, fault.reason) for fault in faults] == [("2.x", SAME_PIXELS), ("3.x", SAME_PIXELS)]
    assert faults[0].place == "same as 0.x (id 0), different annotations"


def test_copies_with_equal_annotations_are_said_to_be_so_in_any_order():
    boxes = [[[1, 1, 9, 9], [2, 2, 5, 5]], [[2, 2, 5, 5], [1, 1, 9, 9]]]
    dataset = data_set(*[encode(PICTURES[0])] * 2, boxes=boxes)
    (fault,) = repeated_images(dataset, fingerprints_of(dataset))
    assert fault.place.endswith("equal annotations")


def test_an_image_in_two_splits_is_a_leak():
    train, val = data_set(*map(encode, PICTURES[:3])), data_set(encode(PICTURES[5]), encode(PICTURES[2]), split="val")
    assert leaks(train, val) == [Leak("val", "1.x", "train", "2.x", 1.0, same_pixels=True)]


@pytest.mark.parametrize(
    "changed",
    [
        lambda picture: encode(picture, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 30),
        lambda picture: encode(cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)),
        lambda picture: encode(cv2.resize(picture, (416, 352))),
        lambda picture: encode(cv2.convertScaleAbs(picture, alpha=1.0, beta=15)),
        lambda picture: encode(cv2.convertScaleAbs(picture, alpha=0.8, beta=0)),
    ],
    ids=["JPEG 30", "half", "stretched", "brighter", "less contrast"],
)
def test_changed_copies_are_found_and_other_images_are_not(changed):
    train = data_set(*map(encode, PICTURES[:3]))
    found = leaks(train, data_set(*map(changed, PICTURES[1:]), split="val"))
    assert [(leak.image, leak.other_image, leak.same_pixels) for leak in found] == [
        ("0.x", "1.x", False),
        ("1.x", "2.x", False),
    ]
    assert min(leak.correlation for leak in found) > 0.99


def test_images_without_contrast_are_compared_by_their_pixels_only():
    flat = [np.full((40, 50, 3), level, np.uint8) for level in (90, 90, 91)]
    found = leaks(data_set(encode(flat[0])), data_set(encode(flat[1]), encode(flat[2]), split="val"))
    assert [(leak.image, leak.same_pixels) for leak in found] == [("0.x", True)]


def test_pairs_over_many_blocks_are_those_of_two_loops(monkeypatch):
    monkeypatch.setattr("data_pipeline.check.duplicates._BLOCK", 7)
    prints = [fingerprints_of(data_set(*map(encode, pictures))) for pictures in (PICTURES[:4], PICTURES[2:])]
    seen, new = prints
    found = near_pairs(seen, new)
    for i in range(len(new.digest)):
        apart = [bin(int(new.gradients[i]) ^ int(bits)).count("1") for bits in seen.gradients]
        alike = [np.corrcoef(new.thumbnail[i].ravel(), other.ravel())[0, 1] for other in seen.thumbnail]
        near = [k for k in range(4) if apart[k] <= MOST_BITS and alike[k] >= 0.95]
        assert ([found[i][0]] if i in found else []) == near
    assert sorted(found) == [0, 1]


def test_gradient_bits_are_the_signs_of_differences_of_cell_means():
    grey = np.random.default_rng(0).integers(0, 256, (80, 90), np.uint8)
    means = grey.reshape(8, 10, 9, 10).mean(axis=(1, 3))
    wanted = (np.diff(np.rint(means), axis=1) > 0).ravel()
    assert [int(bit) for byte in int(gradient_bits(grey)).to_bytes(8, "little") for bit in f"{byte:08b}"] == [*wanted]


def test_images_that_cannot_be_read_have_no_fingerprint_and_an_error():
    dataset = data_set(b"?", encode(PICTURES[0]), b"?")
    prints = fingerprints_of(dataset)
    assert list(prints.errors) == [0, 2]
    assert "0.x: expected a JPEG, PNG" in prints.errors[0]
    assert repeated_images(dataset, prints) == []
    assert leaks(dataset, data_set(b"?", split="val")) == []
