"""`yolo heatmap model=best.pt source=image.jpg`: class-activation maps drawn over images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn

from ultralytics.cfg.options import get_cfg
from ultralytics.cfg.values import DeviceName, OneOf, Range
from ultralytics.data.images import stretch
from ultralytics.data.loaders import load_source
from ultralytics.data.streams import Frame
from ultralytics.engine.predictor import BasePredictor
from ultralytics.engine.results import image_name, write_image
from ultralytics.nn.parser import layer_numbers, layer_sources
from ultralytics.nn.tasks import DetectionModel
from ultralytics.tools.common import open_detector, tool_dir
from ultralytics.utils import LOGGER
from ultralytics.utils.checks import require
from ultralytics.utils.errors import DataError, OptionError, did_you_mean
from ultralytics.utils.files import increment_path

# Methods that judge an image by runs with parts of it covered (ScoreCAM, AblationCAM) are left out: the decoder selects
# other queries for such an image, so that their scores cannot be compared.
METHODS = {
    "GradCAM": "GradCAM",
    "GradCAM++": "GradCAMPlusPlus",
    "GradCAMPlusPlus": "GradCAMPlusPlus",
    "XGradCAM": "XGradCAM",
    "HiResCAM": "HiResCAM",
    "LayerCAM": "LayerCAM",
    "EigenCAM": "EigenCAM",
    "EigenGradCAM": "EigenGradCAM",
}  # name: class in the package


class Detections:
    """What a map explains: the scores of chosen (query, class) pairs summed, and their boxes' numbers if wanted.

    Args:
        pairs: (n, 2) int, query and class.
        boxes: add cx, cy, w, h (in 0..1) of each pair's box.
    """

    def __init__(self, pairs: Tensor, boxes: bool = False) -> None:
        self.pairs, self.boxes = pairs, boxes

    def __call__(self, output: Tensor) -> Tensor:
        """A number to be explained, of one image's output (queries, 4 + nc)."""
        query, cls = self.pairs.unbind(1)
        total = output[query, 4 + cls].sum()
        return total + output[query, :4].sum() if self.boxes else total


