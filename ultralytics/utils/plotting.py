"""Boxes and names drawn on images. The public import path of the other plots, too."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ultralytics.utils import LOGGER
from ultralytics.utils.files import increment_path
from ultralytics.utils.ops import xywh2xyxy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ultralytics.metrics.detection import BoxMetrics, ConfusionMatrix


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that many inches. Matplotlib is imported here: it is slow, and few runs draw."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure. Texts are taken literally ($ starts no formula) and drawn in a font that has their characters.

    Class names must have passed through `drawable`: a tick label gets its text anew whenever the figure is drawn.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
        if not text.get_text().isascii():
            file = drawable(text.get_text())[1]
            text.set_fontproperties(FontProperties(fname=str(file), size=text.get_size()))
    figure.savefig(path, dpi=150)
    return path


@cache
def _charmap(file: Path) -> frozenset[int]:
    """Code points a font file can draw; empty for a font that cannot be opened."""
    from matplotlib.ft2font import FT2Font  # matplotlib is slow to import, and most names need no search

    try:
        return frozenset(FT2Font(str(file)).get_charmap())
    except RuntimeError:  # a broken font of the system is not our user's problem
        return frozenset()


def default_font() -> Path:
    """DejaVu Sans: Latin, Greek, Cyrillic and more. It comes with matplotlib."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@cache
def _font_with(characters: frozenset[str]) -> Path | None:
    """A font with all the characters, the default one first; None, said once, where the system has none."""
    wanted = {ord(character) for character in characters}
    if wanted <= _charmap(default_font()):
        return default_font()
    from matplotlib.font_manager import findSystemFonts

    for file in sorted(map(Path, findSystemFonts())):
        if wanted <= _charmap(file):
            return file
    LOGGER.warning(
        f"plots: no font on this system can draw {''.join(sorted(characters))!r}; its characters are written as "
        "escapes. Install one, for example `apt install fonts-noto-cjk`."
    )
    return None


def drawable(text: str) -> tuple[str, Path]:
    """The text and a font that can draw it; characters no font has become escapes such as `\\u732b`."""
    special = frozenset(character for character in text if not character.isascii())
    font = _font_with(special) if special else default_font()
    if font is None:
        return text.encode("ascii", "backslashreplace").decode(), default_font()
    return text, font


@cache
def pil_font(file: Path, size: int) -> ImageFont.FreeTypeFont:
    """A font file at a size in pixels."""
    return ImageFont.truetype(str(file), size)


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


MANY_CLASSES = 20  # above this number the curves of classes are grey without a legend, and only those seen are crossed


def plot_curves(box: BoxMetrics, names: Mapping[int, str], save_dir: str | Path) -> list[Path]:
    """Save BoxPR_curve, BoxF1_curve, BoxP_curve and BoxR_curve (.png), at IoU 0.50; returns their paths."""
    curves, folder = box.curves, Path(save_dir)
    labels = [drawable(names[c])[0] for c in curves.classes]
    with_ap = [f"{label}  {ap:.3f}" for label, ap in zip(labels, box.ap50, strict=True)]
    recall_axis, conf_axis = ("Recall", curves.x), ("Confidence", curves.x)
    return [
        _curve_plot(
            folder / "BoxPR_curve.png", recall_axis, "Precision", curves.prec_values, with_ap,
            mean_label=f"mean of classes, mAP50 {box.map50:.3f}",
        ),
        *(
            _curve_plot(folder / f"Box{short}_curve.png", conf_axis, title, values, labels)
            for short, title, values in (
                ("F1", "F1", curves.f1_curve), ("P", "Precision", curves.p_curve), ("R", "Recall", curves.r_curve),
            )
        ),
    ]  # fmt: skip


def _curve_plot(
    path: Path,
    x_axis: tuple[str, np.ndarray],
    y_title: str,
    values: np.ndarray,
    labels: list[str],
    mean_label: str | None = None,
) -> Path:
    """One picture: a thin line per class, a thick one for their mean. values is (classes, points)."""
    x_title, x = x_axis
    figure = new_figure(9, 6)
    axes = figure.subplots()
    few = len(values) <= MANY_CLASSES
    for index, (line, label) in enumerate(zip(values, labels, strict=True)):
        style = {"color": f"C{index % 10}", "linestyle": "-" if index < 10 else "--"} if few else {"color": "0.75"}
        axes.plot(x, line, linewidth=1, label=label if few else None, **style)
    if len(values):
        mean = values.mean(0)
        label = mean_label or f"mean of classes, largest {mean.max():.2f} at {x[mean.argmax()]:.3f}"
        axes.plot(x, mean, linewidth=3, color="black", label=label)
        figure.legend(loc="outside right upper", frameon=False)
    axes.set(
        xlabel=x_title, ylabel=y_title, xlim=(0, 1), ylim=(0, 1.02), title=f"{y_title} over {x_title.lower()}, IoU 0.50"
    )
    axes.grid(alpha=0.3)
    return save_figure(figure, path)


