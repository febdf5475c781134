"""RT-DETR: model, trainer, validator and predictor. Only the trainer, which takes seconds, is imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ultralytics.models.rtdetr.model import RTDETR
from ultralytics.models.rtdetr.predict import RTDETRPredictor, RTDETRValidator

if TYPE_CHECKING:
    from ultralytics.models.rtdetr.train import RTDETRTrainer

__all__ = ["RTDETR", "RTDETRPredictor", "RTDETRTrainer", "RTDETRValidator"]


def __getattr__(name: str) -> object:
    if name == "RTDETRTrainer":
        from ultralytics.models.rtdetr.train import RTDETRTrainer

        return RTDETRTrainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
