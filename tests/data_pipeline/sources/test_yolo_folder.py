"""YOLO folders: roots, splits, labels and whole data sets, against folders written by hand."""

import io
import os
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_pipeline import DataError, LoaderOptions, YoloFolder, eval_batches
from data_pipeline.cleaning import CLIPPED, UNREADABLE
from data_pipeline.pictures import require_readable
from data_pipeline.sources.yolo_folder import NO_LABELS
from data_pipeline.sources.yolo_images import LISTED_TWICE, NO_IMAGE, find_images, find_root, label_path
from data_pipeline.sources.yolo_labels import BEYOND, COLUMNS, NOT_NUMBERS, REPEATED, UNKNOWN_CLASS
from data_pipeline.sources.yolo_yaml import read_data_yaml
from tests.data_pipeline.yolo_files import HEIGHT, WIDTH, YAML, write_image, write_text, yolo_folder


def roots(folder, yaml):
    """Root and notes of a data.yaml."""
    return find_root(read_data_yaml(write_text(folder, yaml)))


def images(folder, place, split="train"):
    """Images of `train` in the folder of a data.yaml, relative to it, and their summary."""
    data = read_data_yaml(write_text(folder / "data.yaml", f"train: {place}\nval: images\nnc: 1\n"))
    found = find_images(data, split, folder)
    return [os.path.relpath(path, folder) for path in found.paths], found.summary


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("/data/images/train/a.jpg", "/data/labels/train/a.txt"),
        ("/images/x/images/a.b.PNG", "/images/x/labels/a.b.txt"),
        ("/data/images/a/my_images/a.jpg", "/data/labels/a/my_images/a.txt"),
        ("/data/train/a.jpg", "/data/train/a.txt"),
        ("/data/train/images.jpg", "/data/train/images.txt"),
    ],
)
def test_the_last_folder_images_becomes_labels(tmp_path, image, label):
    assert str(label_path(tmp_path / image[1:])) == str(tmp_path / label[1:])


class TestRoot:
    @pytest.fixture(autouse=True)
    def place(self, tmp_path, monkeypatch):
        """A data set in `set`, and another working directory."""
        for name in ("set/images/train", "set/images/val", "current"):
            (tmp_path / name).mkdir(parents=True)
        monkeypatch.chdir(tmp_path / "current")

    def test_without_a_path_it_is_the_folder_of_the_yaml(self, tmp_path):
        assert roots(tmp_path / "set/data.yaml", YAML) == (tmp_path / "set", ())

    def test_an_absolute_path_is_taken(self, tmp_path):
        assert roots(tmp_path / "data.yaml", f"path: {tmp_path}/set\n{YAML}") == (tmp_path / "set", ())

    def test_a_relative_path_starts_at_the_working_directory(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "elsewhere").mkdir()
        assert roots(tmp_path / "elsewhere/data.yaml", f"path: set\n{YAML}") == (tmp_path / "set", ())

    @pytest.mark.parametrize(
        ("yaml", "path"),
        [("set/data.yaml", "../nowhere"), ("set/data.yaml", "/nowhere"), ("data.yaml", "set"), ("set/data.yaml", ".")],
    )
    def test_where_that_fails_the_folder_of_the_yaml_is_taken_and_said(self, tmp_path, yaml, path):
        root, (note,) = roots(tmp_path / yaml, f"{YAML}path: {path}\n")
        assert root.samefile(tmp_path / "set")
        assert note.startswith(f"{tmp_path / yaml}:4: the images are not in 'path', ")
        assert note.endswith(f"those in {root} are used")

    def test_a_parent_that_is_missing_is_looked_for_inside(self, tmp_path):
        yaml = YAML.replace("images/", "../images/")
        assert roots(tmp_path / "set/data.yaml", yaml) == (tmp_path / "set", ())

    def test_backslashes_are_folders(self, tmp_path):
        assert roots(tmp_path / "set/data.yaml", YAML.replace("/", "\\")) == (tmp_path / "set", ())

    def test_a_missing_folder_is_named_with_every_place_that_was_searched(self, tmp_path):
        searched = f"{tmp_path}/current/x/images/val and {tmp_path}/set/x/images/val and {tmp_path}/set/images/val"
        (tmp_path / "set/images/val").rmdir()
        (tmp_path / "current/x/images/train").mkdir(parents=True)
        message = f"data.yaml:3: expected the folder or list 'images/val' of the split 'val', found none at {searched}"
        with pytest.raises(DataError, match=rf"{message}\. Fix: correct 'val', or set 'path'"):
            roots(tmp_path / "set/data.yaml", f"path: x\n{YAML}")

    def test_both_splits_are_needed(self, tmp_path):
        with pytest.raises(DataError, match=r"data\.yaml: expected the key 'val'.* Fix: add `val: images/val`"):
            roots(tmp_path / "set/data.yaml", "train: images/train\nnc: 1\n")


