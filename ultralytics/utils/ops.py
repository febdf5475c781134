"""Box formats, clipping, scaling, overlaps and non-maximum suppression.

Functions without torch in their types take arrays and tensors.
"""

import math
import time
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ultralytics.utils import LOGGER
from ultralytics.utils.public import public_names

Boxes = TypeVar("Boxes", np.ndarray, Tensor)
Shape = tuple[int, int]  # height, width
FIRST_CANDIDATES = 4  # times max_det: NMS starts with so many of the best candidates


def _stack(columns: list[Boxes]) -> Boxes:
    return torch.stack(columns, -1) if isinstance(columns[0], Tensor) else np.stack(columns, -1)


def _columns(boxes: Boxes) -> tuple[Boxes, Boxes, Boxes, Boxes]:
    if boxes.shape[-1] != 4:
        raise ValueError(f"boxes: got shape {tuple(boxes.shape)}, expected 4 numbers in the last dimension")
    return boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]


def xywh2xyxy(boxes: Boxes) -> Boxes:
    """Convert (..., 4) center and size to corners."""
    x, y, w, h = _columns(boxes)
    return _stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2])


def xyxy2xywh(boxes: Boxes) -> Boxes:
    """Convert (..., 4) corners to center and size.

    Examples:
        >>> xyxy2xywh(np.array([10.0, 20.0, 50.0, 60.0]))
        array([30., 40., 40., 40.])
    """
    left, top, right, bottom = _columns(boxes)
    return _stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top])


def xyxy2ltwh(boxes: Boxes) -> Boxes:
    """Convert (..., 4) corners to upper left corner and size."""
    left, top, right, bottom = _columns(boxes)
    return _stack([left, top, right - left, bottom - top])


def ltwh2xyxy(boxes: Boxes) -> Boxes:
    """Convert (..., 4) upper left corner and size to corners."""
    left, top, width, height = _columns(boxes)
    return _stack([left, top, left + width, top + height])


def xywh2ltwh(boxes: Boxes) -> Boxes:
    """Convert (..., 4) center and size to upper left corner and size."""
    return xyxy2ltwh(xywh2xyxy(boxes))


def ltwh2xywh(boxes: Boxes) -> Boxes:
    """Convert (..., 4) upper left corner and size to center and size."""
    return xyxy2xywh(ltwh2xyxy(boxes))


def xywhn2xyxy(boxes: Boxes, w: float = 640, h: float = 640, padw: float = 0, padh: float = 0) -> Boxes:
    """Convert center and size in 0..1 to corners in pixels of an image (w, h), shifted by `padw` and `padh`."""
    left, top, right, bottom = _columns(xywh2xyxy(boxes))
    return _stack([left * w + padw, top * h + padh, right * w + padw, bottom * h + padh])


def xyxy2xywhn(boxes: Boxes, w: float = 640, h: float = 640, clip: bool = False, eps: float = 0.0) -> Boxes:
    """Convert corners in pixels of an image (w, h) to center and size in 0..1.

    `clip` clips them at its border, less `eps`.
    """
    x, y, width, height = _columns(xyxy2xywh(clip_boxes(boxes, (h - eps, w - eps)) if clip else boxes))
    return _stack([x / w, y / h, width / w, height / h])


def clip_boxes(boxes: Boxes, shape: Shape) -> Boxes:
    """Clip corners in pixels at the border of an image of `shape` (height, width)."""
    left, top, right, bottom = _columns(boxes)
    height, width = shape[:2]
    return _stack([left.clip(0, width), top.clip(0, height), right.clip(0, width), bottom.clip(0, height)])


