"""RTDETR: the class users import."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ultralytics.engine.later import Later
from ultralytics.engine.model import Model
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.errors import OptionError


def network_from(model: nn.Module | str | Path | object | None, option: str | None, verbose: bool = True) -> nn.Module:
    """A network as it is, that of an `RTDETR`, or that of a file; the file of the option `model` where there is none.

    Raises:
        OptionError: neither a model nor a file is given.
    """

    if isinstance(model, nn.Module):
        return model
    if isinstance(model, RTDETR):
        return model.model
    file = model or option
    if not isinstance(file, (str, Path)):
        raise OptionError(
            f"model: got {file!r}, expected a network, or a file: model= in the call, or in overrides={{'model': ...}}"
        )
    return RTDETR(file, verbose=verbose).model


class RTDETR(Model):
    """RT-DETR from a model file, `RTDETR("rtdetr-efficientvit-m0.yaml")`, or from weights, `RTDETR("best.pt")`."""

    network_class = RTDETRDetectionModel
    trainer_class = Later("ultralytics.models.rtdetr.train:RTDETRTrainer")
    validator_class = Later("ultralytics.models.rtdetr.val:RTDETRValidator")
    predictor_class = Later("ultralytics.models.rtdetr.predict:RTDETRPredictor")

    def __init__(self, model: str | Path = "rtdetr-l.yaml", verbose: bool = True) -> None:
        super().__init__(model, verbose)
