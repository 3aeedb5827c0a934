"""Runs that start from weights, and `ugs import` and `ugs export`."""

import functools
import json
import math
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from tests.reference.localization_by_hand import regression
from tests.training.toy import random_batch, toy_experiment
from tests.weights.networks import detector, drawn, same
from ugs_jax.cli import main
from ugs_jax.detectors import COCO_ANCHORS, Detector
from ugs_jax.objectives import UGS, SecondStage
from ugs_jax.runs import TrainState, load_for_inference, loaded
from ugs_jax.training import step, train
from ugs_jax.training.matching import match
from ugs_jax.training.pretrained import read_for_all, start_from, start_width
from ugs_jax.weights import fit_weights, load_weights, published_arrays, read_weights, torch_bytes, weights_of
from ugs_jax.weights.head_start import START_WIDTH

NETWORK = detector(classes=len(toy_experiment().data.classes))


def idle_step(state, batch):
    """Compiles at once, and changes nothing but the count."""
    metrics = {"bad_step": state.bad_step, "learning_rate": np.float32(0), "loss": batch.images.mean()}
    return state._replace(step=state.step + 1), metrics


@pytest.fixture(scope="module", autouse=True)
def quick():
    """No real steps, networks traced without checks, as in use, and fresh parameters that are only drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "make_step", lambda *_, **__: idle_step)
        patch.setattr(Detector, "init", lambda network, seed: jax.tree.map(jnp.asarray, drawn(network, seed)))
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        patch.setattr(loaded, "load_for_inference", functools.cache(lambda path, _, which: inference(path, which)))
        yield


@functools.cache
def inference(path, which):
    return load_for_inference(path, which=which)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A state dict as YOLOv5 has it, for as many classes as the scenes have."""
    path = tmp_path_factory.mktemp("weights") / "published.pt"
    path.write_bytes(torch_bytes(published_arrays(weights_of(NETWORK, *drawn(NETWORK, 3)))))
    return path


def experiment(file):
    plain = toy_experiment()
    return replace(plain, network=replace(plain.network, weights=str(file)))


