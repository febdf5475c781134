"""Public import path of the task-aligned assigner and of the conversions between points and boxes."""

from ultralytics.losses.assigner import TaskAlignedAssigner
from ultralytics.utils.ops import bbox2dist, dist2bbox, make_anchors

__all__ = ["TaskAlignedAssigner", "bbox2dist", "dist2bbox", "make_anchors"]