class TestImages:
    def test_a_folder_is_read_with_its_folders_and_links_but_without_hidden_files(self, tmp_path):
        for name in ("b.jpg", "sub/deep/a.PNG", ".hidden.jpg", "__MACOSX/c.jpg"):
            write_text(tmp_path / "images" / name, "")
        write_text(tmp_path / "far/d.webp", "")
        (tmp_path / "images/link").symlink_to(tmp_path / "far")
        (tmp_path / "images/sub/circle").symlink_to(tmp_path / "images")
        found, summary = images(tmp_path, "images")
        assert found == ["images/b.jpg", "images/link/d.webp", "images/sub/deep/a.PNG"]
        assert summary == {}

    def test_suffixes_that_are_not_read_are_counted(self, tmp_path):
        for name in ("a.jpg", "b.HEIC", "c.heic", "d.txt", "labels.cache", "e.mp4"):
            write_text(tmp_path / "images" / name, "")
        found, summary = images(tmp_path, "images")
        assert found == ["images/a.jpg"]
        assert summary == {
            "files with the suffix .heic, which is not read (left out)": 2,
            "files with the suffix .mp4, which is not read (left out)": 1,
        }

    def test_lines_of_a_list_are_relative_to_it_with_a_dot_and_to_the_root_without(self, tmp_path):
        for name in ("images/a.jpg", "images/b.jpg", "lists/c.jpg", "images/d.jpg"):
            write_text(tmp_path / name, "")
        lines = ["./c.jpg", "images/b.jpg", "", ".\\..\\images\\d.jpg", f"{tmp_path}/images/a.jpg", "images/notes.pdf"]
        write_text(tmp_path / "lists/train.txt", "\ufeff" + "\r\n".join(lines))
        found, summary = images(tmp_path, "lists/train.txt")
        assert [os.path.normpath(name) for name in found] == [
            "lists/c.jpg",
            "images/b.jpg",
            "images/d.jpg",
            "images/a.jpg",
        ]
        assert summary == {"files with the suffix .pdf, which is not read (left out)": 1}

    def test_a_split_may_have_several_places_and_an_image_counts_once(self, tmp_path):
        for name in ("images/a.jpg", "images/b.jpg", "more/c.jpg"):
            write_text(tmp_path / name, "")
        write_text(tmp_path / "list.txt", "images/b.jpg\n./images/../images/a.jpg\nimages/b.jpg\n")
        found, summary = images(tmp_path, "[list.txt, images, more]")
        assert [os.path.normpath(name) for name in found] == ["images/b.jpg", "images/a.jpg", "more/c.jpg"]
        assert summary == {LISTED_TWICE: 3}

    def test_a_split_without_images_is_an_error(self, tmp_path):
        write_text(tmp_path / "images/a.heic", "")
        found = r"found none in .*/images; found 1 files with the suffix \.heic, which is not read"
        with pytest.raises(DataError, match=rf"data\.yaml:1: expected images of the split 'train' .*{found}.*Fix: "):
            images(tmp_path, "images")

    def test_a_place_that_is_no_folder_and_no_list_is_an_error(self, tmp_path):
        (tmp_path / "images").mkdir()
        write_text(tmp_path / "train.csv", "a.jpg")
        with pytest.raises(DataError, match=r"train\.csv: expected a folder or a list with the suffix \.txt"):
            images(tmp_path, "train.csv")


