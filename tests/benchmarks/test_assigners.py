"""The grid of assigners and objectives: which experiments it trains, and with which settings."""

import pytest

from experiments.benchmarks import assigners
from tests.training.toy import toy_experiment
from ugs_jax.detectors import ReceptiveField, TaskAligned
from ugs_jax.experiment import Network
from ugs_jax.objectives import Quality, SecondStage, SideUGS


def test_the_whole_grid_has_one_experiment_for_each_name():
    base = toy_experiment(network=Network("p", p2=False, weights="yolov5n.pt"))
    found = {each.name: each for each in assigners.grid(base, assigners.Settings(box_weight=2.0))}
    assert len(found) == 4 * 6
    anchors, cells = found["YOLOv5 anchors, CIoU"], found["YOLOv8 RFLA, SideUGS refined"]
    assert anchors.network == base.network
    assert anchors.loss_weights == base.loss_weights
    assert (cells.network.kind, cells.network.weights, cells.network.size) == ("yolov8", None, "p")
    assert cells.network.assigner == ReceptiveField()
    assert cells.loss_weights.box == 2.0
    assert cells.localization == SideUGS(second_stage=SecondStage(), quality=Quality())
    assert cells.postprocess.quality_power == 0.5
    assert found["YOLOv8 STAL, SideUGS"].network.assigner == TaskAligned(widen="second")
    assert found["YOLOv8 STAL, SideUGS"].postprocess.quality_power == 0


def test_yolov5u_keeps_the_weights_of_yolov5():
    base = toy_experiment(network=Network("p", p2=False, weights="yolov5n.pt"))
    settings = assigners.Settings(kind="yolov5u", assigners=("anchors", "rfla"), objectives=("ciou",))
    found = {each.name: each.network for each in assigners.grid(base, settings)}
    assert found["YOLOv5 anchors, CIoU"] == base.network
    network = found["YOLOv5u RFLA, CIoU"]
    assert (network.kind, network.weights, network.assigner) == ("yolov5u", "yolov5n.pt", ReceptiveField())


def test_the_command_line_names_a_part_of_it(monkeypatch):
    given = []
    monkeypatch.setattr(assigners, "train_and_tabulate", lambda *arguments, **_: given.append(arguments))
    words = "--assigners tal --objectives ciou side --seeds 0 2 --folder runs/mine -- --epochs 1"
    assigners.main(words.split())
    ((title, experiments, seeds, folder),) = given
    assert title == "Assigners and objectives on first_light_ciou"
    assert [(each.name, each.epochs) for each in experiments] == [("YOLOv8 TAL, CIoU", 1), ("YOLOv8 TAL, SideUGS", 1)]
    assert (seeds, folder) == ((0, 2), "runs/mine")


def test_a_detector_of_the_user_has_no_assigner_to_change():
    base = toy_experiment()
    object.__setattr__(base, "network", object())
    with pytest.raises(TypeError, match="expected a config whose network is a Network, got object"):
        next(assigners.grid(base, assigners.Settings()))
