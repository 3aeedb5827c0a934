"""Non-maximum suppression of a batch by the ONNX operator, with results of fixed shapes."""

from typing import NamedTuple

import numpy as np

from ugs_jax.weights.onnx.tensors import Tensor, Tensors


class KeptTensors(NamedTuple):
    """Candidates that suppression has kept, best first.

    Attributes:
      index: Positions among the candidates, int32 [b, k]; any where not `valid`.
      valid: False for padding, bool [b, k].
    """

    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which is not needed here
    valid: Tensor


def suppress_overlaps(
    tensors: Tensors,
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    *,
    classes: int,
    iou_threshold: float,
    max_outputs: int,
) -> KeptTensors:
    """Keep each candidate unless a better, kept candidate of its class overlaps it by more than `iou_threshold`.

    The operator takes scores of all classes for each box. A candidate has the score 0 for all classes but its own,
    and is left out there.

    Args:
      tensors: Tensors of the graph.
      boxes: Boxes, xyxy px, [b, n, 4].
      scores: Scores, 0 for padding, [b, n].
      labels: Classes, int32 [b, n].
      classes: Number of classes.
      iou_threshold: IoU above which the better candidate suppresses the other.
      max_outputs: Largest number of candidates that are kept.
    """
    graph, batch = tensors.graph, scores.shape[0]
    count = min(max_outputs, int(scores.shape[1]))
    stored, index, one = tensors.whole(scores), np.arange(classes, dtype=np.int32)[None, :, None], np.array([1])
    own = graph.add(
        "Cast", graph.add("Equal", graph.add("Unsqueeze", tensors.whole(labels), one), index), to=scores.dtype
    )
    by_class = graph.add("Mul", graph.add("Unsqueeze", stored, one), own)
    chosen = graph.add(
        "NonMaxSuppression",
        tensors.whole(boxes),
        by_class,
        np.array([count]),
        np.array([iou_threshold], np.float32),
        np.array([np.finfo(np.float32).tiny]),  # above 0, whichever way a runtime compares
    )  # rows of (image, class, candidate)
    pairs = graph.add("Gather", chosen, np.array([0, 2]), axis=1)
    ones = graph.add(
        "Expand", np.array([1], np.float32), graph.add("Slice", graph.add("Shape", chosen), *map(_at, (0, 1, 0)))
    )
    nothing = graph.add("Mul", stored, np.array(0, np.float32))
    kept = graph.add("Mul", stored, graph.add("ScatterND", nothing, pairs, ones))
    best, place = graph.add_many("TopK", [kept, np.array([count])], 2, axis=1)
    valid = graph.add("Greater", best, np.array(0, np.float32))
    shape = (batch, count)
    return KeptTensors(
        tensors.tensor(graph.add("Cast", place, to=np.dtype(np.int32)), shape, np.int32),
        tensors.tensor(valid, shape, np.bool_),
    )


def _at(number: int) -> np.ndarray:
    return np.array([number])
