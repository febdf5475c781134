"""RTDETR: the class users import."""

from __future__ import annotations

from pathlib import Path

from ultralytics.engine.later import Later
from ultralytics.engine.model import Model
from ultralytics.nn.tasks import RTDETRDetectionModel


class RTDETR(Model):
    """RT-DETR from a model file, `RTDETR("rtdetr-efficientvit-m0.yaml")`, or from weights, `RTDETR("best.pt")`."""

    network_class = RTDETRDetectionModel
    trainer_class = Later("ultralytics.models.rtdetr.train:RTDETRTrainer")
    validator_class = Later("ultralytics.models.rtdetr.val:RTDETRValidator")
    predictor_class = Later("ultralytics.models.rtdetr.predict:RTDETRPredictor")

    def __init__(self, model: str | Path = "rtdetr-l.yaml", verbose: bool = True) -> None:
        super().__init__(model, verbose)
