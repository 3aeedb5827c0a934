"""The second localization stage and the quality predictor, one box at a time: the reference for `objectives`."""

import math

import numpy as np

from tests.reference.localization_by_hand import sigmoid


def silu(values):
    return np.array([z * sigmoid(z) for z in values])


def sampled(features, x, y, stride):
    """The feature vector at a point of a map [h, w, c], whose cells count at their centres; beyond, its border's."""
    rows, columns, _ = features.shape
    column = min(max(x / stride - 0.5, 0), columns - 1)
    row = min(max(y / stride - 0.5, 0), rows - 1)
    total = np.zeros(features.shape[2])
    for i in range(rows):
        for j in range(columns):
            total += max(0, 1 - abs(row - i)) * max(0, 1 - abs(column - j)) * features[i, j]
    return total


def residual(layer, features, box, probabilities, stride):
    """Residual that is added to the raw outputs of one box."""
    x1, y1, x2, y2 = box
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    points = [(x, y), (x1, y), (x, y1), (x2, y), (x, y2)]
    seen = np.concatenate([sampled(features, *point, stride) for point in points])
    hidden = silu(seen @ layer.points + np.ravel(probabilities) @ layer.shape + layer.bias)
    return hidden @ layer.out


def quality_evidence(probabilities, box, stride):
    """Four largest probabilities of each distribution and their mean, then the log sides in cells."""
    found = []
    for row in probabilities:
        top = sorted(row, reverse=True)[:4]
        top += [0.0] * (4 - len(top))
        found += [*top, sum(top) / 4]
    sides = [max(box[k + 2] - box[k], 1e-3) for k in range(2)]  # px
    return [*found, *(math.log(side / stride) for side in sides)]


def quality(layer, probabilities, box, stride):
    """Logit of the IoU of one box."""
    seen = np.array(quality_evidence(probabilities, box, stride))
    return float(silu(seen @ layer.kernel + layer.bias) @ layer.out + layer.out_bias)