def scale_boxes(
    img1_shape: Shape, boxes: Boxes, img0_shape: Shape, ratio_pad: tuple[tuple[float, float], ...] | None = None,
    padding: bool = True, xywh: bool = False,
) -> Boxes:  # fmt: skip
    """Scale boxes from pixels of a letterboxed network image to pixels of the original image, and clip them.

    Args:
        img1_shape: height and width of the network image.
        boxes: (..., 4) corners in pixels of the network image.
        img0_shape: height and width of the original image.
        ratio_pad: ((ratio y, ratio x), (pad left, pad top)) of the letterbox; computed from the shapes by default.
        padding: False if the network image was resized but not padded on the left and top.
        xywh: boxes are center and size; they are not clipped.
    """
    (net_h, net_w), (height, width) = img1_shape[:2], img0_shape[:2]
    if ratio_pad is None:
        ratio = min(net_h / height, net_w / width)
        inner_h, inner_w = round(height * ratio), round(width * ratio)  # integers, so the ratios of the axes differ
        # an odd pixel of padding is on the right and at the bottom, hence the 0.1
        left, top = round((net_w - inner_w) / 2 - 0.1), round((net_h - inner_h) / 2 - 0.1)
        ratio_pad = (inner_h / height, inner_w / width), (left, top)
    (ratio_y, ratio_x), (left, top) = ratio_pad if padding else (ratio_pad[0], (0, 0))
    a, b, c, d = _columns(boxes)
    if xywh:
        return _stack([(a - left) / ratio_x, (b - top) / ratio_y, c / ratio_x, d / ratio_y])
    corners = [(a - left) / ratio_x, (b - top) / ratio_y, (c - left) / ratio_x, (d - top) / ratio_y]
    return clip_boxes(_stack(corners), img0_shape)


def box_iou(box1: Tensor, box2: Tensor, eps: float = 1e-7) -> Tensor:
    """Compute the IoU of all pairs of boxes, x1, y1, x2, y2: (N, 4), (M, 4) -> (N, M).

    Examples:
        >>> box_iou(torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[0.0, 0, 10, 5], [20, 20, 30, 30]]))
        tensor([[0.5000, 0.0000]])
    """
    return bbox_iou(box1[:, None], box2[None], xywh=False, eps=eps).squeeze(-1)  # (N, M, 1) -> (N, M)


def bbox_ioa(box1: np.ndarray, box2: np.ndarray, iou: bool = False, eps: float = 1e-7) -> np.ndarray:
    """Compute the overlap of all pairs of corners as a fraction of `box2`, or as IoU: (N, 4), (M, 4) -> (N, M)."""
    low, high = np.maximum(box1[:, None, :2], box2[:, :2]), np.minimum(box1[:, None, 2:], box2[:, 2:])
    overlap, (area1, area2) = (high - low).clip(0).prod(-1), ((b[:, 2:] - b[:, :2]).prod(-1) for b in (box1, box2))
    return overlap / ((area1[:, None] + area2 - overlap if iou else area2) + eps)


def bbox_iou(
    box1: Tensor, box2: Tensor, xywh: bool = True, GIoU: bool = False, DIoU: bool = False, CIoU: bool = False,
    eps: float = 1e-7,
) -> Tensor:  # fmt: skip
    """Compute the IoU of boxes elementwise, with broadcasting: (..., 4), (..., 4) -> (..., 1).

    Boxes are cx, cy, w, h, or corners without `xywh`. At most one of GIoU (https://arxiv.org/abs/1902.09630), DIoU and
    CIoU (https://arxiv.org/abs/1911.08287) replaces plain IoU.
    """
    if GIoU + DIoU + CIoU > 1:
        raise ValueError("bbox_iou: choose at most one of GIoU, DIoU and CIoU")
    if xywh:
        box1, box2 = xywh2xyxy(box1), xywh2xyxy(box2)
    low1, high1, low2, high2 = box1[..., :2], box1[..., 2:], box2[..., :2], box2[..., 2:]
    size1, size2 = high1 - low1, high2 - low2
    overlap = (torch.minimum(high1, high2) - torch.maximum(low1, low2)).clamp(min=0).prod(-1, keepdim=True)
    union = size1.prod(-1, keepdim=True) + size2.prod(-1, keepdim=True) - overlap + eps
    iou = overlap / union
    if not (GIoU or DIoU or CIoU):
        return iou

    hull = torch.maximum(high1, high2) - torch.minimum(low1, low2)  # sides of the smallest enclosing box
    if GIoU:
        hull_area = hull.prod(-1, keepdim=True) + eps
        return iou - (hull_area - union) / hull_area
    between_centers = ((low2 + high2 - low1 - high1) ** 2).sum(-1, keepdim=True) / 4
    distance = between_centers / ((hull**2).sum(-1, keepdim=True) + eps)
    if DIoU:
        return iou - distance
    angle1, angle2 = (torch.atan(s[..., :1] / (s[..., 1:] + eps)) for s in (size1, size2))
    shape_term = 4 / math.pi**2 * (angle2 - angle1) ** 2
    with torch.no_grad():  # no gradient flows through the weight (equation 11 of the paper)
        weight = shape_term / (shape_term - iou + 1 + eps)
    return iou - distance - weight * shape_term


