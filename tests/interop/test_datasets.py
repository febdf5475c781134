"""Data sets and transforms that scripts write from published base classes."""

import logging

import cv2
import numpy as np
import pytest
import torch

from tests.interop.test_overrides import YOLO_TINY
from ultralytics.data import build_dataloader
from ultralytics.data.augment import BaseMixTransform, BaseTransform, Compose, Format, LetterBox
from ultralytics.data.dataset import YOLOConcatDataset, YOLODataset
from ultralytics.data.utils import check_det_dataset
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils.errors import DataError
from ultralytics.utils.files import write_yaml


class Kept(YOLODataset):
    """Data set that overrides the hooks of the base class; `load_image` keeps images itself."""

    def get_img_files(self, img_path):
        return sorted(super().get_img_files(img_path), reverse=True)[:3] * 2

    def update_labels(self, include_class):
        super().update_labels([0, 2, 5])

    def load_image(self, i, rect_mode=True):
        image, file, copy = self.ims[i], self.im_files[i], self.npy_files[i]
        if image is not None:
            return image, self.im_hw0[i], self.im_hw[i]
        before = np.load(copy) if copy.exists() else cv2.imread(file)
        image = cv2.resize(before, (self.imgsz, self.imgsz))
        if self.augment:
            self.ims[i], self.im_hw0[i], self.im_hw[i] = image, before.shape[:2], image.shape[:2]
            self.buffer.append(i)
            if 1 < len(self.buffer) >= self.max_buffer_length and self.cache != "ram":
                self.ims[self.buffer.pop(0)] = None
        return image, before.shape[:2], image.shape[:2]

    def close_mosaic(self, hyp):
        super().close_mosaic(hyp)
        hyp.mosaic = hyp.mixup = hyp.copy_paste = 0.0
        self.transforms = self.build_transforms(hyp)
        self.transforms.insert(0, lambda labels: {**labels, "closed": torch.ones(1)})

    @staticmethod
    def collate_fn(batch):
        return {**YOLODataset.collate_fn(batch), "mine": len(batch)}


class Shift(BaseTransform):
    """Change parts of the labels."""

    def get_params(self, labels):
        return {"by": 7}

    def apply_image(self, labels, params=None):
        labels["img"] = labels["img"] // 2 + params["by"]
        return labels

    def apply_instances(self, labels, params=None):
        labels["instances"].bboxes[:] = 0.5


class Average(BaseMixTransform):
    """Mix images, as written for release 8.3."""

    def get_indexes(self):
        return [1, 2]

    def _mix_transform(self, labels):
        images = [labels["img"], *(mixed["img"] for mixed in labels["mix_labels"])]
        labels["img"] = np.mean(images, 0).astype(np.uint8)
        return labels


@pytest.fixture
def data(shapes):
    return check_det_dataset(str(shapes))


def test_hooks_of_the_base_class_are_called(data):
    plain, mine = (
        YOLODataset(img_path=data["train"], data=data, imgsz=64),
        Kept(img_path=data["train"], data=data, imgsz=64),
    )
    assert mine.im_files == sorted(plain.im_files, reverse=True)[:3] * 2 and len(mine) == mine.ni == 6
    assert {int(c) for label in mine.labels for c in label["cls"].flat} <= {0, 2, 5} and mine.img_path == data["train"]
    assert mine.buffer == [] and mine[0]["img"].shape == (3, 64, 64) and mine.buffer and mine.ims[mine.buffer[-1]].any()
    assert plain.load_image(0, rect_mode=False)[2] == (64, 64) and (plain.cache, plain.pad, plain.fraction) == (
        False,
        0.5,
        1,
    )
    rect = YOLODataset(img_path=data["train"], data=data, imgsz=64, rect=True, augment=False, batch_size=4)
    assert rect.batch_shapes.shape == (2, 2) and rect.batch.tolist() == [0, 0, 0, 0, 1, 1]

    class Wrong(YOLODataset):
        def get_img_files(self, img_path):
            return ["gone.jpg"]

    with pytest.raises(DataError, match=r"get_img_files: got .*gone.jpg, expected usable images of"):
        Wrong(img_path=data["train"], data=data, imgsz=64)


def test_overrides_that_are_not_called_are_named(caplog):
    with caplog.at_level(logging.WARNING, "ultralytics"):
        type("Mine", (YOLODataset,), {"cache_labels": len})
        type("Own", (YOLODataset,), {"cache_labels": len, "get_labels": len})
    assert [record.getMessage() for record in caplog.records] == [
        "Mine.cache_labels is not called here; override get_labels"
    ]


@pytest.mark.parametrize("workers", [0, 1])
def test_joined_data_sets_train_with_the_hooks(workers, shapes, tmp_path):
    class Trainer(DetectionTrainer):
        def build_dataset(self, img_path, mode="train", batch=None):
            if mode == "val":
                return super().build_dataset(img_path, mode, batch)
            parts = [Kept(img_path=img_path, data=self.data, imgsz=64, hyp=self.args) for _ in range(2)]
            return YOLOConcatDataset(parts)

    write_yaml(tmp_path / "tiny.yaml", YOLO_TINY)
    given = {
        "imgsz": 64,
        "batch": 4,
        "epochs": 2,
        "close_mosaic": 1,
        "workers": workers,
        "device": "cpu",
        "plots": False,
    }
    given |= {"model": str(tmp_path / "tiny.yaml"), "data": str(shapes), "project": str(tmp_path), "val": False}
    trainer, seen = Trainer(overrides=given), []
    trainer.add_callback("on_train_batch_end", lambda t: seen.append((t.epoch, "closed" in t.batch)))
    trainer.train()
    assert seen == [(0, False)] * 3 + [(1, True)] * 3 and len(trainer.train_loader.dataset.labels) == 12


def test_transforms_of_the_published_base_classes(data):
    dataset = YOLODataset(img_path=data["train"], data=data, imgsz=64, augment=False)
    dataset.transforms = Compose([LetterBox((64, 64)), Average(dataset, LetterBox((64, 64)), p=1.0), Shift(), Format()])
    item, images = dataset[0], [LetterBox((64, 64))(dataset.get_image_and_label(i))["img"] for i in range(3)]
    expected = np.mean(images, 0).astype(np.uint8) // 2 + 7
    assert (item["img"].numpy() == expected[..., ::-1].transpose(2, 0, 1)).all() and "mix_labels" not in item
    joined = YOLOConcatDataset([dataset, dataset])
    batch = next(iter(build_dataloader(joined, batch=12, shuffle=False)))
    assert batch["img"].shape[0] == len(joined) == 12 and joined.names == dataset.names
    assert dataset.transforms.transforms[1].get_indexes() == [1, 2]
