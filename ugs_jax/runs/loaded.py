"""A trained detector as a function from images to detections, from a run or from a file of weights."""

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

from jax.sharding import Mesh

from data_pipeline.decoding.images import read_image_file
from data_pipeline.decoding.whole_images import decode_whole_image
from ugs_jax.detectors import Postprocess, TrainableDetector
from ugs_jax.evaluation import ImageDetections
from ugs_jax.evaluation.coco_categories import usual_category_ids
from ugs_jax.evaluation.detections import take
from ugs_jax.experiment.config import Experiment
from ugs_jax.inference import ImageDetector, TestTimeAugmentation, Tiling, WindowedImage, detect_image
from ugs_jax.runs.engines import Engine, image_detector
from ugs_jax.runs.from_weights import experiment_of, state_of
from ugs_jax.runs.loading import load_for_inference
from ugs_jax.runs.remote.opened import opened_run
from ugs_jax.runs.remote.weights_file import is_weights_file, local_file
from ugs_jax.runs.run_folder import RunFolder, read_experiment
from ugs_jax.runs.sharding import evaluation_mesh
from ugs_jax.runs.state import Averages, TrainState
from ugs_jax.weights import Weights, read_weights

_logger = logging.getLogger(__name__)
_PLAIN = TestTimeAugmentation()
Image = str | os.PathLike[str] | WindowedImage
"""Path of an image file, or RGB image [height, width, 3], uint8: an array, or an object that is sliced like one."""


