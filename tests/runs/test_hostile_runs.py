"""Run folders from strangers: nothing in them is executed, and no path in them leads out of them."""

import builtins
import json
import pickle
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.training.short_runs import short_runs
from tests.training.toy import bits, toy_experiment
from ugs_jax.cli import main
from ugs_jax.experiment.user_code import import_named
from ugs_jax.objectives import BoxRegression
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
    for value in ({"type": "os.system", "command": "true"}, {"type": "Path"}, {"function": "__import__('os')"}):
        config["experiment"]["localization"] = value
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match="expected a known name"):
            read_experiment(folder)


def written(folder, localization):
    """A run folder whose config has been given another objective."""
    config = json.loads((folder / "config.json").read_text())
    config["experiment"]["localization"] = localization
    (folder / "config.json").write_text(json.dumps(config))
    return folder


OF_OURS = {"type": "BoxRegression", "space": "boxes"}


@pytest.mark.parametrize(
    "name",
    [
        "os:system", "subprocess:Popen", "builtins:eval", "posix:system", "ugs_jax.atomic:write_atomically",
        "antigravity:fly", "ugs_jax.training.loop:train", "tests.training.toy:toy_experiment", ":", "os:", ":system",
        "ugs_jax.experiment.registry:sys.modules", "json.decoder:JSONDecoder.decode",
    ],
)  # fmt: skip
@pytest.mark.parametrize("of", ["type", "function", "arguments"])
def test_a_config_that_names_a_module_reaches_it_only_if_it_is_registered(folder, name, of):
    loss = {"function": name, "arguments": {"command": "true"} if of == "arguments" else {}}
    written(folder, {"type": name, "command": "true"} if of == "type" else OF_OURS | {"box_loss": loss})
    before = set(sys.modules)
    with pytest.raises(ValueError, match=r"expected a registered class or function.*pass --import"):
        read_experiment(folder)
    assert "antigravity" not in set(sys.modules) - before


def safe(boxes, targets):
    return boxes[..., 0]


def of_the_same_module(boxes, targets):
    return boxes[..., 0]


def test_building_an_experiment_registers_what_is_in_it_and_nothing_else_of_the_module(folder):
    replace(EXPERIMENT, localization=BoxRegression(safe))
    config = OF_OURS | {"box_loss": {"function": f"{__name__}:safe"}}
    assert read_experiment(written(folder, config)).localization.box_loss is safe
    config = OF_OURS | {"box_loss": {"function": f"{__name__}:of_the_same_module"}}
    with pytest.raises(ValueError, match="expected a registered class or function"):
        read_experiment(written(folder, config))


CODE = """
from os import system
import os, subprocess
def loss(boxes, targets, *, power=1):
    return power
class NoDataclass:
    pass
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    file = tmp_path_factory.mktemp("code") / "losses_of_a_user.py"
    file.write_text(CODE)
    import_named(str(file))
    return file.stem


def test_an_imported_file_registers_what_it_defines(folder, imported):
    config = OF_OURS | {"box_loss": {"function": f"{imported}:loss", "arguments": {"power": 3}}}
    loss = read_experiment(written(folder, config)).localization.box_loss
    assert loss(None, None) == 3


@pytest.mark.parametrize(
    ("localization", "message"),
    [
        (OF_OURS | {"box_loss": {"function": "{}:lost"}}, "losses_of_a_user defines no 'lost'; did you mean 'loss'"),
        (OF_OURS | {"box_loss": {"function": "{}:system"}}, "losses_of_a_user defines no 'system'"),
        (OF_OURS | {"box_loss": {"function": "{}:os.system"}}, "defines no 'os.system'"),
        (OF_OURS | {"box_loss": {"function": "{}:subprocess.Popen"}}, "defines no 'subprocess.Popen'"),
        (OF_OURS | {"box_loss": {"function": "{}:loss.__globals__"}}, "defines no 'loss.__globals__'"),
        (OF_OURS | {"box_loss": {"function": "{}:__builtins__"}}, "defines no '__builtins__'"),
        ({"type": "{}:NoDataclass"}, "expected a dataclass, got 'losses_of_a_user:NoDataclass'"),
        ({"type": "{}:loss"}, "expected a dataclass, got 'losses_of_a_user:loss'"),
        (OF_OURS | {"box_loss": {"function": "{}:loss", "arguments": {"powr": 3}}}, "no argument 'powr'"),
        (OF_OURS | {"box_loss": {"function": "{}:loss", "arguments": [3]}}, "arguments by name"),
    ],
)  # fmt: skip
def test_of_an_imported_file_nothing_but_its_own_functions_and_dataclasses_is_reached(
    folder, imported, localization, message
):
    text = json.dumps(localization).replace("{}:", f"{imported}:")
    with pytest.raises(ValueError, match=message):
        read_experiment(written(folder, json.loads(text)))


def test_eval_of_a_run_with_foreign_code_says_import_and_works_with_it(folder, tmp_path, capsys):
    (tmp_path / "losses_to_import.py").write_text(CODE)
    written(folder, OF_OURS | {"box_loss": {"function": "losses_to_import:loss"}})
    assert main(["curvature", str(folder)]) == 1
    assert "--import losses_to_import" in capsys.readouterr().err
    words = ["eval", str(folder), "--import", str(tmp_path / "losses_to_import.py"), "--calibration"]
    assert main(words) == 1  # it is read, so the next thing that is wrong is said
    assert "expected a run whose objective predicts a distribution" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--import", "nowhere_at_all"], "No module named 'nowhere_at_all'; give a module"),
        (["--import", "nowhere.py"], "nowhere.py: expected a Python file, found none"),
        (["--import"], "--import: expected a module or a Python file"),
    ],
)
def test_an_import_that_fails_says_so(words, message, capsys):
    assert main(["eval", "run", *words]) == 1
    assert message in capsys.readouterr().err


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
