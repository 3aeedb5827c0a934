"""YOLOv5u, sizes n to x (and a pico size for CPUs): backbone and neck of YOLOv5 with the heads of YOLOv8.

These are the networks of `yolov5nu.pt` to `yolov5xu.pt`, which the `ultralytics` package loads when it is asked for
`yolov5n.pt`. They have no anchors and no objectness. All layers before the heads are those of YOLOv5, so that weights
of YOLOv5 fit them.

Jocher et al., Ultralytics YOLOv5u, described from their public behaviour.
"""

from collections.abc import Sequence

from flax import nnx

from ugs_jax.detectors.network_options import NetworkOptions
from ugs_jax.detectors.split_head import SplitHead, split_heads
from ugs_jax.detectors.yolov5 import YOLOv5


class YOLOv5u(YOLOv5):
    """YOLOv5 with the heads of YOLOv8. The published family has no network with P2; ours has the neck of YOLOv5's."""

    name, variant = "yolov5u", "u"
    anchors_per_cell = 1
    has_objectness = False

    def make_heads(self, arch: NetworkOptions, rngs: nnx.Rngs) -> Sequence[SplitHead]:
        """Return the heads of all levels, finest first.

        Args:
          arch: Options of the network.
          rngs: Generator of the initial parameters.
        """
        return split_heads(arch, rngs)
