"""The families of detectors. `Model(file)` is an instance of the class that the file belongs to."""

from ultralytics.engine.model import Model
from ultralytics.models.rtdetr.model import RTDETR
from ultralytics.models.yolo.model import YOLO
from ultralytics.utils.public import public_names

__all__ = ["RTDETR", "YOLO", "Model"]


__getattr__ = public_names(__name__)
