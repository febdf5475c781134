"""Boxes and names drawn on images. The public import path of the other plots, too."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ultralytics.utils.boxes import xywh2xyxy
from ultralytics.utils.fonts import drawable, pil_font
from ultralytics.utils.plots_features import feature_visualization
from ultralytics.utils.plots_metrics import plot_confusion_matrix, plot_curves
from ultralytics.utils.plots_training import plot_labels, plot_results

__all__ = [
    "Annotator",
    "Colors",
    "colors",
    "feature_visualization",
    "plot_confusion_matrix",
    "plot_curves",
    "plot_images",
    "plot_labels",
    "plot_results",
]

Color = tuple[int, int, int]


class Colors:
    """A colour for each class index, neighbours far apart: `colors(3)` is RGB, `colors(3, bgr=True)` BGR, 0..255."""

    PALETTE = (
        (230, 25, 75), (31, 119, 180), (44, 160, 44), (255, 140, 0), (138, 43, 226),
        (0, 166, 166), (216, 27, 154), (140, 109, 31), (57, 73, 171), (106, 165, 31),
        (192, 57, 43), (0, 143, 213), (179, 106, 226), (242, 183, 5), (23, 128, 109),
        (255, 111, 97), (93, 109, 126), (142, 36, 87), (76, 175, 157), (160, 82, 45),
    )  # fmt: skip

    def __call__(self, i: int, bgr: bool = False) -> Color:
        """Colour of class `i`; the palette repeats."""
        color = self.PALETTE[int(i) % len(self.PALETTE)]
        return color[::-1] if bgr else color


colors = Colors()


def _ink_on(color: Color) -> Color:
    """Black or white, whichever reads better on a BGR colour."""
    blue, green, red = color
    return (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > 150 else (255, 255, 255)


class Annotator:
    """Draws boxes with names on a copy of an image; colours are BGR as the image is.

    Args:
        image: (H, W, 3) uint8 BGR.
        line_width: pixels; chosen by the size of the image when None.
    """

    def __init__(self, image: np.ndarray, line_width: int | None = None) -> None:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"Annotator: got {image.dtype} of shape {image.shape}, expected uint8 (H, W, 3)")
        height, width = image.shape[:2]
        self.line_width = line_width or max(1, round((height + width) / 600))
        self.font_size = max(10, round((height + width) / 80)) if line_width is None else 8 + 4 * line_width
        self.canvas = Image.fromarray(np.ascontiguousarray(image[..., ::-1]))
        self.draw = ImageDraw.Draw(self.canvas)

    def box_label(self, box: Sequence[float], label: str = "", color: Color = (128, 128, 128)) -> None:
        """Draw a box (x1, y1, x2, y2 pixels) with its label above it, or inside where there is no room above.

        What lies outside the image is drawn on its border.
        """
        x1, x2 = sorted(min(max(float(x), 0), self.canvas.width - 1) for x in (box[0], box[2]))
        y1, y2 = sorted(min(max(float(y), 0), self.canvas.height - 1) for y in (box[1], box[3]))
        self.draw.rectangle((x1, y1, x2, y2), outline=color[::-1], width=self.line_width)
        if label:
            width, height = self._text_size(label)
            left = max(0, min(x1, self.canvas.width - width))
            top = y1 - height if y1 >= height else y1
            self.text((left, top), label, color)

    def text(self, position: tuple[float, float], text: str, color: Color = (64, 64, 64)) -> None:
        """Write text on a plate of `color` whose top left corner is at `position`."""
        width, height = self._text_size(text)
        x, y = position
        self.draw.rectangle((x, y, x + width, y + height), fill=color[::-1])
        shown, file = drawable(text)
        # Anchor 'lm': left, middle of the line, so letters with and without descenders stand on one line.
        font = pil_font(file, self.font_size)
        self.draw.text((x + 2, y + height / 2), shown, fill=_ink_on(color)[::-1], font=font, anchor="lm")

    def result(self) -> np.ndarray:
        """The annotated image, (H, W, 3) uint8 BGR."""
        return np.asarray(self.canvas)[..., ::-1].copy()

    def _text_size(self, text: str) -> tuple[int, int]:
        shown, file = drawable(text)
        return math.ceil(pil_font(file, self.font_size).getlength(shown)) + 4, self.font_size + 4


def plot_images(
    batch: Mapping[str, Any],
    path: str | Path,
    names: Mapping[int, str],
    *,
    detections: Sequence[Tensor] | None = None,
    conf: float = 0.25,
    max_images: int = 16,
    max_side: int = 1920,
) -> None:
    """Save the images of a batch in one picture, with their labels, or with detections in place of the labels.

    Args:
        batch: as collated: img (B, 3, H, W) RGB, uint8 or float 0..1; cls, bboxes, batch_idx; im_file where known.
        path: picture to write; the suffix chooses the format.
        names: class index to name.
        detections: one (n, 6) for each image: x1, y1, x2, y2 in pixels of `img`, score, class.
        conf: detections below this score are not drawn.
        max_images: further images of the batch are left out.
        max_side: longest side of the picture in pixels.
    """
    images = batch["img"][:max_images].detach().cpu()
    pixels = (images.float() * (255 if images.is_floating_point() else 1)).round().byte().permute(0, 2, 3, 1).numpy()
    count, height, width = pixels.shape[:3]
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    scale = min(2.0, max_side / (columns * width), max_side / (rows * height))
    cell_w, cell_h = round(width * scale), round(height * scale)
    page = Image.new("RGB", (columns * (cell_w + 2) - 2, rows * (cell_h + 2) - 2), "white")
    for i, image in enumerate(pixels):
        annotator = Annotator(np.asarray(Image.fromarray(image).resize((cell_w, cell_h)))[..., ::-1])
        table = _label_rows(batch, i) if detections is None else detections[i].cpu().float()
        for *box, score, cls in reversed(table[table[:, 4] >= conf].tolist()):  # the best on top
            text = names[int(cls)] if detections is None else f"{names[int(cls)]} {score:.2f}"
            x1, y1, x2, y2 = box
            place = (x1 * cell_w / width, y1 * cell_h / height, x2 * cell_w / width, y2 * cell_h / height)
            annotator.box_label(place, text, colors(int(cls), bgr=True))
        if "im_file" in batch:
            annotator.text((0, cell_h - annotator.font_size - 4), Path(batch["im_file"][i]).name)
        row, column = divmod(i, columns)
        page.paste(annotator.canvas, (column * (cell_w + 2), row * (cell_h + 2)))
    page.save(path)


def _label_rows(batch: Mapping[str, Any], i: int) -> Tensor:
    """Labels of image i in the form of detections with score 1: (n, 6), pixels."""
    own = batch["batch_idx"] == i
    height, width = batch["img"].shape[2:]
    boxes, cls = xywh2xyxy(batch["bboxes"][own]), batch["cls"][own]
    return torch.cat([boxes * boxes.new_tensor([width, height, width, height]), torch.ones_like(cls), cls], 1).cpu()
