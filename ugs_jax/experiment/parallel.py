"""How a run is spread over devices."""

from dataclasses import dataclass
from typing import Literal

Split = Literal["nothing", "optimizer", "state"]


@dataclass(frozen=True)
class Parallel:
    """How a run is spread over the devices there are; one config runs on any number of them.

    Attributes:
      spatial: devices that share an image, each with some of its rows: for large images where there are more devices
        than images in a batch. On fewer devices, their greatest common divisor.
      split: what is kept in parts along `data` and gathered where it is used, to save memory: `nothing`; `optimizer`,
        its state and the moving averages (ZeRO-1); `state`, the parameters too (ZeRO-3, FSDP).
    """

    spatial: int = 1
    split: Split = "nothing"

    def __post_init__(self) -> None:
        if self.spatial < 1:
            raise ValueError(f"Parallel.spatial: expected at least 1, got {self.spatial}")
