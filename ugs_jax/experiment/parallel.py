"""Distribution of a run over devices."""

from dataclasses import dataclass
from typing import Literal

Shard = Literal["nothing", "optimizer", "state"]


@dataclass(frozen=True)
class Parallel:
    """Distribution of a run over the available devices. One config runs on any number of devices.

    Attributes:
      spatial: Number of devices that share an image, each with a part of its rows. It helps with large images if there
        are more devices than images in a batch. If it does not divide the number of devices, their greatest common
        divisor is used.
      shard: Part of the training state that is split along `data` and gathered where it is used, to save memory.
        `nothing` splits nothing. `optimizer` splits the optimizer state and the moving averages (ZeRO-1). `state` also
        splits the parameters (ZeRO-3, FSDP).
    """

    spatial: int = 1
    shard: Shard = "nothing"

    def __post_init__(self) -> None:
        if self.spatial < 1:
            raise ValueError(f"Parallel.spatial: expected at least 1, got {self.spatial}")
