"""Prediction with RT-DETR: images are stretched to the network input, and there is no NMS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ultralytics.data.images import stretch
from ultralytics.data.streams import Frame
from ultralytics.engine.predictor import BasePredictor
from ultralytics.engine.results import Results
from ultralytics.models.rtdetr.model import network_from


def select_detections(
    y: Tensor, *, conf: float, max_det: int = 300, classes: Sequence[int] | None = None
) -> list[Tensor]:
    """Turn the eval output of an RT-DETR model into one table of detections per image.

    As in the official post-processor, the scores of all queries and classes compete: the best `queries` pairs are
    kept, so a query may appear with two classes. The thresholds come after that.

    Args:
        y: (B, queries, 4 + nc), boxes cx, cy, w, h in 0..1 and class probabilities.
        conf: a detection stays when its score is above this value, 0..1.
        max_det: how many detections an image may keep.
        classes: keep only these class indices; None keeps all.

    Returns:
        B tensors (n, 6): x1, y1, x2, y2 in 0..1 (not clipped), score, class; the best first.
    """
    centre, size, scores = y[..., :2], y[..., 2:4], y[..., 4:]
    corners = torch.cat((centre - size / 2, centre + size / 2), -1)
    _, queries, nc = scores.shape
    best, pair = scores.flatten(1).topk(queries)  # (B, queries * nc) -> (B, queries)
    query, label = pair // nc, pair % nc
    boxes = corners.gather(1, query.unsqueeze(-1).expand(-1, -1, 4))
    rows = torch.cat((boxes, best.unsqueeze(-1), label.unsqueeze(-1).to(y.dtype)), -1)  # (B, queries, 6)

    keep = best > conf
    if classes is not None:
        keep &= torch.isin(label, torch.as_tensor(list(classes), device=y.device))
    return [image[mask][:max_det] for image, mask in zip(rows, keep, strict=True)]


class RTDETRPredictor(BasePredictor):
    """Predictor of RT-DETR models, whose output is (y (B, queries, 4 + nc), extras)."""

    def network_from(self, model: nn.Module | str | Path | None) -> nn.Module:
        """A network, the network of an `RTDETR`, or that of a file, by default of the option `model`."""
        return network_from(model, self.args.model, self.args.verbose)

    def resize(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The image stretched to `size` (height, width), as RT-DETR is trained."""
        return stretch(image, size)

    def postprocess(self, outputs: tuple[Tensor, object], frames: list[Frame]) -> list[Results]:
        """Best (query, class) pairs as boxes in pixels of each frame; they may reach over its border."""
        tables = select_detections(
            outputs[0].float(), conf=self.conf, max_det=self.args.max_det, classes=self.args.classes
        )
        results = []
        for rows, frame in zip(tables, frames, strict=True):
            height, width = frame.image.shape[:2]
            rows[:, :4] *= rows.new_tensor([width, height, width, height])
            results.append(Results(frame.image, frame.path, self.model.names, rows))
        return results
