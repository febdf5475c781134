"""Public import path of the trainer, the validator and the predictor of YOLO."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ultralytics.models.yolo.detector import DetectionPredictor, DetectionValidator

if TYPE_CHECKING:
    from ultralytics.models.yolo.training import DetectionTrainer

__all__ = ["DetectionPredictor", "DetectionTrainer", "DetectionValidator"]


def __getattr__(name: str) -> object:
    if name == "DetectionTrainer":
        from ultralytics.models.yolo.training import DetectionTrainer

        return DetectionTrainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
