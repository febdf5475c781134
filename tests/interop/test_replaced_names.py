"""Classes and functions that a script assigns to published names: training uses them, or names them in a warning."""

import importlib
import logging
from collections import Counter
from functools import partial
from typing import ClassVar

import numpy as np
import pytest

from tests.interop.test_overrides import YOLO_TINY
from ultralytics import RTDETR, YOLO
from ultralytics.data.augment import Compose, Format, LetterBox, v8_transforms
from ultralytics.data.dataset import RTDETRDataset, YOLODataset
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.errors import OptionError
from ultralytics.utils.files import write_yaml
from ultralytics.utils.loss import v8DetectionLoss
from ultralytics.utils.overrides import replacements


class Weighted(YOLODataset):
    """Data set of public scripts that draws images by the weights of their classes."""

    seen: ClassVar[list] = []

    def __init__(self, *args, mode="train", **kwargs):
        super().__init__(*args, **kwargs)
        self.train_mode = "train" in self.prefix
        counts = np.zeros(len(self.data["names"]))
        for label in self.labels:
            np.add.at(counts, label["cls"].reshape(-1).astype(int), 1)
        weights = [np.mean(1 / counts[label["cls"].reshape(-1).astype(int)]) for label in self.labels]
        self.probabilities = np.array(weights) / sum(weights)

    def __getitem__(self, index):
        if self.train_mode:
            index = np.random.choice(len(self.labels), p=self.probabilities)
            self.seen.append(self.im_files[index])
        return self.transforms(self.get_image_and_label(index))


class Hooks(YOLODataset):
    """Data set that overrides each published hook."""

    def get_labels(self):
        labels = super().get_labels()[:2]
        for label in labels:
            label["cls"][:] = 0
        return labels

    def update_labels_info(self, label):
        return {**super().update_labels_info(label), "mine": 3}

    def build_transforms(self, hyp=None):
        hyp.mosaic = 0.0
        transforms = super().build_transforms(hyp) if self.augment else Compose([LetterBox((64, 64)), Format()])
        transforms.insert(0, lambda labels: {**labels, "boxes_before": len(labels["instances"])})
        return transforms

    def load_image(self, i):
        image, before, now = super().load_image(i)
        return 255 - image, before, now


@pytest.fixture
def network(tmp_path):
    file = tmp_path / "tiny-yolo.yaml"
    write_yaml(file, YOLO_TINY)
    return str(file)


@pytest.fixture
def given(shapes, tmp_path):
    return {"data": str(shapes), "project": str(tmp_path), "imgsz": 64, "batch": 2, "epochs": 1, "workers": 0,
            "device": "cpu", "plots": False}  # fmt: skip


@pytest.mark.parametrize("place", ["build", "dataset"])
def test_training_uses_a_replaced_data_set(place, network, given, monkeypatch):
    monkeypatch.setattr(Weighted, "seen", [])
    monkeypatch.setattr(f"ultralytics.data.{place}.YOLODataset", Weighted, raising=False)
    model = YOLO(network, verbose=False)
    model.train(**given, cls_pw=0.5, rect=place == "build")
    assert len(Weighted.seen) == 6 and type(model.trainer.train_loader.dataset) is Weighted
    assert model.val(data=given["data"], imgsz=64, plots=False, device="cpu").seen == 3


def test_the_published_hooks_of_a_data_set_are_called(network, given, monkeypatch):
    monkeypatch.setattr("ultralytics.data.build.YOLODataset", Hooks, raising=False)
    trainer = DetectionTrainer(overrides={**given, "model": network, "plots": True})
    trainer.train()
    dataset = trainer.train_loader.dataset
    item, plain = dataset[0], YOLODataset(img_path=dataset.data["train"], data=dataset.data, imgsz=64, augment=False)
    assert len(dataset) == len(trainer.test_loader.dataset) == 2 and not item["cls"].any()
    assert item["mine"] == 3 and item["boxes_before"] == len(dataset.labels[0]["bboxes"])
    assert (dataset.load_image(0)[0] == 255 - plain.load_image(0)[0]).all()


