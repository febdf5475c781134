"""Dense detection head of YOLO: a box and class scores at every position of the maps."""

import copy
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.cfg.options import Options
from ultralytics.nn.head_protocol import ANCHORS, END2END, LETTERBOX
from ultralytics.nn.modules.argument_checks import require_whole
from ultralytics.nn.modules.block import DFL
from ultralytics.nn.modules.conv import Conv, DWConv
from ultralytics.nn.plans import LayerSpec, RowContext
from ultralytics.nn.registry import register
from ultralytics.utils.errors import ModelConfigError
from ultralytics.utils.ops import dist2bbox, make_anchors
from ultralytics.utils.torch_utils import without_autocast

RawPrediction = dict[str, Any]  # boxes (B, 4 reg_max, A), scores (B, nc, A) as logits, feats: the maps that were read
LIGHT = ("C3k2", "A2C2f", "C2fCIB")  # blocks of YOLOv10 and later; a file with one has the light class branch
PRIOR_OBJECTS, PRIOR_SIZE, PRIOR_DISTANCE = 5, 640, 2.0  # start: objects per image of this size; sides in cells


def _detect(ctx: RowContext, nc: int, reg_max: int = 16, end2end: bool = False) -> LayerSpec:
    """Plan a row `[nc]` or `[nc, reg_max, end2end]`; the top-level keys `reg_max` and `end2end` replace arguments.

    The key `legacy` replaces the class branch that follows from the blocks.
    """
    ctx.require_once()
    reg_max, end2end = ctx.settings.get("reg_max", reg_max), ctx.settings.get("end2end", end2end)
    if isinstance(reg_max, list):
        raise ModelConfigError(f"the head has no anchors, write [nc]; got {reg_max}")
    if type(end2end) not in (bool, type(None)):
        raise ModelConfigError(f"end2end must be True or False, got {end2end!r}")
    return LayerSpec((nc, reg_max, end2end, ctx.inputs), nc, kwargs={"legacy": is_legacy(ctx)})


def is_legacy(ctx: RowContext) -> bool:
    """Check whether the class branch has plain convolutions: by the key `legacy`, or the blocks of the file."""
    light = any(name.startswith(LIGHT) for name in ctx.earlier) if ctx.light is None else ctx.light
    return ctx.settings.get("legacy", not light)


def _v10_detect(ctx: RowContext, nc: int) -> LayerSpec:
    ctx.require_once()
    return LayerSpec((nc, ctx.inputs), nc)


