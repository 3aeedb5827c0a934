"""Unreadable images are named, counted and left out. A split with mostly unreadable images is refused."""

import re
from pathlib import Path

import pytest

from data_pipeline import DataError, TinyScenes
from data_pipeline.cleaning import UNREADABLE
from data_pipeline.pictures import Pictures, require_readable
from tests.data_pipeline.coco_folder import CONTENT, HEIGHT, WIDTH, annotation, open_with, write_image


def assert_left_out(dataset, index, message, caplog):
    """Named in the log, counted, and refused where it is read or where nothing is left out."""
    assert len(dataset) == 3
    assert dataset.summary[UNREADABLE] == 1
    assert len(dataset[index].boxes) == 1
    assert (dataset[index].height, dataset[index].width) == (HEIGHT, WIDTH)
    assert re.search(message, caplog.text)
    name = re.escape(dataset.file_names[index])
    with pytest.raises(DataError, match=name):
        Pictures(dataset, (32, 32), 0).picture(index)
    with pytest.raises(DataError, match=name):
        require_readable(dataset)
    assert Pictures(dataset, (32, 32), 0, strict=False).picture(index) is None


def test_readable_images_pass(folder):
    require_readable(open_with(folder))


def test_a_truncated_image_is_named(folder, caplog):
    path = folder / "images" / "sub" / "a.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    dataset = open_with(folder)
    assert_left_out(dataset, 1, r"sub/a\.jpg: expected a whole image, got a truncated file.*Fix: .* left out", caplog)


def test_a_name_that_leads_out_of_the_folder_and_matches_no_file_in_it_is_named(folder, caplog):
    (folder / "secret.png").write_bytes((folder / "images" / "b.png").read_bytes())
    images = [dict(entry) for entry in CONTENT["images"]]
    images[0]["file_name"] = "../secret.png"
    dataset = open_with(folder, images=images)
    assert_left_out(dataset, 0, r"image id 7: file name '\.\./secret\.png': expected a path inside .*Fix: ", caplog)
    assert dataset[0].image == b""


def test_a_missing_image_is_named(folder, caplog):
    (folder / "images" / "b.png").unlink()
    dataset = open_with(folder)
    assert_left_out(dataset, 0, r"b\.png: expected an image file, found none\. Fix: ", caplog)


def test_a_size_that_differs_from_the_image_is_named(folder, caplog):
    write_image(folder / "images" / "b.png", height=WIDTH, width=HEIGHT)
    dataset = open_with(folder)
    assert_left_out(dataset, 0, r"b\.png: expected 32 × 24 px as .*image id 7, got 24 × 32 px\. Fix: ", caplog)


def test_an_unreadable_image_of_unknown_size_has_the_extent_of_its_annotations(folder):
    (folder / "images" / "empty.png").write_bytes(b"no image")
    boxes = [annotation(id=i, image_id=9, bbox=bbox) for i, bbox in enumerate([[3, 4, 5.5, 6], [float("nan")] * 4])]
    example = open_with(folder, annotations=boxes)[2]
    assert (example.height, example.width) == (10, 9)
    assert example.boxes.tolist() == [[3, 4, 8.5, 10]]


def test_a_split_of_which_most_images_cannot_be_read_is_refused(folder):
    for name in ("b.png", "empty.png"):
        (folder / "images" / name).unlink()
    with pytest.raises(DataError, match=r"coco_json/train: expected images, but 2 of 3 cannot be read; .*Fix: "):
        open_with(folder)
    assert not list((folder / "cache").glob("*/train-*"))


@pytest.fixture
def built(tmp_path):
    """Forty images in an ArrayRecord file, and that file."""
    dataset = TinyScenes(train_images=40, val_images=4, image_size=(64, 64)).open("train", tmp_path)
    (file,) = tmp_path.glob("tiny_scenes/train-*/tiny_scenes/*/*.array_record*")
    return dataset, file


def test_a_damaged_record_is_named_and_left_out(built, caplog):
    dataset, file = built
    content = bytearray(file.read_bytes())
    middle = content.index(dataset[20].image[-64:])
    content[middle : middle + 8] = b"\xff" * 8
    file.write_bytes(content)
    pictures = Pictures(dataset, (64, 64), 0, strict=False)
    left_out = [index for index in range(40) if pictures.picture(index) is None]
    assert left_out == [20]
    name, folder = dataset.file_names[20], re.escape(str(file.parents[2]))
    message = (
        rf"{name}: expected an image in tiny_scenes/train, got RuntimeError: .*Fix: delete {folder}, which is then"
    )
    assert len(re.findall(message, caplog.text)) == 1
    with pytest.raises(DataError, match=message):
        Pictures(dataset, (64, 64), 0).picture(20)


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(file.read_bytes()[:70000])])
def test_a_data_set_with_mostly_missing_images_is_refused(built, damage):
    dataset, file = built
    damage(file)
    pictures = Pictures(dataset, (64, 64), 0, strict=False)
    assert [pictures.picture(index) for index in range(20)] == [None] * 20
    with pytest.raises(
        DataError, match=r"tiny_scenes/train: expected images, but 21 of 40 cannot be read; .*Fix: delete"
    ):
        pictures.picture(20)
