"""Fields on the command line: of any class, with the settings of losses."""

from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import pytest

from data_pipeline import TinyScenes
from ugs_jax import losses
from ugs_jax.commands.overrides import function_text, mirror, parse_function, restore
from ugs_jax.commands.train import with_overrides
from ugs_jax.detectors import CenterSampling, ReceptiveField
from ugs_jax.experiment import SGD, Experiment, Network, OptaxChain, to_json
from ugs_jax.objectives import DFL, UGS, BoxLoss, BoxRegression, FittedGrid, Grid


def own_loss(boxes, targets, *, power=2.0, name="", sides=(1, 2)):
    return power


class Anything(Protocol):
    def go(self) -> int: ...


@dataclass(frozen=True)
class OwnScenes(TinyScenes):
    """Scenes of mine.

    Attributes:
      flavour: Flavour of the scenes.
    """

    flavour: str = "plain"
    limit: int | None = None
    anything: Anything | None = None
    extra_losses: tuple[BoxLoss, ...] = (losses.nwd, own_loss)
    nested: Grid = field(default_factory=lambda: Grid(2.0))


@dataclass(frozen=True)
class Constant:
    peak: float = 0.1

    def build(self, steps_per_epoch, total_steps):
        return lambda _: self.peak


def own_chain(learning_rate, *, momentum=0.9):
    raise NotImplementedError


EXPERIMENT = Experiment(
    "mine", OwnScenes(), BoxRegression(partial(own_loss, power=3)), optimizer=OptaxChain(own_chain, Constant())
)
EXPERIMENTS = {
    "mine": EXPERIMENT,
    "defaults": Experiment("defaults", TinyScenes()),
    "dfl": Experiment("dfl", TinyScenes(), DFL(), optimizer=SGD()),
    "receptive": Experiment("r", TinyScenes(), network=Network(kind="yolov8", assigner=ReceptiveField((6.0, 5.0)))),
    "center": Experiment("c", TinyScenes(), network=Network(kind="yolo11", assigner=CenterSampling())),
    "fitted": Experiment("fitted", TinyScenes(), UGS(FittedGrid(8), Grid(2.0, n=8), um=None)),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_without_words_an_experiment_stays_as_it_is(name):
    assert with_overrides(EXPERIMENTS[name], [], "ugs").experiment == EXPERIMENTS[name]


@pytest.mark.parametrize(
    ("words", "place", "value"),
    [
        (["--data.flavour", "salt"], ("data", "flavour"), "salt"),
        (["--data.limit", "3"], ("data", "limit"), 3),
        (["--data.nested.alpha", "3"], ("data", "nested", "alpha"), 3.0),
        (["--optimizer.schedule.peak", "0.5"], ("optimizer", "schedule", "peak"), 0.5),
        (["--localization.space", "offsets"], ("localization", "space"), "offsets"),
        (["--epochs", "7"], ("epochs",), 7),
        (["--network.assigner.widen", "second"], ("network", "assigner", "widen"), "second"),
        (["--network.assigner.similarity", "nwd"], ("network", "assigner", "similarity"), "nwd"),
        (["--network.kind", "yolov8"], ("network", "kind"), "yolov8"),
        (["--localization.box-loss", "giou"], ("localization", "box_loss"), {"function": "giou"}),
        (
            ["--localization.box-loss", "nwd(constant=20)"],
            ("localization", "box_loss"),
            {"function": "nwd", "arguments": {"constant": 20}},
        ),
        (
            ["--localization.box-loss=smooth_l1( beta = 0.1 )"],
            ("localization", "box_loss"),
            {"function": "smooth_l1", "arguments": {"beta": 0.1}},
        ),
        (
            ["--localization.box-loss", f"{__name__}:own_loss(power=1e-3, name='a(b)', sides=(3, 4))"],
            ("localization", "box_loss"),
            {"function": f"{__name__}:own_loss", "arguments": {"power": 1e-3, "name": "a(b)", "sides": [3, 4]}},
        ),
        (
            ["--optimizer.chain", f"{__name__}:own_chain(momentum=0.5)"],
            ("optimizer", "chain"),
            {"function": f"{__name__}:own_chain", "arguments": {"momentum": 0.5}},
        ),
    ],
)
def test_any_field_of_any_class_can_be_changed(words, place, value):
    found = to_json(with_overrides(EXPERIMENT, words, "ugs").experiment)
    want = to_json(EXPERIMENT)
    inner, outer = want, found
    for name in place[:-1]:
        inner, outer = inner[name], outer[name]
    assert outer[place[-1]] == value
    inner[place[-1]] = value
    assert found == want  # nothing else


@pytest.mark.parametrize(
    ("name", "words", "assigner"),
    [
        ("receptive", ["--network.assigner.sides", "4"], ReceptiveField(4.0)),
        ("receptive", ["--network.assigner.sides", "4", "5"], ReceptiveField((4.0, 5.0))),
        ("center", ["--network.assigner.radius", "2.5"], CenterSampling(2.5)),
    ],
)  # fmt: skip
def test_the_assigner_of_a_config_can_be_changed(name, words, assigner):
    assert with_overrides(EXPERIMENTS[name], words, "ugs").experiment.network.assigner == assigner


def test_help_has_the_fields_and_words_of_own_classes(capsys):
    with pytest.raises(SystemExit):
        with_overrides(EXPERIMENT, ["--help"], "ugs")
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Scenes of mine." in shown
    assert "Flavour of the scenes. (default: plain)" in shown
    assert f"{__name__}:own_loss(power=3)" in shown
    assert "--data.anything {fixed}" in shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nwd(20)", "expected NAME or NAME"), ("nwd(constant=)", "expected NAME or NAME"),
        ("", "expected NAME or NAME"),
        ("nwd(**{'constant': 3})", "expected NAME or NAME"), ("nwd(constant=open('f'))", "expected NAME or NAME"),
        ("nwd(constant=1)(constant=2)", "expected NAME or NAME"), ("nwdd", "did you mean 'nwd'"),
        ("os:system", "expected a registered class or function"),
    ],
)  # fmt: skip
def test_a_text_that_names_no_function_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_function(text)


@pytest.mark.parametrize("text", ["ciou", "nwd(constant=20.0)", f"{__name__}:own_loss(power=3, name='a', sides=(1,))"])
def test_a_function_is_shown_as_it_is_written(text):
    assert function_text(parse_function(text)) == text


@pytest.mark.parametrize("words", [["--localization.box-loss", "nwd(constnt=3)"], ["--epochs", "0"]])
def test_a_value_that_the_experiment_refuses_is_an_error(words):
    with pytest.raises(ValueError, match=r"did you mean 'constant'|expected at least 1, got 0"):
        with_overrides(EXPERIMENT, words, "ugs")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_mirror_goes_back_to_what_it_was_made_of(name):
    assert restore(EXPERIMENTS[name], mirror(EXPERIMENTS[name])) == EXPERIMENTS[name]
