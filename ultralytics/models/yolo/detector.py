"""Prediction and validation with YOLO: images are letterboxed, and boxes suppressed unless the head needs no NMS."""

import importlib
from typing import Any

import numpy as np
from torch import Tensor, nn

from ultralytics.cfg.family import Family, default_yaml
from ultralytics.cfg.options import Options
from ultralytics.data.transforms.geometry import LetterBox
from ultralytics.engine.predictor import BasePredictor
from ultralytics.engine.results import Results
from ultralytics.engine.validator import BaseValidator
from ultralytics.metrics.matching import by_name
from ultralytics.nn.head_protocol import ANCHORS, END2END
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER
from ultralytics.utils.ops import non_max_suppression, scale_boxes
from ultralytics.utils.overrides import replaced

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


def prepare_nms(layout: str, options: Options) -> None:
    """Import the operator of NMS, which takes a second, before anything is timed; warn of its options without it."""
    if layout == ANCHORS:
        importlib.import_module("torchvision.ops")
    elif options.agnostic_nms or options.iou != default_yaml()["iou"]:
        LOGGER.warning("iou and agnostic_nms have no effect: this branch of the head needs no NMS; try end2end=False")


def suppressed(
    y: Tensor, layout: str, conf: float, options: Options, *, agnostic: bool, multi_label: bool
) -> list[Tensor]:
    """Return the detections of each image by descending score, (n, 6): corners in pixels of the input, score, class.

    Args:
        y: output of the network. ANCHORS, (B, 4 + nc, A), is suppressed; of END2END, (B, n, 6), rows are selected.
        layout: one of these names, see `head_protocol.py`.
        conf: smallest score, exclusive.
        agnostic: suppress across classes.
        multi_label: a position may have several classes.
    """
    suppress = replaced("non_max_suppression") or non_max_suppression
    given = (options.iou, options.classes, agnostic, multi_label, options.max_det)
    return suppress(y.float(), conf, *given, end2end=layout == END2END)


def on_image(rows: Tensor, input_shape: tuple[int, int], image_shape: tuple[int, int]) -> Tensor:
    """Move detections (n, 6) from the letterboxed network input to its image, and clip them; shapes (height, width)."""
    rows = rows.clone()
    rows[:, :4] = scale_boxes(input_shape, rows[:, :4], image_shape)
    return rows


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
        letterbox = LetterBox(self.imgsz, auto=rect and len({i.shape for i in images}) == 1, stride=self.stride)
        return [letterbox(image=image) for image in images]

    def postprocess(self, preds: tuple[Tensor, object], img: Tensor, orig_imgs: list[np.ndarray]) -> list[Results]:
        """Return the detections in pixels of each image; a box has its best class only, by default."""
        rules = {"agnostic": self.args.agnostic_nms, "multi_label": self.args.one_class_per_query is False}
        tables = suppressed(preds[0], self.model.layout, self.conf, self.args, **rules)
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
        rules = {"agnostic": args.agnostic_nms or args.single_cls, "multi_label": not args.one_class_per_query}
        tables = suppressed(preds[0], self.layout, self.conf, args, **rules)
        scale = tables[0].new_tensor([1, 1, 1, 1, 1, 0 if args.single_cls else 1])
        return [by_name(rows * scale) for rows in tables]
