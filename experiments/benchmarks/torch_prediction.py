"""YOLOv5 in PyTorch with folded normalisation, decoding and suppression; for `benchmarks.prediction` only."""

import os
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from experiments.benchmarks.torch_yolov5 import ConvNormAct, Level, YOLOv5, load
from ugs_jax.detectors import Architecture, Postprocess


class TorchSide:
    """YOLOv5 and its postprocessing as PyTorch users would write them, with the suppression of OpenCV (C++).

    The network and its decoding run on a GPU if PyTorch has one.
    """

    def __init__(self, arch: Architecture, params: Any, stats: Any, options: Postprocess) -> None:
        self.arch, self.options = arch, options
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        network = YOLOv5(arch)
        load(network, params, stats)
        network.eval()
        for layer in network.modules():
            if isinstance(layer, ConvNormAct):
                layer.conv, layer.norm = fuse_conv_bn_eval(layer.conv, layer.norm), nn.Identity()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = network.to(self.device, memory_format=torch.channels_last)

    @torch.inference_mode()
    def network(self, images: np.ndarray) -> list[Level]:
        """Return the outputs for images [b, h, w, 3], uint8."""
        inputs = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2)
        outputs = self.model(inputs.to(torch.float32, memory_format=torch.channels_last) / 255)
        return self._finished(outputs)

    @torch.inference_mode()
    def decoded(self, images: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes, scores and classes of the best candidates of each image."""
        width = images.shape[2]
        parts = []
        for level, head, sizes, stride in zip(
            self.network(images), self.model.heads, self.arch.anchors, self.arch.strides, strict=True
        ):
            (_, _, anchors, classes), columns = level.classes.shape, width // stride
            scores = (level.objectness.sigmoid()[..., None] * level.classes.sigmoid()).flatten(1)
            scores, index = scores.topk(min(self.options.pre_nms_topk, scores.shape[1]), dim=1)
            cell, anchor, label = index // (anchors * classes), index // classes % anchors, index % classes
            features = level.features.gather(1, cell[..., None].expand(-1, -1, level.features.shape[-1]))
            raw = head.localize(features).unflatten(-1, (anchors, 4))
            raw = raw.gather(2, anchor[..., None, None].expand(-1, -1, 1, 4))[:, :, 0]
            gate = 2 * raw.sigmoid()
            center = (torch.stack([cell % columns, cell // columns], dim=-1) - 0.5 + gate[..., :2]) * stride
            half = gate[..., 2:].square() * torch.tensor(sizes, dtype=torch.float32, device=self.device)[anchor] / 2
            parts.append((torch.cat([center - half, center + half], dim=-1), scores, label))
        boxes, scores, labels = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        scores, index = scores.topk(min(self.options.pre_nms_topk, scores.shape[1]), dim=1)
        return self._finished((boxes.gather(1, index[..., None].expand(-1, -1, 4)), scores, labels.gather(1, index)))

    @torch.inference_mode()
    def whole(self, images: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return boxes (xyxy px), scores and classes of every image, best first."""
        found = []
        for boxes, scores, labels in zip(*(part.cpu() for part in self.decoded(images)), strict=True):
            corner, sides = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
            kept = cv2.dnn.NMSBoxesBatched(
                torch.cat([corner, sides], dim=1).double().numpy(),
                scores.numpy(),
                labels.int().numpy(),
                self.options.score_threshold,
                self.options.iou_threshold,
            )[: self.options.max_detections]
            found.append((boxes[kept].numpy(), scores[kept].numpy(), labels[kept].numpy()))
        return found

    def _finished(self, values: Any) -> Any:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return values
