"""What trainer, predictor and exporter have to know of the last layer of a network, whatever its family.

Another head is a class with these attributes, and a line of code nowhere else. Layouts are those of the output in eval
mode, by the names in the metadata of exported files; B images, boxes in pixels are those of the network input.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.utils import LOGGER

SCORES = "boxes and class scores"  # (B, queries, 4 + nc): cx, cy, w, h in 0..1, class probabilities
PAIRS = "box, score, class"  # (B, queries, 6): cx, cy, w, h in 0..1, score, class; of newer published exporters
ANCHORS = "boxes and class scores per anchor"  # (B, 4 + nc, anchors): cx, cy, w, h in pixels, probabilities; needs NMS
END2END = "corners, score, class"  # (B, detections, 6): x1, y1, x2, y2 in pixels, score, class; no NMS
STRETCH, LETTERBOX = "stretch", "letterbox"
TRAITS = ("takes_targets", "layout", "resize", "augmentable", "build_criterion")
SCALES = ((1.0, False), (0.83, True), (0.67, False))  # of test-time augmentation: ratio, mirrored


class Head(Protocol):
    """The last layer of a network."""

    takes_targets: bool  # whether `forward(x, batch)` takes the labels in training; they include `gt_groups`
    layout: str  # SCORES, PAIRS, ANCHORS or END2END
    resize: str  # how images become the network input: STRETCH, or LETTERBOX with the aspect ratio kept
    augmentable: bool  # whether `multi_scale` applies to y in the layout ANCHORS
    nc: int  # number of classes
    export: bool  # True for a graph to export, whose output is y alone

    def build_criterion(self, options: Any | None) -> nn.Module:
        """Return the loss, with the gains of the options of a run, by default those of the paper.

        It is called with what the head returns in training, or in eval mode beside y, and with the labels: img (B, 3,
        H, W), cls (N, 1), bboxes (N, 4) cx, cy, w, h in 0..1, batch_idx (N,). It returns a mapping of terms, multiplied
        by their gains. `loss_names` are the logged terms, and `loss_items(terms)` their values, detached. With
        `sums_images` the loss is the sum of the terms times B, and is not divided by the number of accumulated batches.
        A loss that changes with the epoch has `set_epoch(epoch, epochs)`, called before each; the first is 0.
        """


class LevelMaps(dict):
    """Raw predictions by name; by number, or iterated, the maps (B, 4 * reg_max + nc, h, w) of release 8.3."""

    def __missing__(self, level: int) -> Tensor:
        return [*self][level]

    def __iter__(self) -> Iterator[Tensor]:
        sizes = [level.shape[-2:] for level in self["feats"]]
        levels = torch.cat((self["boxes"], self["scores"]), 1).float().split([h * w for h, w in sizes], 2)
        return (level.unflatten(2, size) for level, size in zip(levels, sizes, strict=True))


def by_level(preds: Any) -> Any:
    """Return raw predictions as `LevelMaps`, also those of each branch; others as they are."""
    return LevelMaps({name: by_level(x) for name, x in preds.items()}) if isinstance(preds, dict) else preds


def resembles(head: type, ours: type) -> bool:
    """Check whether a head is a subclass of ours or, in another code base, a copy of it or of its subclass.

    A copy has the name, or takes the labels as ours does; a dense head has the method `bias_init`, or is named Detect*.
    """
    if ours.__name__ in {base.__name__ for base in head.__mro__}:
        return True
    takes_targets = "batch" in inspect.signature(head.forward).parameters
    is_head = takes_targets or hasattr(head, "bias_init") or "detect" in head.__name__.lower()
    return is_head and takes_targets == ours.takes_targets


def complete(head: nn.Module, ours: type) -> None:
    """Give the copy of a head in another code base what it lacks of the protocol, from the head that it resembles."""
    for name, value in {"end2end": False, "export": False, "format": None}.items():
        if not hasattr(head, name):
            setattr(head, name, value)
    head.dynamic = True  # anchors are computed in each forward, so that they follow the device and the strides
    for name in TRAITS:
        if not hasattr(type(head), name):
            setattr(type(head), name, getattr(ours, name))


def can_augment(network: nn.Module) -> bool:
    """Check whether `multi_scale` applies to a network; warn if not."""
    if getattr(network, "augmentable", False) and network.layout == ANCHORS:
        return True
    name = type(getattr(network, "model", [network])[-1]).__name__
    LOGGER.warning(
        f"augment=True has no effect: {name} predicts at one scale; test-time augmentation merges boxes by NMS, of "
        "weights (.pt) with a dense head and no end2end=True"
    )
    return False


def multi_scale(run: Callable[[Tensor], Any], images: Tensor, strides: Tensor) -> Tensor:
    """Predict with test-time augmentation: return y (B, 4 + nc, A) at all of SCALES, concatenated, for NMS.

    The largest images are used without the coarsest map, and the smallest without the finest.

    Args:
        run: network; images (B, 3, H, W) -> (y, extras), y in the layout ANCHORS.
        strides: (nl,) of the maps, finest first.
    """
    coarse, fine, found = int(max(strides)), int(min(strides)), []
    for scale, mirrored in SCALES:
        x = images.flip(3) if mirrored else images
        x = x if scale == 1 else scale_img(x, scale, gs=coarse)
        y = run(x)[0]  # (B, 4 + nc, a)
        cx, rest, scores = y[:, :1] / scale, y[:, 1:4] / scale, y[:, 4:]
        y = torch.cat((images.shape[3] - cx if mirrored else cx, rest, scores), 1)
        area = x.shape[2] * x.shape[3]
        first = area // fine**2 if scale == SCALES[-1][0] else 0
        last = area // coarse**2 if scale == 1 else 0
        found.append(y[..., first : y.shape[2] - last])
    return torch.cat(found, 2)


def scale_img(img: Tensor, ratio: float = 1.0, same_shape: bool = False, gs: int = 32) -> Tensor:
    """Resize images (B, 3, H, W) by `ratio`, and pad them to multiples of `gs`, or to their size with `same_shape`."""
    inner = [int(side * ratio) for side in img.shape[2:]]
    down, right = (side if same_shape else int(-(-side * ratio // gs) * gs) for side in img.shape[2:])
    img = F.interpolate(img, inner, mode="bilinear", align_corners=False)
    return F.pad(img, (0, right - inner[1], 0, down - inner[0]), value=0.447)  # mean of ImageNet