def test_a_folder_comes_out_as_written(tmp_path, capsys):
    data = yolo_folder(tmp_path, [("b", "1 .5 .5 .25 .5\n0 .25 .25 .5 .5\n"), ("a", ""), ("c", None)])
    assert data.classes == ("car", "person")
    dataset = data.open("train", tmp_path / "cache")
    assert dataset.file_names == ("images/train/a.png", "images/train/b.png", "images/train/c.png")
    assert dataset.source_ids == ("a", "b", "c")
    assert (dataset.classes, dataset.category_ids) == (("car", "person"), (0, 1))
    np.testing.assert_allclose(dataset[1].boxes, [[12, 6, 20, 18], [0, 0, 16, 12]])
    assert dataset[1].classes.tolist() == [1, 0]
    assert dataset[1].image == (tmp_path / "images/train/b.png").read_bytes()
    assert [len(each.boxes) for each in dataset] == [0, 2, 0]
    assert dataset.summary == {NO_LABELS: 1}
    assert "yolo_folder/train:   1 image without a label file (background)" in capsys.readouterr().out
    assert data.count_images("train") == 3


def test_five_planted_faults_are_named_counted_and_dropped_and_strict_makes_them_an_error(tmp_path, caplog):
    rows = ["0 .5 .5 .25 .5", "0 1.5 .5 .1 .1", "0 .5 .5 .25 .5", "9 .5 .5 .1 .1", "1 .2 .3 .1 .1", "0 .5 .5 .1"]
    data = yolo_folder(tmp_path, [("a", "\n".join(rows)), ("b", "1 nan .5 .1 .1\n1 .5 .5 .1 .1\n1 .1 .1 .1 .1\n")])
    dataset = data.open("train", tmp_path / "cache")
    assert dataset.summary == {BEYOND: 1, UNKNOWN_CLASS: 1, COLUMNS: 1, NOT_NUMBERS: 1, REPEATED: 1}
    assert [each.classes.tolist() for each in dataset] == [[0, 1], [1, 1]]
    places = [("a", 2), ("a", 4), ("a", 6), ("b", 1)]
    wanted = [f"{tmp_path}/labels/train/{name}.txt:{line}: " for name, line in places]
    for named in (dataset.faults, data.open("train", tmp_path / "cache").faults, caplog.messages):
        assert [fault[: len(start)] for fault, start in zip(named, wanted, strict=True)] == wanted
    with pytest.raises(DataError, match=r"a\.txt:2: expected coordinates from 0 to 1.*\(3 more such faults\)"):
        require_readable(dataset)


def test_beyond_five_faults_are_only_counted(tmp_path, caplog):
    text = "0 .5 .5 .1 .1\n0 .6 .5 .1 .1\n" * 4 + "7 .5 .5 .1 .1\n"
    labels = [(str(i), "".join(f"0 .{j} .5 .1 .1\n" for j in range(1, 5)) + text) for i in range(7)]
    dataset = yolo_folder(tmp_path, labels).open("train", tmp_path / "cache")
    assert len(dataset.faults) == 7
    assert len(caplog.messages) == 6
    assert caplog.messages[-1] == f"{tmp_path}/data.yaml: 2 more faulty label rows are dropped."


def test_a_file_of_which_most_rows_are_faulty_is_an_error(tmp_path):
    data = yolo_folder(tmp_path, [("a", "0 .5 .5 .1 .1 .9\n0 .1 .1 .1 .1 .8\n1 .5 .5 .1 .1\n")])
    message = (
        r"expected label rows `class cx cy w h`, got 2 faulty ones of 3\. The first: .*a\.txt:1: .*6 values.*Fix: "
    )
    with pytest.raises(DataError, match=message):
        data.open("train", tmp_path / "cache")


def test_a_split_in_which_no_image_has_a_label_file_is_an_error(tmp_path):
    data = yolo_folder(tmp_path, [("a", None), ("b", None)])
    message = r"expected label files of the images, found none, for example no .*/labels/train/a\.txt\. Fix: "
    with pytest.raises(DataError, match=message):
        data.open("train", tmp_path / "cache")
    write_text(tmp_path / "images/train/b.txt", "0 .5 .5 .1 .1")
    with pytest.raises(
        DataError, match=r"found only .*/images/train/b\.txt, for example no .*/labels/train/a\.txt\. Fix"
    ):
        data.open("train", tmp_path / "cache")


