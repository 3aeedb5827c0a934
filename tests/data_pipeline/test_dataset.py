"""The random-access data set and its cache."""

import concurrent.futures
import dataclasses
import os
import pickle
import subprocess
import sys
from collections import Counter

import cv2
import numpy as np
import pytest

from data_pipeline import Dataset, Example, dataset_from_examples
from data_pipeline.cache import SplitRecipe, default_cache_dir, file_stamps, fingerprint, open_split
from data_pipeline.cleaning import (
    CLIPPED,
    NOT_FINITE,
    OUTSIDE,
    REPEATED_REGIONS,
    ZERO_SIDED,
    clean_boxes,
    clean_regions,
)


def example(index, boxes=2, regions=1):
    rng = np.random.default_rng(index)
    corner = rng.uniform(0, 10, (boxes + regions, 2))
    corners = np.concatenate([corner, corner + rng.uniform(1, 9, (boxes + regions, 2))], 1).astype(np.float32)
    data = cv2.imencode(".png", rng.integers(0, 256, (20, 30, 3), np.uint8))[1].tobytes()
    labels = rng.integers(0, 2, boxes).astype(np.int32)
    return Example(data, corners[:boxes], labels, corners[boxes:], index, f"é{index}.png", 20, 30)


EXAMPLES = [example(0), example(1, boxes=0, regions=0), example(2, boxes=5, regions=0), example(3, boxes=0, regions=3)]


def recipe(examples=EXAMPLES, key="a"):
    def generate(summary: Counter[str]):
        summary["rows that were wrong (dropped)"] += 3
        for item in examples:
            yield f"id{item.image_id}", item

    return SplitRecipe("things", "train", ("cat", "dog"), (3, 7), fingerprint(key), generate)


def assert_same(actual, expected):
    for name, ours, theirs in zip(Example._fields, actual, expected, strict=True):
        if isinstance(theirs, np.ndarray):
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
            assert ours.dtype == theirs.dtype
            assert ours.shape == theirs.shape
        else:
            assert ours == theirs, name


@pytest.fixture(params=["cached", "in memory"])
def dataset(request, tmp_path):
    if request.param == "cached":
        return open_split(recipe(), tmp_path)
    return dataset_from_examples(EXAMPLES, ("cat", "dog"), name="things")


def test_examples_come_back_exactly_and_in_order(dataset):
    assert len(dataset) == len(EXAMPLES)
    for index, expected in enumerate(EXAMPLES):
        assert_same(dataset[index], expected)


def test_annotations_leave_out_the_image_and_nothing_else(dataset):
    for index, expected in enumerate(EXAMPLES):
        assert_same(dataset.annotations(index), expected._replace(image=b""))


def test_changing_returned_arrays_leaves_the_data_set_alone(dataset):
    dataset[0].boxes[:] = -1
    assert_same(dataset[0], EXAMPLES[0])


@pytest.mark.parametrize("index", [-1, 4, 100])
def test_an_index_outside_the_data_set_is_an_error(dataset, index):
    with pytest.raises(IndexError, match=rf"image index {index}: expected 0 <= index < 4 in things/train"):
        dataset[index]


def test_numpy_indices_and_iteration_work(dataset):
    assert_same(dataset[np.int64(2)], EXAMPLES[2])
    assert [item.image_id for item in dataset] == [0, 1, 2, 3]


def test_a_data_set_survives_pickling_before_and_after_reading(dataset):
    fresh = pickle.loads(pickle.dumps(dataset))
    assert_same(dataset[3], EXAMPLES[3])
    used = pickle.loads(pickle.dumps(dataset))
    assert_same(fresh[2], EXAMPLES[2])
    assert_same(used[2], EXAMPLES[2])


