"""`yolo erf model=best.pt source=images/`: the effective receptive field of layers.

Understanding the Effective Receptive Field, https://arxiv.org/abs/1701.04128, measured as in RepLKNet,
https://arxiv.org/abs/2203.06717.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn

from ultralytics.cfg.values import Device, Range
from ultralytics.data.dataset_yaml import list_images, load_dataset_config
from ultralytics.data.images import stretch
from ultralytics.data.loaders import load_source
from ultralytics.nn.parser import layer_numbers
from ultralytics.nn.tasks import DetectionModel
from ultralytics.tools.common import tool_dir
from ultralytics.tools.explain.heatmap import TappedDetector, map_numbers, open_predictor
from ultralytics.utils import ASSETS, LOGGER
from ultralytics.utils.errors import DataError, OptionError, counted
from ultralytics.utils.plotting import new_figure, save_figure
from ultralytics.utils.tables import Column, Table

SHARES = (20, 30, 50, 99)  # percent of the contribution, as in RepLKNet
COLUMNS = (Column("Layer"), Column("Contribution (%)", "d"), Column("Side (px)", "d"), Column("Area (%)", ".1f"))


def command(
    model: str, source: str | None = None, data: str | None = None, layers: str | None = None,
    imgsz: Annotated[int | None, Range(32)] = None, images: Annotated[int, Range(1)] = 50,
    device: Device = None, modules: str | None = None, trust: bool = False, project: str | None = None,
    name: str | None = None,
) -> None:  # fmt: skip
    """Measure which pixels contribute to the center of a layer's map: erf.png, and a table of squares.

    Args:
        source: images as for `yolo predict`, or `data`, a data YAML with images for validation; two samples by default.
        layers: numbers or names of rows, such as 4,7; by default the last map of the backbone.
        images: number of images, the first ones of the source; stretched to a square.
    """
    if source is not None and data is not None:
        raise OptionError(f"source={source} and data={data}: give one of them")
    predictor = open_predictor(model, modules, trust=trust, imgsz=imgsz, device=device)
    network, size = predictor.model, predictor.imgsz
    last = max(number for row in network.model if row.in_backbone for number in layer_numbers(row))
    numbers = map_numbers(network, layers.split(",")) if layers else [last]
    config = load_dataset_config(data, ("val",)) if data else None
    files = load_source(list_images(config.splits["val"], config.root) if config else source or ASSETS)
    tensors = (predictor.preprocess([stretch(frame.image, size)]) for (frame,) in islice(files, images))
    fields, used = effective_receptive_fields(network, tensors, numbers)

    modules_of = {number: row.row_module for row in network.model for number in layer_numbers(row)}
    named = {f"{number} {modules_of[number]}": field for number, field in fields.items()}
    rows = [
        (title, share, side := holding_square(field, share / 100), 100 * side**2 / field.size)
        for title, field in named.items() for share in SHARES
    ]  # fmt: skip
    folder, table = tool_dir("erf", project, name, Path(model).stem), Table(COLUMNS, rows)
    about = f"{counted(used, 'image')} of {size[1]} pixels; centered squares with so much of the contribution"
    table.write(folder, "erf", f"Effective receptive field of {Path(model).stem}. {about}.")
    draw_fields(named, folder / "erf.png")
    LOGGER.info(f"{table.text()}\n{about}\n{folder}: erf.png, erf.txt, .md, .tex, .csv written")


def effective_receptive_fields(
    network: DetectionModel, images: Iterable[Tensor], numbers: Sequence[int]
) -> tuple[dict[int, np.ndarray], int]:
    """Return the contribution of each pixel (H, W) to the center of maps by number, and the number of images.

    It is the gradient of the sum over the channels at the position (h // 2, w // 2), where it is positive, summed over
    the input's channels, mean of the images (1, 3, H, W). DataError: there is no image, or no gradient.
    """
    centers: dict[int, Tensor] = {}

    def keep(number: int, _tap: nn.Module, _inputs: Any, level: Tensor) -> None:
        if level.ndim != 4:
            raise OptionError(f"layers: the output of layer {number} is {tuple(level.shape)}, expected (B, C, h, w)")
        centers[number] = level[..., level.shape[2] // 2, level.shape[3] // 2].sum()

    for number, tap in TappedDetector(network, numbers).taps.items():
        tap.register_forward_hook(partial(keep, int(number)))
    total, count = dict.fromkeys(numbers, 0.0), 0
    network.requires_grad_(False)
    for image in images:
        network(image.requires_grad_())
        for number in numbers:
            (gradient,) = torch.autograd.grad(centers[number], image, retain_graph=True)
            total[number] = total[number] + gradient[0].relu().sum(0).double().cpu().numpy()
        centers.clear()  # with the graph
        count += 1
    if not count:
        raise DataError("source: no image could be read")
    for number, field in total.items():
        if not 0 < (amount := field.sum()) < math.inf:
            raise DataError(f"layer {number}: the sum of the gradient is {amount:g}; are the weights valid?")
    return {number: field / count for number, field in total.items()}, count


def holding_square(field: np.ndarray, share: float) -> int:
    """Return the side in pixels of the smallest square about the center of a field with this share of its sum."""
    y, x = (np.abs(np.arange(side) - side // 2) for side in field.shape)
    rings = np.bincount(np.maximum.outer(y, x).ravel(), field.ravel())  # contribution by distance
    cumulative = rings.cumsum() / rings.sum()
    return min(2 * int(np.searchsorted(cumulative, share)) + 1, *field.shape)


def draw_fields(fields: dict[str, np.ndarray], file: Path) -> None:
    """Draw the logarithms of fields by title, relative to their maximum, with the squares of SHARES."""
    from matplotlib.patches import Rectangle

    figure = new_figure(4.2 * len(fields) + 0.8, 4.4)
    panels = figure.subplots(1, len(fields), squeeze=False)[0]
    for axes, (title, field) in zip(panels, fields.items(), strict=True):
        logarithm = np.log10(np.maximum(field / field.max(), 1e-4))
        shown = axes.imshow(logarithm, cmap="inferno", vmin=-4, vmax=0)
        y, x = (side // 2 for side in field.shape)
        sides = [holding_square(field, share / 100) for share in SHARES]
        for side in sides:
            axes.add_patch(Rectangle((x - side / 2, y - side / 2), side, side, fill=False, edgecolor="cyan"))
        shares, lengths = (", ".join(map(str, values)) for values in (SHARES, sides))
        axes.set(title=title, xlabel=f"{shares} % in squares of {lengths} px", xticks=[], yticks=[])
    figure.colorbar(shown, ax=panels, label="log10 of the contribution / maximum", shrink=0.8)
    save_figure(figure, file)
