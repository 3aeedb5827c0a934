"""Detections in supervision and FiftyOne: as their objects, and from our files by their own loaders."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ugs_jax.evaluation import ImageDetections, from_fiftyone, from_supervision, to_fiftyone, to_supervision
from ugs_jax.report import Prediction, write_predictions

CLASSES = ("car", "bus", "van")
IDS = (3, 7, 12)
HEIGHT, WIDTH = 90, 150
FOUND = {
    "a.png": ImageDetections(
        np.array([[10, 20, 30, 45], [60.5, 60, 65, 66.25]], np.float32),
        np.array([0.75, 0.5], np.float32),
        np.array([2, 0], np.int32),
        np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32),
    ),
    "b.png": ImageDetections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32)),
    "c.png": ImageDetections(
        np.array([[0, 0, 150, 90]], np.float32), np.array([0.25], np.float32), np.array([1], np.int32)
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of images, and the detections in them in the formats coco and yolo."""
    folder = tmp_path_factory.mktemp("formats")
    (folder / "images").mkdir()
    images = {name: np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8) for name in FOUND}
    for name, image in images.items():
        Image.fromarray(image).save(folder / "images" / name)
    predictions = [Prediction(name, images[name], detections) for name, detections in FOUND.items()]
    options = {"formats": ("coco", "yolo"), "category_ids": IDS, "pictures": False}
    write_predictions(folder / "out", predictions, CLASSES, **options)
    return folder


def assert_same(got, want, boxes=1e-3):
    order = np.argsort(-want.scores)
    np.testing.assert_allclose(got.boxes, want.boxes[order], atol=boxes)
    np.testing.assert_allclose(got.scores, want.scores[order], atol=1e-6)
    np.testing.assert_array_equal(got.classes, want.classes[order])
    assert (got.deviation is None) == (want.deviation is None)
    if want.deviation is not None:
        np.testing.assert_allclose(got.deviation, want.deviation[order], atol=1e-3)


@pytest.fixture
def supervision():
    return pytest.importorskip("supervision", reason="supervision is in the extra `dev`")


@pytest.mark.parametrize("name", FOUND)
def test_supervision_gets_boxes_scores_classes_and_names_and_gives_them_back(supervision, name):
    found = to_supervision(FOUND[name], CLASSES)
    assert isinstance(found, supervision.Detections)
    assert found.data["class_name"].tolist() == [CLASSES[k] for k in FOUND[name].classes]
    assert_same(from_supervision(found), FOUND[name], boxes=0)


def test_the_filters_of_supervision_keep_the_deviations_of_what_they_keep(supervision):
    found = to_supervision(FOUND["a.png"], CLASSES)
    kept = from_supervision(found[found.data["class_name"] == "car"])
    np.testing.assert_array_equal(kept.deviation, [[5, 6, 7, 8]])
    overlapping = FOUND["a.png"]._replace(boxes=np.array([[0, 0, 10, 10], [0, 0, 10, 9]], np.float32))
    best = to_supervision(overlapping, CLASSES).with_nms(0.5, class_agnostic=True)
    np.testing.assert_array_equal(from_supervision(best).deviation, [[1, 2, 3, 4]])


def test_supervision_draws_the_boxes(supervision):
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    drawn = supervision.BoxAnnotator().annotate(image.copy(), to_supervision(FOUND["a.png"], CLASSES))
    assert drawn[20, 15:25].any(-1).all()  # the upper line of the first box


def test_supervision_detections_without_scores_are_refused(supervision):
    plain = supervision.Detections(xyxy=np.array([[0.0, 0, 1, 1]]), class_id=np.array([0]))
    with pytest.raises(ValueError, match=r"detections\.confidence: expected an array, got None"):
        from_supervision(plain)


def by_image(dataset):
    return {Path(path).name: found for path, _, found in dataset}


def test_supervision_loads_the_coco_data_set(supervision, folder):
    data = supervision.DetectionDataset.from_coco(str(folder / "images"), str(folder / "out" / "dataset.json"))
    assert data.classes == list(CLASSES)
    loaded = by_image(data)
    assert loaded.keys() == FOUND.keys()
    for name, want in FOUND.items():
        np.testing.assert_allclose(loaded[name].xyxy.reshape(-1, 4), want.boxes, atol=1e-3)
        assert [*(loaded[name].class_id if len(loaded[name]) else [])] == want.classes.tolist()


