"""Settings that differ from their defaults."""

import json
from dataclasses import replace
from functools import partial

import pytest

from data_pipeline import TinyScenes
from ugs_jax import losses
from ugs_jax.experiment import AdamW, Experiment, Network, Schedule
from ugs_jax.experiment.changes import changed_settings
from ugs_jax.experiment.serialize import to_json
from ugs_jax.objectives import UGS, BoxRegression

PLAIN = Experiment("plain", TinyScenes())


def changes(experiment):
    return [tuple(setting) for setting in changed_settings(json.loads(json.dumps(to_json(experiment))))]


def test_of_an_experiment_with_defaults_only_the_name_and_the_data_are_listed():
    assert changes(PLAIN) == [("name", "plain", ""), ("data", "TinyScenes", "")]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"epochs": 3}, [("epochs", "3", "100")]),
        ({"save_every": 7}, [("save_every", "7", "null")]),
        ({"network": Network("s", p2=False)}, [("network.size", "s", "n"), ("network.p2", "false", "true")]),
        (
            {"optimizer": AdamW(Schedule(0.5))},
            [("optimizer.schedule.learning_rate", "0.5", "0.001")],
        ),
        (
            {"localization": BoxRegression(partial(losses.nwd, constant=20.0))},
            [
                ("localization", "BoxRegression", "UGS"),
                ("localization.box_loss", "nwd(constant=20.0)", "ciou"),
            ],
        ),
        ({"loader": replace(PLAIN.loader, image_size=(64, 96))}, [("loader.image_size", "(64, 96)", "(640, 640)")]),
    ],
)
def test_what_was_changed_is_listed_with_its_default(changed, expected):
    assert changes(replace(PLAIN, **changed))[2:] == expected


def test_a_field_of_none_by_default_shows_the_fields_of_its_object():
    objective = UGS.as_printed()
    names = [name for name, *_ in changes(replace(PLAIN, localization=objective))]
    assert all(name.startswith(("name", "data", "localization.")) for name in names)
    assert len(names) > 2


def test_of_an_unknown_class_every_field_is_listed_and_nothing_is_imported():
    found = changed_settings({"type": "Experiment", "data": {"type": "os:system", "command": "true", "n": 1}})
    assert [tuple(setting) for setting in found] == [
        ("data", "os:system", ""), ("data.command", "true", ""), ("data.n", "1", ""),
    ]  # fmt: skip


@pytest.mark.parametrize("hostile", [None, [], "text", {}, {"type": 3}, {"type": "Experiment", "name": {"type": "x"}}])
def test_malformed_configs_raise_no_error(hostile):
    changed_settings(hostile)
