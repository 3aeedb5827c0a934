"""The `ugs` command: its manual, its errors, and a whole run from training to pictures."""

import importlib
import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.compiling import compiled_quickly
from ugs_jax.cli import _COMMANDS, main
from ugs_jax.commands.train import load_config

ROOT = Path(__file__).parents[2]
TINY = [
    *("--data.image-size", "64", "64", "--data.train-images", "8", "--data.val-images", "4"),
    *("--loader.image-size", "64", "64", "--loader.batch-size", "4", "--loader.threads", "0"),
    *("--network.no-p2", "--epochs", "1", "--postprocess.pre_nms_topk", "50"),
]


def test_without_arguments_it_prints_the_manual(capsys):
    assert main([]) == 0
    manual = capsys.readouterr().out
    assert all(word in manual for word in ("ugs train", "ugs eval", "ugs score", "ugs predict", "first_light_ugs"))


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["trian"], "did you mean 'train'"),
        (["train", "first_light_ug"], "did you mean 'first_light_ugs'"),
        (["train", "nowhere.py"], "nowhere.py: expected a Python file"),
        (["eval", "nowhere"], "nowhere: expected a run folder"),
        (["score", "nowhere", "--truth", "nowhere"], "nowhere: expected a COCO annotation file"),
        (["predict", "nowhere", "image.png"], "nowhere: expected a run folder"),
        (["export", "nowhere"], "nowhere: expected a run folder"),
        (["import", "nowhere.pt"], "nowhere.pt: expected a .pt or .safetensors file"),
        (["curvature", "nowhere"], "nowhere: expected a run folder"),
    ],
)
def test_an_unknown_command_is_an_error_with_the_nearest_known_one(words, hint, capsys):
    assert main(words) != 0
    assert hint in capsys.readouterr().err


def test_a_misspelt_override_is_refused_with_the_right_name(capsys):
    with pytest.raises(SystemExit):
        main(["train", "first_light_ugs", "--optimizer.wieght-decay", "0"])
    assert "--optimizer.weight-decay" in capsys.readouterr().err


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_command_is_a_function_that_the_manual_names(name, capsys):
    assert callable(getattr(importlib.import_module(_COMMANDS[name].module), _COMMANDS[name].function))
    assert main([]) == 0
    assert f"ugs {name} " in capsys.readouterr().out


EXPERIMENT = "from data_pipeline import TinyScenes\nfrom ugs_jax.experiment import Ema, Experiment\n"


def config(folder, text, name="mine.py"):
    file = folder / name
    file.write_text(EXPERIMENT + text)
    return str(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("experiment = Experiment('mine', TinyScenes(), epohcs=3)", ":3: .*no field 'epohcs'; did you mean 'epochs'"),
        ("\nexperiment = Experiment('mine', TinyScenes(), epochs=0)", r":4: Experiment\.epochs: expected at least 1"),
        ("ema = Ema(\n    decay=2.0\n)", r":3: Ema\.decay: expected"),
        ("def build():\n    return TinyScene()\n\nbuild()", ":4: NameError: name 'TinyScene' is not defined"),
        ("import nowhere_at_all", ":3: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("experiment = (", ":3: '\\(' was never closed"),
        ("1 / 0", ":3: ZeroDivisionError"),
        ("", r": expected `experiment = Experiment\(…\)`"),
    ],
)
def test_an_error_in_a_config_file_has_its_file_and_line(text, message, tmp_path):
    file = config(tmp_path, text)
    with pytest.raises(ValueError, match=re.escape(file) + message):
        load_config(file)


@pytest.mark.parametrize("words", [["--debug", "train"], ["train"]])
def test_the_traceback_of_an_error_is_shown_with_debug_only(words, tmp_path, capsys):
    file = config(tmp_path, "raise ValueError('of mine')")
    assert main([*words, file]) == 1
    shown = capsys.readouterr().err
    assert f"ugs train: {file}:3: of mine" in shown
    assert ("Traceback" in shown) == ("--debug" in words)
    assert main(["train", file, "--debug"]) == 1
    assert "raise ValueError('of mine')" in capsys.readouterr().err


def test_a_config_file_imports_the_files_beside_it_and_its_classes_unpickle_elsewhere(tmp_path):
    (tmp_path / "beside_mine.py").write_text("def loss(boxes, targets, *, power=2):\n    return power\n")
    text = """
import dataclasses
from functools import partial
from beside_mine import loss
from ugs_jax.objectives import BoxRegression
@dataclasses.dataclass(frozen=True)
class Mine(TinyScenes):
    pass
experiment = Experiment("mine", Mine(), BoxRegression(partial(loss, power=3)))
"""
    experiment = load_config(config(tmp_path, text, "mine_of_pickles.py"))
    assert type(experiment.data).__module__ == "mine_of_pickles"
    code = f"import pickle, sys; sys.path.append({str(tmp_path)!r}); print(pickle.loads({pickle.dumps(experiment)!r}))"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "Mine(" in shown


def test_config_files_of_one_name_in_two_folders_load_side_by_side(tmp_path):
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        file = config(tmp_path / name, f"experiment = Experiment({name!r}, TinyScenes())", "settings_of_one.py")
        found.append(load_config(file).name)
    assert found == ["a", "b"]


@pytest.mark.parametrize("name", ["json.py", "optax.py", "ugs_jax.py"])
def test_a_config_file_named_as_another_module_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match="rename the file"):
        load_config(config(tmp_path, "experiment = Experiment('mine', TinyScenes())", name))


