"""The data.yaml of a YOLO folder, each rule against a file written by hand."""

import pytest

from data_pipeline import DataError
from data_pipeline.sources.yolo_yaml import read_data_yaml
from tests.data_pipeline.yolo_files import write_text

SPLITS = "train: a\nval: b\n"


@pytest.fixture
def read(tmp_path):
    return lambda text: read_data_yaml(write_text(tmp_path / "data.yaml", text))


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("names: [car, person]", ("car", "person")),
        ("names:\n- car\n- person\nnc: 2", ("car", "person")),
        ("names:\n  1: person\n  0: car", ("car", "person")),
        ("names: {0: car, 1: person}\nnc: 2", ("car", "person")),
        ("nc: 3", ("class_0", "class_1", "class_2")),
        ("names: [yes, 1.10, null, 0x1F, '№ 5']", ("yes", "1.10", "null", "0x1F", "№ 5")),
        ("names: [car, bus, car]", ("car (class 0)", "bus", "car (class 2)")),
    ],
)
def test_class_names_are_the_texts_of_the_file(read, text, classes):
    assert read(SPLITS + text).classes == classes


def test_splits_are_places_with_lines(read):
    data = read("path: /data\nnames: [car]\n\ntrain: images/train\nvalidation:\n  - a\n  - b.txt\ntest:\n")
    assert data.splits == {"train": (4, ("images/train",)), "val": (6, ("a", "b.txt"))}
    assert (data.root, data.root_line) == ("/data", 1)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_yaml_of_windows_is_read(read, encoding):
    assert read(f"{SPLITS}names: [é]\n".replace("\n", "\r\n").encode(encoding)).classes == ("é",)


def test_keypoints_are_counted_from_their_shape(read):
    assert read(f"{SPLITS}nc: 1\nkpt_shape: [17, 3]").keypoint_values == 51


def test_nothing_is_executed_or_downloaded(read, tmp_path):
    target = tmp_path / "executed"
    command = f"import pathlib; pathlib.Path({str(target)!r}).touch()"
    data = read(
        f"{SPLITS}nc: 1\ndownload: |\n  {command}\nextra: !!python/object/apply:os.system ['touch {target}']\n"
        f"other: !!python/name:os.system\n"
    )
    assert data.classes == ("class_0",)
    assert not target.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected keys such as 'train'"),
        ("- a\n- b", "expected keys such as 'train'"),
        ("epochs: 3\nlr: 1", "expected the keys 'train', 'val' and 'names' of a YOLO data set, got 'epochs', 'lr'"),
        (SPLITS, "expected the key 'names', the class names, got none"),
        (
            f"{SPLITS}names: [car]\nnc: 2",
            r":3: expected 2 names, as nc says, got 1\. Fix: correct 'names' or leave nc out",
        ),
        (f"{SPLITS}names: []", ":3: expected one or more names, got 0"),
        (f"{SPLITS}names: car", ":3: expected 'names' to be a list"),
        (f"{SPLITS}names:\n  0: car\n  2: bus", ":4: expected 'names' to have the class indices 0 to 1, got 0, 2"),
        (f"{SPLITS}names:\n  car: 0", ":4: .* got car.*Fix: number the classes from 0"),
        (f"{SPLITS}names:\n  0: car\n  0: bus", ":5: expected the key '0' once"),
        (f"{SPLITS}names: [car, [bus]]", ":3: expected a text for 'names'"),
        (f"{SPLITS}names: [car, '']", ":3: expected a text for 'names'"),
        (f"{SPLITS}nc: many", ":3: expected 'nc' to be a whole number from 1, got many"),
        (f"{SPLITS}nc: 0", ":3: expected 'nc' to be a whole number from 1, got 0"),
        (f"{SPLITS}nc: 1.5", ":3: expected 'nc'"),
        (f"{SPLITS}nc: [1]", ":3: expected 'nc' .* got a list"),
        (f"{SPLITS}nc: &a [*a]", ":3: expected 'nc' .* got a list"),
        (f"{SPLITS}nc: 1\ntrain: c", ":4: expected the key 'train' once, got it twice"),
        (f"{SPLITS}nc: 1\nkpt_shape: 17", ":4: expected 'kpt_shape' to be two numbers"),
        ("train:\n  images: a\nnc: 1", ":2: expected a text for 'train'"),
        ("train: a\nval: [\nnc: 1", ":3: expected YAML, got"),
        ("train: a\n\tval: b", ":2: expected YAML, got .*Fix: correct the line"),
        ("train: a\x07", "expected YAML, got .*Fix: write it again"),
        (b"train: \xe9\n", "expected a data.yaml, which is text in UTF-8"),
        ("nc: " + "[" * 1500, "expected YAML"),
    ],
)
def test_a_fault_is_named_with_its_line(read, tmp_path, text, message):
    with pytest.raises(DataError, match=rf"data\.yaml:?.*{message}.*") as error:
        read(text)
    assert str(error.value).startswith(str(tmp_path / "data.yaml"))
    assert "Fix: " in str(error.value)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"none\.yaml: expected a data\.yaml, got No such file.* Fix: check the path"):
        read_data_yaml(tmp_path / "none.yaml")