@pytest.fixture(scope="module")
def run(file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    train(experiment(file), folder, stop_after=1)
    return folder


def test_a_fresh_run_and_its_averages_start_from_the_weights(run):
    _, state, _ = inference(run, "last")
    assert int(state.step) == 1
    assert same((state.params, state.stats), drawn(NETWORK, 3))
    assert same((state.ema_params, state.ema_stats), drawn(NETWORK, 3))
    report = json.loads((run / "weights.json").read_text())
    assert report["origin"] == "published.pt (state dict)"
    assert len(report["loaded"]) == len(jax.tree.leaves(drawn(NETWORK, 3)))


def test_a_resumed_run_does_not_read_the_weights_again(file, run, tmp_path):
    folder, away = tmp_path / "run", file.with_name("away.pt")
    shutil.copytree(run, folder)
    file.rename(away)
    try:
        assert int(train(experiment(file), folder, resume=True, stop_after=1).state.step) == 1
    finally:
        away.rename(file)


def test_what_is_not_loaded_is_said_and_starts_as_without_weights(file, tmp_path, capsys):
    network = detector(classes=NETWORK.arch.classes, localization=UGS(second_stage=SecondStage(hidden=8)))
    params, stats = drawn(network, 4)
    state = TrainState(np.int32(0), np.int32(-1), params, stats, (), params, stats)
    found = start_from(read_for_all(str(file), network), state, network, tmp_path)
    want = drawn(NETWORK, 3)[0]
    for level in range(3):
        assert same(found.params["heads"][level]["second"], params["heads"][level]["second"])
        assert same(found.params["heads"][level]["score"], want["heads"][level]["score"])
    assert same((found.params, found.stats), (found.ema_params, found.ema_stats))
    initialised = json.loads((tmp_path / "weights.json").read_text())["initialised"]
    layers = ("points/kernel", "points/bias", "shape/kernel", "out/kernel")
    assert set(initialised) == {f"heads/{i}/second/{layer}" for i in range(3) for layer in layers}
    said = capsys.readouterr().out
    assert "initialised: heads/0/second: YOLOv5p has no such layer" in said
    assert "localization: layers of UGS made from regression layers" in said


def batch():
    return random_batch(4, seed=5)


@pytest.mark.slow
def test_made_layers_start_as_wide_as_the_published_regression_is_off(file):
    """Root mean square over the positives of every level, of centres in strides and of log sides."""
    anchors = tuple(tuple((0.5 * w, 0.6 * h) for w, h in level) for level in NETWORK.arch.anchors)
    plain, network = (
        detector(classes=NETWORK.arch.classes, localization=objective, anchors=anchors) for objective in (None, UGS())
    )
    weights = read_for_all(str(file), network)
    arrays = {  # drawn kernels, but of a size that sixty layers do not overflow with
        name: array / np.sqrt(array[..., 0].size) if name.endswith("kernel") else array
        for name, array in weights.arrays.items()
    }
    weights = replace(weights, arrays=arrays)
    outputs = jax.jit(lambda *variables: plain.apply(*variables, batch().images, train=False)[0])(
        *fit_weights(weights, plain, *drawn(plain, 4))[:2]
    )
    errors = []
    for i, (one, sizes) in enumerate(zip(match(outputs, batch(), plain.arch, 4.0), COCO_ANCHORS, strict=True)):
        features = np.asarray(one.features(), np.float64)
        kernel, bias = arrays[f"heads/{i}/localize/kernel"], arrays[f"heads/{i}/localize/bias"]
        kernel = kernel / np.abs(features @ kernel).max()
        arrays[f"heads/{i}/localize/kernel"] = kernel.astype(np.float32)
        raw = (features @ kernel + bias).reshape(*features.shape[:-1], 3, 4)
        for index in map(tuple, np.argwhere(one.candidates.positive)):
            center, unit = one.anchors.center[index].tolist(), (one.stride, one.stride)
            boxes = regression(raw[index].tolist(), center, sizes[index[-1]], unit), one.targets[index].tolist()
            centers = [((b[0] + b[2]) / 2 / one.stride, (b[1] + b[3]) / 2 / one.stride) for b in boxes]
            sides = [(math.log(b[2] - b[0]), math.log(b[3] - b[1])) for b in boxes]
            errors.append(np.subtract(*centers).tolist() + np.subtract(*sides).tolist())
    assert len(errors) > 20
    want = np.minimum(np.sqrt(np.mean(np.square(errors), axis=0)), 1)
    state = TrainState(np.int32(0), np.int32(-1), *drawn(network, 4), (), *drawn(network, 4))
    found = start_width(replace(weights, arrays=arrays), network, state, batch, 4.0)
    np.testing.assert_allclose(found, want, rtol=1e-3)
    assert want.min() < 1


@pytest.mark.parametrize("why", ["no positives", "an objective with the same outputs", "another number of anchors"])
def test_without_anything_to_measure_made_layers_start_with_the_usual_width(why, file):
    four = tuple((*level, (50.0, 50.0)) for level in NETWORK.arch.anchors)
    objective = None if why.startswith("an objective") else UGS()
    network = detector(classes=NETWORK.arch.classes, localization=objective, anchors=four if "anchors" in why else None)
    images = batch()._replace(mask=np.zeros_like(batch().mask)) if why == "no positives" else batch()
    state = TrainState(np.int32(0), np.int32(-1), *drawn(network, 4), (), *drawn(network, 4))
    assert start_width(read_for_all(str(file), network), network, state, lambda: images, 4.0) == START_WIDTH


def test_weights_of_another_size_are_refused_before_anything_is_computed(file):
    with pytest.raises(ValueError, match="expected weights of YOLOv5n, got those of YOLOv5p"):
        read_for_all(str(file), detector("n"))


def test_missing_weights_leave_no_run_behind(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pt: expected a \.pt or \.safetensors file"):
        train(experiment(tmp_path / "nowhere.pt"), tmp_path / "run", stop_after=0)
    assert not (tmp_path / "run" / "config.json").exists()


def test_ugs_import_writes_a_safe_file_and_describes_the_weights(file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["import", str(file)]) == 0
    said = capsys.readouterr().out
    parameters = f"YOLOv5p, {NETWORK.num_parameters():,} parameters"
    for text in ("published.pt (state dict)", parameters, "10,13 16,30 33,23 px", "anchors /32"):
        assert text in said
    assert same(read_weights(tmp_path / "published.ugs.safetensors").arrays, read_weights(file).arrays)
    (tmp_path / "folder").mkdir()
    assert main(["import", str(file), "--output", "folder"]) == 0
    assert (tmp_path / "folder" / "published.ugs.safetensors").is_file()
    assert main(["import", "published.ugs.safetensors"]) == 1
    assert "expected another file than the one that is read" in capsys.readouterr().err
    assert main(["import", "nowhere.pt"]) == 1
    assert "ugs import: nowhere.pt: expected a .pt or .safetensors file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--format", "pytorch-state-dict"], "run-last.pt"),
        (["--format", "pytorch-state-dict", "--output", "names.safetensors"], "names.safetensors"),
        (["--format", "safetensors"], "run-last.safetensors"),
    ],
)
def test_ugs_export_writes_the_averages_of_a_run_bit_identically(words, name, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run), "--which", "last", *words]) == 0
    network, state, _ = inference(run, "last")
    params, stats, report = load_weights(tmp_path / name, network, *drawn(NETWORK, 9))
    assert not report.initialised
    assert same((params, stats), (state.ema_params, state.ema_stats))
    found = read_weights(tmp_path / name)
    np.testing.assert_allclose(found.arch.anchors, network.arch.anchors, rtol=1e-6)  # float32 in a state dict
    assert (found.classes is None) == (words[1] != "safetensors")


def test_ugs_export_writes_a_program(run, tmp_path):
    path = tmp_path / "program"
    words = ["--which", "last", "--format", "stablehlo", "--output", str(path), "--batch-size", "2"]
    assert main(["export", str(run), *words]) == 0
    program = jax.export.deserialize(bytearray(path.read_bytes()))
    assert [(images.shape, images.dtype) for images in program.in_avals] == [((2, 64, 64, 3), np.uint8)]


def test_ugs_export_of_a_missing_run_is_an_error(capsys):
    assert main(["export", "nowhere"]) == 1
    assert "nowhere: expected a run folder" in capsys.readouterr().err
