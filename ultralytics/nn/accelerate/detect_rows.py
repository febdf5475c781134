"""`Detect` for inference on channels-last maps: the channels of a position are a row, and nothing is transposed."""

import torch
from torch import Tensor, nn

from ultralytics.nn.modules.block import DFL
from ultralytics.nn.modules.detect import Detect, RawPrediction, v10Detect
from ultralytics.utils.ops import dist2bbox, make_anchors


class RowsDetect(Detect):
    """`Detect`; outputs have the same shapes, stored by positions."""

    plain, label = Detect, "detections decoded by rows"

    @staticmethod
    def applies(module: Detect) -> bool:
        """Check for the plain expected value of a distribution, or none."""
        return type(module.dfl) in (DFL, nn.Identity)

    def forward_head(self, x: list[Tensor], box_head: nn.ModuleList, cls_head: nn.ModuleList) -> RawPrediction:
        if is_recorded():
            return super().forward_head(x, box_head, cls_head)
        boxes, scores = (
            torch.cat([part(level).permute(0, 2, 3, 1).flatten(1, 2) for part, level in zip(head, x, strict=True)], 1)
            for head in (box_head, cls_head)
        )  # (B, A, 4 reg_max), (B, A, nc)
        return {"boxes": boxes.mT, "scores": scores.mT, "feats": x}

    def _inference(self, raw: RawPrediction | list[Tensor]) -> Tensor:
        dtype = next(self.parameters()).dtype
        if is_recorded() or not isinstance(raw, dict) or raw["boxes"].dtype != dtype:  # mixed precision
            return super()._inference(raw)
        points, strides = (t.to(dtype) for t in make_anchors(raw["feats"], self._strides))  # (A, 2) in cells, (A, 1)
        distances = raw["boxes"].mT
        if self.reg_max > 1:
            bins = self.dfl.conv.weight.flatten()
            distances = distances.unflatten(2, (4, -1)).softmax(3) @ bins  # (B, A, 4 reg_max) -> (B, A, 4)
        boxes = dist2bbox(distances, points, xywh=not self.end2end) * strides
        return torch.cat((boxes, raw["scores"].mT.sigmoid()), 2).mT  # (B, 4 + nc, A)


class RowsV10Detect(RowsDetect, v10Detect):
    plain = v10Detect


def is_recorded() -> bool:
    """Check whether the graph is recorded for another runtime."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()