def test_supervision_loads_the_yolo_files(supervision, folder):
    out = folder / "out" / "yolo"
    data = supervision.DetectionDataset.from_yolo(str(folder / "images"), str(out / "labels"), str(out / "data.yaml"))
    assert data.classes == list(CLASSES)
    loaded = by_image(data)
    for name, want in FOUND.items():
        # Six digits of a share of the image: 1e-6 · 150 px for each of centre and half a side.
        np.testing.assert_allclose(loaded[name].xyxy.reshape(-1, 4), want.boxes, atol=3e-4)
        assert [*(loaded[name].class_id if len(loaded[name]) else [])] == want.classes.tolist()


of_fiftyone = pytest.mark.filterwarnings("ignore")  # FiftyOne and PyMongo warn of what they do themselves


@pytest.fixture
def fiftyone():
    return pytest.importorskip("fiftyone", reason="FiftyOne is not installed")


@pytest.fixture
def database(fiftyone):
    """FiftyOne with its database; data sets of the test are deleted."""
    try:
        before = set(fiftyone.list_datasets())
    except Exception as error:  # noqa: BLE001 - of FiftyOne's own kind, or of PyMongo
        pytest.skip(f"FiftyOne has no database here: {error}")
    yield fiftyone
    for name in set(fiftyone.list_datasets()) - before:
        fiftyone.delete_dataset(name)


@of_fiftyone
@pytest.mark.parametrize("name", FOUND)
def test_fiftyone_gets_shares_of_the_image_and_gives_the_boxes_back(fiftyone, name):
    found = to_fiftyone(FOUND[name], CLASSES, HEIGHT, WIDTH)
    assert isinstance(found, fiftyone.Detections)
    assert [each.label for each in found.detections] == [CLASSES[k] for k in FOUND[name].classes]
    if name == "a.png":
        assert found.detections[0].bounding_box == pytest.approx([10 / 150, 20 / 90, 20 / 150, 25 / 90])
    assert_same(from_fiftyone(found, CLASSES, HEIGHT, WIDTH), FOUND[name], boxes=1e-4)


@of_fiftyone
def test_an_unknown_label_of_fiftyone_is_refused(fiftyone):
    found = to_fiftyone(FOUND["a.png"], CLASSES, HEIGHT, WIDTH)
    with pytest.raises(ValueError, match="classes: expected a class for the label 'van', got car, bus"):
        from_fiftyone(found, CLASSES[:2], HEIGHT, WIDTH)


def check_fiftyone(dataset, field, deviation):
    loaded = {Path(sample.filepath).name: sample[field] for sample in dataset}
    assert loaded.keys() == FOUND.keys()
    for name, want in FOUND.items():
        if not len(want.boxes):
            assert loaded[name] is None or loaded[name].detections == []
            continue
        want = want if deviation else want._replace(deviation=None)
        assert_same(from_fiftyone(loaded[name], CLASSES, HEIGHT, WIDTH), want)


@of_fiftyone
def test_fiftyone_loads_the_coco_data_set_with_scores_and_deviations(database, folder):
    data = database.Dataset.from_dir(
        dataset_type=database.types.COCODetectionDataset,
        data_path=str(folder / "images"),
        labels_path=str(folder / "out" / "dataset.json"),
        label_types="detections",
        label_field="found",
    )
    check_fiftyone(data, "found", deviation=True)


@of_fiftyone
def test_fiftyone_loads_the_yolo_files_with_scores(database, folder):
    out = folder / "out" / "yolo"
    data = database.Dataset.from_dir(
        dataset_type=database.types.YOLOv4Dataset,
        data_path=str(folder / "images"),
        labels_path=str(out / "labels"),
        objects_path=str(out / "obj.names"),
        include_all_data=True,
        label_field="found",
    )
    check_fiftyone(data, "found", deviation=False)


@of_fiftyone
def test_fiftyone_adds_the_yolo_files_to_images_that_it_has(database, folder):
    import fiftyone.utils.yolo as yolo

    data = database.Dataset.from_images_dir(str(folder / "images"))
    yolo.add_yolo_labels(data, "found", str(folder / "out" / "yolo" / "labels"), list(CLASSES))
    check_fiftyone(data, "found", deviation=False)


@pytest.mark.parametrize("package", ["supervision", "fiftyone"])
def test_a_missing_package_is_named_with_its_command(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    convert = {
        "supervision": lambda: to_supervision(FOUND["a.png"], CLASSES),
        "fiftyone": lambda: to_fiftyone(FOUND["a.png"], CLASSES, HEIGHT, WIDTH),
    }[package]
    with pytest.raises(ModuleNotFoundError, match=f"package {package}, found none; install it with `pip install"):
        convert()