def non_max_suppression(
    prediction: Tensor | Sequence[Tensor], conf_thres: float = 0.25, iou_thres: float = 0.45,
    classes: Sequence[int] | None = None, agnostic: bool = False, multi_label: bool = False, max_det: int = 300,
    nc: int = 0, max_time_img: float = 0.05, max_nms: int = 30000, max_wh: int = 7680, end2end: bool | None = None,
    return_idxs: bool = False, *, labels: Sequence[Tensor] = (),
) -> list[Tensor] | tuple[list[Tensor], list[Tensor]]:  # fmt: skip
    """Return the detections (n, 6 + extra) of each image: x1, y1, x2, y2, score, class, and what follows the classes.

    Boxes of one class that overlap a better one by more than `iou_thres` are dropped.

    Args:
        prediction: (B, 4 + nc + extra, A) cx, cy, w, h and scores, or a tuple that starts with it; or rows (B, n, 6) of
            a network without NMS, best first, which are only filtered.
        conf_thres: smallest score, exclusive.
        classes: keep only these.
        agnostic: also suppress across classes.
        multi_label: every class above `conf_thres` is a detection, not only the best class of a position.
        nc: number of classes; 0: all rows after the box.
        max_time_img: seconds an image; later images of a batch that exceeds 2 s more get none, with a warning.
        max_nms: number of candidates that take part.
        max_wh: offset between the boxes of two classes, larger than any box.
        end2end: whether the network needs no NMS; None: if there are 6 columns.
        return_idxs: also return the positions 0..A-1 of the detections.
        labels: (m, 5) class, cx, cy, w, h for each image, added with score 1.

    Examples:
        >>> prediction = torch.tensor([[[50.0, 51], [50, 50], [20, 20], [20, 20], [0.9, 0.8]]])  # (1, 4 + 1, 2)
        >>> non_max_suppression(prediction)
        [tensor([[40.0000, 40.0000, 60.0000, 60.0000,  0.9000,  0.0000]])]
    """
    if not (0 <= conf_thres <= 1 and 0 <= iou_thres <= 1):
        raise ValueError(f"NMS: conf={conf_thres} and iou={iou_thres}: expected thresholds from 0 to 1")
    prediction = prediction if isinstance(prediction, Tensor) else prediction[0]
    prediction = prediction.float()
    wanted = None if classes is None else torch.as_tensor(list(classes), device=prediction.device)
    if prediction.shape[-1] == 6 if end2end is None else end2end:
        keep = prediction[..., 4] > conf_thres  # (B, n)
        if wanted is not None:
            keep &= torch.isin(prediction[..., 5], wanted)
        found = [(rows[k][:max_det], k.nonzero().flatten()[:max_det]) for rows, k in zip(prediction, keep, strict=True)]
    else:
        import torchvision  # noqa: F401 (defines the operator; takes seconds, which do not count below)

        found, start = [], time.monotonic()
        limit = 2.0 + max_time_img * len(prediction)
        for i, image in enumerate(prediction):  # (4 + nc + extra, A)
            if time.monotonic() - start > limit:
                LOGGER.warning(f"NMS took longer than {limit:.1f} s: no detections in {len(prediction) - i} images")
                none = image.new_zeros(0, 6 + image.shape[0] - 4 - (nc or image.shape[0] - 4))
                found += [(none, none[:, 0].long())] * (len(prediction) - i)
                break
            image = _with_labels(image, labels[i]) if len(labels) else image
            found.append(
                _suppress(image, nc or len(image) - 4, conf_thres, iou_thres, wanted, multi_label, max_det, max_nms,
                          0 if agnostic else max_wh)
            )  # fmt: skip
    rows, positions = map(list, zip(*found, strict=True))
    return (rows, positions) if return_idxs else rows


