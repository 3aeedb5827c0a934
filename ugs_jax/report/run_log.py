"""Reading a run folder back: its configuration and its metrics."""

import contextlib
import dataclasses
import functools
import itertools
import json
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

Row = dict[str, typing.Any]
"""One line of metrics.jsonl: kind, step, epoch, and numbers by name."""


class RunError(ValueError):
    """A run folder that cannot be read, or runs that cannot be compared."""


class Metrics(typing.NamedTuple):
    """The rows of `metrics.jsonl` and `timing.jsonl` by kind, in the order of their steps; of a step, the latest."""

    train: tuple[Row, ...]
    evaluations: tuple[Row, ...]
    timing: tuple[Row, ...] = ()


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder read into memory."""

    folder: Path
    config: Row
    metrics: Metrics

    @property
    def name(self) -> str:
        """The method, as the configuration names it; runs of one name differ in their seeds."""
        return str(self.config["name"])

    @property
    def seed(self) -> int:
        """The seed of initialisation and data order."""
        return int(self.config["seed"])

    @property
    def image_size(self) -> str:
        """Of the network's input, as `640 × 640`; empty where the configuration has none."""
        return " × ".join(map(str, self.config.get("image_size") or ()))

    @functools.cached_property
    def best(self) -> Row | None:
        """The evaluation with the highest AP, the earliest of equals; None before the first."""
        scored = [row for row in self.metrics.evaluations if row.get("ap") is not None]
        return max(scored, key=lambda row: row["ap"], default=None)

    @property
    def last(self) -> Row | None:
        """The latest evaluation; None before the first."""
        return self.metrics.evaluations[-1] if self.metrics.evaluations else None


def read_metrics(folder: Path) -> Metrics:
    """Reads `metrics.jsonl`, and `timing.jsonl` where there is one.

    A resumed run logs again the steps since its checkpoint; of two rows of one kind and step the later counts. Rows
    of other kinds than `train`, `eval` and `timing` are left out.

    Args:
      folder: a run folder.

    Raises:
      RunError: where the file is missing or a line is malformed; names file and line.
    """
    path, timing = Path(folder) / "metrics.jsonl", Path(folder) / "timing.jsonl"
    if not path.is_file():
        raise RunError(f"{path}: expected a run's metrics, found no such file; give a folder that `ugs train` wrote")
    rows: dict[tuple[str, int], Row] = {}
    for row in [*read_rows(path), *(read_rows(timing) if timing.is_file() else ())]:
        rows[row["kind"], row["step"]] = row
    ordered = [rows[key] for key in sorted(rows, key=lambda key: key[1])]
    return Metrics(*(tuple(row for row in ordered if row["kind"] == kind) for kind in ("train", "eval", "timing")))


def read_rows(path: Path) -> list[Row]:
    """The rows of a log, line by line; half a line at the end, which a run killed while writing leaves, is left out.

    Raises:
      RunError: where a line is malformed; names file and line.
    """
    *lines, rest = path.read_text(encoding="utf-8").split("\n")
    rows = [_parse_row(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]
    if rest.strip():
        with contextlib.suppress(RunError):
            rows.append(_parse_row(rest, str(path)))
    return rows


def read_run(folder: Path) -> Run:
    """Reads `config.json` and `metrics.jsonl` of a run folder.

    Args:
      folder: what `ugs train` wrote.

    Raises:
      RunError: where a file is missing or malformed, or the configuration has no `name` or `seed`.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise RunError(f"{path}: expected a run's configuration, found no such file; give a folder of `ugs train`")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise RunError(f"{path}:{error.lineno}: expected JSON, got {error.msg}; restore the file") from error
    if not isinstance(config, dict) or not isinstance(config.get("name"), str) or type(config.get("seed")) is not int:
        raise RunError(f'{path}: expected an object with a text "name" and a whole "seed"; add what is missing')
    return Run(Path(folder), config, read_metrics(folder))


def group_by_name(folders: Iterable[Path]) -> dict[str, list[Path]]:
    """Groups run folders by the name in their configuration, in the order given: the first is the baseline.

    Args:
      folders: run folders, several seeds of a method among them.

    Raises:
      RunError: for a folder that cannot be read.
    """
    groups: dict[str, list[Path]] = {}
    for folder in folders:
        groups.setdefault(read_run(folder).name, []).append(Path(folder))
    return groups


def read_groups(groups: Mapping[str, Sequence[Path]]) -> dict[str, list[Run]]:
    """Reads the runs of each method, and refuses those that no table could fairly hold together.

    Args:
      groups: run folders by method.

    Raises:
      RunError: without runs, for two runs of one method and seed, for different data sets, or image sizes of a method.
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
                    f"{second.folder}; one run counted twice would make the spread look small, leave one out"
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
    """Epochs and values of `key`, rows without a value left out."""
    pairs = [(float(row["epoch"]), float(row[key])) for row in rows if row.get(key) is not None]
    return [epoch for epoch, _ in pairs], [value for _, value in pairs]


def _parse_row(line: str, place: str) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise RunError(
            f"{place}: expected one JSON object, got {line[:60]!r} ({error.msg}); "
            "if the run was cut off while writing, delete this line"
        ) from error
    if not isinstance(row, dict):
        raise RunError(f"{place}: expected a JSON object, got {line[:60]!r}; delete this line")
    if row.get("kind") is None or not isinstance(row["kind"], str):
        raise RunError(f'{place}: expected text for \'kind\', got {row.get("kind")!r}; write "train" or "eval"')
    if type(row.get("step")) is not int or row["step"] < 0:
        raise RunError(f"{place}: expected a whole number for 'step', got {row.get('step')!r}; delete this line")
    for key, value in row.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if key != "kind" and not number and not (value is None and key != "epoch"):
            raise RunError(f"{place}: expected a number for {key!r}, got {value!r}; metrics are flat, null if unknown")
    if "epoch" not in row:
        raise RunError(f"{place}: expected a number for 'epoch', found none; delete this line")
    return typing.cast(Row, row)
