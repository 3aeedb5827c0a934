"""Files of detectors with a second stage and a quality predictor: there and back, fitted to others, and hostile."""

import json

import numpy as np
import pytest
import safetensors.numpy

from tests.weights.networks import detector, drawn, same
from ugs_jax.objectives import DFL, UGS, Grid, Quality, SecondStage
from ugs_jax.weights import fit_weights, read_weights, weights_of, write_weights

BOTH = UGS(second_stage=SecondStage(hidden=8), quality=Quality(hidden=6))
ADDED = {
    "second": ("points/kernel", "points/bias", "shape/kernel", "out/kernel"),
    "quality": ("hidden/kernel", "hidden/bias", "out/kernel", "out/bias"),
}


def paths(*names):
    return {f"heads/{level}/{name}/{array}" for level in range(3) for name in names for array in ADDED[name]}


@pytest.mark.parametrize(
    "objective",
    [BOTH, DFL(second_stage=SecondStage(hidden=8)), UGS(quality=Quality(hidden=6))],
    ids=["both", "second stage", "quality"],
)
def test_a_file_gives_back_every_layer_to_the_bit(objective, tmp_path):
    network = detector(localization=objective)
    params, stats = drawn(network, 1)
    write_weights(tmp_path / "file.safetensors", weights_of(network, params, stats, origin="a test"))
    found = read_weights(tmp_path / "file.safetensors")
    assert found.arch == network.full_arch
    params_back, stats_back, report = fit_weights(found, network, *drawn(network, 2))
    assert same((params, stats), (params_back, stats_back))
    assert not report.initialised
    assert not report.unused
    assert found.num_parameters == network.num_parameters()


def fitted(source, target):
    """Weights, fresh parameters, and what was fitted into them."""
    weights = weights_of(source, *drawn(source, 1))
    params, stats = drawn(target, 2)
    new, _, report = fit_weights(weights, target, params, stats)
    return weights, params, new, report


def test_layers_that_the_weights_do_not_have_stay_fresh():
    _, fresh, new, report = fitted(detector(localization=UGS()), detector(localization=BOTH))
    assert set(report.initialised) == paths("second", "quality")
    assert set(report.initialised.values()) == {"YOLOv5p has no such layer"}
    for level in range(3):
        assert all(same(new["heads"][level][name], fresh["heads"][level][name]) for name in ADDED)
        assert not same(new["heads"][level]["localize"], fresh["heads"][level]["localize"])


def test_layers_that_the_detector_does_not_have_are_not_used():
    *_, report = fitted(detector(localization=BOTH), detector(localization=UGS()))
    assert not report.initialised
    assert set(report.unused) == paths("second", "quality")


def test_other_widths_and_classes_keep_what_fits():
    other = UGS(second_stage=SecondStage(hidden=10), quality=Quality(hidden=6))
    _, fresh, new, report = fitted(detector(localization=BOTH), detector(localization=other, classes=5))
    scores = {f"heads/{level}/score/{array}" for level in range(3) for array in ("kernel", "bias")}
    assert set(report.initialised) - scores == paths("second")
    assert report.initialised["heads/0/second/points/bias"] == "[10] here, [8] in the weights"
    assert paths("quality") <= set(report.loaded)
    assert all(same(new["heads"][level]["second"], fresh["heads"][level]["second"]) for level in range(3))


def test_layers_that_know_distributions_over_another_grid_stay_fresh():
    grid = Grid(3.0, 0.0, 10)
    other = UGS(grid, grid, second_stage=SecondStage(hidden=8), quality=Quality(hidden=6))
    _, fresh, new, report = fitted(detector(localization=BOTH), detector(localization=other))
    assert paths("second", "quality") <= set(report.initialised)
    assert report.initialised["heads/0/quality/out/bias"].endswith("in the weights")
    for level in range(3):
        assert all(same(new["heads"][level][name], fresh["heads"][level][name]) for name in ADDED)


@pytest.mark.parametrize("name", ["second_stage", "quality"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-1, "1 to 10000 hidden units, got -1"),
        (10**12, "1 to 10000 hidden units, got 1000000000000"),
        (10**400, "1 to 10000 hidden units"),
        (float("inf"), "OverflowError"),
        (float("nan"), "ValueError"),
        ("many", "ValueError"),
        (None, "TypeError"),
        ([8], "TypeError"),
        ({}, "TypeError"),
        (0, "which YOLOv5p does not have"),
        (7, r"\d+\] instead of \["),
    ],
)
def test_hidden_widths_that_make_no_sense_are_refused(name, value, message, tmp_path):
    network = detector(localization=BOTH)
    data = weights_of(network, *drawn(network, 0), origin="a test").to_bytes()
    about = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["ugs_jax"])
    assert about[name] == getattr(network.full_arch, name)
    path = tmp_path / "odd.safetensors"
    path.write_bytes(
        safetensors.numpy.save(safetensors.numpy.load(data), {"ugs_jax": json.dumps(about | {name: value})})
    )
    with pytest.raises(ValueError, match=rf"odd\.safetensors: .*{message}"):
        read_weights(path)


def test_a_file_from_before_there_were_such_layers_is_read(tmp_path):
    network = detector(localization=UGS())
    data = weights_of(network, *drawn(network, 0), origin="a test").to_bytes()
    about = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["ugs_jax"])
    old = {key: value for key, value in about.items() if key not in ("second_stage", "quality")}
    path = tmp_path / "old.safetensors"
    path.write_bytes(safetensors.numpy.save(safetensors.numpy.load(data), {"ugs_jax": json.dumps(old)}))
    found = read_weights(path)
    assert found.arch == network.full_arch
    assert all(np.array_equal(array, found.arrays[name]) for name, array in safetensors.numpy.load(data).items())
