"""Protocols of published benchmarks, with the values of their code."""

import math

from ugs_jax.evaluation.protocol import COCO_BINS, DEFAULT_PROTOCOL, REGION, Protocol, SizeBin

COCO = Protocol(
    name="COCO",
    max_detections=100,
    size_bins=tuple(SizeBin(size.name.removeprefix("coco_"), size.low, size.high) for size in COCO_BINS),
    recall_caps=(1, 10),
    crowds=(REGION, "iscrowd"),
)
"""COCO detection: 1, 10 and 100 detections per image and class. `iscrowd` is the only mark that counts. Lin et al.,
ECCV 2014."""

AI_TOD = Protocol(
    name="AI-TOD",
    max_detections=1500,
    size_bins=(
        SizeBin("very_tiny", 0.0, 8.0),
        SizeBin("tiny", 8.0, 16.0),
        SizeBin("small", 16.0, 32.0),
        SizeBin("medium", 32.0, math.inf),
    ),
    recall_caps=(1, 100),
    crowds=(REGION, "iscrowd"),
)
"""AI-TOD, with the values of its fork of pycocotools: 1, 100 and 1500 detections; `medium` has no upper end, although
the paper gives 64 px. Wang et al., Tiny Object Detection in Aerial Images, ICPR 2020."""

SODA_D = Protocol(
    name="SODA-D",
    max_detections=1000,
    size_bins=(
        SizeBin("extremely_small", 0.0, 12.0),
        SizeBin("relatively_small", 12.0, 20.0),
        SizeBin("generally_small", 20.0, 32.0),
        SizeBin("normal", 32.0, math.sqrt(2000.0)),
    ),
    scope=SizeBin("small", 0.0, 32.0),
    recall_caps=(100, 300),
    crowds=(),
    ignores=(REGION, "ignore"),
)
"""SODA-D: AP counts only objects of at most 1024 px²; `normal` is 1024 to 2000 px². Whole images are scored: merge
the detections of crops first. Its evaluator reads `ignore`, but not `iscrowd`. An ignored object takes one detection,
by IoU. Cheng et al., Towards Large-Scale Small Object Detection, TPAMI 2023."""

TINY_PERSON = Protocol(
    name="TinyPerson",
    max_detections=200,
    iou_thresholds=(0.25, 0.5, 0.75),
    size_bins=(
        SizeBin("tiny1", 1.0, 8.0),
        SizeBin("tiny2", 8.0, 12.0),
        SizeBin("tiny3", 12.0, 20.0),
        SizeBin("tiny", 1.0, 20.0),
        SizeBin("small", 20.0, 32.0),
        SizeBin("reasonable", 32.0, math.inf),
    ),
    size_thresholds=(0.25, 0.5, 0.75),
    crowds=("iscrowd",),
    ignores=(REGION, "ignore", "uncertain"),
    ignored_by_share=True,
)
"""TinyPerson: AP at IoU .25, .5 and .75, for each size. A detection is ignored if the share of its area inside an
ignored or uncertain object, or inside an object of another size bin, reaches the threshold. Miss rates are not
computed. Yu et al., Scale Match, WACV 2020."""

BENCHMARKS = {"default": DEFAULT_PROTOCOL, "coco": COCO, "aitod": AI_TOD, "sodad": SODA_D, "tinyperson": TINY_PERSON}
"""Protocols by their names on the command line. VisDrone's is not a `Protocol`; see `evaluation.visdrone`."""
