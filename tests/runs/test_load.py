"""Detectors from files of weights: network, settings and classes of the file, and the same detections as the run."""

import functools
import os
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from PIL import Image

import ugs_jax
from tests.compiling import compiled_quickly
from tests.flags import QUICKLY
from tests.weights.networks import detector, drawn, same
from ugs_jax import runs
from ugs_jax.boxes import xyxy_to_cxcywh
from ugs_jax.cli import main
from ugs_jax.detectors import COCO_ANCHORS, Detector, Outputs, Postprocess
from ugs_jax.experiment import Experiment, Network
from ugs_jax.experiment.fitting import Fitted
from ugs_jax.objectives import UGS, BoxRegression, Grid, GridPoints
from ugs_jax.runs import Checkpoints, RunFolder, create_state
from ugs_jax.runs.from_weights import NoData, inference_settings
from ugs_jax.runs.remote.weights_file import is_weights_file
from ugs_jax.weights import predict_everywhere, published_arrays, torch_bytes, weights_of, write_weights

SHARED = Path(os.environ.get("UGS_SHARED", Path(__file__).parents[2] / "../shared"))
COCO = SHARED / "weights" / "yolov5n_coco.pt"
FIXTURES = SHARED / "fixtures"


@pytest.fixture(autouse=True)
def _in_use(unchecked):
    """Annotations are not checked, which is much quicker for networks."""


@pytest.fixture
def state_dict(tmp_path):
    """A state dict with published names, of a regression network of size p with three classes."""
    network = detector()
    path = tmp_path / "small.pt"
    path.write_bytes(torch_bytes(published_arrays(weights_of(network, *drawn(network, 1)))))
    return path


def test_a_published_state_dict_gives_its_network_with_published_settings(state_dict, caplog):
    model = ugs_jax.load(state_dict)
    assert (model.detector.arch.size, model.detector.arch.p2) == ("p", False)
    assert model.detector.arch.anchors == COCO_ANCHORS
    assert isinstance(model.detector.localization, BoxRegression)
    assert model.image_size == (640, 640)
    assert model.postprocess == Postprocess()
    assert same((model.params, model.stats), drawn(detector(), 1))
    assert model.classes == ("class 0", "class 1", "class 2")
    assert "small.pt: it has no class names, so its classes are called class 0 to class 2." in caplog.text


def test_class_names_and_image_size_can_be_given_and_missing_anchors_are_said(tmp_path, caplog):
    network = detector()
    arrays = published_arrays(weights_of(network, *drawn(network, 1)))
    del arrays["model.24.anchors"]
    (tmp_path / "bare.pt").write_bytes(torch_bytes(arrays))
    model = ugs_jax.load(str(tmp_path / "bare.pt"), classes=("car", "bus", "van"), image_size=320)
    assert model.classes == ("car", "bus", "van")
    assert model.image_size == (320, 320)
    (said,) = caplog.messages
    assert said.endswith("bare.pt: it has no anchors, so those published for COCO are assumed.")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("car",)}, r"small\.pt: expected 3 class names, one for each class in order, got 1: \('car',\)"),
        ({"classes": "car"}, "expected 3 class names"),
        ({"image_size": 100}, r"expected height and width that are multiples of 32 .* try \(128, 128\)"),
    ],
)
def test_wrong_settings_are_refused_with_the_fix(state_dict, changes, message):
    with pytest.raises(ValueError, match=message):
        ugs_jax.load(state_dict, **changes)


def exported(path, objective, **changes):
    """A file as `ugs export` writes it, with changes to the JSON values of its settings."""
    network = detector(localization=objective)
    experiment = Experiment("a run", NoData("nothing"), objective)
    settings = inference_settings(network, experiment) | changes
    weights = weights_of(network, *drawn(network, 2), classes=("a", "b", "c"), origin="a run")
    write_weights(path, replace(weights, inference={k: v for k, v in settings.items() if v != "left out"}))
    return path


