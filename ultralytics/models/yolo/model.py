"""`YOLO`: the class users import."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ultralytics.engine.model import Model
from ultralytics.models.model_attributes import PublishedAttributes
from ultralytics.models.yolo.detector import FAMILY, DetectionPredictor, DetectionValidator
from ultralytics.nn.head_protocol import ANCHORS, END2END
from ultralytics.nn.modules.detect import Detect
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.public import public_names

if TYPE_CHECKING:
    from ultralytics.models.yolo.training import DetectionTrainer


class YOLO(PublishedAttributes, Model):
    """YOLO detector of any version (v3 to v12, 26) from a model file or from weights.

    Examples:
        >>> model = YOLO("yolo11n.yaml", verbose=False)
        >>> model.names[0], len(model.names)
        ('0', 80)
    """

    family, head_class, layouts = FAMILY, Detect, (ANCHORS, END2END)
    network_class = DetectionModel
    validator_class = DetectionValidator
    predictor_class = DetectionPredictor

    def __init__(self, model: str | Path = "yolo11n.yaml", *args: Any, **options: Any) -> None:
        super().__init__(model, *args, **options)

    @cached_property
    def trainer_class(self) -> type[DetectionTrainer]:
        """Class that trains, by default; `train(trainer=...)` takes another."""
        from ultralytics.models.yolo.training import DetectionTrainer  # slow to import

        return DetectionTrainer


__getattr__ = public_names(__name__)
