"""Suppression of overlapping boxes as a part of an exported graph, by the ONNX operator NonMaxSuppression."""

from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.utils.ops import xywh2xyxy


class _NonMaxSuppression(torch.autograd.Function):
    """The ONNX operator: boxes (B, A, 4) and scores (B, C, A) -> (n, 3): image, class and position that are kept."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, max_det: int, iou: float, conf: float) -> Tensor:
        from torchvision.ops import nms  # torchvision takes seconds to import

        kept = [torch.empty(0, 3, dtype=torch.long, device=boxes.device)]
        for image, classes in enumerate(scores):
            for cls, score in enumerate(classes):
                known = (score > conf).nonzero().flatten()
                best = known[nms(boxes[image, known], score[known], iou)[:max_det]]  # (k,)
                kept.append(torch.stack([torch.full_like(best, image), torch.full_like(best, cls), best], 1))
        return torch.cat(kept)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, max_det: int, iou: float, conf: float) -> Any:
        limits = (torch.tensor([max_det]), torch.tensor([iou]), torch.tensor([conf]))
        return g.op("NonMaxSuppression", boxes, scores, *(g.op("Constant", value_t=limit) for limit in limits))


class Suppression(nn.Module):
    """Suppress boxes of one class that overlap a better one: (B, 4 + nc, A), as ANCHORS -> (B, max_det, 6), as END2END.

    A position has its best class only. Rows after the last detection of an image are zeros.

    Args:
        conf: smallest score, exclusive.
        iou: overlap above which the better box only is kept.
        agnostic: suppress across classes.
    """

    def __init__(self, *, conf: float, iou: float, max_det: int, agnostic: bool) -> None:
        super().__init__()
        import_module("torchvision.ops")  # not during the trace, which would record what it does
        self.limits, self.agnostic, self.max_det = (max_det, iou, conf), agnostic, max_det

    def forward(self, y: Tensor) -> Tensor:
        boxes, scores = xywh2xyxy(y[:, :4].transpose(1, 2)), y[:, 4:]  # (B, A, 4), (B, nc, A)
        best, label = scores.max(1)  # (B, A) each

        # suppression: by class, with zeros for the classes that a position does not have
        classes = torch.arange(scores.shape[1], device=y.device)[:, None]
        by_class = best[:, None] if self.agnostic else torch.where(label[:, None] == classes, scores, 0.0)
        kept = _NonMaxSuppression.apply(boxes, by_class, *self.limits)  # (n, 3)
        mask = torch.zeros_like(best).index_put((kept[:, 0], kept[:, 2]), best.new_ones(()))  # (B, A)

        # top-k of each image; zeros are appended, as a small image has fewer positions
        rows = torch.cat((boxes, best[..., None], label[..., None].to(y.dtype)), 2) * mask[..., None]  # (B, A, 6)
        rows = nn.functional.pad(rows, (0, 0, 0, self.max_det))
        top = rows[..., 4].topk(self.max_det).indices
        return rows.gather(1, top[..., None].expand(-1, -1, 6))  # (B, max_det, 6)
