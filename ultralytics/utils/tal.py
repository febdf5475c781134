"""Public import path of the task-aligned assigner and of the conversions between points and boxes."""

from ultralytics.losses.assigner import TaskAlignedAssigner
from ultralytics.utils.ops import bbox2dist, dist2bbox, make_anchors
from ultralytics.utils.public import public_names
from ultralytics.utils.torch_utils import version_flag

__all__ = ["TaskAlignedAssigner", "bbox2dist", "dist2bbox", "make_anchors"]

__getattr__ = public_names(__name__, version_flag)