def test_labels_without_an_image_are_counted_even_if_a_list_leaves_images_out(tmp_path):
    for name in ("a", "b"):
        write_image(tmp_path / f"images/{name}.png")
        write_text(tmp_path / f"labels/{name}.txt", "0 .5 .5 .1 .1")
    for name in ("lost.txt", "classes.txt", "._a.txt"):
        write_text(tmp_path / "labels" / name, "")
    write_text(tmp_path / "train.txt", "images/a.png\n")
    write_text(tmp_path / "val.txt", "images/b.png\n")
    data = YoloFolder(write_text(tmp_path / "data.yaml", "train: train.txt\nval: val.txt\nnc: 1"))
    assert data.open("train", tmp_path / "cache").summary == {NO_IMAGE: 1}


def test_images_of_another_split_are_counted(tmp_path):
    data = yolo_folder(tmp_path, yaml="train: images\nval: images/val\ntest: images/none\nnc: 1\n")
    assert data.open("train", tmp_path / "cache").summary == {"images that are also in the split 'val'": 1}
    with pytest.raises(DataError, match=r"data\.yaml:3: expected the folder or list 'images/none' of the split 'test'"):
        data.open("test", tmp_path / "cache")


def test_images_of_equal_names_have_different_ids(tmp_path):
    data = yolo_folder(tmp_path, [("x/a", ""), ("y/a", "0 .5 .5 .1 .1")])
    assert data.open("train", tmp_path / "cache").source_ids == ("images/train/x/a", "images/train/y/a")


def test_unreadable_images_and_label_files_are_left_out_and_named(tmp_path, caplog):
    data = yolo_folder(tmp_path, [(name, "0 .5 .5 .5 .5") for name in "abcdef"], val=[("v", "")])
    (tmp_path / "images/train/a.png").write_bytes((tmp_path / "images/train/a.png").read_bytes()[:60])
    (tmp_path / "labels/train/b.txt").write_bytes(b"\xe9\x80")
    dataset = data.open("train", tmp_path / "cache")
    assert dataset.summary == {UNREADABLE: 2}
    assert sorted(dataset.unreadable) == [0, 1]
    np.testing.assert_allclose(dataset[0].boxes, [[WIDTH / 4, HEIGHT / 4, 3 * WIDTH / 4, 3 * HEIGHT / 4]])
    assert "b.txt: expected a label file" in dataset.unreadable[1]
    (batch,) = eval_batches(dataset, LoaderOptions(image_size=(32, 32), batch_size=6, threads=0))
    assert batch.valid.tolist() == [False, False, True, True, True, True]


def test_a_missing_image_of_a_list_is_named_with_its_line(tmp_path):
    data = yolo_folder(
        tmp_path, [(name, "0 .5 .5 .5 .5") for name in "abc"], yaml="train: t.txt\nval: images/val\nnc: 1"
    )
    write_text(tmp_path / "t.txt", "".join(f"images/train/{name}.png\n" for name in ("a", "b", "lost", "c")))
    dataset = data.open("train", tmp_path / "cache")
    assert dataset.summary == {UNREADABLE: 1, NO_LABELS: 1}
    assert dataset.unreadable[2].startswith(f"{tmp_path}/t.txt:3: ")
    assert "lost.png: expected an image file, found none" in dataset.unreadable[2]


@pytest.mark.parametrize(("orientation", "size"), [(6, (WIDTH, HEIGHT)), (3, (HEIGHT, WIDTH)), (5, (WIDTH, HEIGHT))])
def test_labels_are_for_the_upright_image(tmp_path, orientation, size):
    data = yolo_folder(tmp_path, [])
    exif = Image.Exif()
    exif[274] = orientation
    content = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT)).save(content, "JPEG", exif=exif)
    write_text(tmp_path / "images/train/a.jpg", content.getvalue())
    write_text(tmp_path / "labels/train/a.txt", "0 .5 .5 .5 .25")
    (example,) = data.open("train", tmp_path / "cache")
    assert (example.height, example.width) == size
    sides = np.array([[size[1] * 0.25, size[0] * 0.375, size[1] * 0.75, size[0] * 0.625]])
    np.testing.assert_allclose(example.boxes, sides)


