"""Public import path of the task-aligned assigner and of the conversions between points and boxes."""

from ultralytics.losses.assigner import TaskAlignedAssigner
from ultralytics.utils.ops import bbox2dist, dist2bbox, make_anchors
from ultralytics.utils.torch_utils import __getattr__  # noqa: F401 - flags such as TORCH_1_10

__all__ = ["TaskAlignedAssigner", "bbox2dist", "dist2bbox", "make_anchors"]
