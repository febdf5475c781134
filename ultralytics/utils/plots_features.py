"""Pictures of what a layer puts out."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from ultralytics.utils.files import increment_path

CELL, GAP = 128, 4  # pixels


def feature_visualization(x: Tensor, module_type: str, stage: int, save_dir: str | Path, n: int = 32) -> Path | None:
    """Draw the first `n` channels of the first image of x (B, C, H, W), each stretched to its own range.

    Returns the path, `stage{stage}_{module_type}_features.png`; nothing is drawn of maps of a single position.
    """
    from matplotlib import colormaps  # slow to import, and seldom needed

    maps = x[0, :n].detach().float().cpu().numpy()  # (B, C, H, W) -> (n, H, W)
    if maps[0].size == 1:
        return None
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    colours = colormaps["viridis"]((maps - low) / np.maximum(high - low, 1e-12), bytes=True)[..., :3]  # (n, H, W, 3)
    columns = min(8, len(maps))
    cell_w = max(1, round(CELL * min(1, maps.shape[2] / maps.shape[1])))
    cell_h = max(1, round(CELL * min(1, maps.shape[1] / maps.shape[2])))
    page = Image.new("RGB", (columns * (cell_w + GAP), math.ceil(len(maps) / columns) * (cell_h + GAP)), "white")
    for i, colour in enumerate(colours):
        row, column = divmod(i, columns)
        cell = Image.fromarray(colour).resize((cell_w, cell_h), Image.Resampling.NEAREST)
        page.paste(cell, (column * (cell_w + GAP), row * (cell_h + GAP)))
    folder = Path(save_dir)
    folder.mkdir(parents=True, exist_ok=True)
    path = increment_path(folder / f"stage{stage}_{module_type.rsplit('.', 1)[-1]}_features.png")
    page.save(path)
    return path
