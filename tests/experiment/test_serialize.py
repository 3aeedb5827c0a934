"""Configs as JSON: written configs can be read back, and values that cannot be read are named."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import optax
import pytest

from data_pipeline import Augmentation, CocoJson, DataSource, LoaderOptions, TinyScenes, VisDrone
from ugs_jax import losses
from ugs_jax.detectors import Assigner, CenterSampling, DetectorConfig, Postprocess, ReceptiveField, TaskAligned
from ugs_jax.experiment import (
    SGD,
    AdamW,
    Ema,
    Experiment,
    LossWeights,
    Network,
    OptaxChain,
    Optimizer,
    Schedule,
    from_json,
    to_json,
)
from ugs_jax.experiment.config import check_members
from ugs_jax.objectives import (
    DFL,
    UGS,
    BoxRegression,
    FittedGrid,
    Grid,
    GridPoints,
    Localization,
    Quality,
    Refinement,
    SecondStage,
    SideUGS,
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
    "sides": Experiment("sides", SCENES, SideUGS(grid=FittedGrid(6), um=None, box_weight=0.25)),
    "quality": Experiment("quality", SCENES, DFL(second_stage=SecondStage(), quality=Quality())),
    "widened": Experiment("w", SCENES, network=Network(kind="yolov8", assigner=TaskAligned(5, widen="second"))),
    "receptive": Experiment("r", SCENES, network=Network(kind="yolo11", assigner=ReceptiveField((5.7, 8.3), 4))),
    "center": Experiment("c", SCENES, network=Network(kind="yolov8", assigner=CenterSampling(2.5, topk=5))),
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
        (changed(localization={"type": "BoxRegresion"}), r"config\.localization: .*did you mean 'BoxRegression'\?"),
        (changed(localization={"function": "cioux"}), r"config\.localization: a loss: .*did you mean 'ciou'\?"),
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


def test_what_has_no_name_cannot_be_written():
    with pytest.raises(ValueError, match="at the top level of a module"):
        to_json(BoxRegression(lambda boxes, targets: boxes[..., 0] - targets[..., 0]))
    with pytest.raises(ValueError, match="expected numbers, texts, functions or dataclasses"):
        to_json(object())


def own_loss(boxes, targets, *, power=2.0):
    return jnp.sum(jnp.abs(boxes - targets) ** power, axis=-1)


@dataclass(frozen=True)
class OwnRegression(BoxRegression):
    margin: float = 0.5


@dataclass(frozen=True)
class OwnScenes(TinyScenes):
    tags: tuple[str, ...] = ()


@dataclass
class Rate:
    peak: float = 0.1

    def build(self, steps_per_epoch, total_steps):
        return lambda _: self.peak


def own_chain(learning_rate, *, momentum=0.9):
    return optax.sgd(learning_rate, momentum)


OWN = {
    "a function": Experiment("a", SCENES, BoxRegression(own_loss, space="offsets")),
    "a hyperparameter of our loss": Experiment("a", SCENES, BoxRegression(partial(losses.nwd, constant=20.0))),
    "a hyperparameter of an own loss": Experiment("a", SCENES, UGS(box_loss=partial(own_loss, power=3))),
    "a partial of a partial": Experiment("a", SCENES, DFL(box_loss=partial(partial(own_loss, power=3), power=4))),
    "an objective": Experiment("a", SCENES, OwnRegression(losses.giou, margin=1.0)),
    "a data set": Experiment("a", OwnScenes(tags=("small", "night"))),
    "a schedule": Experiment("a", SCENES, optimizer=SGD(schedule=Rate(0.3))),
    "a chain of optax": Experiment("a", SCENES, optimizer=OptaxChain(partial(optax.lion, b1=0.8))),
    "a chain": Experiment("a", SCENES, optimizer=OptaxChain(own_chain, Rate())),
}


@pytest.mark.parametrize("name", OWN)
def test_what_a_user_brings_survives_json(name):
    written = json.loads(json.dumps(to_json(OWN[name])))
    read = from_json(written)
    assert to_json(read) == written
    assert repr(read) == repr(OWN[name])  # partials are equal to themselves only


def test_settings_of_a_loss_are_written_beside_its_name():
    written = to_json(OWN["a hyperparameter of our loss"].localization)
    assert written["box_loss"] == {"function": "nwd", "arguments": {"constant": 20.0}}
    assert to_json(OWN["an objective"].localization)["type"] == f"{__name__}:OwnRegression"


UNNAMED = lambda *_: 0  # noqa: E731


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (UNNAMED, "expected a class or function at the top level of a module.*got <lambda>; .*partial"),
        (partial(losses.nwd, None), r"expected arguments by name in the partial of nwd, got None; write partial\(nwd"),
        (partial(losses.nwd, constnt=3.0), "nwd has no argument 'constnt'; did you mean 'constant'"),
        (partial(losses.nwd, constant=jnp.ones(())), "expected a dataclass, function, number, text or None"),
        (partial(UNNAMED, c=1), "got <lambda>"),
    ],
)
def test_a_loss_that_cannot_be_saved_is_refused_when_the_experiment_is_built(loss, message):
    with pytest.raises(ValueError, match=rf"Experiment\.localization\.box_loss.*: .*{message}"):
        Experiment("a", SCENES, BoxRegression(loss))


def test_a_nested_function_is_refused_when_the_experiment_is_built():
    def nested(boxes, targets):
        return 0

    with pytest.raises(ValueError, match=r"Experiment\.localization\.box_loss: .*nested; define it with"):
        Experiment("a", SCENES, UGS(box_loss=nested))


@pytest.mark.parametrize(
    ("value", "protocol", "message"),
    [
        (3, DataSource, "expected an object like DataSource, got int, which has no open"),
        (TinyScenes, DataSource, r"expected an object, got the class TinyScenes; write TinyScenes\(\)"),
        (
            losses.nwd,
            Localization,
            "expected an object like Localization, got function, which has no num_outputs, decode, loss",
        ),
        (
            None,
            DetectorConfig,
            "expected an object like DetectorConfig, got NoneType, which has no strides, fit_anchors, build",
        ),
        (TaskAligned, Assigner, r"expected an object, got the class TaskAligned; write TaskAligned\(\)"),
        (optax.sgd(0.1), Optimizer, "expected an object like Optimizer, got .*, which has no schedule, build"),
    ],
)
def test_an_object_without_the_members_of_its_protocol_is_refused(value, protocol, message):
    with pytest.raises(ValueError, match=f"^here: {message}"):
        check_members(value, protocol, "here")  # in an Experiment, the tests' checks of types would come first


SCRIPT = """
from functools import partial
import sys
from data_pipeline import TinyScenes
from ugs_jax.objectives import BoxRegression
from ugs_jax.experiment import Experiment, from_json, to_json
def loss(boxes, targets, *, power=2):
    return power
