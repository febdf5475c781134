"""Prediction with RT-DETR: images are stretched to the network input, and there is no NMS."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ultralytics.data.images import stretch
from ultralytics.data.streams import Frame
from ultralytics.engine.predictor import BasePredictor
from ultralytics.engine.results import Results
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.ops import xywh2xyxy


def select_detections(
    y: Tensor, *, conf: float, max_det: int = 300, classes: Sequence[int] | None = None
) -> list[Tensor]:
    """Select the best (query, class) pairs of each image, as the official post-processor does.

    The scores of all queries and classes compete for as many places as there are queries, so a query may appear with
    two classes. `conf` and `classes` apply afterwards.

    Args:
        y: (B, queries, 4 + nc), boxes cx, cy, w, h in 0..1 and class probabilities.
        conf: minimum score (exclusive), 0..1.
        max_det: maximum number of detections per image.
        classes: class indices to keep; None keeps all.

    Returns:
        B tensors (n, 6): x1, y1, x2, y2 in 0..1 (not clipped), score, class; by descending score.
    """
    boxes, scores = y[..., :4], y[..., 4:]
    _, queries, nc = scores.shape

    # top-k (query, class) pairs
    best, pair = scores.flatten(1).topk(queries)  # (B, queries * nc) -> (B, queries)
    query, label = pair // nc, pair % nc
    boxes = xywh2xyxy(boxes).gather(1, query.unsqueeze(-1).expand(-1, -1, 4))  # (B, queries, 4)
    rows = torch.cat((boxes, best.unsqueeze(-1), label.unsqueeze(-1).to(y.dtype)), -1)  # (B, queries, 6)

    # thresholds
    keep = best > conf
    if classes is not None:
        keep &= torch.isin(label, torch.as_tensor(list(classes), device=y.device))
    return [image[mask][:max_det] for image, mask in zip(rows, keep, strict=True)]


class RTDETRPredictor(BasePredictor):
    """Predictor of RT-DETR models, whose output is (y (B, queries, 4 + nc), extras)."""

    network_class = RTDETRDetectionModel

    def resize(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Stretch an image to `size` (height, width), as in training."""
        return stretch(image, size)

    def postprocess(self, outputs: tuple[Tensor, object], frames: list[Frame]) -> list[Results]:
        """Select the best (query, class) pairs as boxes in pixels of each frame, not clipped."""
        tables = select_detections(
            outputs[0].float(), conf=self.conf, max_det=self.args.max_det, classes=self.args.classes
        )
        results = []
        for rows, frame in zip(tables, frames, strict=True):
            height, width = frame.image.shape[:2]
            rows[:, :4] *= rows.new_tensor([width, height, width, height])
            results.append(Results(frame.image, frame.path, self.model.names, rows))
        return results