class _Tap(nn.Module):
    """Stands behind a layer's map, so that grad-cam sees one tensor also where a layer gives several."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


class TappedDetector(nn.Module):
    """A detector that gives the head's output alone, with `taps` behind the maps of the given numbers."""

    def __init__(self, network: DetectionModel, numbers: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.taps = nn.ModuleList(_Tap() for _ in numbers)
        self._by_number = dict(zip(numbers, self.taps, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, queries, 4 + nc)."""
        with self._tapped():
            return self.network(x)[0]

    @contextmanager
    def _tapped(self) -> Iterator[None]:
        hooks = [
            layer.register_forward_hook(self._divert)
            for layer in self.network.model
            if set(layer_numbers(layer)) & set(self._by_number)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _divert(self, layer: nn.Module, _inputs: Any, output: Any) -> Any:
        """The output with the taps in between; a copy goes on, as later layers may change it in place."""
        several = layer.num_slots > 1
        maps = list(output) if several else [output]
        numbers = range(layer.i - len(maps) + 1, layer.i + 1)  # several maps stand on the right of the layer's numbers
        maps = [
            self._by_number[n](m).clone() if n in self._by_number else m for n, m in zip(numbers, maps, strict=True)
        ]
        return maps if several else maps[0]


def map_numbers(network: DetectionModel, layers: Sequence[str] | None = None) -> list[int]:
    """Numbers of the maps that layers are meant by: numbers or names of rows; those the head reads by default.

    Raises:
        OptionError: there is no such layer, or nothing that leads to the head reads it, so that it explains nothing.
    """
    rows = list(network.model)
    if layers is None:
        return list(layer_sources(rows[-1]))
    names = {row.row_name: row.i for row in rows[:-1] if row.row_name}
    read = {number for row in rows for number in layer_sources(row)}
    chosen: list[int] = []
    for word in map(str.strip, map(str, layers)):
        number = names.get(word, int(word) if word.isdecimal() else None)
        if number is None or number > rows[-2].i:
            known = f"rows with names: {', '.join(names)}" if names else "no row has a name"
            raise OptionError(
                f"layers: no layer {word!r} before the head{did_you_mean(word, names)}; expected numbers from 0 to "
                f"{rows[-2].i}, as `yolo inspect` shows them ({known})"
            )
        if number not in read:
            raise OptionError(
                f"layers: no later row reads map {number}, so the detections do not depend on it; read are "
                f"{', '.join(map(str, sorted(n for n in read if n >= 0)))}"
            )
        chosen.append(number)
    return list(dict.fromkeys(chosen))


def activation_maps(
    detector: TappedDetector, images: Tensor, target: Callable[[Tensor], Tensor], method: str = "GradCAM++"
) -> np.ndarray:
    """Where in an image the reasons for `target` are: (H, W) float32 in 0..1, the mean over the tapped maps.

    Args:
        detector: on the device of the image, in eval mode.
        images: (1, 3, H, W) in 0..1.
        target: the number to explain, of the head's output (queries, 4 + nc). EigenCAM does not look at it.
        method: a key of METHODS.

    Raises:
        MissingPackageError: grad-cam is not installed.
    """
    package = require("pytorch_grad_cam", "grad-cam", "heatmap")
    maker = getattr(package, METHODS[method])(model=detector, target_layers=list(detector.taps))
    try:
        with torch.enable_grad():
            return maker(input_tensor=images, targets=[target])[0]
    finally:
        maker.activations_and_grads.release()


STRENGTH = 0.5  # share of the map's colours in the picture


def command(
    model: str,
    source: str,
    layers: str | None = None,
    method: Annotated[str, OneOf(*METHODS)] = "GradCAM++",
    target: Annotated[str, OneOf("scores", "all")] = "scores",
    conf: Annotated[float, Range(0, 1)] = 0.25,
    classes: int | list[int] | None = None,
    draw: bool = True,
    imgsz: Annotated[int | None, Range(32)] = None,
    device: Annotated[str | int | list[int] | None, DeviceName()] = None,
    modules: str | None = None,
    project: str | None = None,
    name: str | None = None,
) -> None:
    """Draw for each image where the reasons for its detections are, into `project`/`name`.

    Args:
        model: weights (.pt).
        source: an image, a folder, a pattern and so on, as for `yolo predict`.
        layers: numbers or names of rows, 16,19,22; the maps of several are averaged. By default what the head reads.
        method: a way to make such maps; EigenCAM shows what is strong in the maps, whatever is detected.
        target: what is explained, the `scores` of the detections, or `all`: their boxes as well.
        conf: detections with a score above this are explained, together.
        classes: explain only these class indices.
        draw: also draw the detections' boxes.
        imgsz: side of the network's input in pixels; that of the training by default.
        device: see `yolo cfg`.
        modules: a folder of module files.
        project: folder of the pictures, `runs/heatmap` by default.
        name: folder in it, the model's name by default; numbered when taken.

    Raises:
        UserError: the model or source cannot be read, there is no such layer, or no image has a detection.
        MissingPackageError: grad-cam is not installed.
    """
    require("pytorch_grad_cam", "grad-cam", "heatmap")
    predictor = _predictor(model, conf, classes, imgsz, device, modules)
    numbers = map_numbers(predictor.model, layers.split(",") if layers else None)
    detector = TappedDetector(predictor.model, numbers).eval()
    folder, drawn, seen = None, 0, 0
    for frames in load_source(source, batch=1):
        seen += 1
        picture = _picture(predictor, detector, frames, method, target, draw)
        if picture is not None:
            folder = folder or tool_dir("heatmap", project, name, Path(model).stem)
            _save(folder, frames[0].path, picture)
            drawn += 1
    if not drawn:
        raise DataError(f"{source}: none of {seen} images has a detection above conf={conf:g}; lower conf")
    maps = ", ".join(map(str, numbers))
    LOGGER.info(f"{folder}: {drawn} of {seen} images drawn by {method}, of the maps {maps}")


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The image (H, W, 3) uint8 BGR with a map (h, w) in 0..1 over it: blue where it is 0, red where it is 1."""
    from matplotlib import colormaps  # slow to import

    heat = stretch(heat.astype(np.float32), image.shape[:2])
    colours = colormaps["jet"](np.clip(heat, 0, 1))[..., 2::-1] * 255  # (H, W, 4) RGBA -> (H, W, 3) BGR
    return np.round((1 - STRENGTH) * image + STRENGTH * colours).astype(np.uint8)


def _predictor(
    model: str,
    conf: float,
    classes: int | list[int] | None,
    imgsz: int | None,
    device: str | int | list[int] | None,
    modules: str | None,
) -> BasePredictor:
    """A predictor that holds the network of the weights."""
    detector = open_detector(model, modules)
    trained = (detector.checkpoint or {}).get("options") or {}
    given = {"imgsz": imgsz or trained.get("imgsz"), "conf": conf, "classes": classes, "device": device}
    options = get_cfg(
        overrides={"mode": "predict", **{key: value for key, value in given.items() if value is not None}}
    )
    predictor = detector.predictor_class(options)
    predictor.setup_model(detector.model)
    return predictor


def _picture(
    predictor: BasePredictor, detector: TappedDetector, frames: list[Frame], method: str, target: str, draw: bool
) -> np.ndarray | None:
    """The drawn image of one frame; None, with a warning, where nothing is detected."""
    images = predictor.preprocess(frames)
    with torch.no_grad():
        output = detector(images)
        result = predictor.postprocess((output, None), frames)[0]
    pairs = _pairs(output[0], predictor)
    label = frames[0].label
    if not len(pairs):
        best = output[0, :, 4:].max().item()
        LOGGER.warning(f"{label}: no detection above conf={predictor.conf:g} (the best score is {best:.2f}); left out")
        return None
    heat = activation_maps(detector, images, Detections(pairs, boxes=target == "all"), method)
    if not heat.max() > 0:  # nan included
        LOGGER.warning(f"{label}: the map of {method} is zero everywhere; try another method or other layers")
    LOGGER.info(f"{label}: {result.verbose()}")
    picture = overlay(frames[0].image, np.nan_to_num(heat))
    return result.plot(img=picture) if draw else picture


def _pairs(output: Tensor, predictor: BasePredictor) -> Tensor:
    """(n, 2) query and class of the detections in one image's output (queries, 4 + nc)."""
    pairs = (output[:, 4:] > predictor.conf).nonzero()
    wanted = predictor.args.classes
    return pairs if wanted is None else pairs[torch.isin(pairs[:, 1], torch.tensor(wanted, device=pairs.device))]


def _save(folder: Path, path: str, picture: np.ndarray) -> None:
    write_image(increment_path(folder / f"{Path(image_name(path)).stem}.jpg"), picture)