COMPILE = """
from ugs_jax.cli import _keep_compiled_programs
_keep_compiled_programs()
import jax
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event) if event.endswith("/cache_hits") else None)
import jax.numpy as jnp
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3)))
print(len(hits))
"""


def test_a_command_uses_the_compilation_cache_of_the_one_before(tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment = kept | {"JAX_PLATFORMS": "cpu", "UGS_CACHE": str(tmp_path)}
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"  # by default only what takes a second is kept
    run = lambda: subprocess.run(  # noqa: E731
        [sys.executable, "-c", COMPILE], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(run().stdout) == 0
    assert any((tmp_path / "compiled").iterdir())
    assert int(run().stdout) > 0


@pytest.mark.parametrize("name", ["first_light_ciou", "first_light_ugs", "hit_uav_ciou", "hit_uav_ur"])
def test_our_configs_load(name):
    assert load_config(name).loader.augmentation.flip_ud == 0.5


@pytest.mark.slow
def test_train_eval_and_predict_end_to_end(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with compiled_quickly():
        train_compare_and_score(tmp_path, capsys)
    run = tmp_path / "runs" / "UGS-seed0"
    assert main(["predict", str(run), str(run / "predictions.png"), "--output", "found"]) == 0  # compiled as for users
    (image,) = json.loads((tmp_path / "found" / "dataset.json").read_text())["images"]
    assert image["file_name"] == "predictions.png"
    assert (tmp_path / "found" / image["picture"]).exists()


def train_compare_and_score(tmp_path, capsys):
    command = ["compare", "first_light_ugs", "--folder", "runs", "--", *TINY]
    assert main(command) == 0
    run = tmp_path / "runs" / "UGS-seed0"
    for name in ("config.json", "metrics.jsonl", "curves.png", "predictions.png", "report.md"):
        assert (run / name).stat().st_size > 0
    assert (tmp_path / "runs" / "comparison.png").exists()
    assert "UGS" in (tmp_path / "runs" / "comparison.md").read_text()
    trained = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]

    assert main(["compare", str(run), "--folder", "again"]) == 0
    assert (tmp_path / "again" / "comparison.md").read_text() == (tmp_path / "runs" / "comparison.md").read_text()

    assert main(["eval", str(run)]) == 0
    scores = json.loads((run / "evaluation_best.json").read_text())
    assert scores["ap"] == pytest.approx(next(row["ap"] for row in trained if row["kind"] == "eval"), abs=1e-9)
    assert "IoU 0.50:0.05:0.95" in scores["protocol"]

    assert main(["eval", str(run), "--split", "train"]) == 0
    assert json.loads((run / "evaluation_best_train.json").read_text())["ap"] is not None

    assert main(["eval", str(run), "--protocol", "visdrone"]) == 0
    assert "VisDrone-DET official" in json.loads((run / "evaluation_best_visdrone.json").read_text())["protocol"]
    with zipfile.ZipFile(run / "submission_best_visdrone.zip") as archive:
        assert sorted(archive.namelist()) == sorted(path.name for path in (run / "submission_best_visdrone").iterdir())
        assert len(archive.namelist()) == 4

    assert main(command) == 1
    assert "--resume" in capsys.readouterr().err
