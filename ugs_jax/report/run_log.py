"""Configuration and metrics of a run, read from its folder."""

import contextlib
import dataclasses
import functools
import itertools
import json
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

Row = dict[str, typing.Any]
"""One line of metrics.jsonl: kind, step, epoch, and metrics by name."""


class RunError(ValueError):
    """A run folder cannot be read, or runs cannot be compared."""


class Metrics(typing.NamedTuple):
    """Rows of `metrics.jsonl` and `timing.jsonl` by kind, sorted by step.

    Attributes:
      train: Rows of training steps.
      evaluations: Rows of evaluations.
      timing: Rows of throughput.
    """

    train: tuple[Row, ...]
    evaluations: tuple[Row, ...]
    timing: tuple[Row, ...] = ()


@dataclasses.dataclass(frozen=True)
class Run:
    """Configuration and metrics of a run.

    Attributes:
      folder: Run folder.
      config: Contents of `config.json`.
      metrics: Rows of the log.
    """

    folder: Path
    config: Row
    metrics: Metrics

    @property
    def name(self) -> str:
        """Name of the method in the configuration. Runs of one name differ in their seeds."""
        return str(self.config["name"])

    @property
    def seed(self) -> int:
        """Seed of initialisation and data order."""
        return int(self.config["seed"])

    @property
    def image_size(self) -> str:
        """Size of the network's input, such as `640 × 640`; empty if the configuration has none."""
        return " × ".join(map(str, self.config.get("image_size") or ()))

    @functools.cached_property
    def best(self) -> Row | None:
        """Evaluation with the highest AP, the earliest among equals; None before the first evaluation."""
        scored = [row for row in self.metrics.evaluations if row.get("ap") is not None]
        return max(scored, key=lambda row: row["ap"], default=None)

    @property
    def last(self) -> Row | None:
        """Latest evaluation; None before the first one."""
        return self.metrics.evaluations[-1] if self.metrics.evaluations else None


def read_metrics(folder: Path) -> Metrics:
    """Read `metrics.jsonl`, and `timing.jsonl` if it exists.

    A resumed run logs the steps since its checkpoint a second time. Of two rows of the same kind and step, the later
    one is kept. Rows of kinds other than `train`, `eval` and `timing` are left out.

    Args:
      folder: Run folder.

    Raises:
      RunError: `metrics.jsonl` is missing, or a line is malformed. The message names file and line.
    """
    path, timing = Path(folder) / "metrics.jsonl", Path(folder) / "timing.jsonl"
    if not path.is_file():
        raise RunError(f"{path}: expected the metrics of a run, found no such file; give a run folder of `ugs train`")
    rows: dict[tuple[str, int], Row] = {}
    for row in [*read_rows(path), *(read_rows(timing) if timing.is_file() else ())]:
        rows[row["kind"], row["step"]] = row
    ordered = [rows[key] for key in sorted(rows, key=lambda key: key[1])]
    return Metrics(*(tuple(row for row in ordered if row["kind"] == kind) for kind in ("train", "eval", "timing")))


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a log. An incomplete last line, left by a run that was killed while writing, is ignored.

    Raises:
      RunError: A line is malformed. The message names file and line.
    """
    *lines, rest = path.read_text(encoding="utf-8").split("\n")
    rows = [_parse_row(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]
    if rest.strip():
        with contextlib.suppress(RunError):
            rows.append(_parse_row(rest, str(path)))
    return rows


def read_run(folder: Path) -> Run:
    """Read `config.json` and `metrics.jsonl` of a run folder.

    Args:
      folder: Run folder of `ugs train`.

    Raises:
      RunError: A file is missing or malformed, or the configuration has no `name` or `seed`.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise RunError(
            f"{path}: expected the configuration of a run, found no such file; give a run folder of `ugs train`"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise RunError(f"{path}:{error.lineno}: expected JSON, got {error.msg}; restore the file") from error
    if not isinstance(config, dict) or not isinstance(config.get("name"), str) or type(config.get("seed")) is not int:
        raise RunError(f'{path}: expected an object with a string "name" and an integer "seed"; add what is missing')
    return Run(Path(folder), config, read_metrics(folder))


def group_by_name(folders: Iterable[Path]) -> dict[str, list[Path]]:
    """Group run folders by the name in their configuration, in the order given. The first group is the baseline.

    Args:
      folders: Run folders. Several of them may be seeds of one method.

    Raises:
      RunError: A folder cannot be read.
    """
    groups: dict[str, list[Path]] = {}
    for folder in folders:
        groups.setdefault(read_run(folder).name, []).append(Path(folder))
    return groups


def read_groups(groups: Mapping[str, Sequence[Path]]) -> dict[str, list[Run]]:
    """Read the runs of each method, and check that one table can compare them fairly.

    Args:
      groups: Run folders by method.

    Raises:
      RunError: A method has no runs, or two runs with the same seed, or runs of different image sizes; or the runs
        have different data sets.
    """
    runs = {
        name: sorted((read_run(folder) for folder in folders), key=lambda r: r.seed) for name, folders in groups.items()
    }
    everything = [run for members in runs.values() for run in members]
    if not everything or not all(runs.values()):
        raise RunError(f"expected at least one run of each method, got {dict(groups)}; train them first")
    for name, members in runs.items():
        for first, second in itertools.pairwise(members):
            if first.seed == second.seed:
                raise RunError(
                    f"{name}: expected a different seed for each run, got seed {first.seed} in {first.folder} and "
                    f"{second.folder}; remove one of them: a run that is counted twice makes the spread too small"
                )
    _expect_one("dataset", "all runs", everything)
    for name, members in runs.items():
        _expect_one("image_size", f"all runs of {name}", members)
    return runs


def _expect_one(key: str, whose: str, runs: Sequence[Run]) -> None:
    values = {json.dumps(run.config.get(key)): run.folder for run in runs}
    if len(values) > 1:
        listed = ", ".join(f"{value} in {folder}" for value, folder in values.items())
        raise RunError(f"expected one {key} for {whose}, got {listed}; compare like with like, or give another name")


def series(rows: Iterable[Row], key: str) -> tuple[list[float], list[float]]:
    """Return epochs and values of `key`. Rows without a value are left out.

    Args:
      rows: Rows of a metrics file.
      key: Name of the metric.
    """
    pairs = [(float(row["epoch"]), float(row[key])) for row in rows if row.get(key) is not None]
    return [epoch for epoch, _ in pairs], [value for _, value in pairs]


def _parse_row(line: str, location: str) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise RunError(
            f"{location}: expected one JSON object, got {line[:60]!r} ({error.msg}); "
            "if the run was cut off while writing, delete this line"
        ) from error
    if not isinstance(row, dict):
        raise RunError(f"{location}: expected a JSON object, got {line[:60]!r}; delete this line")
    if row.get("kind") is None or not isinstance(row["kind"], str):
        raise RunError(f'{location}: expected a string for \'kind\', got {row.get("kind")!r}; write "train" or "eval"')
    if type(row.get("step")) is not int or row["step"] < 0:
        raise RunError(f"{location}: expected an integer >= 0 for 'step', got {row.get('step')!r}; delete this line")
    for key, value in row.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if key != "kind" and not number and not (value is None and key != "epoch"):
            raise RunError(f"{location}: expected a number for {key!r}, got {value!r}; write null if it is unknown")
    if "epoch" not in row:
        raise RunError(f"{location}: expected a number for 'epoch', found none; delete this line")
    return typing.cast(Row, row)
