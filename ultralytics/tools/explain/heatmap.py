"""`yolo heatmap model=best.pt source=image.jpg`: class-activation maps, and what the commands of this folder share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ultralytics.cfg.options import get_cfg
from ultralytics.cfg.values import Device, OneOf, Range
from ultralytics.data.images import stretch
from ultralytics.data.loaders import load_source
from ultralytics.data.streams import Frame
from ultralytics.engine.checkpoint import with_branch
from ultralytics.engine.predictor import BasePredictor
from ultralytics.engine.results import image_name, write_image
from ultralytics.nn.head_protocol import ANCHORS, END2END, LETTERBOX
from ultralytics.nn.parser import layer_numbers, layer_sources
from ultralytics.nn.tasks import DetectionModel
from ultralytics.tools.common import open_detector, tool_dir
from ultralytics.utils import LOGGER
from ultralytics.utils.checks import require
from ultralytics.utils.errors import DataError, OptionError, counted, did_you_mean
from ultralytics.utils.files import increment_path, short_name

# Name -> class in pytorch_grad_cam. Without methods that cover parts of the image (ScoreCAM, AblationCAM): the decoder
# selects other queries for such an image, so the scores cannot be compared.
METHODS = {name: name for name in ("GradCAM", "XGradCAM", "HiResCAM", "LayerCAM", "EigenCAM", "EigenGradCAM")}
MIN_SIDE = 640  # pixels of the longer side of a picture: in a small one, texts would cover the image
METHODS |= {"GradCAM++": "GradCAMPlusPlus", "GradCAMPlusPlus": "GradCAMPlusPlus"}


def command(
    model: str, source: str, layers: str | None = None, method: Annotated[str, OneOf(*METHODS)] = "GradCAM++",
    target: Annotated[str, OneOf("scores", "all")] = "scores", conf: Annotated[float, Range(0, 1)] = 0.25,
    classes: int | list[int] | None = None, draw: bool = True, imgsz: Annotated[int | None, Range(32)] = None,
    device: Device = None, modules: str | None = None, trust: bool = False, project: str | None = None,
    name: str | None = None,
) -> None:  # fmt: skip
    """Draw class-activation maps of the detections in each image, into `project`/`name`.

    Args:
        layers: numbers or names of rows, such as 16,19,22, whose maps are averaged; by default those the head reads.
        method: how the maps are computed. EigenCAM ignores the detections.
        target: `scores` of the detections, or `all` to add their boxes.
        conf, classes: explain detections with a score above this, all together, of these class indices.
        draw: also draw the boxes of the detections.
        modules, trust: a folder of modules, or import those that the weights record.
    """
    require("pytorch_grad_cam", "grad-cam", "heatmap")
    predictor = open_predictor(model, modules, trust=trust, imgsz=imgsz, conf=conf, classes=classes, device=device)
    numbers = map_numbers(predictor.model, layers.split(",") if layers else None)
    tapped = TappedDetector(predictor.model, numbers).eval()
    draw_frame = partial(_draw_frame, predictor, tapped, method, boxes=target == "all", draw=draw)
    done = draw_frames(predictor, source, draw_frame, partial(tool_dir, "heatmap", project, name, Path(model).stem))
    LOGGER.info(f"{done} by {method}, of the maps {', '.join(map(str, numbers))}")


def _draw_frame(
    predictor: BasePredictor, tapped: TappedDetector, method: str, frame: Frame, images: Tensor, *, boxes: bool,
    draw: bool,
) -> list[np.ndarray]:  # fmt: skip
    """Return the picture (H, W, 3) of one frame; none, with a warning, if nothing is detected."""
    image = enlarge(frame.image)
    with torch.no_grad():
        output = tapped(images)
        y = output.mT if tapped.network.layout == ANCHORS else output
        result = predictor.postprocess((y, None), images, [image])[0]
    pairs = (output[0, :, 4:] > predictor.conf).nonzero()  # (n, 2) query, class
    if predictor.args.classes is not None:
        pairs = pairs[torch.isin(pairs[:, 1], torch.tensor(predictor.args.classes, device=pairs.device))]
    if not len(pairs):
        best = output[0, :, 4:].max().item()
        LOGGER.warning(f"{frame.label}: no detection above conf={predictor.conf:g} (best score {best:.2f}); skipped")
        return []
    heat = activation_map(tapped, images, pairs, method, boxes=boxes)
    if not heat.max() > 0:  # also nan
        LOGGER.warning(f"{frame.label}: the map of {method} is zero everywhere; try another method or other layers")
    LOGGER.info(f"{frame.label}: {result.verbose()}")
    heat = InputView(heat.shape, image.shape[:2], predictor.family.resize).crop(np.nan_to_num(heat))
    picture = overlay(image, heat)
    return [result.plot(img=picture) if draw else picture]


def open_predictor(model: str, modules: str | None, *, trust: bool, imgsz: int | None, **given: Any) -> BasePredictor:
    """Return the predictor of a model, plain layers with the scores of all classes, for options of `yolo predict`."""
    detector = open_detector(model, modules, trust=trust)
    if detector.checkpoint is None:
        LOGGER.warning(f"{model}: a model file, so the weights are random")
    trained = (detector.checkpoint or {}).get("options") or {}
    given |= {"mode": "predict", "accelerate": False, "imgsz": imgsz or trained.get("imgsz") or 640}
    predictor = detector.predictor_class(get_cfg(overrides=given, family=detector.family))
    predictor.setup_model(with_branch(detector.model, False if detector.model.layout == END2END else None))
    return predictor


def draw_frames(
    predictor: BasePredictor, source: str, draw: Callable[[Frame, Tensor], list[np.ndarray]], folder: Callable[[], Path]
) -> str:
    """Write the pictures of `draw(frame, network input)` for each frame of a source; return a summary.

    Raises DataError if there is none; `folder`, which creates the folder, is not called then.
    """
    place, drawn, seen = None, 0, 0
    for (frame,) in load_source(source, batch=1):
        seen += 1
        predictor.frames = [frame]
        pictures = draw(frame, predictor.preprocess([frame.image]))
        drawn += bool(pictures)
        stem = Path(image_name(frame.path)).stem
        for number, picture in enumerate(pictures, 1):
            place = place or folder()
            end = f"_{number}.jpg" if len(pictures) > 1 else ".jpg"
            write_image(increment_path(place / short_name(stem, end)), picture)
    images, conf = counted(seen, "image"), predictor.conf
    if not drawn:
        raise DataError(f"{source}: none of {images} has a detection above conf={conf:g}; lower conf")
    return f"{place}: {drawn} of {images} drawn"


@dataclass(frozen=True)
class InputView:
    """Positions of an image in the network input that was made from it by STRETCH or LETTERBOX."""

    size: tuple[int, int]  # height, width of the network input
    shape: tuple[int, int]  # of the image
    resize: str

    @property
    def window(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the corner and the size of the image within the network input, x and y in pixels."""
        size, shape = np.array(self.size[::-1]), np.array(self.shape[::-1])
        inner = (shape * (size / shape).min()).round().astype(int) if self.resize == LETTERBOX else size
        return (size - inner) // 2, inner

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """Convert x, y (..., 2) in 0..1 of the network input to pixels of the image; 0 is the edge of the first."""
        corner, inner = self.window
        return (points * self.size[::-1] - corner) / inner * self.shape[::-1]

    def crop(self, heat: np.ndarray) -> np.ndarray:
        """Return the part of a map of the network input, which is enlarged to its size, that shows the image."""
        (left, top), (width, height) = self.window
        return stretch(heat, self.size)[top : top + height, left : left + width]