@register(_detect)
class Detect(nn.Module):
    """Predict, at each position, the distances to the four sides of a box and a score for each class.

    The decoupled, anchor-free head of YOLOv8. With a one-to-one branch (YOLOv10, arXiv:2405.14458) training assigns
    several positions to an object in one branch and one position in the other, and inference needs no NMS.

    Args:
        nc: number of classes.
        reg_max: bins of the distribution over each distance (DFL, arXiv:2006.04388); 1 regresses the distance itself.
        end2end: whether to add the one-to-one branch, copied from the one-to-many branch.
        ch: channels of each input map.
        legacy: whether the class branch has plain convolutions (YOLOv3 to v9) or depthwise ones (YOLO11 and later).

    Attributes:
        stride: (nl,) pixels per cell of each map, set by the network.
        end2end: the branch that `y` comes from: one-to-one (top-k, no NMS) if True. Can be set.
        max_det: largest number of detections from the one-to-one branch.

    Examples:
        >>> head = Detect(nc=80, ch=(64, 128)).eval()
        >>> head.stride = 8, 16
        >>> y, raw = head([torch.rand(1, 64, 20, 20), torch.rand(1, 128, 10, 10)])
        >>> y.shape  # cx, cy, w, h in pixels, then class probabilities
        torch.Size([1, 84, 500])
    """

    takes_targets, resize, augmentable = False, LETTERBOX, True  # see `head_protocol.py`
    export = legacy = False
    max_det = 300
    # read by the forward of subclasses that were written for older releases
    dynamic, xyxy, shape, format = True, False, None, None
    anchors = strides = torch.empty(0)

    def __init__(self, nc=80, reg_max=16, end2end=None, ch=(), legacy=None):
        super().__init__()
        paired = getattr(type(self), "end2end", None) is True  # of a subclass
        end2end, legacy = paired if end2end is None else end2end, self.legacy if legacy is None else legacy
        if isinstance(reg_max, list | tuple):  # (nc, ch), the order of releases before 8.4
            reg_max, ch = 16, reg_max
        require_whole(type(self).__name__, nc=nc, reg_max=reg_max)
        self.nc, self.nl, self.reg_max, self.no, self.legacy = nc, len(ch), reg_max, nc + 4 * reg_max, legacy
        self.stride = [0.0] * self.nl
        c2, c3 = max(16, ch[0] // 4, 4 * reg_max), max(ch[0], min(nc, 100))
        self.cv2 = nn.ModuleList(
            nn.Sequential(Conv(c, c2, 3), Conv(c2, c2, 3), nn.Conv2d(c2, 4 * reg_max, 1)) for c in ch
        )
        block = (lambda c: Conv(c, c3, 3)) if legacy else (lambda c: nn.Sequential(DWConv(c, c, 3), Conv(c, c3, 1)))
        self.cv3 = nn.ModuleList(nn.Sequential(block(c), block(c3), nn.Conv2d(c3, nc, 1)) for c in ch)
        self.dfl = DFL(reg_max) if reg_max > 1 else nn.Identity()
        if end2end:
            self.one2one_cv2, self.one2one_cv3 = copy.deepcopy(self.cv2), copy.deepcopy(self.cv3)
        self.end2end = end2end

    @property
    def stride(self) -> Tensor:
        """Return the pixels per cell of each map (nl,)."""
        return torch.tensor(self._strides)

    @stride.setter
    def stride(self, strides: Iterable[float]) -> None:
        self._strides = tuple(float(stride) for stride in strides)

    @property
    def end2end(self) -> bool:
        """Return whether `y` comes from the one-to-one branch."""
        return self._end2end

    @end2end.setter
    def end2end(self, on: bool) -> None:
        if ("one2one" if on else "one2many") not in self._branches():
            missing = "a one-to-one branch" if on else "its one-to-many branch any more: it is fused"
            raise ModelConfigError(f"end2end={on}: the head {type(self).__name__} does not have {missing}")
        self._end2end = bool(on)

    @property
    def layout(self) -> str:
        """Return the layout of `y`."""
        return END2END if self.end2end else ANCHORS

    def _branches(self) -> dict[str, tuple[nn.ModuleList, nn.ModuleList]]:
        """Return the box and class convolutions of each branch."""
        parts = {"one2many": ("cv2", "cv3"), "one2one": ("one2one_cv2", "one2one_cv3")}
        return {name: (getattr(self, a), getattr(self, b)) for name, (a, b) in parts.items() if hasattr(self, a)}

    def build_criterion(self, options: Options | None = None) -> nn.Module:
        """Build the loss: with the gains of the run's options in training, else with the published ones."""
        from ultralytics.losses.yolo import DetectionLoss, DualAssignmentLoss

        kind = DualAssignmentLoss if hasattr(self, "one2one_cv2") else DetectionLoss
        return kind.from_options(options, self)

    def bias_init(self) -> None:
        """Initialize the last biases: distances of 2 cells, and a prior of 5 objects in an image of 640 x 640."""
        for boxes, scores in self._branches().values():
            for box, score, stride in zip(boxes, scores, self._strides, strict=True):
                nn.init.constant_(box[-1].bias, PRIOR_DISTANCE)
                nn.init.constant_(score[-1].bias, math.log(PRIOR_OBJECTS / self.nc / (PRIOR_SIZE / stride) ** 2))

    def forward(self, x: list[Tensor]) -> Any:
        """Detect on feature maps, one (B, C, h, w) per level, A positions in all.

        Returns:
            In training: the raw prediction; with two branches {"one2many": raw, "one2one": raw}.
            In eval: (y, the same). y (B, 4 + nc, A): cx, cy, w, h in pixels of the network's input and class
            probabilities. With `end2end` y (B, max_det, 6): x1, y1, x2, y2 in pixels, score, class.
            Exporting (`export = True`): y alone.
        """
        used = "one2one" if self.end2end else "one2many"
        branches = self._branches()
        paired = hasattr(self, "one2one_cv2")
        raw: dict[str, RawPrediction] = {}
        for name, convolutions in branches.items():
            if name == used or not self.export:
                # the one-to-one branch does not train the layers before the head
                maps = [level.detach() for level in x] if self.training and name == "one2one" else list(x)
                raw[name] = self.forward_head(maps, *convolutions)
        predictions = raw if paired else raw[used]
        if self.training:
            return predictions
        y = self._inference(raw[used])  # (B, 4 + nc, A)
        y = self.postprocess(y.transpose(1, 2)) if self.end2end else y
        return y if self.export else (y, predictions)

    @property
    def one2many(self) -> dict[str, nn.ModuleList]:
        """Return the convolutions of the one-to-many branch, for `forward_head`."""
        return {"box_head": self.cv2, "cls_head": self.cv3}

    @property
    def one2one(self) -> dict[str, nn.ModuleList]:
        """Return the convolutions of the one-to-one branch, for `forward_head`."""
        return {"box_head": self.one2one_cv2, "cls_head": self.one2one_cv3}

    def forward_head(self, x: list[Tensor], box_head: nn.ModuleList, cls_head: nn.ModuleList) -> RawPrediction:
        """Run one branch and concatenate the positions of all maps, finest first."""
        levels = list(zip(box_head, cls_head, x, strict=True))
        return {
            "boxes": torch.cat([box(level).flatten(2) for box, _, level in levels], 2),  # (B, 4 reg_max, A)
            "scores": torch.cat([score(level).flatten(2) for _, score, level in levels], 2),  # (B, nc, A)
            "feats": x,
        }

    def _inference(self, raw: RawPrediction | list[Tensor]) -> Tensor:
        """Decode boxes to pixels and logits to probabilities, (B, 4 + nc, A), of raw predictions or maps of both."""
        if not isinstance(raw, dict):  # maps (B, 4 reg_max + nc, h, w), of a subclass for an older release
            boxes, scores = torch.cat([level.flatten(2) for level in raw], 2).split((4 * self.reg_max, self.nc), 1)
            raw = {"boxes": boxes, "scores": scores, "feats": raw}
        dtype = next(self.parameters()).dtype
        points, strides = (x.T.to(dtype) for x in make_anchors(raw["feats"], self._strides))  # (2, A) in cells, (1, A)
        with without_autocast(points.device):  # bfloat16 has steps of 2 pixels
            distances = self.dfl(raw["boxes"].to(dtype))  # (B, 4 reg_max, A) -> (B, 4, A): left, up, right, down
            boxes = self.decode_bboxes(distances, points) * strides
            return torch.cat((boxes, raw["scores"].to(dtype).sigmoid()), 1)

    def decode_bboxes(self, bboxes: Tensor, anchors: Tensor | None = None) -> Tensor:
        """Decode distances from points to boxes in cells; without points, distributions to boxes in pixels."""
        if anchors is None:  # called by a subclass for 8.0 to 8.2
            return self.decode_bboxes(self.dfl(bboxes), self.anchors.unsqueeze(0)) * self.strides
        return dist2bbox(bboxes, anchors, xywh=not self.end2end, dim=1)

    def postprocess(self, preds: Tensor, max_det: int | None = None, nc: int | None = None) -> Tensor:
        """Select the `max_det` pairs of position and class with the highest score: (B, A, 4 + nc) -> (B, n, 6)."""
        boxes, scores = preds.split((4, self.nc), 2)  # (B, A, 4), (B, A, nc)
        count = max_det or self.max_det
        if (positions := scores.shape[1]) < count:  # traced as a tensor: a dynamic export selects as many as there are
            count = positions.clamp(max=count) if isinstance(positions, Tensor) else positions

        # top-k positions by their best class, which contain all top-k pairs
        best = scores.amax(2).topk(count).indices.unsqueeze(2)  # (B, n, 1)
        boxes, scores = boxes.gather(1, best.expand(-1, -1, 4)), scores.gather(1, best.expand(-1, -1, self.nc))

        # top-k pairs
        scores, index = scores.flatten(1).topk(count)  # (B, n * nc) -> (B, n)
        boxes = boxes.gather(1, (index // self.nc).unsqueeze(2).expand(-1, -1, 4))
        return torch.cat((boxes, scores.unsqueeze(2), (index % self.nc).unsqueeze(2).to(scores.dtype)), 2)

    def fold(self) -> None:
        """Delete the branch that `y` does not come from, for inference; the forward of a subclass may read both."""
        if hasattr(self, "one2one_cv2") and type(self).forward is Detect.forward:
            for name in ("cv2", "cv3") if self.end2end else ("one2one_cv2", "one2one_cv3"):
                delattr(self, name)


@register(_v10_detect)
class v10Detect(Detect):
    """Head of YOLOv10 (arXiv:2405.14458): light class branch and a one-to-one branch."""

    augmentable = False  # as in the published package

    def __init__(self, nc=80, ch=()):
        super().__init__(nc, end2end=True, ch=ch)
