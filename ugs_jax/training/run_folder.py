"""The folder of a run: config, metrics, event files, where checkpoints and pictures go."""

import json
import math
from pathlib import Path
from typing import Any

from ugs_jax.atomic import write_atomically
from ugs_jax.evaluation import DEFAULT_PROTOCOL
from ugs_jax.report import read_metrics
from ugs_jax.training.config import Experiment
from ugs_jax.training.serialize import from_json, to_json


class RunFolder:
    """Files of one run.

    Args:
      path: made where there is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._events: Any = None

    @property
    def metrics_file(self) -> Path:
        """`metrics.jsonl`: one JSON object a line, `kind` train or eval."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    def begin(self, experiment: Experiment, command: str, *, resume: bool) -> None:
        """Make the folder and write `config.json`, or check that the one there is of this experiment.

        Raises:
          FileExistsError: a run is there already and `resume` is not set.
          ValueError: the run there has another config.
        """
        file = self.path / "config.json"
        config = to_json(experiment)
        if file.exists():
            if not resume:
                raise FileExistsError(
                    f"{self.path}: expected no run here, found one; continue it with --resume or choose another --folder"
                )
            there = json.loads(file.read_text())["experiment"]
            if there != json.loads(json.dumps(config)):
                names = [name for name in config if there.get(name) != json.loads(json.dumps(config[name]))]
                raise ValueError(
                    f"{file}: expected the config of the run to be resumed, but {', '.join(names)} differ; "
                    "use the original settings or another --folder"
                )
            return
        summary = {
            "name": experiment.name,
            "seed": experiment.seed,
            "dataset": _describe_data(experiment),
            "classes": list(experiment.data.classes),
            "image_size": list(experiment.loader.image_size),
            "localization": str(experiment.localization),
            "network": f"YOLOv5{experiment.network.size}{'-P2' if experiment.network.p2 else ''}",
            "epochs": experiment.epochs,
            "batch_size": experiment.loader.batch_size,
            "protocol": DEFAULT_PROTOCOL.describe(),
            "command": command,
            "experiment": config,
        }
        write_atomically(file, json.dumps(summary, indent=1).encode())

    def cut_metrics(self, step: int) -> None:
        """Drop rows after `step`: a resumed run writes them again."""
        if self.metrics_file.exists():
            read_metrics(self.path)  # a clear error on damage, before anything is replaced
            rows = [line for line in self.metrics_file.read_text().splitlines() if json.loads(line)["step"] <= step]
            write_atomically(self.metrics_file, "".join(row + "\n" for row in rows).encode())

    def write(self, kind: str, step: int, epoch: float, values: dict[str, Any]) -> None:
        """Append a row to the metrics and the event files; NaN becomes null."""
        row = {name: _number(value) for name, value in values.items()}
        with self.metrics_file.open("a") as stream:
            stream.write(json.dumps({"kind": kind, "step": step, "epoch": round(epoch, 4), **row}) + "\n")
        for name, value in row.items():
            if value is not None:
                self._writer().add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Finish the event files."""
        if self._events is not None:
            self._events.close()

    def _writer(self) -> Any:
        if self._events is None:
            from tensorboardX import SummaryWriter

            self._events = SummaryWriter(str(self.path))
        return self._events


def read_experiment(path: Path) -> Experiment:
    """The experiment of a run folder.

    Raises:
      FileNotFoundError: the folder holds no run.
      ValueError: a config that this version cannot read.
    """
    file = path / "config.json"
    if not file.exists():
        raise FileNotFoundError(f"{path}: expected a run folder with a config.json, found none; give what `ugs train` wrote")
    experiment = from_json(json.loads(file.read_text()).get("experiment"), str(file))
    if not isinstance(experiment, Experiment):
        raise ValueError(f'{file}: expected an "experiment", got {type(experiment).__name__}')
    return experiment


def _number(value: Any) -> float | int | None:
    if value is None or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(value)


def _describe_data(experiment: Experiment) -> str:
    data = to_json(experiment.data)
    kind = data.pop("type")
    return f"{kind}({', '.join(f'{k}={v}' for k, v in data.items() if not isinstance(v, dict))})"