def test_an_exported_file_says_how_it_detects(tmp_path):
    positions = (-2.0, -0.5, 0.1, 0.7, 2.0)
    objective = UGS(GridPoints(positions), Grid(1.5, 0.5, n=4), center_unit="anchor")
    few = {"type": "Postprocess", "iou_threshold": 0.45, "voting": 0.02}
    file = exported(tmp_path / "ugs.safetensors", objective, image_size=[96, 160], postprocess=few)
    model = ugs_jax.load(file)
    assert model.detector.localization == objective
    assert model.image_size == (96, 160)
    assert model.postprocess == Postprocess(iou_threshold=0.45, voting=0.02)
    assert model.classes == ("a", "b", "c")
    assert same((model.params, model.stats), drawn(detector(localization=objective), 2))


HUGE = {"type": "UGS", "center": {"type": "Grid", "alpha": 2.0, "beta": 0.0, "n": 10**11}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"localization": {"type": "UGS"} | {"center": {"type": "Grid", "alpha": 2.0, "n": 12}}}, "same n, got 12"),
        ({"localization": {"type": "BoxRegression"}}, r"weights of UGS\(.* and BoxRegression"),
        ({"localization": HUGE}, "got: 100000000000, where numbers up to 1e"),
        ({"localization": {"type": "Evil:thing"}}, "expected a registered class or function, got 'Evil:thing'"),
        ({"localization": functools.reduce(lambda deep, _: [deep], range(50), [])}, "nested more than 20 times"),
        ({"localization": 3}, "expected an object like Localization, got int"),
        ({"localization": "left out"}, "got: KeyError"),
        ({"postprocess": {"type": "UGS"}}, "postprocess {'type'"),
        ({"postprocess": {"type": "Postprocess", "voting": "x"}}, "got: TypeError"),
        ({"image_size": [100, 100]}, "multiples of 32"),
        ({"image_size": [64]}, "not enough values"),
        ({"dtype": "float8"}, "dtype 'float8'"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(tmp_path, changes, message):
    file = exported(tmp_path / "odd.safetensors", UGS(), **changes)
    said = rf"odd\.safetensors: expected settings in the metadata as `ugs export` writes them, .*{message}.*write the"
    with pytest.raises(ValueError, match=said):
        ugs_jax.load(file)


def test_a_file_of_an_older_version_that_does_not_decode_is_refused(tmp_path):
    network = detector(localization=UGS())
    write_weights(tmp_path / "old.safetensors", weights_of(network, *drawn(network, 2), origin="a run"))
    with pytest.raises(
        ValueError, match=r"old\.safetensors: expected the settings of its objective, UGS\(.*ugs export"
    ):
        ugs_jax.load(tmp_path / "old.safetensors")


def test_foreign_safetensors_are_refused_with_the_fix(tmp_path):
    path = tmp_path / "resnet.safetensors"
    path.write_bytes(safetensors.numpy.save({"layer1.weight": np.zeros(3, np.float32)}))
    with pytest.raises(
        ValueError, match=r"resnet\.safetensors: expected .* no metadata 'ugs_jax' .* Give the \.pt file"
    ):
        ugs_jax.load(path)


@pytest.mark.parametrize(
    ("source", "is_file"),
    [
        ("yolov5n.pt", True),
        ("RUN.PT", True),
        ("hf://owner/repo/best.safetensors", True),
        ("https://host/w.pt?download=true", True),
        ("https://host/run?file=w.pt", False),
        ("gs://bucket/run", False),
        ("runs/drone-ugs-seed0", False),
        (Path("w.safetensors"), True),
    ],
)
def test_files_and_runs_are_told_apart_by_name(source, is_file):
    assert is_weights_file(source) is is_file


def test_a_folder_is_a_run_and_another_file_is_weights(tmp_path):
    (tmp_path / "run.pt").mkdir()
    (tmp_path / "model").touch()
    assert not is_weights_file(tmp_path / "run.pt")
    assert is_weights_file(tmp_path / "model")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pt: expected a \.pt or \.safetensors file, found none"):
        ugs_jax.load(tmp_path / "nowhere.pt")


OBJECTIVE = UGS(GridPoints((-2.0, -0.5, 0.1, 0.7, 2.0)), Grid(1.5, 0.5, n=4))
ANCHORS = tuple(tuple((0.5 * w, 0.5 * h) for w, h in level) for level in COCO_ANCHORS)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with random weights of size p, as `ugs train` writes it."""
    from data_pipeline import LoaderOptions, TinyScenes

    options = Postprocess(iou_threshold=0.5, max_detections=40, spread_penalty=0.3)
    data, loader = TinyScenes(train_images=4, val_images=2, image_size=(64, 64)), LoaderOptions((64, 96), 2)
    experiment = Experiment("drawn", data, OBJECTIVE, Network("p", p2=False), loader, postprocess=options)
    network = experiment.network.build(3, ANCHORS, OBJECTIVE)
    folder = tmp_path_factory.mktemp("runs") / "drawn-seed0"
    folder.mkdir()
    RunFolder(folder).begin(experiment, "", Fitted(ANCHORS, OBJECTIVE), ("circle", "square", "bar"), resume=False)
    checkpoints = Checkpoints(RunFolder(folder).checkpoints)
    state = create_state(network, experiment.optimizer.build(lambda _: 0.0), 0)
    checkpoints.save(1, state, {}, best=True)
    checkpoints.close()
    return folder


@pytest.mark.slow
def test_an_exported_run_detects_as_the_run_itself(run, tmp_path, monkeypatch, capsys):
    seen = []
    real = runs.predict_files
    monkeypatch.setattr(runs, "predict_files", lambda *a, **k: (seen.append(each) or each for each in real(*a, **k)))
    monkeypatch.chdir(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (90, 150, 3), np.uint8)
    Image.fromarray(image).save("image.png")
    assert main(["export", str(run)]) == 0
    assert main(["export", "drawn-seed0-best.safetensors"]) == 1
    assert "expected another file than the one that is read; choose another --output" in capsys.readouterr().err
    with compiled_quickly():
        ours, theirs = ugs_jax.load(run), ugs_jax.load("drawn-seed0-best.safetensors")
        assert theirs.classes == ours.classes == ("circle", "square", "bar")
        assert (theirs.image_size, theirs.postprocess) == (ours.image_size, ours.postprocess)
        want, (found, again) = ours(image, threshold=0), theirs([image, "image.png"], threshold=0)
        for one in (found, again):
            for wanted, got in zip(want, one, strict=True):
                np.testing.assert_array_equal(wanted, got)
        assert len(want.scores) == 40
        middle = float(np.median(want.scores))
        assert (theirs(image, threshold=middle).scores >= middle).all()
        assert len(theirs(image, threshold=middle).scores) == (want.scores >= middle).sum()
        words = ["drawn-seed0-best.safetensors", "image.png", "--image-size", "64", "96", "--classes", "x", "y", "z"]
        assert main(["predict", *words]) == 0
    (predicted,) = seen
    np.testing.assert_array_equal(predicted.detections.boxes, want.boxes)
    written = "".join(file.read_text() for file in Path("predictions").glob("*.json"))
    assert all(f'"{"xyz"[index]}"' in written for index in set(want.classes))


class OfFractions(Detector):
    """Takes images in 0…1, as the fixture has them, where a detector takes bytes."""

    def apply(self, params, stats, images, *, train):
        model = nnx.merge(self._graph, params, stats)
        model.eval()
        return Outputs(model(images), model.localizers()), stats


@pytest.mark.slow
@pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no parity fixtures at {FIXTURES}")
def test_boxes_and_scores_of_a_published_checkpoint_are_those_of_its_program():
    want = np.load(FIXTURES / "yolov5n_nc10_parity.npz")
    model = ugs_jax.load(FIXTURES / "yolov5n_nc10.pt", image_size=(128, 160))
    np.testing.assert_array_equal(model.detector.arch.anchors, want["anchors_px"])
    network = OfFractions(model.detector.arch, model.detector.localization)
    predict = jax.jit(functools.partial(predict_everywhere, network), compiler_options=QUICKLY)
    found = predict(model.params, model.stats, want["image_nchw"].transpose(0, 2, 3, 1))
    # Theirs: within a level anchors, then rows, then columns. Ours: rows, columns, anchors.
    order = [np.arange(3 * h * w).reshape(h, w, 3).transpose(2, 0, 1).ravel() for h, w in ((16, 20), (8, 10), (4, 5))]
    index = np.concatenate([part + start for part, start in zip(order, (0, 960, 1200), strict=True)])
    boxes, scores = np.asarray(xyxy_to_cxcywh(found.boxes))[:, index], np.asarray(found.scores)[:, index]
    decoded = want["decoded"]
    assert np.abs(boxes - decoded[..., :4]).max() <= 1e-4 * np.abs(decoded[..., :4]).max()
    np.testing.assert_allclose(scores, decoded[..., 4:5] * decoded[..., 5:], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(not COCO.is_file(), reason=f"no published checkpoint at {COCO}")
def test_the_published_checkpoint_finds_a_person_with_a_tie():
    """Grace Hopper in uniform, 512 × 600 px; the boxes are read off the picture by eye."""
    from matplotlib.cbook import get_sample_data

    model = ugs_jax.load(COCO)
    assert len(model.classes) == 80
    with compiled_quickly():
        found = model(get_sample_data("grace_hopper.jpg", asfileobj=False))
    by_name = {model.classes[index]: box for index, box in zip(found.classes, found.boxes, strict=True)}
    assert set(by_name) == {"person", "tie"}
    np.testing.assert_allclose(by_name["person"], [10, 40, 512, 600], atol=25)
    np.testing.assert_allclose(by_name["tie"], [220, 405, 300, 530], atol=15)


def test_one_image_gives_detections_and_several_give_a_list(monkeypatch):
    """A detector that finds the mean colour of the network's input as one box of score 0.5."""
    from data_pipeline import LoaderOptions
    from ugs_jax.detectors import Detections
    from ugs_jax.runs import LoadedDetector
    from ugs_jax.runs import loaded as place

    def detect(images):
        red = images[..., 0].mean((1, 2))
        box = np.stack([0 * red, 0 * red, red, 0 * red + 8], -1)[:, None]
        ones = np.ones((len(images), 1))
        return Detections(box.astype(np.float32), 0.5 * ones.astype(np.float32), 0 * ones.astype(np.int32), ones > 0)

    monkeypatch.setattr(place, "image_detector", lambda *_: detect)
    experiment = Experiment("a mean", NoData("nothing"), loader=LoaderOptions((64, 64)))
    model = LoadedDetector("a mean", ("red",), detector(), None, experiment, None)
    grey = [np.full((32, 32, 3), value, np.uint8) for value in (20, 40)]  # twice as large in the network's input
    assert model(grey[0]).boxes.tolist() == [[0, 0, 10, 4]]
    assert [found.boxes[0, 2] for found in model(grey)] == [10, 20]
    assert [found.boxes[0, 2] for found in model(np.stack(grey))] == [10, 20]
    assert [found.boxes[0, 2] for found in model(image for image in grey)] == [10, 20]
    assert len(model(grey[0], threshold=0.51).scores) == 0
    with pytest.raises(
        ValueError, match=r"expected uint8 of shape \(height, width, 3\), got uint8 of shape \(32, 32\)"
    ):
        model(grey[0][..., 0])
