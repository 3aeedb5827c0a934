"""Whatever a file holds, its reader gives a value or a DataError that names the file: no other exception."""

import copy
import json
import math
from collections import Counter

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from data_pipeline import DataError
from data_pipeline.decoding.whole_images import decode_whole_image
from data_pipeline.sources.coco_parse import read_coco
from data_pipeline.sources.find_files import find_files
from data_pipeline.sources.outlines import outline_box
from data_pipeline.sources.visdrone import COLUMNS, read_columns
from tests.data_pipeline.coco_folder import CONTENT

SHORT = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(10**400), 2**63, 1e308, -1e308, float("inf"), float("-inf"), float("nan"), 0.0, -0.0]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["3", "3.0", "003", "a" * 5000, "\x00", "../..", "/", "C:\\", "\ud800", "%", "?d="]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
RUNS = {"size": [24, 32], "counts": [100, 5, 663]}


def says(error, *words):
    """The message has all of these."""
    assert all(word in str(error) for word in words), error


def paths(value, prefix=()):
    """Every place in a JSON value."""
    yield prefix
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths(inner, (*prefix, key))


def changed(content, path, value):
    """The content with another value at a place; the key is removed where the value is `...`."""
    if not path:
        return value
    content = copy.deepcopy(content)
    target = content
    for key in path[:-1]:
        target = target[key]
    if value is ...:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return content


FULL = copy.deepcopy(CONTENT)
FULL["annotations"][0] |= {
    "area": 56.0,
    "ignore": 0,
    "uncertain": False,
    "segmentation": [[1, 2, 3, 4, 5, 6]],
    "attributes": {"rotation": 0.0, "difficult": False},
}
FULL["annotations"].append({"id": 99, "image_id": 7, "category_id": 4, "segmentation": RUNS})
PLACES = list(paths(FULL))


@SHORT
@given(place=st.sampled_from(PLACES), value=VALUES | st.just(...))
def test_annotations(tmp_path, place, value):
    path = tmp_path / "train.json"
    try:
        path.write_text(json.dumps(changed(FULL, place, value) if place or value is not ... else None))
    except ValueError:  # more digits than Python writes
        return
    try:
        content = read_coco(path)
    except DataError as error:
        says(error, "train.json", "Fix: ")
    else:
        assert all(len(each.box) == 4 for image in content.images for each in image.objects)


@SHORT
@given(data=st.binary(max_size=200), cut=st.integers(0, 400))
@example(data=b"\xff\xfe", cut=0)
@example(data=b"[" * 150, cut=0)
@example(data=b'{"images": ' + b"9" * 6000 + b"}", cut=0)
@example(data=b"[" * 100_000, cut=0)
@example(data=b"version https://git-lfs.github.com/spec/v1\noid", cut=0)
def test_annotation_files_of_any_bytes(tmp_path, data, cut):
    for content in (data, json.dumps(FULL).encode()[:cut] + data):
        path = tmp_path / "train.json"
        path.write_bytes(content)
        try:
            read_coco(path)
        except DataError as error:
            says(error, "train.json")


@SHORT
@given(VALUES)
@example({"size": [24, 32], "counts": "zzz"})
@example({"size": [24, 32], "counts": "P" * 50})
@example({"size": [24, 32], "counts": "é"})
@example({"size": [24, 32], "counts": [-5, 773]})
@example({"size": [10**9, 10**9], "counts": "0"})
@example([[1, 2, 3]])
@example([[math.nan, 1, 2, 3]])
def test_outlines(segmentation):
    try:
        box = outline_box(segmentation)
    except ValueError as error:
        says(error, "expected")
    else:
        assert box is None or len(box) == 4


@SHORT
@given(st.lists(st.one_of(st.text(max_size=30), SCALARS.filter(lambda value: isinstance(value, str))), max_size=4))
def test_names_of_images(tmp_path, names):
    images = tmp_path / "images"
    images.mkdir(exist_ok=True)
    (images / "a.jpg").write_bytes(b"")
    (tmp_path / "secret.jpg").write_bytes(b"")
    found, _ = find_files(images, [*names, "../secret.jpg"], Counter())
    for name in found:
        assert isinstance(name, DataError) or ".." not in name.split("/")


CELLS = st.one_of(st.integers(-5, 2000).map(str), st.floats().map(str), st.text(max_size=5))


@SHORT
@given(st.lists(st.lists(CELLS, max_size=9).map(",".join), max_size=4), st.binary(max_size=20))
def test_visdrone_rows(tmp_path, lines, tail):
    path = tmp_path / "0000001_a.txt"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass") + tail)
    try:
        columns = read_columns(path)
    except DataError as error:
        says(error, "0000001_a.txt")
    else:
        assert columns.shape[1] == len(COLUMNS) - 2


def encoded(suffix):
    pixels = np.random.default_rng(0).integers(0, 255, (17, 23, 3), np.uint8)
    return cv2.imencode(suffix, pixels)[1].tobytes()


FILES = {suffix: encoded(suffix) for suffix in (".jpg", ".png", ".bmp", ".tiff", ".webp")}


@pytest.mark.filterwarnings("ignore")
@SHORT
@given(
    suffix=st.sampled_from(sorted(FILES)),
    edits=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 4000),
)
def test_images(suffix, edits, cut):
    data = bytearray(FILES[suffix])
    for place, value in edits:
        data[place % len(data)] = value
    for content in (bytes(data), bytes(data[: cut % len(data)])):
        try:
            pixels = decode_whole_image(content, "shot.img")
        except DataError as error:
            says(error, "shot.img: expected")
        else:
            assert pixels.dtype == np.uint8
            assert pixels.ndim == 3
