"""Public import path."""

from ultralytics.utils.public import public_names

__all__ = [  # noqa: F822
    "ConfusionMatrix", "DetMetrics", "Metric", "ap_per_class", "bbox_ioa", "bbox_iou", "box_iou", "compute_ap",
]  # fmt: skip
__getattr__ = public_names(__name__)
