"""Dense decoding, threshold and greedy suppression of one image in loops: the reference for `detectors.decode`."""

from tests.reference.boxes_by_hand import greedy_suppression
from tests.reference.localization_by_hand import sigmoid


def detect(levels, strides, anchors, decode, *, score_threshold, iou_threshold, max_detections):
    """(score, class, box) of every detection, best first.

    `levels` holds per level (features [h,w,c], objectness [h,w,a], classes [h,w,a,n], kernel [c,a,k], bias [a,k]);
    `decode(raw, center, size, stride)` makes one box of the raw outputs of one anchor.
    """
    found = []
    for (features, objectness, classes, kernel, bias), stride, sizes in zip(levels, strides, anchors, strict=True):
        rows, columns, count = objectness.shape
        for row in range(rows):
            for column in range(columns):
                for a in range(count):
                    raw = features[row, column] @ kernel[:, a] + bias[a]
                    center = ((column + 0.5) * stride, (row + 0.5) * stride)
                    box = decode(raw.tolist(), center, sizes[a], stride)
                    for label, logit in enumerate(classes[row, column, a]):
                        score = sigmoid(objectness[row, column, a]) * sigmoid(logit)
                        if score > score_threshold:
                            found.append((score, label, box))
    scores, labels, boxes = zip(*found, strict=True)
    kept = greedy_suppression(boxes, scores, labels, iou_threshold)
    return [found[i] for i in kept[:max_detections]]
