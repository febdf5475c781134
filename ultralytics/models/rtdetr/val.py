"""Public import path of the validator and the data set."""

from ultralytics.data.dataset import DetectionDataset as RTDETRDataset  # its default, a stretch, is that of RT-DETR
from ultralytics.models.rtdetr.predict import RTDETRValidator

__all__ = ["RTDETRDataset", "RTDETRValidator"]
