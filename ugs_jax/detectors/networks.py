"""Networks by name. Configs and files of weights hold the names; all other code uses the classes."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ugs_jax.detectors.network import Network
from ugs_jax.detectors.tph import TPH, TPHCBAM, TPHPlus
from ugs_jax.detectors.yolo26 import YOLO26
from ugs_jax.detectors.yolov5 import YOLOv5
from ugs_jax.detectors.yolov5u import YOLOv5u
from ugs_jax.detectors.yolov8 import YOLO11, YOLO11LinearPool, YOLOv8, YOLOv8LinearPool

NETWORKS: Mapping[str, type[Network]] = MappingProxyType(
    {
        network.name: network
        for network in (
            YOLOv5,
            TPH,
            TPHCBAM,
            TPHPlus,
            YOLOv5u,
            YOLOv8,
            YOLO11,
            YOLOv8LinearPool,
            YOLO11LinearPool,
            YOLO26,
        )
    }
)


def network_named(name: Any) -> type[Network]:
    """Return the class of a network.

    Args:
      name: Value of a config or file, which need not be a string.

    Raises:
      ValueError: No network has this name.
    """
    if not isinstance(name, str) or name not in NETWORKS:
        raise ValueError(f"expected a kind among {', '.join(NETWORKS)}; got {name!r}")
    return NETWORKS[name]


def name_of_network(network: type[Network]) -> str:
    """Return the name by which `network_named` finds a class.

    Raises:
      ValueError: The class is not one of this library.
    """
    if NETWORKS.get(network.name) is not network:
        known = ", ".join(known.__name__ for known in NETWORKS.values())
        raise ValueError(f"expected a network of this library ({known}), which a file can name, got {network.__name__}")
    return network.name
