"""Prediction and validation with YOLO: images are letterboxed, and boxes suppressed unless the head needs no NMS."""

from typing import Any

import numpy as np
from torch import Tensor, nn

from ultralytics.cfg.family import Family
from ultralytics.engine.predictor import BasePredictor
from ultralytics.engine.results import Results
from ultralytics.engine.validator import BaseValidator, by_name
from ultralytics.models.yolo.detections import detections, letterbox_images, on_image, prepare_nms
from ultralytics.nn.tasks import DetectionModel

FAMILY = Family(
    "YOLO",
    {
        "it has no decoder with queries": "queries denoising one_to_many",
        "it is a loss weight of RT-DETR. Use box, cls and dfl": "loss_cls loss_bbox loss_giou",
        "it learns classes by binary cross-entropy with task-aligned targets": "loss_class",
        "it warms up the learning rate by epochs. Use warmup_epochs": "warmup_iters",
    },
    resize="letterbox",
)


class DetectionPredictor(BasePredictor):
    """Predictor of YOLO models, whose output is (y, extras); y has the layout of the head."""

    network_class, family = DetectionModel, FAMILY

    def setup_model(self, model: nn.Module, verbose: bool = True) -> None:
        """Prepare the network, and NMS if it needs that."""
        super().setup_model(model, verbose)
        prepare_nms(self.model.layout, self.args)

    def pre_transform(self, images: list[np.ndarray]) -> list[np.ndarray]:
        """Letterbox the images of a batch; of equal shapes to a rectangle, where the network accepts it."""
        rect = self.args.rect is not False and not getattr(self.model, "fixed_size", False)
        return letterbox_images(images, self.imgsz, rect=rect, stride=self.stride)

    def postprocess(self, preds: tuple[Tensor, object], img: Tensor, orig_imgs: list[np.ndarray]) -> list[Results]:
        """Return the detections in pixels of each image; a box has its best class only, by default."""
        args = self.args
        tables = detections(
            preds[0].float(), self.model.layout, conf=self.conf, iou=args.iou, agnostic=args.agnostic_nms,
            max_det=args.max_det, classes=args.classes, multi_label=args.one_class_per_query is False,
        )  # fmt: skip
        return self.construct_results(tables, img, orig_imgs)

    def construct_result(self, pred: Tensor, img: Tensor, orig_img: np.ndarray, img_path: str) -> Results:
        """Return the result of an image from its detections (n, 6), corners in pixels of the network input."""
        return super().construct_result(on_image(pred, img.shape[2:], orig_img.shape[:2]), img, orig_img, img_path)


class DetectionValidator(BaseValidator):
    """Validator of YOLO models. `Model.val` uses it, or a subclass of it."""

    network_class, family = DetectionModel, FAMILY

    def build_dataloader(self, model: nn.Module) -> Any:
        """Build the batches of the options, and prepare NMS."""
        prepare_nms(self.layout, self.args)
        return super().build_dataloader(model)

    def postprocess(self, preds: tuple[Tensor, object]) -> list[dict[str, Tensor]]:
        """Return the detections of each image in pixels of the network input; a box may have several classes."""
        args = self.args
        tables = detections(
            preds[0].float(), self.layout, conf=self.conf, iou=args.iou, max_det=args.max_det, classes=args.classes,
            agnostic=args.agnostic_nms or args.single_cls, multi_label=not args.one_class_per_query,
        )  # fmt: skip
        scale = tables[0].new_tensor([1, 1, 1, 1, 1, 0 if args.single_cls else 1])
        return [by_name(rows * scale) for rows in tables]
