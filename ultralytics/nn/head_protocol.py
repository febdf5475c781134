"""What trainer, predictor and exporter have to know of the last layer of a network, whatever its family.

Another head is a class with these attributes, and a line of code nowhere else. Layouts are those of the output in eval
mode, by the names in the metadata of exported files; B images, boxes in pixels are those of the network input.
"""

from __future__ import annotations

import inspect
from typing import Any, Protocol

from torch import nn

SCORES = "boxes and class scores"  # (B, queries, 4 + nc): cx, cy, w, h in 0..1, class probabilities
PAIRS = "box, score, class"  # (B, queries, 6): cx, cy, w, h in 0..1, score, class; of newer published exporters
ANCHORS = "boxes and class scores per anchor"  # (B, 4 + nc, anchors): cx, cy, w, h in pixels, probabilities; needs NMS
END2END = "corners, score, class"  # (B, detections, 6): x1, y1, x2, y2 in pixels, score, class; no NMS
STRETCH, LETTERBOX = "stretch", "letterbox"
TRAITS = ("takes_targets", "layout", "resize", "build_criterion")


class Head(Protocol):
    """The last layer of a network.

    Attributes:
        takes_targets: whether `forward(x, batch)` takes the labels in training; they include `gt_groups`.
        layout: SCORES, PAIRS, ANCHORS or END2END.
        resize: how images become the network input: STRETCH, or LETTERBOX with the aspect ratio kept.
        nc: number of classes.
        export: True for a graph to export, whose output is y alone.
    """

    takes_targets: bool
    layout: str
    resize: str
    nc: int
    export: bool

    def build_criterion(self, options: Any | None) -> nn.Module:
        """Return the loss, with the gains of the options of a run, by default those of the paper.

        It is called with what the head returns in training, or in eval mode beside y, and with the labels: img (B, 3,
        H, W), cls (N, 1), bboxes (N, 4) cx, cy, w, h in 0..1, batch_idx (N,). It returns a mapping of terms, multiplied
        by their gains. `loss_names` are the logged terms, and `loss_items(terms)` their values, detached. With
        `sums_images` the loss is the sum of the terms times B, and is not divided by the number of accumulated batches.
        A loss that changes with the epoch has `set_epoch(epoch, epochs)`, called before each; the first is 0.
        """


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
