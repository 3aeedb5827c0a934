"""Strict reading of run folders, and reports of runs."""

import json

import pytest

from ugs_jax.report import RunError, group_by_name, read_groups, read_metrics, read_run, write_report


def write_run(folder, aps=(0.1, 0.3, 0.2), config=None, rows=None):
    folder.mkdir(parents=True)
    defaults = {"name": "CIoU", "localization": "ciou", "seed": 0, "dataset": "tiny", "image_size": [64, 64]}
    (folder / "config.json").write_text(json.dumps(defaults | (config or {})))
    if rows is None:
        rows = [{"kind": "train", "step": 5, "epoch": 0.5, "loss": 2.0, "learning_rate": 0.01}]
        rows += [
            {
                "kind": "eval",
                "step": 10 * i,
                "epoch": float(i),
                "ap": ap,
                "ap50": ap and 2 * ap,
                "ap_tiny": None,
                "ap/car": ap,
            }
            for i, ap in enumerate(aps, start=1)
        ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_rows_are_read_by_kind(tmp_path):
    metrics = read_metrics(write_run(tmp_path / "run"))
    assert [row["loss"] for row in metrics.train] == [2.0]
    assert [row["ap"] for row in metrics.evaluations] == [0.1, 0.3, 0.2]


def test_of_two_rows_of_a_step_the_later_one_is_kept(tmp_path):
    rows = [
        {"kind": "train", "step": step, "epoch": step / 10, "loss": loss}
        for step, loss in [(1, 9.0), (2, 8.0), (1, 7.0)]
    ]
    assert [row["loss"] for row in read_metrics(write_run(tmp_path / "run", rows=rows)).train] == [7.0, 8.0]


def test_empty_lines_and_other_kinds_are_left_out(tmp_path):
    folder = write_run(tmp_path / "run", rows=[{"kind": "note", "step": 1, "epoch": 0.1}])
    (folder / "metrics.jsonl").write_text((folder / "metrics.jsonl").read_text() + "\n\n")
    assert read_metrics(folder) == ((), (), ())


def test_an_incomplete_last_line_is_ignored_and_a_complete_one_is_read(tmp_path):
    folder = write_run(tmp_path / "run", rows=[{"kind": "train", "step": 1, "epoch": 0.1}])
    whole = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(whole + '{"kind": "train", "ste')
    assert [row["step"] for row in read_metrics(folder).train] == [1]
    (folder / "metrics.jsonl").write_text(whole + '{"kind": "train", "step": 2, "epoch": 0.2}')
    assert [row["step"] for row in read_metrics(folder).train] == [1, 2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"kind": "train", "st', r"jsonl:2: expected one JSON object, got .*delete this line"),
        ("[1, 2]", r"jsonl:2: expected a JSON object, got '\[1, 2\]'"),
        ('{"step": 1, "epoch": 0.1}', r"jsonl:2: expected a string for 'kind', got None"),
        ('{"kind": "eval", "epoch": 0.1}', r"jsonl:2: expected an integer >= 0 for 'step', got None"),
        (
            '{"kind": "eval", "step": true, "epoch": 1}',
            r"jsonl:2: expected an integer >= 0 for 'step', got True",
        ),
        ('{"kind": "eval", "step": 1}', r"jsonl:2: expected a number for 'epoch', found none"),
        ('{"kind": "eval", "step": 1, "epoch": null}', r"jsonl:2: expected a number for 'epoch', got None"),
        (
            '{"kind": "eval", "step": 1, "epoch": 1, "ap": "high"}',
            r"jsonl:2: expected a number for 'ap', got 'high'",
        ),
        ('{"kind": "eval", "step": 1, "epoch": 1, "ap": {}}', r"jsonl:2: expected a number for 'ap', got {}"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, message):
    folder = write_run(tmp_path / "run", rows=[{"kind": "train", "step": 1, "epoch": 0.1}])
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(RunError, match=message):
        read_metrics(folder)


def test_a_folder_without_metrics_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"metrics\.jsonl: expected the metrics of a run, found no such file"):
        read_metrics(tmp_path)


def test_a_folder_without_configuration_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"config\.json: expected the configuration of a run, found no such file"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{\n", r"config\.json:2: expected JSON"),
        ('{"name": "a"}', r'config\.json: expected an object with a string "name"'),
    ],
)
def test_a_malformed_configuration_is_refused(tmp_path, text, message):
    folder = write_run(tmp_path / "run")
    (folder / "config.json").write_text(text)
    with pytest.raises(RunError, match=message):
        read_run(folder)


