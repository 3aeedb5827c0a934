"""Run folders from strangers: nothing in them is executed, and no path in them leads out of them."""

import builtins
import json
import pickle
import shutil
import sys
from types import SimpleNamespace

import pytest

from tests.training.short_runs import short_runs
from tests.training.toy import bits, toy_experiment
from ugs_jax.runs import RunFolder, load_for_inference, read_experiment
from ugs_jax.runs.checksums import checksum_file, note_checksums

EXPERIMENT = toy_experiment()
SECRET = b"not of the run"


@pytest.fixture(scope="module", autouse=True)
def toy(tmp_path_factory):
    cache, data, base = (tmp_path_factory.mktemp(name) for name in ("cache", "data", "run"))
    with short_runs(EXPERIMENT, {3: 0.1, 6: 0.2}, cache, data) as train:
        train(base / "run")
        yield SimpleNamespace(train=train, folder=base / "run")


@pytest.fixture
def folder(toy, tmp_path):
    shutil.copytree(toy.folder, tmp_path / "run")
    return tmp_path / "run"


def test_checkpoints_and_configs_are_read_without_pickle_and_eval(folder, toy, monkeypatch):
    def refused(act):
        def called(*given, **more):
            caller = sys._getframe(1).f_globals["__name__"]
            if caller.startswith(("jaxtyping", "beartype")):  # which check types in the tests
                return act(*given, **more)
            return pytest.fail(f"{caller} executes what it reads")

        return called

    want = load_for_inference(folder, which="last")[1]  # imports what it needs, which executes modules
    with monkeypatch.context() as patch:
        for name in ("loads", "load", "Unpickler", "_Unpickler", "_loads", "_load"):
            patch.setattr(pickle, name, refused(getattr(pickle, name)))
        for name in ("eval", "exec", "compile"):
            patch.setattr(builtins, name, refused(getattr(builtins, name)))
        state = load_for_inference(folder, which="last")[1]
        experiment = read_experiment(folder)
    assert bits(state) == bits(want)
    assert experiment == EXPERIMENT


def test_a_config_that_names_code_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    for value in ({"type": "os.system", "command": "true"}, {"type": "Path"}, {"loss": "__import__('os')"}):
        config["experiment"]["localization"] = value
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match="expected a known name"):
            read_experiment(folder)


def outside(folder):
    """Files beside the run, with their contents."""
    return {path.name: path.read_bytes() for path in folder.parent.iterdir() if path.is_file()}


@pytest.mark.parametrize("whole_folder", [False, True])
def test_a_link_in_a_checkpoint_counts_as_damage_and_its_target_is_unchanged(folder, toy, whole_folder):
    place = folder / "checkpoints" / "last" / "6"
    file = max((path for path in place.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    if whole_folder:
        place.rename(folder.parent / "elsewhere")
        place.symlink_to(folder.parent / "elsewhere")
    else:
        (folder.parent / "secret").write_bytes(file.read_bytes())
        file.unlink()
        file.symlink_to(folder.parent / "secret")
    note_checksums(place, checksum_file(folder / "checkpoints", "last", 6))  # as who made the link can
    before = outside(folder)
    assert int(load_for_inference(folder, which="last")[1].step) == 3
    toy.train(folder, resume=True)
    assert int(load_for_inference(folder, which="last")[1].step) == 6
    assert outside(folder) == before
    assert not whole_folder or any((folder.parent / "elsewhere").rglob("*"))


def test_names_in_checksums_that_lead_out_of_the_folder_are_never_read(folder):
    (folder.parent / "secret").write_bytes(SECRET)
    sums = checksum_file(folder / "checkpoints", "last", 6)
    content = json.loads(sums.read_text())
    sums.write_text(json.dumps(content | {"../../../../secret": next(iter(content.values()))}))
    assert int(load_for_inference(folder, which="last")[1].step) == 3


def test_a_lock_that_is_a_link_is_refused_and_its_target_is_unchanged(folder):
    (folder.parent / "secret").write_bytes(SECRET)
    (folder / ".lock").unlink()
    (folder / ".lock").symlink_to(folder.parent / "secret")
    with pytest.raises(OSError, match="expected a folder that can be written"):
        RunFolder(folder).lock()
    assert (folder.parent / "secret").read_bytes() == SECRET


def test_a_log_that_is_a_link_is_not_written_through(folder, toy):
    for name in ("metrics.jsonl", "timing.jsonl"):
        (folder / name).rename(folder.parent / name)
        (folder / name).symlink_to(folder.parent / name)
    shutil.rmtree(folder / "checkpoints" / "last" / "6")
    before = outside(folder)
    toy.train(folder, resume=True)
    assert outside(folder) == before
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == len(before["metrics.jsonl"].splitlines())