@dataclass(frozen=True, eq=False)
class LoadedDetector:
    """A trained detector. Call it with one image or with several.

    Attributes:
      name: Name of the run, or of the file without its ending.
      classes: Class names.
      detector: Detector: network and objective.
      state: State whose averaged parameters `ema_params` and batch statistics `ema_stats` are used.
      experiment: Settings, with image size and postprocessing. For a file of weights it has no data set.
      mesh: Devices that the parameters are on.
      category_ids: Identifiers of the classes in files of detections.
      engine: Engine that computes the detections: `jax`, or `onnx` for ONNX Runtime on the CPU.
    """

    name: str
    classes: tuple[str, ...]
    detector: TrainableDetector = field(repr=False)
    state: TrainState | Averages = field(repr=False)
    experiment: Experiment = field(repr=False)
    mesh: Mesh = field(repr=False)
    category_ids: tuple[int, ...] = field(default=(), repr=False)
    engine: Engine = "jax"

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width to which images are letterboxed, px."""
        return self.experiment.loader.image_size

    @property
    def postprocess(self) -> Postprocess:
        """Options that turn raw outputs into detections."""
        return self.experiment.postprocess

    @property
    def params(self) -> Any:
        """Averaged parameters of the detector."""
        return self.state.ema_params

    @property
    def stats(self) -> Any:
        """Averaged batch statistics of the detector."""
        return self.state.ema_stats

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a string is an iterable of strings, too
        self,
        images: Image,
        *,
        threshold: float = 0.25,
        tiling: Tiling | None = None,
        augmented: TestTimeAugmentation = _PLAIN,
    ) -> ImageDetections: ...

    @overload
    def __call__(
        self,
        images: Iterable[Image],
        *,
        threshold: float = 0.25,
        tiling: Tiling | None = None,
        augmented: TestTimeAugmentation = _PLAIN,
    ) -> list[ImageDetections]: ...

    def __call__(
        self,
        images: Image | Iterable[Image],
        *,
        threshold: float = 0.25,
        tiling: Tiling | None = None,
        augmented: TestTimeAugmentation = _PLAIN,
    ) -> ImageDetections | list[ImageDetections]:
        """Return the detections in one image, or a list with the detections in each of several images.

        Args:
          images: One image or several: paths, or RGB images [height, width, 3], uint8, of any sizes. An array
            [n, height, width, 3] counts as several.
          threshold: Lowest score of the returned detections. 0 returns all that the postprocessing keeps.
          tiling: Tiling of images that are larger than a tile; None resizes every image as a whole.
          augmented: Test-time augmentation: the flips and scales that are merged.

        Returns:
          Detections, best first. Boxes are xyxy in px of the image.

        Raises:
          data_pipeline.DataError: A file cannot be read as an image.
          ValueError: An array is not an 8-bit RGB image.
        """
        if not _is_image(images):
            each = {"threshold": threshold, "tiling": tiling, "augmented": augmented}
            return [self(image, **each) for image in images]  # type: ignore[union-attr, arg-type]
        pixels: Any = images
        if isinstance(images, (str, os.PathLike)):
            file = Path(images)
            pixels = decode_whole_image(read_image_file(file), str(file))
        found = detect_image(self._detect, pixels, self.image_size, tiling=tiling, augmented=augmented)
        return take(found, found.scores >= threshold)

    @cached_property
    def _detect(self) -> ImageDetector:
        return image_detector(self.detector, self.state, self.postprocess, self.engine)


def load(
    source: str | Path,
    *,
    classes: Sequence[str] | None = None,
    image_size: int | tuple[int, int] | None = None,
    postprocess: Postprocess | None = None,
    which: Literal["best", "last"] = "best",
    engine: Engine = "jax",
) -> LoadedDetector:
    """Load a trained detector from a run or from a file of weights.

    A `.pt` file is read without PyTorch, and no code in it is executed. A file at a URL is downloaded once.

    Args:
      source: Run folder, published file of a YOLO network (`.pt`), file of `ugs export` or `ugs import`
        (`.safetensors`), or the URL of one of them.
      classes: Class names that replace those of the source.
      image_size: Height and width of the network's input, px; one number for a square. The default is that of the run
        or of the file. Published weights have 640.
      postprocess: Options that turn raw outputs into detections. The default is that of the run or of the file.
      which: Checkpoint of a run: the best or the last.
      engine: Engine that computes the detections: `jax`, or `onnx` for ONNX Runtime, which is faster on a CPU and needs
        the packages onnx and onnxruntime.

    Raises:
      FileNotFoundError: The run, the checkpoint or the file does not exist.
      ValueError: The run or the file cannot be used. The message names the reason and the fix.
    """
    settings = _Settings(classes, image_size, postprocess, engine)
    if is_weights_file(source):
        return _load_file(source, settings)
    with opened_run(str(source), which) as opened:
        run = opened.folder
        experiment = settings.changed(read_experiment(run))
        names = settings.names(RunFolder(run).read_classes(), str(source))
        ids = RunFolder(run).read_category_ids()
        detector, state, mesh = load_for_inference(run, experiment, which=which)
    name = str(source).rstrip("/").rsplit("/", 1)[-1]
    return LoadedDetector(name, names, detector, state, experiment, mesh, ids, engine)


def unnamed_classes(count: int) -> tuple[str, ...]:
    """Return the names of the classes of weights that have no class names: `class 0`, `class 1` and so on."""
    return tuple(f"class {index}" for index in range(count))


@dataclass(frozen=True)
class _Settings:
    classes: Sequence[str] | None
    image_size: int | tuple[int, int] | None
    postprocess: Postprocess | None
    engine: Engine

    def changed(self, experiment: Experiment) -> Experiment:
        if self.image_size is not None:
            size = (self.image_size,) * 2 if isinstance(self.image_size, int) else self.image_size
            experiment = replace(experiment, loader=replace(experiment.loader, image_size=(size[0], size[1])))
        return experiment if self.postprocess is None else replace(experiment, postprocess=self.postprocess)

    def names(self, own: tuple[str, ...], where: str) -> tuple[str, ...]:
        given = own if self.classes is None else tuple(self.classes)
        if isinstance(self.classes, str) or len(given) != len(own):
            raise ValueError(
                f"{where}: expected {len(own)} class names, one for each class in order, got {len(given)}: "
                f"{self.classes!r:.200}"
            )
        return given


def _load_file(source: str | Path, settings: _Settings) -> LoadedDetector:
    where, file = str(source), local_file(source)
    weights = _read(file, where)
    for note in weights.notes:
        _logger.warning(note.replace(str(file), where))
    experiment, detector = experiment_of(weights, file.stem, where)
    experiment = settings.changed(experiment)
    count = weights.arch.classes
    if weights.classes is None and settings.classes is None:
        _logger.warning("%s: it has no class names, so its classes are called class 0 to class %d.", where, count - 1)
    names = settings.names(weights.classes or unnamed_classes(count), where)
    mesh = evaluation_mesh(experiment.loader)
    state, ids = state_of(weights, detector, mesh), usual_category_ids(names)
    return LoadedDetector(file.stem, names, detector, state, experiment, mesh, ids, settings.engine)


def _read(file: Path, where: str) -> Weights:
    try:
        return read_weights(file)
    except ValueError as error:
        raise ValueError(str(error).replace(str(file), where)) from error


def _is_image(value: Any) -> bool:
    """Return True for one image, and False for several. Arrays with another number of axes count as a wrong image."""
    return isinstance(value, (str, os.PathLike)) or len(getattr(value, "shape", (0, 0, 0, 0))) != 4
