"""PyTorch trains the same model on the same losses; nothing here runs without PyTorch."""

import copy
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline import LoaderOptions, TinyScenes
from tests.flags import QUICKLY
from tests.training.toy import random_batch
from ugs_jax import losses
from ugs_jax.detectors import COCO_ANCHORS, Architecture, Detector, assign
from ugs_jax.experiment import SGD, AdamW, Experiment, Network, Schedule
from ugs_jax.objectives import BoxRegression
from ugs_jax.runs import create_state
from ugs_jax.training import make_step, objective

torch = pytest.importorskip("torch")

from experiments.benchmarks import torch_objective, torch_training, torch_yolov5  # noqa: E402

pytestmark = pytest.mark.slow

P2_ANCHORS = (((5, 6), (8, 15), (16, 11)), *COCO_ANCHORS)


def detector_of(size, p2=False, classes=10):
    return Detector(Architecture(size, p2, classes, P2_ANCHORS if p2 else COCO_ANCHORS), BoxRegression())


def experiment_of(p2=False, optimizer=None):
    return Experiment(
        "test",
        TinyScenes(),
        localization=BoxRegression(),
        network=Network("p", p2),
        loader=LoaderOptions((64, 64), 2),
        optimizer=optimizer or AdamW(Schedule(1e-3, warmup_epochs=0.02)),
    )


def crowded_batch():
    """Thirty boxes an image, with an ignore region that covers some of them and of the cells."""
    batch = random_batch(boxes=31)
    ignore, mask = batch.ignore.copy(), batch.ignore_mask.copy()
    ignore[0, 0], mask[0, 0] = [0, 0, 50, 40], True
    return batch._replace(ignore=ignore, ignore_mask=mask)


def trainer_of(detector, experiment, seed=0):
    trainer = torch_training.Trainer(detector.arch, experiment, 100, compiled=False)
    torch_yolov5.load(trainer.loss.network, *detector.init(seed))
    return trainer


@pytest.mark.parametrize(("size", "p2"), [("p", False), ("n", True)])
def test_parameters_are_equal_in_number_and_every_one_is_carried_over(size, p2):
    detector = detector_of(size, p2)
    network = torch_yolov5.YOLOv5(detector.arch)
    assert sum(p.numel() for p in network.parameters()) == detector.num_parameters()
    torch_yolov5.load(network, *detector.init(3))
    params, _ = detector.init(3)
    np.testing.assert_array_equal(
        network.neck.downs[0].conv.weight.detach()[4, 2], params["neck"]["downs"][0]["conv"]["kernel"][:, :, 2, 4]
    )