def test_the_best_evaluation_is_the_earliest_with_the_highest_ap(tmp_path):
    run = read_run(write_run(tmp_path / "run", aps=(0.1, 0.3, 0.3, None)))
    assert run.best["epoch"] == 2.0
    assert run.last["epoch"] == 4.0


def test_a_run_that_was_never_scored_has_no_best(tmp_path):
    run = read_run(write_run(tmp_path / "run", aps=()))
    assert run.best is None
    assert run.last is None


def test_the_report_gives_best_and_last_scores_protocol_and_command(tmp_path):
    config = {
        "command": "ugs train ciou --seed 0",
        "protocol": "COCO AP at 500",
        "model": {"width": 0.25, "kind": "a|b"},
    }
    folder = write_run(tmp_path / "run", config=config)
    (folder / "curves.png").write_bytes(b"")
    path = write_report(folder)
    assert path == folder / "report.md"
    text = path.read_text()
    for expected in [
        "# CIoU, seed 0",
        "Best AP **30.0** (AP50 60.0) at epoch 2.",
        "    ugs train ciou --seed 0",
        "| % | best (epoch 2) | last (epoch 3) |",
        "| AP | 30.0 | 20.0 |",
        "| AP tiny | – | – |",
        "| AP car | 30.0 | 20.0 |",
        "Protocol: COCO AP at 500.",
        "![Curves](curves.png)",
        "| model.width | 0.25 |",
        "| model.kind | a\\|b |",
        "5 steps, 0.5 epochs.",
        "| loss | 2 |",
    ]:
        assert expected in text
    assert "predictions.png" not in text
    assert text.count("ugs train ciou") == 1


def test_the_report_says_what_was_not_recorded(tmp_path):
    text = write_report(write_run(tmp_path / "run")).read_text()
    assert "Protocol: not recorded." in text
    assert "The command was not recorded." in text


def test_a_run_that_was_never_scored_gets_a_report(tmp_path):
    text = write_report(write_run(tmp_path / "run", aps=())).read_text()
    assert "Not scored yet." in text
    assert "## Scores" not in text


def test_runs_are_grouped_by_name_in_the_order_given(tmp_path):
    folders = [
        write_run(tmp_path / str(i), config={"name": name, "seed": i}) for i, name in enumerate(["UGS", "CIoU", "UGS"])
    ]
    assert group_by_name(folders) == {"UGS": [folders[0], folders[2]], "CIoU": [folders[1]]}


def test_the_same_seed_twice_is_refused(tmp_path):
    folders = [write_run(tmp_path / str(i), config={"seed": 3}) for i in range(2)]
    with pytest.raises(RunError, match="CIoU: expected a different seed for each run, got seed 3 in"):
        read_groups({"CIoU": folders})


@pytest.mark.parametrize(("key", "value"), [("dataset", "other"), ("image_size", [32, 32])])
def test_runs_on_different_data_are_not_compared(tmp_path, key, value):
    folders = {
        "A": [write_run(tmp_path / "a")],
        "B": [write_run(tmp_path / "b", config={"name": "B", "seed": 1, key: value})],
    }
    names = {"dataset": folders, "image_size": {"A": [*folders["A"], *folders["B"]]}}
    with pytest.raises(RunError, match=f"expected one {key} for all runs( of A)?, got .*compare like with like"):
        read_groups(names[key])


@pytest.mark.parametrize("groups", [{}, {"A": []}])
def test_a_comparison_without_runs_is_refused(groups):
    with pytest.raises(RunError, match="expected at least one run of each method"):
        read_groups(groups)
