"""Questions asked of a data set before training: faults, duplicates, sizes, classes and crowding."""

from data_pipeline.check.data_check import DataCheck, SplitCheck, check_splits
from data_pipeline.check.duplicates import Leak

__all__ = ["DataCheck", "Leak", "SplitCheck", "check_splits"]
