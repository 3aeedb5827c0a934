"""Configs of the library: each one loads, and can be read back from the JSON of a run."""

import importlib
import json
import sys

import pytest

from ugs_jax.commands.train import config_modules, load_config, run_folder
from ugs_jax.experiment import from_json, to_json


@pytest.fixture(autouse=True)
def data_sets_elsewhere(tmp_path, monkeypatch):
    """Configs read where their data set is when they are imported: here once, and afterwards again."""
    monkeypatch.setenv("HIT_UAV", str(tmp_path / "hit_uav"))
    monkeypatch.setenv("VISDRONE", str(tmp_path / "visdrone"))
    imported = [name for name in sys.modules if name.startswith("experiments.configs.")]
    for name in imported:
        monkeypatch.delitem(sys.modules, name)
    yield
    for name in [name for name in sys.modules if name.startswith("experiments.configs.")]:
        del sys.modules[name]


@pytest.mark.parametrize("name", config_modules())
def test_a_config_loads_and_can_be_read_back_from_the_json_of_a_run(name, tmp_path):
    experiment = load_config(name)
    assert from_json(json.loads(json.dumps(to_json(experiment))), name) == experiment
    if name.startswith(("hit_uav", "visdrone")):
        assert str(tmp_path) in repr(experiment.data)
    assert (importlib.import_module(f"experiments.configs.{name}").__doc__ or "").strip()


def test_configs_that_may_be_compared_have_folders_of_their_own():
    for family in ("first_light", "hit_uav", "own_data", "scenes_tph", "visdrone"):
        folders = [run_folder("runs", load_config(name)) for name in config_modules() if name.startswith(family)]
        assert len(set(folders)) == len(folders) > 1
