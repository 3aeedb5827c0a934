"""Data sets, loader and augmentation for object detection, independent of `ugs_jax`."""

from data_pipeline.augment.augmentation import Augmentation as Augmentation
from data_pipeline.balance import repeat_factors as repeat_factors
from data_pipeline.batch import Batch as Batch
from data_pipeline.dataset import Dataset as Dataset
from data_pipeline.dataset import DataSource as DataSource
from data_pipeline.dataset import Example as Example
from data_pipeline.dataset import dataset_from_examples as dataset_from_examples
from data_pipeline.errors import DataError as DataError
from data_pipeline.ignored_classes import with_ignored_classes as with_ignored_classes
from data_pipeline.loader import LoaderOptions as LoaderOptions
from data_pipeline.loader import TrainLoader as TrainLoader
from data_pipeline.loader import eval_batches as eval_batches
from data_pipeline.prefetch import prefetch as prefetch
from data_pipeline.scenes.tiny_scenes import TinyScenes as TinyScenes
from data_pipeline.sources.coco_json import CocoJson as CocoJson
from data_pipeline.sources.recognise import data_source_at as data_source_at
from data_pipeline.sources.visdrone import VisDrone as VisDrone
from data_pipeline.sources.yolo_folder import YoloFolder as YoloFolder
from data_pipeline.tiling.tiles import Tiles as Tiles
