"""Architecture: a network class with the options to build it, and the anchors published for it."""

from dataclasses import dataclass

from ugs_jax.detectors.levels import AnchorSizes
from ugs_jax.detectors.network import Network
from ugs_jax.detectors.network_options import NetworkOptions, Scale
from ugs_jax.detectors.yolov5 import YOLOv5

COCO_ANCHORS: AnchorSizes = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
"""The published anchors (width, height in px at 640²) of P3, P4 and P5."""


def published_anchors(network: type[Network], p2: bool) -> AnchorSizes:
    """Return the published COCO anchors of every level, extended where the network needs more.

    P2, for which no anchors are published, gets small ones. Networks with four anchors per cell get a fourth one;
    networks with one anchor per cell get the middle one.
    """
    levels = ((((5, 6), (8, 15), (16, 11)),) if p2 else ()) + COCO_ANCHORS
    if network.anchors_per_cell == 1:
        return tuple(level[1:2] for level in levels)
    return tuple(level[:1] * (network.anchors_per_cell - 3) + level for level in levels)


@dataclass(frozen=True)
class Architecture(NetworkOptions):
    """Description of the network to build: its options, and its class.

    Attributes:
      network: Class of the network: `YOLOv5`, `YOLOv5u`, a network of TPH-YOLOv5 (`tph.py`), YOLOv8 or YOLO11
        (`yolov8.py`), or YOLO26 (`yolo26.py`).
    """

    network: type[Network] = YOLOv5

    def __post_init__(self) -> None:
        self.network.check_levels(self.p2, self.p2_joins)
        super().__post_init__()

    @property
    def scale(self) -> Scale:
        """Depth and width of the size in the family of the network."""
        return self.network.scales[self.size]

    @property
    def name(self) -> str:
        """Display name of the network."""
        return self.network.display_name(self.size, self.p2, self.p2_joins)
