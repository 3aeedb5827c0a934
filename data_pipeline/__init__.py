"""Data sets, loader and augmentation for object detection; knows nothing of `ugs_jax`."""

from data_pipeline.batch import Batch as Batch
from data_pipeline.dataset import Dataset as Dataset
from data_pipeline.dataset import Example as Example
from data_pipeline.dataset import dataset_from_examples as dataset_from_examples
from data_pipeline.errors import DataError as DataError
from data_pipeline.tiny_scenes import TinyScenes as TinyScenes
