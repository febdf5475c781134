"""Small models and hand-made rows for these tests."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch

from ultralytics.nn.summary import Inspection, LayerRow, inspect_model
from ultralytics.nn.tasks import DetectionModel, RTDETRDetectionModel
from ultralytics.utils.flops import ModelInfo


def small(*head: list, backbone: tuple = ([-1, 1, "Conv", [16, 3, 2]],)) -> DetectionModel:
    """A model of the given rows; the backbone is one convolution of stride 2 unless given."""
    return DetectionModel({"nc": 2, "backbone": list(backbone), "head": list(head)})


@cache
def inspected(name: str) -> Inspection:
    """Inspection of a model file of the package."""
    with torch.device("meta"):
        model = RTDETRDetectionModel(name)
    return inspect_model(model)


def row(index: int, sources: tuple[int, ...], stride: float = 8, **changes: object) -> LayerRow:
    """A row without a module behind it, one map of that stride."""
    side = int(640 / stride)
    made = LayerRow(
        index, str(list(sources)), sources, (index,), None, "Conv", "c1=64, c2=64", "", ((64, side, side),),
        ((64, side, side),), (stride,), 100, 1000, "convolution", False, f"x.yaml:{index + 1}",
    )  # fmt: skip
    return replace(made, **changes)


def of_rows(*rows: LayerRow) -> Inspection:
    """An inspection of hand-made rows."""
    info = ModelInfo(len(rows), 100 * len(rows), 0, 1.0, sum(r.flops for r in rows) / 1e9, (640, 640))
    return Inspection(tuple(rows), info, (), (3, 640, 640))
