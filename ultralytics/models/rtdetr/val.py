"""Validation of RT-DETR: images are stretched to a square, and there is no NMS."""

from __future__ import annotations

from torch import Tensor

from ultralytics.data.dataset import DetectionDataset
from ultralytics.engine.validator import BaseValidator
from ultralytics.models.rtdetr.predict import select_detections
from ultralytics.nn.tasks import RTDETRDetectionModel

RTDETRDataset = DetectionDataset  # its default, a stretch to the square, is that of RT-DETR


class RTDETRValidator(BaseValidator):
    """Validator of RT-DETR models, whose output is (y (B, queries, 4 + nc), extras).

    `Model.val` uses it, or a subclass of it:

    >>> from ultralytics import RTDETR
    >>> class ConfidentValidator(RTDETRValidator):
    ...     def postprocess(self, outputs, batch):
    ...         return [rows[rows[:, 4] > 0.5] for rows in super().postprocess(outputs, batch)]
    >>> model = RTDETR("rtdetr-r18.yaml")
    >>> metrics = model.val(validator=ConfidentValidator, data="shapes.yaml")  # doctest: +SKIP
    """

    network_class = RTDETRDetectionModel

    def postprocess(self, outputs: tuple[Tensor, object], batch: dict) -> list[Tensor]:
        """Select the best (query, class) pairs of each image, boxes in pixels of the network input, not clipped."""
        height, width = batch["img"].shape[2:]
        tables = select_detections(
            outputs[0].float(), conf=self.conf, max_det=self.args.max_det, classes=self.args.classes
        )
        scale = tables[0].new_tensor([width, height, width, height, 1, 0 if self.args.single_cls else 1])
        return [(rows * scale).cpu() for rows in tables]
