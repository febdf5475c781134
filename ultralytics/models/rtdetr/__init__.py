"""RT-DETR: model, trainer, validator and predictor, imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ultralytics.models.rtdetr.model import RTDETR
    from ultralytics.models.rtdetr.predict import RTDETRPredictor
    from ultralytics.models.rtdetr.train import RTDETRTrainer
    from ultralytics.models.rtdetr.val import RTDETRValidator

__all__ = ["RTDETR", "RTDETRPredictor", "RTDETRTrainer", "RTDETRValidator"]

_HOME = {"RTDETR": "model", "RTDETRPredictor": "predict", "RTDETRTrainer": "train", "RTDETRValidator": "val"}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
