"""Time of whole predictions with YOLOv5n beside PyTorch, ONNX Runtime and SAHI, on the same weights.

    python -m experiments.benchmarks.prediction [WEIGHTS] [--side 4096]

WEIGHTS is a file or run that `ugs_jax.load` takes, of a YOLOv5 whose boxes are regressed, such as `yolov5n.pt`.
Without it, the weights are random. The images are mirrored and shifted copies of matplotlib's sample photograph. Every
engine is a process of its own, so that its peak memory is known and its threads do not disturb the others:

- `jax`: this library. `network` are the outputs, `decoded` the localized candidates, `whole` the detections;
- `jax_onnx`: this library with `engine="onnx"`, which computes detections with ONNX Runtime, `whole` only;
- `torch`: PyTorch with the normalisation folded into the convolutions, in channels-last, and OpenCV's suppression;
- `onnx`: ONNX Runtime with the model of `ugs export --format onnx`, `whole` only.

All take uint8 images, keep 1000 candidates an image, and suppress them as `ugs predict` does. Packages that are not
installed are left out. With `--side`, an image of side² px is also predicted in tiles of the network's input, by
`ugs_jax.inference` and by SAHI with each of the last two engines. Engines run in turns, in alternating order. Ratios
are medians over turns of (time of the other / time of ours). The last line is JSON.
"""

import importlib.util
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from matplotlib.cbook import get_sample_data
from PIL import Image

from ugs_jax import load
from ugs_jax.detectors import COCO_ANCHORS, Architecture, Detections, Detector, Postprocess
from ugs_jax.inference import Tiling, detect_image
from ugs_jax.objectives import BoxRegression
from ugs_jax.runs.engines import Engine, image_detector
from ugs_jax.runs.state import Averages
from ugs_jax.weights.onnx import export_onnx


@dataclass(frozen=True)
class Settings:
    """Settings of the measurement.

    Attributes:
      weights: File of weights or run; None draws random weights of YOLOv5n for 80 classes.
      batches: Batch sizes.
      image_size: Side of the network's input, px.
      side: Side of the image that is cut into tiles, px; 0 leaves tiles out.
      repeats: Number of timed calls of each method.
      tile_repeats: Number of timed calls with tiles.
      threads: Number of cores of each engine; None for all. On a busy machine, PyTorch's threads wait for each other at
        every operation. Then set 1 and compare processor times.
      seed: Seed of the images.
    """

    weights: tyro.conf.Positional[str | None] = None
    batches: tuple[int, ...] = (1, 8)
    image_size: int = 640
    side: int = 0
    repeats: int = 20
    tile_repeats: int = 3
    threads: int | None = None
    seed: int = 0


def model_of(settings: Settings) -> tuple[Detector, Any, Any]:
    """Return the detector, its parameters and its batch statistics."""
    if settings.weights is None:
        detector = Detector(Architecture("n", p2=False, classes=80, anchors=COCO_ANCHORS), BoxRegression())
        return detector, *detector.init(settings.seed)
    loaded: Any = load(settings.weights)
    return loaded.detector, loaded.params, loaded.stats


