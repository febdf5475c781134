"""Prediction with RT-DETR: images are stretched to the network input, and there is no NMS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor, nn

from ultralytics.data.images import stretch
from ultralytics.data.streams import Frame
from ultralytics.engine.predictor import BasePredictor
from ultralytics.engine.results import Results
from ultralytics.models.rtdetr.network import network_from
from ultralytics.models.rtdetr.postprocess import select_detections


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
