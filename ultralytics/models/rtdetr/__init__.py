"""RT-DETR: model, trainer, validator, predictor."""

from ultralytics.models.rtdetr.model import RTDETR
from ultralytics.models.rtdetr.predict import RTDETRPredictor
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.models.rtdetr.val import RTDETRValidator
