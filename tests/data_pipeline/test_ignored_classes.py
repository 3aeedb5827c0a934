"""Boxes of classes that are no objects become ignore regions, in the data set and in its sources."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import DataError, Example, dataset_from_examples, with_ignored_classes
from data_pipeline.ignored_classes import IGNORED, ignored_classes_note, no_objects
from tests.data_pipeline.coco_folder import CONTENT, annotation, write, write_image
from tests.data_pipeline.yolo_files import yolo_folder
from ugs_jax.experiment import Experiment, from_json, to_json

CLASSES = ("car", "ignored regions", "person", "others")

_image = st.tuples(st.lists(st.integers(0, 3), max_size=5), st.integers(0, 2))  # labels of boxes, number of regions


def data_set(images):
    """Every box and region has its own number as its left side."""
    examples, number = [], 0
    for index, (labels, regions) in enumerate(images):
        sides = np.arange(number, number + len(labels) + regions, dtype=np.float32)
        number += len(sides)
        rows = np.stack([sides, sides * 0, sides + 5, sides * 0 + 5], axis=1)
        boxes, region = np.split(rows, [len(labels)])
        examples.append(Example(b"", boxes, np.array(labels, np.int32), region, index, f"{index}.png", 99, 99))
    return dataset_from_examples(examples, CLASSES)


@given(st.lists(_image, max_size=5), st.lists(st.sampled_from(CLASSES), max_size=3, unique=True))
def test_every_box_is_an_object_of_its_class_or_a_region_of_its_image(images, names):
    before = data_set(images)
    after = with_ignored_classes(before, names)
    assert after.classes == tuple(name for name in CLASSES if name not in names)
    assert [CLASSES[number] for number in after.category_ids] == list(after.classes)
    ignored = 0
    for index in range(len(images)):
        old, new = before.annotations(index), after.annotations(index)
        boxes = [(CLASSES[label], box.tolist()) for label, box in zip(old.classes, old.boxes, strict=True)]
        found = [(after.classes[label], box.tolist()) for label, box in zip(new.classes, new.boxes, strict=True)]
        assert found == [(name, box) for name, box in boxes if name not in names]
        regions = [box for name, box in boxes if name in names]
        assert new.ignore.tolist() == [*old.ignore.tolist(), *regions]
        ignored += len(regions)
    assert after.summary.get(IGNORED, 0) == ignored


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["van"], "expected classes of examples/train, which are car, ignored regions, person, others, got 'van'"),
        (CLASSES, "expected that a class of examples/train is left, got all of them"),
    ],
)
def test_unknown_classes_and_all_classes_are_refused(names, message):
    with pytest.raises(DataError, match=rf"ignore_classes: {message}.*\. Fix: "):
        with_ignored_classes(data_set([]), names)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("Ignored Regions", "ignore", "ignore-region", "DontCare", "dont_care", "don't care"), 6),
        (("others", "background", "unignored car", "ignorance", "region"), 0),
    ],
)
def test_names_of_no_objects_are_told_from_classes(names, found):
    assert len(no_objects(names)) == found


def test_the_advice_names_the_classes_and_the_option():
    assert ignored_classes_note(CLASSES) == (
        "'ignored regions' counts as a class. If the boxes are regions to ignore, add "
        '--data.ignore-classes "ignored regions".'
    )
    assert ignored_classes_note(("car", "DontCare", "ignore"), "--x").endswith('add --x "DontCare" "ignore".')
    assert not ignored_classes_note(("car", "others"))
    assert not ignored_classes_note(("ignore",))


def coco(folder):
    for name in ("b.png", "sub/a.jpg", "empty.png"):
        write_image(folder / "images" / name)
    categories = [*CONTENT["categories"], {"id": 12, "name": "ignored"}]
    more = annotation(category_id=12, bbox=[20, 4, 6, 8])
    return write(folder, CONTENT | {"categories": categories, "annotations": [*CONTENT["annotations"], more]})


def yolo(folder):
    yaml = "train: images/train\nval: images/val\nnames: [cat, ignored, dog]\n"
    return yolo_folder(folder, labels=(("a", "0 .5 .5 .25 .5\n1 .25 .25 .5 .5\n2 .5 .5 .125 .25\n"),), yaml=yaml)


@pytest.mark.parametrize("make", [coco, yolo])
def test_a_source_without_the_class_learns_the_others(make, tmp_path, capsys):
    source = make(tmp_path)
    plain = source.open("train", tmp_path / "cache")
    assert plain.classes == source.classes == ("cat", "ignored", "dog")
    assert "'ignored' counts as a class" in capsys.readouterr().out
    source = replace(source, ignore_classes=("ignored",))
    data = source.open("train", tmp_path / "cache")
    assert data.classes == source.classes == ("cat", "dog")
    assert data.category_ids == (plain.category_ids[0], plain.category_ids[2])
    number = int(np.flatnonzero(np.diff(data.table.ignore_start) > np.diff(plain.table.ignore_start))[0])
    ignored = plain.annotations(number)
    np.testing.assert_array_equal(data.annotations(number).ignore, ignored.boxes[ignored.classes == 1])
    assert "counts as a class" not in capsys.readouterr().out
    experiment = Experiment("mine", source)
    assert from_json(to_json(experiment)).data == source


@pytest.mark.parametrize("make", [coco, yolo])
def test_a_class_that_a_source_lacks_is_named(make, tmp_path):
    source = replace(make(tmp_path), ignore_classes=("dontcare",))
    for read in (lambda: source.classes, lambda: source.open("val", tmp_path / "cache")):
        with pytest.raises(DataError, match=r"which are cat, ignored, dog, got 'dontcare'\. Fix: correct the name"):
            read()
