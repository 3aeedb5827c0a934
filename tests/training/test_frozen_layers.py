"""Frozen layers in training: nothing of them changes, and the rest learns as before."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from data_pipeline import TinyScenes
from tests.compiling import compiled_quickly
from tests.training.toy import ConvDetector, bits, random_batch, toy_detector_with, toy_experiment, toy_runs
from ugs_jax.experiment import AdamW, Experiment, Network, Schedule, Stabilize, detector_with
from ugs_jax.runs import create_state, device_mesh, load_for_inference
from ugs_jax.training import jit_step, make_step, train

ANCHORS = (((4.0, 5.0), (7.0, 6.0), (9.0, 12.0)), ((12.0, 9.0), (14.0, 20.0), (22.0, 16.0)), ((24.0, 30.0),) * 3)
FREEZE = ("level0", "level1/scores/bias")


def build(freeze=(), accumulate=1, stabilize=None):
    optimizer = AdamW(Schedule(0.01, warmup_epochs=0.0), clip_norm=1e9, stabilize=stabilize)
    experiment = toy_experiment(optimizer=optimizer, freeze=freeze)
    detector = toy_detector_with(experiment, ANCHORS, 3)
    rate = optimizer.schedule.build(3, 6)
    chain, mesh = optimizer.build(rate), device_mesh(1)
    step = make_step(
        detector, chain, rate, experiment.loss_weights, experiment.ema, accumulate=accumulate, freeze=freeze
    )
    with compiled_quickly():
        step = jit_step(step, mesh)
    start = lambda: create_state(detector, chain, 0, freeze)  # noqa: E731
    return SimpleNamespace(step=step, start=lambda: jax.device_put(start(), NamedSharding(mesh, P())))


def flat(tree):
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")  # noqa: E731
    return {name(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def is_frozen(name):
    return name.startswith("level0/") or name == "level1/scores/bias"


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"accumulate": 2}, {"stabilize": Stabilize(every=1, fraction=0.01)}])
def test_frozen_arrays_stay_bit_identical_and_the_others_learn_as_without_freezing(settings):
    frozen, plain = build(FREEZE, **settings), build(**settings)
    before = frozen.start()
    start, batch = flat(before.params), random_batch(4)
    assert not any("level0" in name for name in flat(before.opt_state))
    assert any("level1/scores/kernel" in name for name in flat(before.opt_state))
    after, metrics = frozen.step(before, batch)
    want, _ = plain.step(plain.start(), batch)
    for name, got in flat(after.params).items():
        if is_frozen(name):
            np.testing.assert_array_equal(got, start[name], err_msg=name)
            np.testing.assert_array_equal(flat(after.ema_params)[name], start[name], err_msg=name)
        elif "stabilize" not in settings:  # its step depends on the curvature along all of the update
            np.testing.assert_allclose(got, flat(want.params)[name], rtol=1e-5, atol=1e-7, err_msg=name)
    for seed in range(2):
        after, metrics = frozen.step(after, random_batch(4, seed=seed))
    assert int(metrics["bad_step"]) == -1
    changed = {name for name, leaf in flat(after.params).items() if not np.array_equal(leaf, start[name])}
    assert changed == {name for name in start if not is_frozen(name)}
    assert {name for name, leaf in flat(after.ema_params).items() if np.any(leaf != start[name])} == changed
    assert ("step_scale" in metrics) == ("stabilize" in settings)


@pytest.mark.slow
def test_a_run_with_frozen_layers_is_saved_resumed_and_loaded(tmp_path):
    experiment = toy_experiment(freeze=FREEZE)
    with toy_runs():
        whole = train(experiment, tmp_path / "whole")
        train(experiment, tmp_path / "run", stop_after=4)
        assert bits(train(experiment, tmp_path / "run", resume=True).state) == bits(whole.state)
        detector, state, _ = load_for_inference(tmp_path / "run", which="last")
    start = flat(detector.init(experiment.seed)[0])
    for name, leaf in flat(state.params).items():
        assert np.array_equal(leaf, start[name]) == is_frozen(name), name
    with pytest.raises(ValueError, match=r'freeze is \["level0", "level1/scores/bias"\] there and \[\] here'):
        train(replace(experiment, freeze=()), tmp_path / "run", resume=True)


@pytest.mark.slow
def test_fixed_statistics_are_used_and_unchanged_in_training():
    real = detector_with(Experiment("toy", TinyScenes(), network=Network("p", p2=False)), ANCHORS, 3)
    plain, images = ConvDetector(real.arch, real.localization), random_batch(2).images
    params, stats = plain.init(0)
    run = lambda paths, train: jax.jit(  # noqa: E731
        lambda p, s: plain.with_fixed_statistics(frozenset(paths)).apply(p, s, images, train=train)
    )(params, stats)
    with compiled_quickly():
        outputs, unchanged = run(flat(stats), True)
        evaluated, _ = run((), False)
        _, moved = run([path for path in flat(stats) if path.startswith("down/")], True)
    for got, want in zip(jax.tree.leaves(outputs), jax.tree.leaves(evaluated), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    assert bits(unchanged) == bits(stats)
    changed = {name for name, leaf in flat(moved).items() if not np.array_equal(leaf, flat(stats)[name])}
    assert changed == {name for name in flat(stats) if not name.startswith("down/")}


def test_the_statistics_of_a_frozen_backbone_are_fixed():
    network = Network("p", p2=False)
    frozen = detector_with(Experiment("toy", TinyScenes(), network=network, freeze=("backbone",)), ANCHORS, 3)
    shapes = jax.tree.map(lambda leaf: np.zeros(leaf.shape), frozen.shapes()[1])
    assert frozen.fixed_statistics == {name for name in flat(shapes) if name.startswith("backbone/")}