def enlarge(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3) by whole times larger if its longer side is shorter than MIN_SIDE."""
    times = -(-MIN_SIDE // max(image.shape[:2]))
    return cv2.resize(image, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC) if times > 1 else image


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Blend an image (H, W, 3) uint8 BGR with a map (h, w) in 0..1: blue at 0, red at 1."""
    heat = stretch(heat.astype(np.float32), image.shape[:2]).clip(0, 1)
    return cv2.addWeighted(image, 0.5, cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_JET), 0.5, 0)


class TappedDetector(nn.Module):
    """A detector that returns only the output of its head, with a module behind each map to explain.

    grad-cam attaches its hooks to these `taps`: they see one tensor each, also if a layer has several outputs.
    """

    def __init__(self, network: DetectionModel, numbers: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.taps = nn.ModuleDict({str(number): nn.Identity() for number in numbers})
        for layer in network.model:
            if set(layer_numbers(layer)) & set(numbers):
                layer.register_forward_hook(self._tap_output)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, queries or positions, 4 + nc)."""
        y = self.network(x)[0]
        return y.mT if self.network.layout == ANCHORS else y

    def _tap_output(self, layer: nn.Module, _inputs: Any, output: Any) -> Any:
        """Pass the maps through their taps. They are cloned, since later layers may change maps in place."""
        maps = list(output) if layer.num_slots > 1 else [output]
        for i, number in enumerate(layer_numbers(layer)[-len(maps) :]):
            if str(number) in self.taps:
                maps[i] = self.taps[str(number)](maps[i].clone()).clone()
        return maps if layer.num_slots > 1 else maps[0]


def map_numbers(network: DetectionModel, layers: Sequence[str] | None = None) -> list[int]:
    """Return the numbers of maps for numbers or names of rows, by default of the maps that the head reads.

    Raises OptionError if a layer does not exist, or no later row reads its map, so that it explains nothing.
    """
    if layers is None:
        return list(layer_sources(network.model[-1]))
    names = {row.row_name: row.i for row in network.model if row.row_name}
    used = sorted({number for row in network.model for number in layer_sources(row) if number >= 0})
    chosen: list[int] = []
    for word in map(str.strip, layers):
        number = names.get(word, int(word) if word.isdecimal() else None)
        if number not in used:
            raise OptionError(
                f"layers: no later layer reads {word!r}{did_you_mean(word, names)}; expected one of "
                + ", ".join(map(str, used))
                + (f", or a name of a row: {', '.join(names)}" if names else "")
            )
        chosen.append(number)
    return list(dict.fromkeys(chosen))


def activation_map(
    tapped: TappedDetector, images: Tensor, pairs: Tensor, method: str = "GradCAM++", *, boxes: bool = False
) -> np.ndarray:
    """Compute a class-activation map: (H, W) float32 in 0..1, the mean over the tapped maps.

    Args:
        tapped: on the device of the image, in eval mode.
        images: (1, 3, H, W) in 0..1.
        pairs: (n, 2) query or position, and class of the scores to explain.
        method: a key of METHODS.
        boxes: also explain cx, cy, w and h.
    """
    query, cls = pairs.unbind(1)

    def total(output: Tensor) -> Tensor:  # (queries, 4 + nc)
        return output[query, 4 + cls].sum() + (output[query, :4].sum() if boxes else 0)

    package = require("pytorch_grad_cam", "grad-cam", "heatmap")
    cam = getattr(package, METHODS[method])(model=tapped, target_layers=list(tapped.taps.values()))
    with torch.enable_grad():
        return cam(input_tensor=images, targets=[total])[0]
