"""From images to the network input of a YOLO, and from its output to detections on the images."""

import importlib
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ultralytics.cfg.family import default_yaml
from ultralytics.cfg.options import Options
from ultralytics.data.transforms.geometry import LetterBox
from ultralytics.nn.head_protocol import ANCHORS, END2END
from ultralytics.utils import LOGGER
from ultralytics.utils.ops import non_max_suppression, scale_boxes
from ultralytics.utils.public import replaced


def prepare_nms(layout: str, options: Options) -> None:
    """Import the operator of NMS, which takes a second, before anything is timed; warn of its options without it."""
    if layout == ANCHORS:
        importlib.import_module("torchvision.ops")
    elif options.agnostic_nms or options.iou != default_yaml()["iou"]:
        LOGGER.warning("iou and agnostic_nms have no effect: this branch of the head needs no NMS; try end2end=False")


def letterbox_images(
    images: Sequence[np.ndarray], size: tuple[int, int], *, rect: bool, stride: int
) -> list[np.ndarray]:
    """Resize images (H, W, 3) to fit into `size` (height, width), and pad them to one shape.

    That is `size`. With `rect`, images of equal shapes are only padded to the next multiple of `stride`.
    """
    same = len({image.shape for image in images}) == 1
    letterbox = LetterBox(size, auto=rect and same, stride=stride)
    return [letterbox(image=image) for image in images]


def detections(
    y: Tensor,
    layout: str,
    *,
    conf: float,
    iou: float = 0.7,
    agnostic: bool = False,
    max_det: int = 300,
    classes: Sequence[int] | None = None,
    multi_label: bool = False,
) -> list[Tensor]:
    """Return the detections of each image by descending score, (n, 6): corners in pixels of the input, score, class.

    Args:
        y: output of the network. ANCHORS, (B, 4 + nc, A), is suppressed; of END2END, (B, n, 6), rows are selected.
        layout: one of these names, see `head_protocol.py`.
        conf: smallest score, exclusive.
        iou: overlap above which NMS keeps the better box only.
        agnostic: suppress across classes.
        classes: keep only these.
        multi_label: a position may have several classes; False in prediction, True in validation.
    """
    suppress = replaced("non_max_suppression") or non_max_suppression
    return suppress(y, conf, iou, classes, agnostic, multi_label, max_det, end2end=layout == END2END)


def on_image(rows: Tensor, input_shape: tuple[int, int], image_shape: tuple[int, int]) -> Tensor:
    """Move detections (n, 6) from the letterboxed network input to its image, and clip them; shapes (height, width)."""
    rows = rows.clone()
    rows[:, :4] = scale_boxes(input_shape, rows[:, :4], image_shape)
    return rows
