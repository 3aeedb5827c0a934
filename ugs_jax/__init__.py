"""Uncertainty-aware gradient stabilization (UGS) for small object detection, in JAX.

The public modules, from the lowest layer to the highest:

- `boxes`: box formats, overlaps, the offset codec and non-maximum suppression;
- `labels`: interval non-uniform grids, two-hot labels and their expectation;
- `losses`: localization losses as pure, unreduced functions;
- `objectives`: UGS, DFL and box regression behind one protocol, for any detector; refinement, second stage, quality;
- `curvature`: Hessians of box losses in closed form and by autodiff, and verification of equations by autodiff;
- `stabilize`: optax transforms, and a transform of losses, that shorten harmful steps. `ugs_stabilize` and
  `stabilize_loss` are also names of this package;
- `detectors`: YOLOv5 and TPH-YOLOv5 with any localization objective;
- `experiment`, `training`, `runs`: an experiment as one value, the loop that trains it, and the run folder;
- `evaluation`: scoring by COCO, VisDrone, AI-TOD, SODA-D and TinyPerson;
- `weights`: import of published checkpoints, export of safetensors and programs;
- `inference`: detection in images of any size, with tiles, mirror images and several scales;
- `report`: curves, tables, pictures and texts about one run or several runs;
- `analysis`: curvature and calibration of a finished run;
- `planning`: cost of a run on devices that need not be available.

`load("yolov5n.pt")` returns a trained detector as a function from images to detections (`runs.load`).

A module is imported when it is first used. `import ugs_jax` is therefore quick and loads neither Flax nor the data
pipeline:

>>> import ugs_jax
>>> ugs_jax.labels.uniform_grid(alpha=1.0, n=2).tolist()
[-1.0, 0.0, 1.0]

The method is that of Sun et al., "Uncertainty-Aware Gradient Stabilization for Small Object Detection", ICCV 2025
(arXiv 2303.01803).
"""

import importlib
from typing import TYPE_CHECKING, Any

from ugs_jax._version import __version__ as __version__

if TYPE_CHECKING:
    from ugs_jax import analysis as analysis
    from ugs_jax import boxes as boxes
    from ugs_jax import curvature as curvature
    from ugs_jax import detectors as detectors
    from ugs_jax import evaluation as evaluation
    from ugs_jax import experiment as experiment
    from ugs_jax import inference as inference
    from ugs_jax import labels as labels
    from ugs_jax import losses as losses
    from ugs_jax import objectives as objectives
    from ugs_jax import planning as planning
    from ugs_jax import report as report
    from ugs_jax import runs as runs
    from ugs_jax import stabilize as stabilize
    from ugs_jax import training as training
    from ugs_jax import weights as weights
    from ugs_jax.runs import load as load
    from ugs_jax.stabilize import stabilize_loss as stabilize_loss
    from ugs_jax.stabilize import ugs_stabilize as ugs_stabilize

__all__ = [
    "__version__",
    "analysis",
    "boxes",
    "curvature",
    "detectors",
    "evaluation",
    "experiment",
    "inference",
    "labels",
    "load",
    "losses",
    "objectives",
    "planning",
    "report",
    "runs",
    "stabilize",
    "stabilize_loss",
    "training",
    "ugs_stabilize",
    "weights",
]


_FUNCTIONS = {
    "load": "ugs_jax.runs",
    "stabilize_loss": "ugs_jax.stabilize",
    "ugs_stabilize": "ugs_jax.stabilize",
}
"""Modules of the public functions, by name."""


def __getattr__(name: str) -> Any:
    """Return a public module or function, and import its module when it is first used.

    Raises:
      AttributeError: The name is not public.
    """
    if name not in __all__:
        raise AttributeError(f"module 'ugs_jax' has no attribute {name!r}; its public names are {', '.join(__all__)}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    return importlib.import_module(f"ugs_jax.{name}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
