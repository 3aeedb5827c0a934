"""Configs as JSON: written configs can be read back, and values that cannot be read are named."""

import json
from pathlib import Path

import pytest

from data_pipeline import Augmentation, CocoJson, LoaderOptions, TinyScenes, VisDrone
from ugs_jax import losses
from ugs_jax.detectors import Postprocess
from ugs_jax.experiment import SGD, AdamW, Ema, Experiment, LossWeights, Network, Schedule, from_json, to_json
from ugs_jax.objectives import (
    DFL,
    UGS,
    BoxRegression,
    FittedGrid,
    Grid,
    GridPoints,
    Quality,
    Refinement,
    SecondStage,
    Uncertainty,
)

SCENES = TinyScenes()
EXPERIMENTS = {
    "defaults": Experiment("defaults", SCENES),
    "coco": Experiment("coco", CocoJson(Path("a"), Path("b.json"), Path("c"), Path("d.json")), BoxRegression()),
    "visdrone": Experiment("visdrone", VisDrone(Path("somewhere/else")), DFL(start=-2, box_loss=losses.nwd)),
    "offsets": Experiment("offsets", SCENES, BoxRegression(losses.smooth_l1, space="offsets"), optimizer=SGD()),
    "plain": Experiment("plain", SCENES, UGS(Grid(2.0), Grid(3.0, 0.5), um=None, refinement=None)),
    "fitted": Experiment("fitted", SCENES, UGS(FittedGrid(4), GridPoints((-1.0, -0.1, 0.0, 1 / 3, 2.0)))),
    "match": Experiment("match", SCENES, UGS(um=Uncertainty("match", 0.1), refinement=Refinement(0.25, 1 / 3))),
    "as printed": Experiment("as printed", SCENES, UGS.as_printed()),
    "two stages": Experiment("two stages", SCENES, UGS(second_stage=SecondStage(32, 0.75), quality=Quality(16, 0.5))),
    "quality": Experiment("quality", SCENES, DFL(second_stage=SecondStage(), quality=Quality())),
    "inference": Experiment("inference", SCENES, postprocess=Postprocess(spread_penalty=4.0, quality_power=0.5)),
    "all": Experiment(
        "all",
        TinyScenes("full", (96, 64), 3, 2, seed=4),
        network=Network("s", p2=False, anchors=(((1.5, 2.0),) * 3,) * 3, dtype="bfloat16"),
        loader=LoaderOptions((96, 64), 2, augmentation=Augmentation.none()),
        loss_weights=LossWeights(box=0.1),
        optimizer=AdamW(Schedule(1e-4, 0.3), b1=0.8),
        ema=Ema(0.5, 3.0),
        postprocess=Postprocess(0.01),
        epochs=2,
        seed=7,
    ),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_survives_json(name):
    experiment = EXPERIMENTS[name]
    assert from_json(json.loads(json.dumps(to_json(experiment)))) == experiment


@pytest.mark.parametrize("name", losses.__all__)
def test_every_loss_survives_json(name):
    loss = getattr(losses, name)
    assert from_json(json.loads(json.dumps(to_json(loss)))) is loss


def changed(**fields):
    return to_json(EXPERIMENTS["offsets"]) | fields


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (changed(epoch=3), r"config\.epoch: no such field of Experiment; did you mean 'epochs'\?"),
        (changed(ema={"type": "Ema", "decoy": 0.1}), r"config\.ema\.decoy: .*did you mean 'decay'\?"),
        (changed(localization={"type": "UGSS"}), r"config\.localization: .*got 'UGSS'; did you mean 'UGS'\?"),
        (changed(localization={"loss": "cioux"}), r"config\.localization: a loss: .*did you mean 'ciou'\?"),
        (changed(localization={"type": "os.system"}), "expected a known name, got 'os.system'"),
        (changed(localization={"field": 1}), "expected a known name, got None"),
        ({"type": "Experiment", "epochs": 3}, "expected all fields of Experiment, but name, data are missing"),
        (changed(epochs=0), r"Experiment\.epochs: expected at least 1, got 0"),
        (changed(ema={"type": "Ema", "ramp": 0.0}), r"Ema\.ramp: expected a positive number"),
    ],
)  # fmt: skip
def test_an_unknown_name_is_refused_with_the_nearest_known_name(config, message):
    with pytest.raises(ValueError, match=message):
        from_json(config)


@pytest.mark.parametrize("value", ["__import__('os').getcwd()", "{}", "lambda: 0"])
def test_text_stays_text(value):
    assert from_json(changed(name=value)).name == value


def test_a_loss_of_the_users_own_cannot_be_saved():
    with pytest.raises(ValueError, match=r"expected a loss of ugs_jax\.losses"):
        to_json(BoxRegression(lambda boxes, targets: boxes[..., 0] - targets[..., 0]))
    with pytest.raises(ValueError, match="expected numbers, texts, losses or dataclasses"):
        to_json(object())
