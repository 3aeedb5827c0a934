"""Frozen parameters: selection by patterns, and the split of trees into the part that learns and the rest.

A path names an array by the keys that lead to it, such as `backbone/stem/conv/kernel`. A pattern fits a path if it fits
the path itself or a layer above it, with the wildcards of `fnmatch`: `*` stands for any characters, `/` included.
"""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import jax

from ugs_jax.detectors import FixesStatistics, TrainableDetector

Paths = frozenset[str]
Tree = dict[Any, Any]
"""Nested dictionaries of arrays, with names and indices as keys."""
_NAMED = 3


class Frozen(NamedTuple):
    """Paths of the arrays that training leaves unchanged.

    Attributes:
      params: Paths of the frozen parameters.
      stats: Paths of the frozen batch statistics.
    """

    params: Paths = frozenset()
    stats: Paths = frozenset()


def frozen_paths(params: Tree, stats: Tree, patterns: Sequence[str]) -> Frozen:
    """Return the paths of the arrays that patterns freeze.

    Batch statistics are frozen if a pattern fits them, or if all parameters of their layer are frozen.

    Args:
      params: Parameters, or their shapes.
      stats: Batch statistics, or their shapes.
      patterns: Names of layers or arrays, with wildcards.

    Raises:
      ValueError: A pattern fits nothing, or no parameter is left to learn. The message names similar paths.
    """
    if not patterns:
        return Frozen()
    of_params, of_stats = list(_paths(params)), list(_paths(stats))
    for pattern in patterns:
        if not any(_fits(pattern, path) for path in [*of_params, *of_stats]):
            raise ValueError(
                f"Experiment.freeze: expected patterns that fit parameters, but {pattern!r} fits none; "
                f"{_near(pattern, [*of_params, *of_stats])}"
            )
    frozen = frozenset(path for path in of_params if any(_fits(pattern, path) for pattern in patterns))
    if len(frozen) == len(of_params):
        raise ValueError(
            f"Experiment.freeze: expected patterns that leave parameters to learn, but {', '.join(patterns)} fit all "
            f"{len(of_params)} arrays; freeze fewer layers"
        )
    whole = {_layer(path) for path in frozen} - {_layer(path) for path in of_params if path not in frozen}
    fixed = (p for p in of_stats if _layer(p) in whole or any(_fits(pattern, p) for pattern in patterns))
    return Frozen(frozen, frozenset(fixed))


def without(tree: Tree, paths: Paths) -> Tree:
    """Return a tree without the arrays at some paths, and without the branches that become empty.

    Args:
      tree: Nested dictionaries of arrays.
      paths: Paths of the arrays to leave out.
    """
    return _without(tree, paths, "") if paths else tree


def joined(part: Tree, whole: Tree) -> Tree:
    """Return `whole` with the arrays of `part` in place of its own.

    Args:
      part: Tree from `without`.
      whole: Tree from which it was made.
    """
    same: bool = jax.tree.structure(part) == jax.tree.structure(whole)  # type: ignore[operator]
    if same:
        return part
    both = {
        key: joined(part[key], value) if isinstance(value, dict) else part[key]
        for key, value in whole.items()
        if key in part
    }
    return {**whole, **both}


def freeze_statistics(detector: TrainableDetector, patterns: Sequence[str]) -> TrainableDetector:
    """Return a detector whose frozen layers normalise by their running statistics, in training too.

    Args:
      detector: Detector to train.
      patterns: Patterns of `Experiment.freeze`.

    Raises:
      ValueError: See `frozen_paths`. Also for frozen batch statistics of a detector that cannot fix them.
    """
    if not patterns:
        return detector
    shapes = jax.eval_shape(lambda: detector.init(0))
    stats = frozen_paths(shapes[0], shapes[1], patterns).stats
    if not stats:
        return detector
    if not isinstance(detector, FixesStatistics):
        raise ValueError(
            f"Experiment.freeze: expected a detector that can fix batch statistics such as {min(stats)}, got "
            f"{type(detector).__name__}; give it a method with_fixed_statistics (see detectors.FixesStatistics), or "
            "freeze layers without batch statistics"
        )
    return detector.with_fixed_statistics(stats)


def _without(tree: Tree, paths: Paths, above: str) -> Tree:
    kept: Tree = {}
    for key, value in tree.items():
        path = f"{above}{key}"
        if not isinstance(value, dict):
            if path not in paths:
                kept[key] = value
        elif below := _without(value, paths, f"{path}/"):
            kept[key] = below
    return kept


def _paths(tree: Tree, above: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _paths(value, f"{above}{key}/")
        else:
            yield f"{above}{key}"


def _layer(path: str) -> str:
    return path.rpartition("/")[0]


def _fits(pattern: str, path: str) -> bool:
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern.rstrip('/')}/*")


def _near(pattern: str, paths: Iterable[str]) -> str:
    """Return a hint with the layers whose names are most similar to a pattern, or the names at the top."""
    layers: dict[str, None] = {}
    for path in paths:
        parts = path.split("/")
        layers |= dict.fromkeys("/".join(parts[:end]) for end in range(1, len(parts) + 1))
    near = difflib.get_close_matches(pattern, layers, n=_NAMED)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"the network has {', '.join(layer for layer in layers if '/' not in layer)}"
