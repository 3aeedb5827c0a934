"""Recognition of data sets: the usual layouts, and folders that are none or several."""

import json
from pathlib import Path

import pytest

from data_pipeline import CocoJson, DataError, VisDrone, YoloFolder, data_source_at
from tests.data_pipeline.yolo_files import YAML, write_text

LAYOUTS = {  # train and val annotations, train and val image, and their names in the annotations
    "COCO": ("annotations/instances_train2017.json", "annotations/instances_val2017.json",
             "train2017/a.jpg", "val2017/a.jpg", "a.jpg"),
    "Roboflow": ("train/_annotations.coco.json", "valid/_annotations.coco.json", "train/a.jpg", "valid/a.jpg", "a.jpg"),
    "CVAT": ("annotations/instances_Train.json", "annotations/instances_Validation.json",
             "images/Train/a.jpg", "images/Validation/a.jpg", "a.jpg"),
    "FiftyOne": ("train/labels.json", "val/labels.json", "train/data/a.jpg", "val/data/a.jpg", "a.jpg"),
    "pair beside a folder": ("train.json", "val.json", "images/a.jpg", "images/a.jpg", "a.jpg"),
    "pair beside its images": ("my_train.json", "my_val.json", "a.jpg", "a.jpg", "a.jpg"),
    "names with folders": ("annotations/train.json", "annotations/val.json",
                           "images/x/a.jpg", "images/x/a.jpg", "x/a.jpg"),
}  # fmt: skip
DET = "VisDrone2019-DET"


def write_coco(path, name="a.jpg"):
    image, category = {"id": 1, "file_name": name}, {"id": 1, "name": "car"}
    return write_text(path, json.dumps({"images": [image], "annotations": [], "categories": [category]}))


def write_layout(folder, layout):
    train, val, train_image, val_image, name = LAYOUTS[layout]
    write_coco(folder / train, name)
    write_coco(folder / val, name)
    for image in (train_image, val_image):
        write_text(folder / image, "")
    images = [(folder / image).as_posix().removesuffix(f"/{name}") for image in (train_image, val_image)]
    return CocoJson(Path(images[0]), folder / train, Path(images[1]), folder / val)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_usual_layout_of_coco_is_recognised_by_its_folder_and_by_its_training_file(tmp_path, layout):
    expected = write_layout(tmp_path, layout)
    assert data_source_at(tmp_path) == expected
    assert data_source_at(str(expected.train_json)) == expected


def test_a_relative_path_stays_relative(tmp_path, monkeypatch):
    write_layout(tmp_path, "Roboflow")
    monkeypatch.chdir(tmp_path)
    train, val = Path("train"), Path("valid")
    name = "_annotations.coco.json"
    assert data_source_at(".") == CocoJson(train, train / name, val, val / name)


def test_other_tasks_of_coco_are_left_aside(tmp_path):
    expected = write_layout(tmp_path, "COCO")
    for kind in ("captions", "person_keypoints"):
        for split in ("train", "val"):
            write_text(tmp_path / f"annotations/{kind}_{split}2017.json", "{}")
    assert data_source_at(tmp_path) == expected


@pytest.mark.parametrize("name", ["data.yaml", "drone.yml"])
def test_a_data_yaml_is_recognised_by_its_folder_and_by_itself(tmp_path, name):
    path = write_text(tmp_path / name, YAML)
    write_text(tmp_path / "hyp.yaml", "lr0: 0.01\nmosaic: 1.0\n")
    assert data_source_at(tmp_path) == YoloFolder(path)
    assert data_source_at(path) == YoloFolder(path)


def test_a_faulty_data_yaml_has_its_own_error(tmp_path):
    write_text(tmp_path / "data.yaml", "train: images\nnames: [\n")
    source = data_source_at(tmp_path)
    with pytest.raises(DataError, match=r"data\.yaml:3: expected YAML"):
        _ = source.classes
    with pytest.raises(DataError, match=r"data\.yaml:3: expected YAML"):
        data_source_at(tmp_path / "data.yaml")


@pytest.mark.parametrize("given", [".", f"{DET}-train", f"{DET}-val"])
def test_visdrone_is_recognised_by_its_folders(tmp_path, given):
    for split in ("train", "val"):
        (tmp_path / f"{DET}-{split}" / "images").mkdir(parents=True)
    assert data_source_at(tmp_path / given) == VisDrone(tmp_path)


def test_a_data_yaml_beside_other_json_is_recognised(tmp_path):
    path = write_text(tmp_path / "data.yaml", YAML)
    for name in ("train.json", "val.json"):
        write_text(tmp_path / name, "[]")
    assert data_source_at(tmp_path) == YoloFolder(path)


def test_several_data_sets_are_an_error_that_names_them(tmp_path):
    write_text(tmp_path / "data.yaml", YAML)
    write_text(tmp_path / "small.yaml", YAML)
    expected = write_layout(tmp_path, "pair beside a folder")
    message = (
        rf"expected one data set, found 3: {tmp_path}/data\.yaml, {tmp_path}/small\.yaml, {expected.train_json}\. Fix"
    )
    with pytest.raises(DataError, match=message):
        data_source_at(tmp_path)


@pytest.mark.parametrize(
    ("files", "given", "message"),
    [
        ([], ".", r"expected a data\.yaml \(YOLO\), annotation files .*; found an empty folder\. Fix: give the path"),
        ([f"{i}.jpg" for i in range(9)], ".", r"found 0\.jpg, .*, … \(9 entries\)\. Fix: give the path"),
        (["labels/a.txt", "images/a.jpg"], ".", r"found images/, labels/\. It looks like a YOLO folder without its "
         r"data\.yaml\. Fix: write one, for example `train: images/train`"),
        ([f"{DET}-train.zip"], ".", "Fix: unpack the archives: ugs data prepare visdrone --from "),
        ([], "nowhere", "nowhere: expected a data.yaml .* found nothing. Fix: "),
        ([], "nowhere.yaml", r"nowhere\.yaml: expected a data\.yaml, got No such file"),
        (["a.zip"], "a.zip", "found a file of another kind"),
        (["train.json"], "train.json", r"train\.json: .*found no file of the same name with `val`\. Fix: .*CocoJson\("),
        (["all.json"], "all.json", r"all\.json: .*found no `train` in its name\. Fix: name the files"),
    ],
)  # fmt: skip
def test_what_is_no_data_set_is_an_error_with_what_was_found_and_the_fix(tmp_path, files, given, message):
    for name in files:
        write_text(tmp_path / name, "")
    with pytest.raises(DataError, match=message):
        data_source_at(tmp_path / given)


def test_annotations_without_their_images_are_an_error_that_names_the_searched_folders(tmp_path):
    write_coco(tmp_path / "train.json")
    write_coco(tmp_path / "val.json")
    (tmp_path / "images").mkdir()
    message = rf"train\.json: expected its images, such as 'a\.jpg', in one of {tmp_path}, {tmp_path}/images.* Fix: put"
    with pytest.raises(DataError, match=message):
        data_source_at(tmp_path)


def test_annotations_that_are_no_coco_are_an_error(tmp_path):
    for name in ("train.json", "val.json"):
        write_text(tmp_path / name, "[]")
    with pytest.raises(DataError, match=r"train\.json: expected a JSON object with the lists 'images'"):
        data_source_at(tmp_path)