def test_a_data_set_keeps_the_references_to_its_source(tmp_path):
    dataset = open_split(recipe(), tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert dataset.category_ids == (3, 7)
    assert dataset.source_ids == ("id0", "id1", "id2", "id3")
    assert dataset.file_names[1] == "é1.png"
    assert (dataset.name, dataset.split) == ("things", "train")


def test_the_summary_is_printed_once_and_kept(tmp_path, capsys):
    first = open_split(recipe(), tmp_path)
    assert "things/train:   3 rows that were wrong (dropped)" in capsys.readouterr().out.splitlines()
    again = open_split(recipe(), tmp_path)
    assert capsys.readouterr().out == ""
    assert first.summary == again.summary == {"rows that were wrong (dropped)": 3}


def test_the_records_are_a_tfds_data_set_of_array_record_files(tmp_path):
    import tensorflow_datasets as tfds

    folder = open_split(recipe(), tmp_path).images.folder
    assert list(folder.glob("*.array_record-*"))
    source = tfds.builder_from_directory(str(folder)).as_data_source("train")
    np.testing.assert_array_equal(source[2]["boxes"], EXAMPLES[2].boxes)
    decoded = cv2.imdecode(np.frombuffer(EXAMPLES[2].image, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(source[2]["image"], decoded[..., ::-1])


def test_the_reader_of_records_is_imported_when_a_data_set_is_opened(tmp_path, monkeypatch):
    open_split(recipe(), tmp_path)
    monkeypatch.delitem(sys.modules, "data_pipeline.builder")
    open_split(recipe(), tmp_path)
    assert "data_pipeline.builder" in sys.modules


def test_a_changed_fingerprint_builds_a_second_data_set(tmp_path):
    old = open_split(recipe(), tmp_path)
    new = open_split(recipe(EXAMPLES[:1], key="b"), tmp_path)
    assert (len(old), len(new)) == (4, 1)
    assert_same(old[3], EXAMPLES[3])


def test_a_build_that_fails_leaves_nothing_to_be_read(tmp_path):
    def failing(summary):
        yield "id0", EXAMPLES[0]
        raise RuntimeError("the disk is on fire")

    with pytest.raises(RuntimeError, match="on fire"):
        open_split(dataclasses.replace(recipe(), examples=failing), tmp_path)
    assert list((tmp_path / "things").iterdir()) == []
    assert len(open_split(recipe(), tmp_path)) == 4


def test_a_split_that_another_process_published_first_is_used(tmp_path):
    def overtaken(summary):
        open_split(recipe(), tmp_path)
        yield from recipe().examples(summary)

    dataset = open_split(dataclasses.replace(recipe(), examples=overtaken), tmp_path)
    assert_same(dataset[0], EXAMPLES[0])
    assert len(list((tmp_path / "things").iterdir())) == 1


def test_the_cache_folder_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("UGS_CACHE", str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.delenv("UGS_CACHE")
    assert default_cache_dir().parts[-2:] == ("ugs_jax", "datasets")


def test_file_stamps_change_with_content_and_note_missing_files(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    before = file_stamps(tmp_path, ["a", "b"])
    (tmp_path / "a").write_bytes(b"2")
    os.utime(tmp_path / "a", ns=(0, 12345))
    after = file_stamps(tmp_path, ["a", "b"])
    assert before != after
    assert after == [("a", 1, 12345), ("b", -1, -1)]


def test_importing_the_package_imports_neither_jax_nor_tfds_nor_grain():
    code = "import sys, data_pipeline; print([m for m in ('jax', 'tensorflow_datasets', 'grain') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_boxes_are_dropped_or_clipped_and_counted_by_reason():
    nan, inf = float("nan"), float("inf")
    boxes = np.array(
        [
            [1, 2, 5, 6],
            [nan, 2, 5, 6],
            [1, 2, inf, 6],
            [3, 3, 3, 9],
            [5, 5, 4, 9],
            [30, 2, 35, 6],  # begins where the image ends
            [-9, -9, -1, -1],
            [-2, -2, 4, 4],
            [25, 15, 40, 40],
            [0, 0, 30, 20],
        ]
    )
    summary: Counter[str] = Counter()
    cleaned, kept = clean_boxes(boxes, 20, 30, summary)
    np.testing.assert_array_equal(cleaned, [[1, 2, 5, 6], [0, 0, 4, 4], [25, 15, 30, 20], [0, 0, 30, 20]])
    assert kept.tolist() == [0, 7, 8, 9]
    assert cleaned.dtype == np.float32
    assert summary == {NOT_FINITE: 2, ZERO_SIDED: 2, OUTSIDE: 2, CLIPPED: 2}


def test_a_box_thinner_than_float32_can_tell_is_dropped():
    cleaned, _ = clean_boxes(np.array([[1000.0, 1.0, 1000.000001, 5.0]]), 2000, 2000, Counter())
    assert len(cleaned) == 0


def test_repeated_ignore_regions_are_merged_and_counted():
    summary: Counter[str] = Counter()
    regions = clean_regions(np.array([[1.0, 1, 5, 5], [1, 1, 5, 5], [0, 0, 2, 2]]), 20, 30, summary)
    assert len(regions) == 2
    assert summary == {REPEATED_REGIONS: 1}


def test_a_data_set_of_no_examples_is_empty():
    dataset = dataset_from_examples([], ("cat",))
    assert isinstance(dataset, Dataset)
    assert len(dataset) == 0


def test_threads_may_read_a_freshly_opened_data_set_at_once(tmp_path):
    dataset = open_split(recipe(), tmp_path)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda turn: dataset[turn % 4].image, range(200)))
    assert read == [EXAMPLES[turn % 4].image for turn in range(200)]
