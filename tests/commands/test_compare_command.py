"""`ugs compare` and `ugs ablate`: arguments refused before training, folders of runs, and tables."""

import json
from dataclasses import replace

import pytest

from tests.training.toy import toy_experiment
from ugs_jax.cli import main
from ugs_jax.commands import several_runs
from ugs_jax.commands.train import run_folder
from ugs_jax.experiment import fit_to
from ugs_jax.objectives import UGS
from ugs_jax.runs import RunFolder

CONFIG = """
from dataclasses import replace
from tests.training.toy import toy_experiment

experiment = replace(toy_experiment(epochs=1), name={name!r})
"""


def config_file(folder, name, file):
    (folder / file).write_text(CONFIG.format(name=name))
    return str(folder / file)


def begin_run(folder, experiment, aps=(0.1, 0.2)):
    run = RunFolder(folder)
    folder.mkdir(parents=True)
    run.begin(experiment, "", fit_to(experiment, experiment.data.open("train")), experiment.data.classes, resume=False)
    rows = [{"kind": "eval", "step": i, "epoch": float(i), "ap": ap} for i, ap in enumerate(aps, start=1)]
    run.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


@pytest.fixture
def no_training(monkeypatch):
    """Fails the test as soon as anything is trained."""
    monkeypatch.setattr(several_runs, "train_once", lambda *_, **__: pytest.fail("something was trained"))
    monkeypatch.setattr("ugs_jax.commands.compare.train_once", several_runs.train_once)
    monkeypatch.setattr("ugs_jax.commands.ablate.train_once", several_runs.train_once)


@pytest.mark.parametrize("command", [["compare", "first_light_ciou", "first_light_ugs"], ["ablate", "first_light_ugs"]])
@pytest.mark.parametrize(
    ("word", "where"),
    [
        ("--folder=elsewhere", "--folder before `--`"),
        ("--resume", "--resume before `--`"),
        ("--no-resume", "--resume before `--`"),
        ("--seed", "--seeds before `--`"),
        ("--distributed", "`ugs train CONFIG --distributed …`"),
        ("--profile", "`ugs train CONFIG --profile …`"),
        ("--coordinator", "`ugs compare RUN RUN …`"),
    ],
)
def test_options_of_the_command_after_the_dashes_are_refused_with_their_place(
    command, word, where, capsys, no_training
):
    assert main([*command, "--", "--epochs", "2", word]) == 1
    error = capsys.readouterr().err
    assert f"expected fields of the configs after `--`, got {word.partition('=')[0]}" in error
    assert where in error


def test_a_name_for_all_methods_of_an_ablation_is_refused(capsys, no_training):
    assert main(["ablate", "first_light_ugs", "--", "--name", "mine"]) == 1
    assert "got --name; methods have names of their own" in capsys.readouterr().err


def test_overrides_are_refused_if_all_runs_are_finished(tmp_path, capsys, no_training):
    run = begin_run(tmp_path / "one", toy_experiment())
    assert main(["compare", run, "--folder", str(tmp_path / "out"), "--", "--epochs", "5"]) == 1
    assert "expected a config for --epochs 5 to override, got finished runs only" in capsys.readouterr().err


@pytest.mark.parametrize("options", [[], ["--resume"]])
def test_an_existing_folder_of_any_config_is_reported_before_training(tmp_path, capsys, no_training, options):
    one, other = config_file(tmp_path, "one", "one.py"), config_file(tmp_path, "other", "other.py")
    there = replace(toy_experiment(epochs=3), name="other", seed=1)
    begin_run(tmp_path / "runs" / "other-seed1", there)
    assert main(["compare", one, other, "--seeds", "0", "1", "--folder", str(tmp_path / "runs"), *options]) == 1
    wanted = "epochs is 3 there and 1 here" if options else "other-seed1: expected no run here, found one"
    assert wanted in capsys.readouterr().err


