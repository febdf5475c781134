"""Class-activation maps of a detector by the package grad-cam: where in an image its detections have their reasons."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ultralytics.nn.tasks import DetectionModel
from ultralytics.nn.unread import layer_numbers, layer_sources
from ultralytics.utils.checks import require
from ultralytics.utils.errors import OptionError, did_you_mean

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
        several = layer.slots > 1
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