def photographs(count: int, side: int, seed: int) -> np.ndarray:
    """Return images [count, side, side, 3], uint8: copies of a photograph, shifted, and mirrored at random."""
    rng = np.random.default_rng(seed)
    picture = np.asarray(Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)).convert("RGB"))
    times = -(-side // min(picture.shape[:2]))
    canvas = np.tile(picture, (times, times, 1))[:side, :side]
    return np.stack([np.roll(canvas, rng.integers(0, 200, 2), (0, 1))[:, :: rng.choice((1, -1))] for _ in range(count)])


class OurSide:
    """This library, with one of its engines."""

    def __init__(self, detector: Detector, params: Any, stats: Any, options: Postprocess, engine: Engine) -> None:
        self.detect = image_detector(detector, Averages(params, stats), options, engine)
        if engine == "onnx":
            return
        outputs = jax.jit(lambda p, s, x: detector.apply(p, s, x, train=False))
        candidates = jax.jit(lambda p, s, x: detector.candidates(p, s, x, options.pre_nms_topk))
        self.network = lambda x: jax.block_until_ready(outputs(params, stats, x))
        self.decoded = lambda x: jax.block_until_ready(candidates(params, stats, x))

    def whole(self, images: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return boxes (xyxy px), scores and classes of every image, best first."""
        found: Detections = jax.device_get(self.detect(images))
        return [tuple(v[i][found.valid[i]] for v in found[:3]) for i in range(len(images))]  # type: ignore[misc]

    def tiles(self, image: np.ndarray, tiling: Tiling) -> int:
        """Return the number of detections in tiles of an image and in the image as a whole."""
        return len(detect_image(self.detect, image, tiling.tile, tiling=tiling).scores)


class OnnxSide:
    """ONNX Runtime with the exported model."""

    def __init__(self, detector: Detector, params: Any, stats: Any, options: Postprocess, side: int) -> None:
        import onnxruntime

        model, choices = export_onnx(detector, params, stats, options, (side, side)), onnxruntime.SessionOptions()
        choices.intra_op_num_threads = len(os.sched_getaffinity(0))
        self.session = onnxruntime.InferenceSession(model, choices, ["CPUExecutionProvider"])

    def whole(self, images: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return boxes (xyxy px), scores and classes of every image, best first."""
        found = dict(
            zip([o.name for o in self.session.get_outputs()], self.session.run(None, {"images": images}), strict=True)
        )
        names = ("boxes", "scores", "classes")
        return [tuple(found[name][i, :n] for name in names) for i, n in enumerate(found["count"])]  # type: ignore[misc]


def serve(connection: Connection, engine: str, settings: Settings) -> None:
    """Build an engine and execute requests (method, number of images) until None arrives."""
    if settings.threads is not None:  # before the engine counts its cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: settings.threads])
    options, side = Postprocess(), settings.image_size
    model, tiling = model_of(settings), Tiling((side, side), min_score=0.1)
    built: Any
    if engine.startswith("jax"):
        built = OurSide(*model, options, "onnx" if engine == "jax_onnx" else "jax")
    elif engine == "torch":
        from experiments.benchmarks.torch_prediction import TorchSide

        built = TorchSide(model[0].full_arch, *model[1:], options)
    else:
        built = OnnxSide(*model, options, side)
    if not engine.startswith("jax") and settings.side:
        from experiments.benchmarks.sahi_tiles import SahiModel, detect_tiles

        wrapped = SahiModel(built.whole, tiling)
        tiles: Callable[..., int] = lambda image, tiling: detect_tiles(wrapped, image, tiling)  # noqa: E731
    else:
        tiles = getattr(built, "tiles", None)  # type: ignore[assignment]
    methods = [m for m in ("network", "decoded", "whole") if hasattr(built, m)]
    connection.send(methods + (["tiles"] if settings.side else []))
    while (request := connection.recv()) is not None:
        method, count = request
        images = photographs(count, settings.side if method == "tiles" else side, settings.seed)
        arguments = (images[0], tiling) if method == "tiles" else (images,)
        call = tiles if method == "tiles" else getattr(built, method)
        wall, processor = time.perf_counter(), time.process_time()
        answer = call(*arguments)
        times = time.perf_counter() - wall, time.process_time() - processor
        (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        connection.send((answer if method in ("whole", "tiles") else None, times, int(peak) // 1024))


def measure(settings: Settings) -> dict[str, Any]:
    """Run the measurement and return the result."""
    present = lambda *names: all(importlib.util.find_spec(name) for name in names)  # noqa: E731
    engines = ["jax"]
    engines += ["torch"] if present("torch") else []
    engines += ["jax_onnx", "onnx"] if present("onnx", "onnxruntime") else []
    if settings.side and not present("sahi"):
        raise SystemExit("--side: expected the package sahi; pip install sahi")
    context, pipes = get_context("spawn"), {}
    for engine in engines:
        pipes[engine], theirs = context.Pipe()
        context.Process(target=serve, args=(theirs, engine, settings), daemon=True).start()
    methods = {engine: pipe.recv() for engine, pipe in pipes.items()}
    result: dict[str, Any] = {"benchmark": "prediction", **asdict(settings), "cores": os.cpu_count(), "rows": {}}

    def ask(engine: str, method: str, count: int) -> Any:
        pipes[engine].send((method, count))
        return pipes[engine].recv()

    for method, count in [(m, b) for b in settings.batches for m in ("network", "decoded", "whole")] + [("tiles", 1)]:
        able = [engine for engine in engines if method in methods[engine]]
        if not able:
            continue
        answers = {engine: ask(engine, method, count)[0] for engine in able}  # compiles
        times: dict[str, list[tuple[float, float]]] = {engine: [] for engine in able}
        memory = {}
        for turn in range(settings.tile_repeats if method == "tiles" else settings.repeats):
            for engine in able if turn % 2 else reversed(able):
                _, spent, memory[engine] = ask(engine, method, count)
                times[engine].append(spent)
        result["rows"][f"{method} {count}"] = {
            engine: {
                "ms": round(1e3 * float(np.median([t[0] for t in spent])), 2),
                "least_ms": round(1e3 * min(t[0] for t in spent), 2),
                "processor_ms": round(1e3 * float(np.median([t[1] for t in spent])), 2),
                **{
                    f"{kind}_over_jax": _ratio(spent, ours, i)
                    for i, kind in enumerate(("time", "processor"))
                    if (ours := times.get("jax"))
                },
                "peak_mib": memory[engine],
                "found": _count(answers[engine]),
                "apart_px": _apart(answers["jax"], answers[engine]) if method == "whole" else None,
            }
            for engine, spent in times.items()
        }
    for pipe in pipes.values():
        pipe.send(None)
    return result


def _ratio(theirs: Sequence[tuple[float, float]], ours: Sequence[tuple[float, float]], kind: int) -> float:
    return round(float(np.median([a[kind] / b[kind] for a, b in zip(theirs, ours, strict=True)])), 3)


def _count(answer: Any) -> int | None:
    return answer if answer is None or isinstance(answer, int) else sum(len(boxes) for boxes, _, _ in answer)


def _apart(ours: Any, theirs: Any) -> float:
    """Return the largest difference of the coordinates of detections with a score of at least 0.25, px."""
    pairs = zip(ours, theirs, strict=True)
    sure = [(a[0][a[1] >= 0.25], b[0][b[1] >= 0.25]) for a, b in pairs]
    return max((float(np.abs(a - b).max()) if len(a) == len(b) else np.inf for a, b in sure if len(a)), default=0.0)


def main(settings: Settings) -> None:
    """Measure, print a line for each engine and method, and print one line of JSON at the end."""
    result = measure(settings)
    for row, engines in result["rows"].items():
        for engine, numbers in engines.items():
            print(f"{row:12} {engine:8} " + "  ".join(f"{key} {value}" for key, value in numbers.items()))
    print(json.dumps(result))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