def test_an_existing_run_at_a_url_is_reported_before_training(tmp_path, capsys, no_training):
    url = f"file://{tmp_path}/runs"
    begin_run(tmp_path / "runs" / "other-seed0", replace(toy_experiment(epochs=3), name="other"))
    words = ["compare", config_file(tmp_path, "other", "other.py"), "--folder", url]
    assert main(words) == 1
    assert f"{url}/other-seed0: expected no run here, found one" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 1
    assert f"{url}/other-seed0/config.json: expected the config of the run to be resumed" in capsys.readouterr().err


def test_names_that_give_one_folder_are_refused(tmp_path, capsys, no_training):
    one, other = config_file(tmp_path, "A+B", "one.py"), config_file(tmp_path, "A B", "other.py")
    assert main(["compare", one, other, "--folder", str(tmp_path / "runs")]) == 1
    assert "expected configs with different folders, got 'A+B' and 'A B'" in capsys.readouterr().err


def test_a_finished_run_of_a_configs_name_and_seed_is_refused(tmp_path, capsys, no_training):
    run = begin_run(tmp_path / "elsewhere", replace(toy_experiment(), name="A"))
    words = ["compare", run, config_file(tmp_path, "A", "a.py"), "--folder", str(tmp_path / "runs")]
    assert main(words) == 1
    assert "A: expected a different seed for each run, got a finished run and a config with seed 0" in (
        capsys.readouterr().err
    )


def test_finished_runs_that_cannot_be_compared_are_refused_before_anything_is_trained(tmp_path, capsys, no_training):
    unscored = begin_run(tmp_path / "unscored", replace(toy_experiment(), name="B"), aps=())
    words = ["compare", config_file(tmp_path, "A", "a.py"), unscored, "--folder", str(tmp_path / "runs")]
    assert main(words) == 1
    assert "expected a scored run, found no AP" in capsys.readouterr().err


def test_folders_of_runs_have_ascii_names():
    experiment = replace(toy_experiment(), name="TPH 640² é-1.5")
    assert run_folder("runs/", experiment) == "runs/TPH_640___-1.5-seed0"


def test_runs_keep_the_order_of_their_names_and_every_method_comes_before_the_next_seed(tmp_path, monkeypatch):
    trained, compared = [], []
    monkeypatch.setattr(
        "ugs_jax.commands.compare.train_once", lambda one, *_, **__: trained.append((one.name, one.seed)) or one.name
    )
    monkeypatch.setattr("ugs_jax.commands.compare.write_comparison", lambda runs, *_: compared.extend(runs))
    finished = begin_run(tmp_path / "finished", replace(toy_experiment(UGS()), name="C"))
    names = [config_file(tmp_path, "A", "a.py"), finished, config_file(tmp_path, "B", "b.py")]
    assert main(["compare", *names, "--seeds", "4", "2", "--folder", str(tmp_path / "runs")]) == 0
    assert trained == [("A", 4), ("B", 4), ("A", 2), ("B", 2)]
    assert compared == ["A", "A", finished, "B", "B"]


def test_a_protocol_adds_a_second_table_of_best_checkpoints(tmp_path, monkeypatch, capsys):
    from ugs_jax.commands.evaluate import Evaluation

    runs = [
        begin_run(tmp_path / f"{name}{seed}", replace(toy_experiment(), name=name, seed=seed))
        for name, seed in (("A", 0), ("A", 1), ("B", 0))
    ]
    official = iter([{"ap": 0.1, "ap/a": 0.5}, {"ap": 0.3, "ap/a": 0.5}, {"ap": 0.25, "ar1": None}])
    monkeypatch.setattr(
        "ugs_jax.commands.evaluate.evaluate_run", lambda _, protocol: Evaluation(next(official), protocol, {})
    )
    assert main(["compare", *runs, "--protocol", "visdrone", "--folder", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "## Best checkpoints by `visdrone`" in text
    assert "| score, % | A | B |\n|---|---:|---:|\n| ap | 20.00 ± 14.14 | 25.00 |\n\nvisdrone." in text
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())["protocol"]
    assert found["name"] == "visdrone"
    assert found["methods"]["A"] == {"ap": {"mean": 0.2, "spread": pytest.approx(0.02**0.5), "count": 2}}
    assert text.strip() in capsys.readouterr().out