def _with_labels(image: Tensor, labels: Tensor) -> Tensor:
    """Add labels (m, 5) class, cx, cy, w, h to the predictions of an image (C, A), with score 1: (C, A + m)."""
    known = image.new_zeros(len(image), len(labels))
    known[:4] = labels[:, 1:5].T
    known[4 + labels[:, 0].long(), torch.arange(len(labels))] = 1
    return torch.cat([image, known], 1)


def _suppress(
    image: Tensor, nc: int, conf: float, iou: float, wanted: Tensor | None, multi_label: bool, max_det: int,
    max_nms: int, offset: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the detections (n, 6 + extra) of one image (4 + nc + extra, A), and their positions (n,)."""
    scores = image[4 : 4 + nc]  # (nc, A)

    # candidates (k,), in the order of positions and classes
    if multi_label and nc > 1:
        mask = scores > conf
        if wanted is not None:
            mask &= torch.isin(torch.arange(nc, device=image.device), wanted)[:, None]
        score = scores[mask]
        cls, position = mask.nonzero(as_tuple=True)
    else:
        score, cls = scores.max(0)  # (A,) each
        mask = score > conf
        if wanted is not None:
            mask &= torch.isin(cls, wanted)
        position = mask.nonzero().flatten()
        score, cls = score[position], cls[position]

    # Greedy suppression keeps the same boxes of the best candidates whatever follows: start with few
    total, done = min(len(score), max_nms), 0
    count, kept = min(total, FIRST_CANDIDATES * max_det), position[:0]
    while True:
        lowest = score.topk(count).values[-1] if 0 < count < len(score) else conf
        best = (score >= lowest).nonzero().flatten()
        best = best[(position[best] * nc + cls[best]).argsort()]  # of equal scores, the first position and class
        best = best[score[best].argsort(descending=True, stable=True)]
        best = torch.cat([kept, best[done:count]])
        boxes = xywh2xyxy(image[:4, position[best]].T)  # (k, 4)
        keep = torch.ops.torchvision.nms(boxes + (cls[best] * offset)[:, None], score[best], iou)[:max_det]
        kept, boxes, done = best[keep], boxes[keep], count
        if len(kept) == max_det or count == total:
            break
        count = min(total, 8 * count)
    s, c, p = score[kept], cls[kept], position[kept]
    return torch.cat([boxes, s[:, None], c[:, None].to(s.dtype), image[4 + nc :, p].T], 1), p


def make_divisible(x: float, divisor: int | Tensor) -> int:
    """Return the smallest multiple of `divisor`, of a tensor its largest, that is at least x."""
    divisor = int(divisor.max()) if isinstance(divisor, Tensor) else divisor
    return math.ceil(x / divisor) * divisor


def make_anchors(
    feats: Sequence[Tensor], strides: Sequence[float] | Tensor, grid_cell_offset: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Return the centers (A, 2) of the cells of all maps (B, C, h, w), in cells, and the stride (A, 1) of each."""
    strides = torch.zeros(len(strides), device="cpu") if getattr(strides, "is_meta", False) else strides  # no values
    points, sizes = [], []
    for level, stride in zip(feats, strides, strict=True):
        h, w = level.shape[2:]
        x, y = (torch.arange(n, dtype=torch.float32, device=level.device) + grid_cell_offset for n in (w, h))
        points.append(torch.stack((x.expand(h, w), y[:, None].expand(h, w)), -1).flatten(0, 1))  # (h * w, 2)
        sizes.append(x.new_full((h * w, 1), float(stride)))
    return torch.cat(points), torch.cat(sizes)


def dist2bbox(distance: Tensor, anchor_points: Tensor, xywh: bool = True, dim: int = -1) -> Tensor:
    """Convert distances left, up, right, down from points to boxes cx, cy, w, h, or corners if not `xywh`."""
    before, after = distance.chunk(2, dim)
    low, high = anchor_points - before, anchor_points + after
    return torch.cat(((low + high) / 2, high - low) if xywh else (low, high), dim)


def bbox2dist(anchor_points: Tensor, bbox: Tensor, reg_max: float | None = None) -> Tensor:
    """Convert corners (..., 4) to distances left, up, right, down from points, limited to 0..reg_max - 0.01."""
    low, high = bbox.chunk(2, -1)
    distance = torch.cat((anchor_points - low, high - anchor_points), -1)
    return distance if reg_max is None else distance.clamp(0, reg_max - 0.01)


__getattr__ = public_names(__name__)