def plot_confusion_matrix(matrix: ConfusionMatrix, save_dir: str | Path, *, normalize: bool) -> Path:
    """Save confusion_matrix.png (counts) or confusion_matrix_normalized.png (shares of each true class).

    Of many classes only those are drawn that were seen or predicted.
    """
    table = matrix.normalised() if normalize else matrix.matrix
    labels = np.array([drawable(name)[0] for name in (*matrix.names.values(), "background")])
    if many := len(labels) > MANY_CLASSES:
        present = matrix.matrix.sum(0) + matrix.matrix.sum(1) > 0
        table, labels = table[present][:, present], labels[present]
    size, font = (max(6.0, 2.5 + 0.26 * len(labels)), 8) if many else (max(6.0, 2.5 + 0.5 * len(labels)), 10)
    figure = new_figure(size + 1, size)
    axes = figure.subplots()
    image = axes.imshow(np.ma.masked_equal(table, 0), cmap="Blues", vmin=0, vmax=1 if normalize else None)
    figure.colorbar(image, ax=axes, shrink=0.8)
    ticks = range(len(labels))
    axes.set_xticks(ticks, labels, rotation=90 if len(labels) > 6 else 0, fontsize=font)
    axes.set_yticks(ticks, labels, fontsize=font)
    if many:
        axes.grid(alpha=0.15)  # leads the eye to the names
    dark = 0.5 if normalize else table.max(initial=0) / 2
    for row, column in zip(*np.nonzero(table), strict=True):
        value = table[row, column]
        text = f"{100 * value:.0f}" if normalize and many else f"{value:.2f}" if normalize else f"{value:.0f}"
        ink = "white" if value > dark else "black"
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=6 if many else font)
    kind = f"{'%' if many else 'share'} of each true class" if normalize else "objects"
    axes.set(xlabel="True", ylabel="Predicted")
    axes.set_title(f"Confusion matrix ({kind}; confidence {matrix.conf:g}, IoU {matrix.iou:g})", fontsize=11)
    return save_figure(figure, Path(save_dir) / f"confusion_matrix{'_normalized' if normalize else ''}.png")


def plot_results(file: str | Path) -> Path:
    """Draw results.csv into results.png beside it; train and val of one loss share a panel. Returns the path."""
    file = Path(file)
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, skipinitialspace=True))
    if not rows:
        raise ValueError(f"{file}: got no rows, expected one for each epoch")
    columns = {name.strip(): np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}
    epochs = columns["epoch"]

    panels: dict[str, dict[str, np.ndarray]] = {}
    for name, values in columns.items():
        group, _, rest = name.partition("/")
        if group in ("train", "val"):
            panels.setdefault(rest, {})[group] = values
        elif group == "metrics":
            panels[rest.removesuffix("(B)")] = {"": values}
        elif group == "lr":
            panels.setdefault("learning rate", {})[rest] = values
    wide = min(4, len(panels))
    high = math.ceil(len(panels) / wide)
    figure = new_figure(4 * wide, 3 * high)
    grid = figure.subplots(high, wide, squeeze=False).ravel()
    for axes, (title, lines) in zip(grid, panels.items(), strict=False):
        _panel(axes, title, epochs, lines)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    return save_figure(figure, file.with_name("results.png"))


def _panel(axes, title: str, epochs: np.ndarray, lines: Mapping[str, np.ndarray]) -> None:
    """One quantity over the epochs. A single number is given with its best value in the title."""
    for label, values in lines.items():
        axes.plot(epochs, values, marker="o" if len(epochs) < 40 else None, markersize=3, label=label)
    if "" in lines and not np.isnan(lines[""]).all():
        best = np.nanargmax(lines[""])
        title = f"{title} (best {lines[''][best]:.3f} at epoch {epochs[best]:.0f})"
    elif len(lines) > 1:
        axes.legend(frameon=False)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)


def plot_labels(boxes: np.ndarray, cls: np.ndarray, names: Mapping[int, str], path: str | Path) -> Path:
    """Draw what the labels are like: objects per class, outlines, centres, and sizes.

    Args:
        boxes: (n, 4) cx, cy, w, h in 0..1.
        cls: (n,) class index of each.
        names: class index to name.
        path: picture to write.
    """
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    boxes, cls = np.asarray(boxes, dtype=float).reshape(-1, 4), np.asarray(cls).astype(int).reshape(-1)
    figure = new_figure(12, 10)
    (bars, outlines), (centres, sizes) = figure.subplots(2, 2)

    counts = np.bincount(cls, minlength=len(names))
    bars.bar(range(len(counts)), counts, color=[f"C{i % 10}" for i in range(len(counts))])
    if 0 < len(names) <= 100:
        font = min(10, 400 / len(names))
        texts = [drawable(name)[0] for name in names.values()]
        bars.set_xticks(range(len(names)), texts, rotation=90 if len(names) > 6 else 0, fontsize=font)
    if len(names) <= 30:
        bars.bar_label(bars.containers[0], fontsize=8)
    bars.set(title=f"Objects per class ({len(cls)} in all)", ylabel="objects")
    bars.margins(x=0.01, y=0.1)

    # A thousand outlines fill the square; they are spread over the data set, and the same at every call.
    shown = np.linspace(0, len(boxes) - 1, min(len(boxes), 1000)).astype(int)
    patches = [Rectangle((x - w / 2, y - h / 2), w, h) for x, y, w, h in boxes[shown]]
    edges = [f"C{c % 10}" for c in cls[shown]]
    outlines.add_collection(PatchCollection(patches, facecolor="none", edgecolor=edges, linewidth=0.5, alpha=0.5))
    outlines.set(title=f"Outlines ({len(shown)} of {len(boxes)})", xlim=(0, 1), ylim=(1, 0), aspect="equal")

    unit = [[0, 1], [0, 1]]
    for axes, pair, title, labels in (
        (centres, boxes[:, :2], "Centres (objects per cell)", ("x / image width", "y / image height")),
        (sizes, boxes[:, 2:], "Sizes (objects per cell)", ("box width / image width", "box height / image height")),
    ):
        *_, image = axes.hist2d(*pair.T, bins=50, range=unit, cmap="Blues", cmin=1)
        figure.colorbar(image, ax=axes, shrink=0.8)
        axes.set(title=title, xlabel=labels[0], ylabel=labels[1], aspect="equal")
    centres.invert_yaxis()  # as in the image: y grows downwards
    return save_figure(figure, Path(path))


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