def test_replaced_transforms_networks_and_losses_are_used(network, given, monkeypatch):
    calls = []

    class Mine(DetectionModel):
        def __init__(self, cfg, ch=3, nc=None, verbose=True):
            calls.append("model")
            super().__init__(cfg, ch, nc, verbose)

    class Loss(v8DetectionLoss):
        def __call__(self, preds, batch):
            calls.append("loss")
            return super().__call__(preds, batch)

    def transforms(dataset, imgsz, hyp, stretch=False):
        calls.append("transforms")
        return v8_transforms(dataset, imgsz, hyp, stretch)

    monkeypatch.setattr("ultralytics.data.dataset.v8_transforms", transforms, raising=False)
    monkeypatch.setattr("ultralytics.models.yolo.detect.train.DetectionModel", Mine, raising=False)
    monkeypatch.setattr("ultralytics.nn.tasks.v8DetectionLoss", Loss, raising=False)
    DetectionTrainer(overrides={**given, "model": network, "val": False}).train()
    assert {*calls} == {"model", "loss", "transforms"}


def test_a_decoder_has_a_data_set_of_its_own(tiny, given, monkeypatch):
    class Mine(RTDETRDataset):
        def get_image_and_label(self, index):
            return {**super().get_image_and_label(index), "mine": 1}

    monkeypatch.setattr("ultralytics.models.rtdetr.train.RTDETRDataset", Mine, raising=False)
    model = RTDETR(str(tiny), verbose=False)
    model.train(**given, denoising=4)
    item = model.trainer.train_loader.dataset[0]
    assert item["mine"] == 1 and item["img"].shape == (3, 64, 64) and item["ratio_pad"][1] == (0, 0)


def test_replaced_functions_are_used(network, given, monkeypatch):
    calls, wrap = Counter(), {}
    for place in ("utils.nms.non_max_suppression", "utils.metrics.ap_per_class", "data.build.build_yolo_dataset"):
        module, _, name = f"ultralytics.{place}".rpartition(".")
        wrap[name] = partial(lambda own, *args, **kwargs: calls.update([own.__name__]) or own(*args, **kwargs),
                             getattr(importlib.import_module(module), name))  # fmt: skip
        monkeypatch.setattr(f"ultralytics.{place}", wrap[name], raising=False)
    model = YOLO(network, verbose=False)
    model.val(data=given["data"], imgsz=64, device="cpu", plots=False, workers=0)
    assert {*calls} == {*wrap}
    model.predict(np.zeros((64, 64, 3), np.uint8), imgsz=64)
    assert calls["non_max_suppression"] > calls["ap_per_class"] == 1


def test_replaced_names_without_an_effect_are_named(network, given, monkeypatch, caplog):
    assert replacements() == {}
    monkeypatch.setattr("ultralytics.utils.metrics.bbox_iou", lambda *args: 0, raising=False)
    monkeypatch.setattr("ultralytics.data.build.YOLODataset", dict, raising=False)
    assert len(replacements()) == 2
    with (
        caplog.at_level(logging.WARNING, "ultralytics"),
        pytest.raises(OptionError, match=r"a subclass of .*YOLODataset"),
    ):
        YOLO(network, verbose=False).train(**given)
    monkeypatch.setattr("ultralytics.utils.metrics.smooth", len, raising=False)
    monkeypatch.delattr("ultralytics.data.build.YOLODataset")
    with caplog.at_level(logging.WARNING, "ultralytics"):
        for _ in range(2):
            YOLO(network, verbose=False).predict(np.zeros((64, 64, 3), np.uint8), imgsz=64)
    warned = [record.getMessage() for record in caplog.records if "was replaced" in record.getMessage()]
    assert [line.split()[0] for line in warned] == [
        "ultralytics.utils.metrics.bbox_iou", "ultralytics.utils.metrics.smooth"
    ]  # fmt: skip
