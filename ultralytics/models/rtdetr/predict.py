"""Prediction and validation with RT-DETR: images are stretched to the network input, and there is no NMS."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ultralytics.cfg.family import Family
from ultralytics.engine.predictor import BasePredictor
from ultralytics.engine.results import Results
from ultralytics.engine.validator import BaseValidator
from ultralytics.metrics.matching import by_name
from ultralytics.models.yolo.detector import DetectionValidator
from ultralytics.nn.tasks import RTDETRDetectionModel
from ultralytics.utils.ops import xywh2xyxy

FAMILY = Family(
    "RT-DETR",
    {
        "it predicts a set and needs no NMS. For fewer boxes raise conf or lower max_det": "nms end2end",
        "it is a loss weight of YOLO. Use loss_cls, loss_bbox and loss_giou": "box cls cls_pw dfl",
        "it warms up the learning rate by steps. Use warmup_iters": "warmup_epochs warmup_momentum warmup_bias_lr",
        "it resizes every image to a square of imgsz, in training and validation": "rect",
    },
    unread=("iou", "agnostic_nms"),
)


def select_detections(
    y: Tensor,
    *,
    conf: float,
    max_det: int = 300,
    classes: Sequence[int] | None = None,
    one_class_per_query: bool = False,
) -> list[Tensor]:
    """Select the best (query, class) pairs of each image, as the official post-processor does.

    The scores of all queries and classes compete for as many places as there are queries, so a query may appear with
    two classes; with `one_class_per_query` it has its best one. `conf` (exclusive), `classes` and `max_det` apply
    afterwards.

    Args:
        y: (B, queries, 4 + nc), boxes cx, cy, w, h in 0..1 and class probabilities.

    Returns:
        B tensors (n, 6): x1, y1, x2, y2 in 0..1 (not clipped), score, class; by descending score.
    """
    boxes, scores = y[..., :4], y[..., 4:]
    _, queries, nc = scores.shape

    # the best class of each query, or the top-k (query, class) pairs
    if one_class_per_query:
        best, label = scores.max(-1)  # (B, queries) each
        best, query = best.sort(descending=True)
        label = label.gather(1, query)
    else:
        best, pair = scores.flatten(1).topk(queries)  # (B, queries * nc) -> (B, queries)
        query, label = pair // nc, pair % nc
    boxes = xywh2xyxy(boxes).gather(1, query.unsqueeze(-1).expand(-1, -1, 4))  # (B, queries, 4)
    rows = torch.cat((boxes, best.unsqueeze(-1), label.unsqueeze(-1).to(y.dtype)), -1)  # (B, queries, 6)

    # thresholds
    keep = best > conf
    if classes is not None:
        keep &= torch.isin(label, torch.as_tensor(list(classes), device=y.device))
    return [image[mask][:max_det] for image, mask in zip(rows, keep, strict=True)]


class RTDETRPredictor(BasePredictor):
    """Predictor of RT-DETR models, whose output is (y (B, queries, 4 + nc), extras)."""

    network_class, family = RTDETRDetectionModel, FAMILY

    def postprocess(self, preds: tuple[Tensor, object], img: Tensor, orig_imgs: list[np.ndarray]) -> list[Results]:
        """Select the best class of each query, by default, as boxes in pixels of each image, not clipped."""
        args = self.args
        tables = select_detections(
            preds[0].float(), conf=self.conf, max_det=args.max_det, classes=args.classes,
            one_class_per_query=args.one_class_per_query is not False,
        )  # fmt: skip
        for rows, image in zip(tables, orig_imgs, strict=True):
            height, width = image.shape[:2]
            rows[:, :4] *= rows.new_tensor([width, height, width, height])
        return self.construct_results(tables, img, orig_imgs)


class RTDETRValidator(DetectionValidator):
    """Validator of RT-DETR models. `Model.val` uses it, or a subclass of it.

    Examples:
        >>> from ultralytics import RTDETR
        >>> class ConfidentValidator(RTDETRValidator):
        ...     def postprocess(self, preds):
        ...         found = super().postprocess(preds)
        ...         return [{key: v[image["conf"] > 0.5] for key, v in image.items()} for image in found]
        >>> metrics = RTDETR("rtdetr-r18.yaml").val(ConfidentValidator, data="shapes.yaml")  # doctest: +SKIP
    """

    network_class, family = RTDETRDetectionModel, FAMILY
    build_dataloader = BaseValidator.build_dataloader  # without NMS

    def postprocess(self, preds: tuple[Tensor, object]) -> list[dict[str, Tensor]]:
        """Select the best (query, class) pairs of each image, boxes in pixels of the network input, not clipped.

        With single_cls a query counts once, with its best class.
        """
        args, (height, width) = self.args, self.batch["img"].shape[2:]
        tables = select_detections(
            preds[0].float(), conf=self.conf, max_det=args.max_det, classes=args.classes,
            one_class_per_query=bool(args.one_class_per_query or args.single_cls),
        )  # fmt: skip
        scale = tables[0].new_tensor([width, height, width, height, 1, 0 if args.single_cls else 1])
        return [by_name(rows * scale) for rows in tables]
