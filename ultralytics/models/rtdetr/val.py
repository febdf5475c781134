"""Validation of RT-DETR: images are stretched to a square, and there is no NMS."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from ultralytics.data.dataset import DetectionDataset
from ultralytics.engine.validator import BaseValidator
from ultralytics.models.rtdetr.model import network_from
from ultralytics.models.rtdetr.predict import select_detections

RTDETRDataset = DetectionDataset  # stretches to the square, which is what RT-DETR wants


class RTDETRValidator(BaseValidator):
    """Validator of RT-DETR models, whose output is (y (B, queries, 4 + nc), extras)."""

    def network_from(self, model: nn.Module | str | Path | None) -> nn.Module:
        """A network, the network of an `RTDETR`, or that of a file, by default of the option `model`."""
        return network_from(model, self.args.model, self.args.verbose)

    def postprocess(self, outputs: tuple[Tensor, object], batch: dict) -> list[Tensor]:
        """Best (query, class) pairs; their boxes may reach over the border."""
        height, width = batch["img"].shape[2:]
        tables = select_detections(
            outputs[0].float(), conf=self.conf, max_det=self.args.max_det, classes=self.args.classes
        )
        scale = tables[0].new_tensor([width, height, width, height, 1, 0 if self.args.single_cls else 1])
        return [(rows * scale).cpu() for rows in tables]
