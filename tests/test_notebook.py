"""The notebook "first detector" runs from its first cell to its last."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from tests.compiling import compiled_quickly

NOTEBOOK = Path(__file__).parents[1] / "docs/tutorials/first_detector.ipynb"
FULL = 'replace(first_light, name="first detector", epochs=3)'
SHORT = (
    'replace(first_light, name="first detector", epochs=1, '
    "data=replace(first_light.data, train_images=32, val_images=8), "
    "postprocess=replace(first_light.postprocess, pre_nms_topk=50))"
)


def cells(kind):
    return ["".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == kind]


@pytest.mark.slow
def test_the_notebook_runs_and_shows_detections(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    source = "\n".join(cells("code"))
    assert FULL in source
    names = {}
    with compiled_quickly():
        exec(compile(source.replace(FULL, SHORT), str(NOTEBOOK), "exec"), names)
    assert (tmp_path / "runs/first-detector/report.html").is_file()
    assert names["best"].boxes.shape[1] == 4
    assert "AP50" in capsys.readouterr().out
    plt.close("all")


def test_the_notebook_has_no_stored_outputs():
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
