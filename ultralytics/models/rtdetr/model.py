"""RTDETR: the class users import."""

from __future__ import annotations

from pathlib import Path

from ultralytics.engine.model import Model
from ultralytics.models.rtdetr.predict import RTDETRPredictor
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.models.rtdetr.val import RTDETRValidator
from ultralytics.nn.tasks import RTDETRDetectionModel


class RTDETR(Model):
    """RT-DETR from a model file, `RTDETR("rtdetr-efficientvit-m0.yaml")`, or from weights, `RTDETR("best.pt")`."""

    network_class = RTDETRDetectionModel
    trainer_class = RTDETRTrainer
    validator_class = RTDETRValidator
    predictor_class = RTDETRPredictor

    def __init__(self, model: str | Path = "rtdetr-l.yaml", verbose: bool = True) -> None:
        super().__init__(model, verbose)