experiment = Experiment("a", TinyScenes(), BoxRegression(partial(loss, power=3)))
written = to_json(experiment)
assert from_json(written).localization.box_loss.func is loss
print(written["localization"]["box_loss"]["function"])
"""


@pytest.mark.parametrize(("how", "name"), [("file", "drone_script:loss"), ("module", "drone_script:loss")])
def test_a_script_saves_its_functions_under_the_name_of_its_file(how, name, tmp_path):
    (tmp_path / "drone_script.py").write_text(SCRIPT)
    words = [str(tmp_path / "drone_script.py")] if how == "file" else ["-m", "drone_script"]
    places = os.pathsep.join([str(Path(__file__).parents[2]), str(tmp_path)])
    shown = subprocess.run(
        [sys.executable, *words], env=os.environ | {"PYTHONPATH": places}, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == name


def test_a_function_of_a_notebook_is_not_found_elsewhere():
    with pytest.raises(ValueError, match="defined in a notebook"):
        from_json({"function": "__main__:loss_of_a_notebook"})


class Plain:
    def open(self, split, cache_dir=None):
        raise NotImplementedError


def test_an_object_that_is_no_dataclass_is_refused_when_the_experiment_is_built():
    with pytest.raises(ValueError, match=r"Experiment\.data: .*make Plain a dataclass"):
        Experiment("a", Plain())
