"""`yolo attention model=best.pt source=image.jpg`: the points that the decoder samples, or the attention of AIFI."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from PIL import ImageDraw
from torch import Tensor, nn

from ultralytics.cfg.values import Device, OneOf, Range
from ultralytics.data.streams import Frame
from ultralytics.engine.predictor import BasePredictor
from ultralytics.engine.results import Results
from ultralytics.nn.modules.deformable import MSDeformAttn
from ultralytics.nn.modules.one_to_many import grid
from ultralytics.nn.modules.transformer import AIFI
from ultralytics.tools.common import tool_dir
from ultralytics.tools.explain.heatmap import InputView, draw_frames, enlarge, open_predictor, overlay
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import OptionError
from ultralytics.utils.plotting import Annotator

Calls = dict[int, tuple[nn.Module, dict[str, Any]]]
ABSENT = {"sampling": "decoder with deformable attention", "aifi": "AIFI row"}  # of each kind, in messages
LEVEL_COLORS = ((0, 220, 255), (255, 160, 0), (200, 0, 255), (0, 230, 60), (60, 60, 255))  # BGR


def command(
    model: str, source: str, kind: Annotated[str, OneOf(*ABSENT)] = "sampling",
    layer: Annotated[int | None, Range(0)] = None, point: list[float] | None = None,
    conf: Annotated[float, Range(0, 1)] = 0.25, classes: int | list[int] | None = None,
    max_det: Annotated[int, Range(1)] = 10, imgsz: Annotated[int | None, Range(32)] = None, device: Device = None,
    modules: str | None = None, trust: bool = False, project: str | None = None, name: str | None = None,
) -> None:  # fmt: skip
    """Draw what each detection attends to, a picture for each, into `project`/`name`.

    Args:
        kind: `sampling`: points that the decoder samples for the detection, larger and more opaque with their weight.
            `aifi`: attention of the position at the center of the detection, mean of the heads.
        layer: decoder layer, from 0, or number of the AIFI row; the last one by default.
        point: x,y in pixels of the image, in place of the detections, with kind=aifi.
        conf, classes, max_det: only detections above this score, of these class indices, and the best of each image.
        modules, trust: a folder of modules, or import those that the weights record.
    """
    if point is not None and (kind != "aifi" or len(point) != 2):
        raise OptionError(f"point={point}, kind={kind}: expected x,y in pixels of the image, and kind=aifi")
    given = {"conf": conf, "classes": classes, "max_det": max_det, "device": device}
    predictor = open_predictor(model, modules, trust=trust, imgsz=imgsz, **given)
    calls = record_calls(predictor.model, kind)
    folder = partial(tool_dir, "attention", project, name, Path(model).stem)
    done = draw_frames(predictor, source, partial(_draw_frame, predictor, calls, layer, kind, point), folder)
    LOGGER.info(f"{done}, kind={kind}")


def record_calls(network: nn.Module, kind: str) -> Calls:
    """Attach hooks to attention layers; return a mapping that gets the module and arguments of each call, in order.

    Keys are decoder layers, or for kind=aifi numbers of rows. Raises OptionError if there is none.
    """
    decoder = (module for module in network.model[-1].modules() if isinstance(module, MSDeformAttn))
    rows = {row.i: module.ma for row in network.model for module in row.modules() if isinstance(module, AIFI)}
    found, calls = {"sampling": dict(enumerate(decoder)), "aifi": rows}, {}
    if not found[kind]:
        other = next((f"kind={kind} has what it needs, and " for kind in found if found[kind]), "")
        raise OptionError(f"kind={kind}: the model has no {ABSENT[kind]}; {other}yolo heatmap draws every model")

    def record(number: int, module: nn.Module, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        calls[number] = module, inspect.signature(module.forward).bind(*given, **named).arguments

    for number, module in found[kind].items():
        module.register_forward_pre_hook(partial(record, number), with_kwargs=True)
    return calls


def sampling_points(attention: MSDeformAttn, call: Mapping[str, Any], view: InputView) -> tuple[np.ndarray, np.ndarray]:
    """Return where each query of a call samples the maps of one image, and with which weights.

    Points are (queries, levels, heads, points, 2), x and y in pixels of the image; weights (queries, levels, heads,
    points) sum to 1 for each query and head.
    """
    found = attention.sampling_points(call["query"], call["refer_bbox"])
    locations, weights = (x[0].detach().transpose(1, 2).double().cpu().numpy() for x in found)
    return view.to_image(locations), weights


def self_attention(attention: nn.MultiheadAttention, call: Mapping[str, Any]) -> np.ndarray:
    """Return the weights (positions, positions) of one image, which the call does not compute; rows sum to 1."""
    return attention.forward(**{**call, "need_weights": True})[1][0].float().cpu().numpy()


@torch.no_grad()
def _draw_frame(
    predictor: BasePredictor, calls: Calls, layer: int | None, kind: str, point: list[float] | None, frame: Frame,
    images: Tensor,
) -> list[np.ndarray]:  # fmt: skip
    """Return a picture for each detection, or for a point."""
    output = predictor.model(images)
    layer = next(reversed(calls), None) if layer is None else layer
    if layer not in calls:
        of = {"sampling": "decoder layer", "aifi": "AIFI row"}[kind]
        raise OptionError(f"layer={layer}: no such {of}; the model has {', '.join(map(str, calls))}")
    attention, call = calls[layer]
    image = enlarge(frame.image)
    result = predictor.postprocess(output, images, [image])[0]
    view = InputView(images.shape[2:], image.shape[:2], predictor.family.resize)
    if kind == "sampling":
        numbered = output[0].clone()  # with the number of each query as center of its box, to see which are selected
        numbered[..., 0] = torch.arange(numbered.shape[1], device=numbered.device)
        boxes = predictor.postprocess((numbered, None), images, [image])[0].boxes
        points, weights = sampling_points(attention, call, view)
        strides = [view.size[0] / height for height, _ in call["value_shapes"]]
        queries = enumerate(boxes.xywhn[:, 0].round().int().tolist())
        return [draw_points(result[i], points[query], weights[query], strides) for i, query in queries]
    if point is None:
        centers = result.boxes.xywh[:, :2].cpu().numpy()
        return [draw_attention(result[i], center, attention, call, view) for i, center in enumerate(centers)]
    height, width = frame.image.shape[:2]
    if not all(0 <= at < side for at, side in zip(point, (width, height), strict=True)):
        raise OptionError(f"point={point}: not in {frame.label}, {width} x {height} pixels")
    center = np.array(point) * (image.shape[0] // height)
    return [draw_attention(result.new(), center, attention, call, view)]


def draw_points(detection: Results, points: np.ndarray, weights: np.ndarray, strides: Sequence[float]) -> np.ndarray:
    """Draw a detection and the points of its query, see `sampling_points`, the strongest on top.

    Area and opacity are relative to the largest weight; the legend has the stride of each level and its share.
    """
    canvas = Annotator(detection.orig_img.copy())
    ink, largest = ImageDraw.Draw(canvas.canvas, "RGBA"), max(canvas.canvas.size) / 60
    for index in sorted(np.ndindex(weights.shape), key=weights.__getitem__):
        (x, y), part = points[index] - 0.5, weights[index] / weights.max()
        r, opacity = max(1.5, largest * math.sqrt(part)), round(100 + 150 * part)
        color = LEVEL_COLORS[index[0] % len(LEVEL_COLORS)][::-1]
        ink.ellipse((x - r, y - r, x + r, y + r), (*color, opacity), (0, 0, 0, opacity))
    height, line = canvas.canvas.height, canvas.font_size + 4
    top = 0 if detection.boxes.xywh[0, 1] > height / 2 else height - len(strides) * line  # far from the box
    for level, (stride, share) in enumerate(zip(strides, weights.sum((1, 2)) / weights.sum(), strict=True)):
        text, color = f"stride {stride:g}: {share:.0%}", LEVEL_COLORS[level % len(LEVEL_COLORS)]
        canvas.text((0, top + level * line), text, box_color=color)
    return detection.plot(img=canvas.result())


def draw_attention(
    found: Results, center: np.ndarray, attention: nn.MultiheadAttention, call: Mapping[str, Any], view: InputView
) -> np.ndarray:
    """Draw the attention of the position at `center`, x and y in pixels of the image, and the boxes of a result."""
    weights = self_attention(attention, call)
    width = math.isqrt(len(weights) * view.size[1] // view.size[0])  # the map has the aspect ratio of the input
    shape = len(weights) // width, width
    positions = view.to_image(grid([shape], torch.device("cpu")).numpy())
    heat = weights[np.square(positions - center).sum(1).argmin()].reshape(shape)
    low, high = heat.min(), heat.max()
    picture = overlay(found.orig_img, view.crop((heat - low) / max(high - low, 1e-12)))
    canvas = Annotator(found.plot(img=picture))
    corners = *(center - 0.5 - canvas.font_size / 2), *(center - 0.5 + canvas.font_size / 2)
    canvas.draw.ellipse(corners, outline="white", width=canvas.line_width + 1)
    canvas.text((0, 0), f"{low * heat.size:.2g} (blue) to {high * heat.size:.2g} (red) x mean")
    return canvas.result()