def test_a_broken_link_is_an_unreadable_image(tmp_path):
    data = yolo_folder(tmp_path, [(name, "0 .5 .5 .5 .5") for name in "ab"])
    (tmp_path / "images/train/c.png").symlink_to(tmp_path / "nowhere.png")
    dataset = data.open("train", tmp_path / "cache")
    assert "c.png: expected an image file, found none" in dataset.unreadable[2]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_of_images_need_not_be_utf8(tmp_path):
    data = yolo_folder(tmp_path)
    image = tmp_path / "images/train/a.png"
    image.rename(os.fsdecode(os.fsencode(image.parent) + b"/\xe9.png"))
    write_text(tmp_path / "labels/train" / os.fsdecode(b"\xe9.txt"), "0 .5 .5 .5 .5")
    dataset = data.open("train", tmp_path / "cache")
    assert dataset.file_names == ("images/train/\\udce9.png",)
    assert len(dataset[0].boxes) == 1


def test_boxes_over_the_border_are_clipped(tmp_path):
    dataset = yolo_folder(tmp_path, [("a", "0 .05 .5 .5 .5")]).open("train", tmp_path / "cache")
    assert dataset.summary == {CLIPPED: 1}
    np.testing.assert_allclose(dataset[0].boxes, [[0, 6, 9.6, 18]], rtol=1e-6)


def test_a_changed_label_file_or_class_name_builds_the_split_again(tmp_path):
    data = yolo_folder(tmp_path)
    assert len(data.open("train", tmp_path / "cache")[0].boxes) == 1
    write_text(tmp_path / "labels/train/a.txt", "")
    assert len(data.open("train", tmp_path / "cache")[0].boxes) == 0
    write_text(tmp_path / "data.yaml", YAML.replace("car", "bus"))
    assert data.open("train", tmp_path / "cache").classes == ("bus", "person")


@pytest.mark.parametrize(
    ("split", "error", "message"),
    [
        ("eval", ValueError, "expected one of"),
        ("test", DataError, r"expected the key 'test'.*got train, val\. Fix: add"),
    ],
)
def test_an_unknown_split_is_an_error(tmp_path, split, error, message):
    with pytest.raises(error, match=message):
        yolo_folder(tmp_path).open(split, tmp_path / "cache")


SIDES = st.tuples(st.integers(1, 80), st.integers(1, 60))
BOXES = st.lists(
    st.tuples(st.integers(0, 2), st.tuples(*[st.floats(0, 1, width=32)] * 4)).filter(
        lambda row: abs(row[1][0] - row[1][2]) > 0.1 and abs(row[1][1] - row[1][3]) > 0.1
    ),
    max_size=4,
    unique=True,
)


@settings(max_examples=8)
@given(st.lists(st.tuples(SIDES, BOXES), min_size=1, max_size=4), st.sampled_from(["%.6f", "%.9g", "%r"]))
def test_a_folder_that_is_written_is_read_back(tmp_path_factory, content, style):
    folder = tmp_path_factory.mktemp("written")
    yolo_folder(folder, [], "train: images/train\nval: images/val\nnc: 3\n")
    for number, ((width, height), rows) in enumerate(content):
        write_image(folder / f"images/train/{number}.bmp", height, width)
        lines = []
        for label, (x, y, u, v) in rows:
            values = ((x + u) / 2, (y + v) / 2, abs(x - u), abs(y - v))
            lines.append(" ".join([str(label), *(style % value for value in values)]))
        write_text(folder / f"labels/train/{number}.txt", "\n".join(lines))
    dataset = YoloFolder(folder / "data.yaml").open("train", folder / "cache")
    for ((width, height), rows), example in zip(content, dataset, strict=True):
        want = [
            [min(x, u) * width, min(y, v) * height, max(x, u) * width, max(y, v) * height] for _, (x, y, u, v) in rows
        ]
        # six decimals: half a unit for the centre and a quarter for half the side; float32: 80 px times 2⁻²⁴, twice
        np.testing.assert_allclose(example.boxes, np.array(want).reshape(-1, 4), rtol=0, atol=80 * 0.75e-6 + 1e-5)
        assert example.classes.tolist() == [label for label, _ in rows]
    assert dataset.faults == ()
