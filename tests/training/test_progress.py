"""Progress where nobody watches: plain lines in a file."""

import pytest

from ugs_jax.training.progress import Progress


def report(capsys, minutes_a_step=0.25):
    """Ten steps, with an evaluation after the fifth: the lines that are printed."""
    seconds = [0.0]
    with Progress("mine", 0, 10, 4, clock=lambda: seconds[0]) as progress:
        for step in range(1, 11):
            seconds[0] += 60 * minutes_a_step + (100 if step == 1 else 0)  # the first compiles
            progress.advance(step, 1 / step)
            if step == 5:
                seconds[0] += 3
                progress.score(step, 0.123, None)
    return capsys.readouterr().out.splitlines()


def test_without_a_terminal_there_is_a_line_a_minute_and_one_for_every_evaluation(capsys):
    assert report(capsys) == [
        "mine: step 0/10, compiling",
        "mine: step 1/10, loss 1.000",
        "mine: step 5/10, 0.267 images/s, 0:01:15 left, loss 0.200",
        "mine: step 5/10, 0:01:19 left, loss 0.200, AP 12.3 AP50 –",
        "mine: step 9/10, 0.267 images/s, 0:00:15 left, loss 0.111, AP 12.3 AP50 –",
    ]


def test_lines_do_not_come_more_often_than_once_a_minute(capsys):
    lines = report(capsys, minutes_a_step=0.001)
    assert [line.partition(",")[0] for line in lines] == ["mine: step 0/10", "mine: step 1/10", "mine: step 5/10"]
    assert "4.94 images/s, 0:00:04 left" in lines[2]  # 4 steps of 4 images and the evaluation in 3.24 s


@pytest.mark.parametrize("process", [1, 3])
def test_other_processes_are_silent(process, capsys, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: process)
    assert report(capsys) == []


def test_in_a_terminal_there_is_the_bar(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = "\n".join(report(capsys))
    assert "━" in out
    assert "10/10" in out
