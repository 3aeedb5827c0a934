"""The TFDS builder of all data sets: annotated encoded images in ArrayRecord files, without TensorFlow.

Only functions that build or read a data set import this module, because `import tensorflow_datasets` takes a second.
"""

import contextlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_pipeline.dataset import Example

Record = tuple[int, dict[str, Any]]


class ExampleBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Builder that writes one split of annotated images. The record number is the image id.

    Boxes are stored in px. The normalised float32 of `tfds.features.BBox` would not reproduce them exactly.
    """

    VERSION = tfds.core.Version("1.0.0")
    code_path = None  # There are no checksum files beside the code. Their search needs a package TFDS does not install.

    def __init__(self, name: str, split: str, examples: Iterable[Example], data_dir: Path) -> None:
        """Prepare to write `examples` as `split` of the TFDS data set `name` under `data_dir`."""
        self.name = name
        self._split = split
        self._examples = examples
        super().__init__(data_dir=str(data_dir))

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "boxes": tfds.features.Tensor(shape=(None, 4), dtype=np.float32),
                "classes": tfds.features.Tensor(shape=(None,), dtype=np.int32),
                "ignore": tfds.features.Tensor(shape=(None, 4), dtype=np.float32),
                "image_id": tfds.features.Scalar(np.int32),
                "file_name": tfds.features.Text(),
                "height": tfds.features.Scalar(np.int32),
                "width": tfds.features.Scalar(np.int32),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[Record]]:
        del dl_manager  # nothing is downloaded
        return {self._split: self._generate_examples()}

    def _generate_examples(self) -> Iterator[Record]:
        for example in self._examples:
            yield example.image_id, example._asdict()


def write_array_record(name: str, split: str, examples: Iterable[Example], folder: Path) -> Path:
    """Write examples, whose image ids count from 0, as a TFDS data set in ArrayRecord files.

    Returns:
      The TFDS folder, to be passed to `read_array_record`.
    """
    builder = ExampleBuilder(name, split, examples, folder)
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    with contextlib.redirect_stdout(io.StringIO()), _no_progress_bar():
        builder.download_and_prepare(download_dir=str(folder), download_config=config, file_format="array_record")
    return Path(str(builder.data_dir))


def read_array_record(folder: Path, split: str) -> Any:
    """Open a split as a random-access source of records. Their `image` stays encoded."""
    decoders = {"image": tfds.decode.SkipDecoding()}
    return tfds.builder_from_directory(str(folder)).as_data_source(split, decoders=decoders)


@contextlib.contextmanager
def _no_progress_bar() -> Iterator[None]:
    tfds.disable_progress_bar()
    try:
        yield
    finally:
        tfds.enable_progress_bar()
