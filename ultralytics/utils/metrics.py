"""Public import path of the detection metrics."""

from ultralytics.metrics.ap import ap_per_class
from ultralytics.metrics.detection import BoxMetrics, DetMetrics
from ultralytics.metrics.matching import ConfusionMatrix
from ultralytics.utils.ops import bbox_iou, box_iou
from ultralytics.utils.public import public_names

__all__ = ["BoxMetrics", "ConfusionMatrix", "DetMetrics", "ap_per_class", "bbox_iou", "box_iou"]


__getattr__ = public_names(__name__)
