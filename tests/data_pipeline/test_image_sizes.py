"""Multi-scale training: every batch has one size, drawn by seed and step, and is otherwise as at that size alone."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from jax.sharding import AbstractMesh

from data_pipeline import LoaderOptions, TinyScenes, TrainLoader, eval_batches
from tests.training.toy import toy_experiment
from ugs_jax.planning.program import batch_shapes
from ugs_jax.runs.sharding import check_sizes

SIZES = ((32, 64), (64, 64), (64, 96))
OPTIONS = LoaderOptions((64, 64), 4, max_boxes=24, max_ignore=3, threads=0, seed=5, image_sizes=SIZES)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    source = TinyScenes(train_images=10, val_images=3, image_size=(64, 64))
    folder = tmp_path_factory.mktemp("scenes")
    return source.open("train", folder), source.open("val", folder)


def assert_equal(a, b):
    for name, left, right in zip(a._fields, a, b, strict=True):
        np.testing.assert_array_equal(left, right, err_msg=name)


@pytest.mark.parametrize("buckets", [(), (6, 12)])
def test_a_batch_equals_that_of_a_loader_of_its_size(scenes, buckets):
    options = replace(OPTIONS, box_buckets=buckets)
    loader, sizes = TrainLoader(scenes[0], options), []
    for step, batch in enumerate(islice(loader.batches(), 10)):
        sizes.append(batch.images.shape[1:3])
        alone = TrainLoader(scenes[0], replace(options, image_size=sizes[-1], image_sizes=())).batch_at(step)
        assert_equal(batch, alone)
    assert set(sizes) == set(SIZES)


def test_sizes_are_those_of_seed_and_step_in_every_process_and_after_a_restart(scenes):
    whole = [batch.images.shape for batch in islice(TrainLoader(scenes[0], OPTIONS).batches(), 8)]
    resumed = islice(TrainLoader(scenes[0], replace(OPTIONS, threads=2)).batches(5), 3)
    assert [batch.images.shape for batch in resumed] == whole[5:]
    shares = [TrainLoader(scenes[0], OPTIONS, process, 2) for process in range(2)]
    for step in range(4):
        assert {share.batch_at(step).images.shape[1:] for share in shares} == {whole[step][1:]}
    drawn = [replace(OPTIONS, seed=6).size_at(step) for step in range(3000)]
    np.testing.assert_allclose(np.bincount(drawn) / 3000, 1 / 3, atol=4 * 0.48 / 3000**0.5)
    assert drawn[:8] != [OPTIONS.size_at(step) for step in range(8)]


def test_an_evaluation_has_the_size_of_the_images_alone(scenes):
    assert {batch.images.shape for batch in eval_batches(scenes[1], OPTIONS)} == {(4, 64, 64, 3)}


@pytest.mark.slow
def test_worker_processes_load_every_size(scenes):
    loader = TrainLoader(scenes[0], replace(OPTIONS, workers=1, threads=1))
    for step, batch in enumerate(islice(loader.batches(), 4)):
        assert_equal(batch, loader.batch_at(step))


def test_the_plan_is_for_the_largest_size():
    assert batch_shapes(OPTIONS).images.shape == (4, 64, 96, 3)


def test_batches_of_several_sizes_cannot_be_joined(scenes):
    with pytest.raises(ValueError, match=r"image_sizes: expected one size of batches, got .*leave it out"):
        TrainLoader(scenes[0], OPTIONS).of_one_shape(2)


def test_sizes_that_the_network_or_the_devices_cannot_take_are_refused():
    with pytest.raises(ValueError, match=r"LoaderOptions\.image_sizes\[1\]: expected at least 1, got 0"):
        replace(OPTIONS, image_sizes=((64, 64), (64, 0)))
    message = r"loader\.image_sizes\[1\]: expected .* multiples of 32 .*, got \(64, 72\); try \(64, 96\)"
    with pytest.raises(ValueError, match=message):
        toy_experiment(loader=replace(OPTIONS, image_sizes=((64, 64), (64, 72))))
    check_sizes(OPTIONS, AbstractMesh((2, 1), ("data", "spatial")))
    with pytest.raises(ValueError, match=r"loader\.image_sizes\[0\]: expected a height that is a multiple of 64"):
        check_sizes(OPTIONS, AbstractMesh((1, 2), ("data", "spatial")))
