import pytest

from ultralytics import RTDETR
from ultralytics.engine.later import Later
from ultralytics.models.rtdetr import RTDETRPredictor, RTDETRTrainer, RTDETRValidator
from ultralytics.nn.tasks import RTDETRDetectionModel


def test_the_class_itself_is_read():
    assert RTDETR.trainer_class is RTDETRTrainer and RTDETR("rtdetr-l.yaml").trainer_class is RTDETRTrainer
    assert RTDETR.validator_class is RTDETRValidator and RTDETR.predictor_class is RTDETRPredictor
    assert RTDETR.network_class is RTDETRDetectionModel


def test_a_subclass_may_name_another():
    class Mine(RTDETRTrainer):
        pass

    class Detector(RTDETR):
        trainer_class = Mine

    assert Detector.trainer_class is Mine and Detector("rtdetr-l.yaml").trainer_class is Mine


def test_a_name_that_is_not_there_is_an_error():
    class Wrong:
        part = Later("ultralytics.models.rtdetr.model:Nothing")

    with pytest.raises(AttributeError, match="Nothing"):
        _ = Wrong.part
