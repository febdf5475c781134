"""`RTDETR`: the class users import."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ultralytics.engine.model import Model
from ultralytics.models.model_attributes import PublishedAttributes
from ultralytics.models.rtdetr.predict import FAMILY, RTDETRPredictor, RTDETRValidator
from ultralytics.nn.head_protocol import PAIRS, SCORES
from ultralytics.nn.modules.head import RTDETRDecoder
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.public import public_names

if TYPE_CHECKING:
    from ultralytics.models.rtdetr.train import RTDETRTrainer


class RTDETR(PublishedAttributes, Model):
    """RT-DETR (https://arxiv.org/abs/2304.08069) from a model file or from weights.

    Examples:
        >>> model = RTDETR("rtdetr-efficientvit-m0.yaml", verbose=False)
        >>> model.names[0], len(model.names)
        ('0', 80)
    """

    family, head_class, layouts = FAMILY, RTDETRDecoder, (SCORES, PAIRS, "")
    network_class = RTDETRDetectionModel
    validator_class = RTDETRValidator
    predictor_class = RTDETRPredictor

    def __init__(self, model: str | Path = "rtdetr-l.yaml", *args: Any, **options: Any) -> None:
        super().__init__(model, *args, **options)

    @cached_property
    def trainer_class(self) -> type[RTDETRTrainer]:
        """Class that trains, by default; `train(trainer=...)` takes another."""
        from ultralytics.models.rtdetr.train import RTDETRTrainer  # slow to import

        return RTDETRTrainer


__getattr__ = public_names(__name__)