@pytest.mark.parametrize("p2", [False, True])
def test_outputs_agree_in_training_mode(p2):
    detector = detector_of("p", p2)
    params, stats = detector.init(0)
    images = random_batch().images
    run = jax.jit(detector.apply, static_argnames="train", compiler_options=QUICKLY)
    wanted, new_stats = run(params, stats, images, train=True)
    network = torch_yolov5.YOLOv5(detector.arch)
    torch_yolov5.load(network, params, stats)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    exact = copy.deepcopy(network).double().train()(pixels.double() / 255)
    found = network.train()(pixels.float() / 255)
    for level, truth, one in zip(found, exact, wanted.levels, strict=True):
        for name in ("features", "objectness", "classes"):
            own, true = (getattr(side, name).detach().numpy() for side in (level, truth))
            theirs = np.asarray(getattr(one, name)).reshape(own.shape)
            # Some 60 normalised layers add up rounding, in JAX no more than a few times what it is in PyTorch itself.
            assert np.linalg.norm(theirs - true) <= 4 * np.linalg.norm(own - true) < 1e-3 * np.linalg.norm(true)
    mean = new_stats["backbone"]["stem"]["norm"]["mean"]
    np.testing.assert_allclose(network.backbone.stem.norm.running_mean, mean, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_same_cells_and_anchors_learn_a_box(level):
    experiment, detector = experiment_of(), detector_of("p")
    rng = np.random.default_rng(level)
    corner = rng.uniform(-8, [88, 56], (2, 60, 2)).round(rng.integers(0, 2))  # ties at integers; centres outside
    boxes = np.concatenate([corner, corner + rng.uniform(2, 60, corner.shape).round()], -1).astype(np.float32)
    mask = rng.random((2, 60)) < 0.8
    stride, sizes = detector.arch.strides[level], np.asarray(detector.arch.anchors[level], np.float32)
    wanted = assign(boxes, mask, sizes, stride=stride, shape=(64 // stride, 96 // stride))
    module = torch_objective.Objective(detector.arch, experiment.loss_weights, (64, 96))
    found = module.assign(torch.from_numpy(boxes), torch.from_numpy(mask), level)
    assert wanted.positive.any()
    np.testing.assert_array_equal(found.positive, wanted.positive)
    np.testing.assert_array_equal(found.cell, np.asarray(wanted.cell).reshape(2, -1))
    np.testing.assert_array_equal(found.center[:, :, :, 0], wanted.center)


def test_ciou_agrees_in_value_and_gradient():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 20, (2, 200, 2))
    boxes, targets = np.concatenate([corners, corners + rng.uniform(1, 30, corners.shape)], -1).astype(np.float32)
    given = torch.from_numpy(boxes).requires_grad_()
    found = torch_objective.ciou(given, torch.from_numpy(targets))
    found.sum().backward()
    np.testing.assert_allclose(
        found.detach(), losses.ciou(jnp.asarray(boxes), jnp.asarray(targets)), rtol=1e-5, atol=1e-6
    )
    gradient = jax.grad(lambda b: jnp.sum(losses.ciou(b, jnp.asarray(targets))))(jnp.asarray(boxes))
    np.testing.assert_allclose(given.grad, gradient, rtol=1e-3, atol=1e-6)  # differences of areas of some 100 px²


@pytest.mark.parametrize("p2", [False, True])
def test_losses_agree_on_crowded_scenes_with_an_ignore_region(p2):
    experiment, detector = experiment_of(p2), detector_of("p", p2)
    batch, (params, stats) = crowded_batch(), detector.init(0)

    def loss_of(params):
        outputs, _ = detector.apply(params, stats, batch.images, train=True)
        return objective(outputs, batch, detector.localization, detector.arch, experiment.loss_weights)[0]

    wanted = float(jax.jit(loss_of, compiler_options=QUICKLY)(params))
    trainer = trainer_of(detector, experiment)
    assert float(trainer.loss(trainer.place(batch)).detach()) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [AdamW, SGD])
def test_losses_agree_over_several_steps(optimizer):
    experiment = experiment_of(optimizer=optimizer(Schedule(1e-3, warmup_epochs=0.02)))
    detector, batch = detector_of("p"), crowded_batch()
    rate = experiment.optimizer.schedule.build(100, 100 * experiment.epochs)
    chain = experiment.optimizer.build(rate)
    step = jax.jit(make_step(detector, chain, rate, experiment.loss_weights, experiment.ema), compiler_options=QUICKLY)
    state, trainer = create_state(detector, chain, 0), trainer_of(detector, experiment)
    on_device = trainer.place(batch)
    wanted, found = [], []
    for _ in range(3):
        state, metrics = step(state, batch)
        wanted.append(float(metrics["loss"]))
        found.append(float(trainer.step(on_device)))
    assert abs(wanted[0] - wanted[-1]) > 1e-3 * wanted[0]  # it learns, so equal losses say that steps are equal
    # Adam divides by the size of a gradient, however small, so rounding grows from step to step: parameters moved by
    # 1e-6 of themselves change JAX's own second loss by up to 2e-4 and its third by up to 4e-3.
    np.testing.assert_array_less(np.abs(np.divide(found, wanted) - 1), [1e-5, 3e-4, 4e-3])
    average = dict(zip((name for name, _ in trainer.loss.network.named_parameters()), trainer.average, strict=False))
    wanted_average = torch_yolov5.state_dict_of(state.ema_params, {})
    name = "heads.0.score.bias"
    np.testing.assert_allclose(average[name], wanted_average[name], rtol=1e-3, atol=1e-4)


def test_the_schedule_is_that_of_the_library():
    options = Schedule(0.01, warmup_epochs=3.0, final=0.1)
    wanted, found = options.build(7, 70), torch_training.schedule(options, 7, 70)
    np.testing.assert_allclose([found(i) for i in range(75)], [float(wanted(i)) for i in range(75)], rtol=1e-5)


def test_the_dtype_of_an_experiment_is_used():
    experiment = experiment_of()
    half = replace(experiment, network=replace(experiment.network, dtype="bfloat16"))
    detector, batch = detector_of("p"), crowded_batch()
    full, rough = (trainer_of(detector, one) for one in (experiment, half))
    exact, rounded = (float(one.loss(one.place(batch)).detach()) for one in (full, rough))
    assert exact != rounded
    assert rounded == pytest.approx(exact, rel=0.05)  # 8 bits, 60 layers
