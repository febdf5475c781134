"""Drawing: boxes on images, pages of batches and feature maps, and the figures of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ultralytics.utils.errors import DataError, OptionError
from ultralytics.utils.fonts import default_font, find_font_file, font_runs, load_font, tick_label
from ultralytics.utils.ops import xywh2xyxy
from ultralytics.utils.public import public_names
from ultralytics.utils.tables import read_csv

if TYPE_CHECKING:  # matplotlib is slow to import
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Color = tuple[int, int, int]
Corners = tuple[float, float, float, float]
MIN_FONT, MAX_SIZE = 7, 1000  # pixels of a font; of a font or line
PAGE_IMAGES, PAGE_SIDE, PAGE_CONF = 16, 1920, 0.25  # of a page of images: their number, its pixels, minimum score


class Colors:
    """Color of each class index, neighbors far apart: `colors(3)` is RGB, `colors(3, bgr=True)` BGR, 0..255."""

    PALETTE = (
        (230, 25, 75), (31, 119, 180), (44, 160, 44), (255, 140, 0), (138, 43, 226),
        (0, 166, 166), (216, 27, 154), (140, 109, 31), (57, 73, 171), (106, 165, 31),
        (192, 57, 43), (0, 143, 213), (179, 106, 226), (242, 183, 5), (23, 128, 109),
        (255, 111, 97), (93, 109, 126), (142, 36, 87), (76, 175, 157), (160, 82, 45),
    )  # fmt: skip

    def __call__(self, i: int, bgr: bool = False) -> Color:
        """Return the color of class `i`; the palette repeats."""
        return self.PALETTE[int(i) % len(self.PALETTE)][:: -1 if bgr else 1]

    @property
    def palette(self) -> list[Color]:
        """Return the colors, RGB."""
        return list(self.PALETTE)

    @property
    def n(self) -> int:
        """Return the number of colors."""
        return len(self.PALETTE)

    @staticmethod
    def hex2rgb(h: str) -> Color:
        """Convert `#rrggbb`."""
        return tuple(bytes.fromhex(h.lstrip("#")[:6]))

    def figure(self, i: int) -> tuple[float, ...]:
        """Return the color of class `i` for matplotlib, RGB in 0..1."""
        return tuple(value / 255 for value in self(i))


colors = Colors()


class Annotator:
    """Draw boxes and names on an image; `result` writes them into a given array. Colors are BGR; of PIL images RGB.

    Names are drawn with the result: outside of the boxes and beside each other, as far as there is room.

    Args:
        im: (H, W, 3) or (H, W) uint8 BGR, or a PIL image.
        line_width, font_size: pixels; depend on the size of the image by default.
        font: file or name of a font, for the characters that it has; DejaVu Sans and fonts of the system by default.
        pil: `im` is a PIL image; `result` is an array all the same.
        example: text of the script, as published code passes it; fonts are chosen for each character anyway.

    Examples:
        >>> annotator = Annotator(np.zeros((120, 160, 3), np.uint8))
        >>> annotator.box_label((40, 50, 140, 110), "cat 0.91", color=(0, 200, 0))
        >>> annotator.result()[80, 40]
        array([  0, 200,   0], dtype=uint8)
    """

    def __init__(
        self, im: np.ndarray | Image.Image, line_width: int | None = None, font_size: float | None = None,
        font: str | Path | None = None, pil: bool = False, example: str = "",
    ) -> None:  # fmt: skip
        self._order = 1 if isinstance(im, Image.Image) else -1  # of colors, to RGB
        self._given = im if isinstance(im, np.ndarray) and im.ndim == 3 and im.flags.writeable else None
        im = np.asarray(im.convert("RGB"))[..., ::-1] if isinstance(im, Image.Image) else np.asarray(im)
        im = np.stack([im] * 3, -1) if im.ndim == 2 else im
        if im.dtype != np.uint8 or im.ndim != 3 or im.shape[2] != 3:
            raise DataError(f"Annotator: got {im.dtype} of shape {im.shape}, expected uint8 (H, W, 3)")
        height, width = im.shape[:2]
        for size in (line_width or 0, font_size or 0):
            if not (isinstance(size, (int, float, np.number)) and 0 <= size <= MAX_SIZE):
                raise OptionError(f"line_width and font_size: expected pixels in [0, {MAX_SIZE}] or None, got {size!r}")
        self.lw = self.line_width = round(line_width or 0) or max(1, round((height + width) / 600))
        self.tf, self.sf = max(self.lw - 1, 1), self.lw / 3  # for cv2.putText: thickness and scale
        by_size = max(MIN_FONT, round((height + width) / 80)) if line_width is None else 8 + 4 * self.line_width
        self.font_size, self.font, self.pil = round(font_size or 0) or by_size, find_font_file(font), pil
        self.canvas = Image.fromarray(np.ascontiguousarray(im[..., ::-1]))
        self.draw = ImageDraw.Draw(self.canvas)
        self._boxes: list[Corners] = []
        self._names: list[tuple[Corners, str, Color, Color | None]] = []  # not yet drawn
        self._taken: set[Corners] = set()  # by texts

    def box_label(
        self, box: Sequence[float], label: str = "", color: Color = (128, 128, 128), txt_color: Color | None = None
    ) -> None:
        """Draw a box (x1, y1, x2, y2 in pixels, clipped; nothing if one is nan); `result` draws its label."""
        corners = np.array([float(side) for side in box])
        if np.isnan(corners).any():
            return
        x1, x2 = sorted(corners[::2].clip(0, self.canvas.width - 1).tolist())
        y1, y2 = sorted(corners[1::2].clip(0, self.canvas.height - 1).tolist())
        self.draw.rectangle((x1, y1, x2, y2), outline=self._rgb(color), width=self.line_width)
        self._boxes.append((x1, y1, x2 + 1, y2 + 1))
        if label is not None and (label := str(label)).strip():
            self._names.append(((x1, y1, x2, y2), label, color, txt_color))

    def text(
        self, xy: tuple[float, float], text: str, txt_color: Color | None = None, anchor: str = "top",
        box_color: Color = (64, 64, 64),
    ) -> None:  # fmt: skip
        """Write text on a background with its top, or bottom, left corner at `xy`, moved left to fit in.

        It is black or white by default; a text wider than the image becomes smaller.
        """
        runs, width, height = self._measure(text)
        x, y = max(0, min(xy[0], self.canvas.width - width)), xy[1] - (height if anchor == "bottom" else 0)
        color = box_color or (64, 64, 64)
        self.draw.rectangle((x, y, x + width, y + height), fill=self._rgb(color))
        self._taken.add((x, y, x + width, y + height))
        ink = self._rgb(self.get_txt_color(color, txt_color))
        for run, font in runs:
            # anchor 'lm': left, middle of the line, so that all labels have the same baseline
            self.draw.text((x + 2, y + height / 2), run, fill=ink, font=font, anchor="lm")
            x += font.getlength(run)

    def get_txt_color(self, color: Color = (128, 128, 128), txt_color: Color | None = None) -> Color:
        """Return `txt_color`, by default the readable one of black and white on a color."""
        red, green, blue = self._rgb(color)
        return txt_color or ((0,) * 3 if 0.114 * blue + 0.587 * green + 0.299 * red > 150 else (255,) * 3)

    @property
    def im(self) -> np.ndarray | Image.Image:
        """Annotated image, with all labels so far."""
        return self.result(self.pil)

    def rectangle(
        self, xy: Sequence[float], fill: Color | None = None, outline: Color | None = None, width: int = 1
    ) -> None:
        """Draw a rectangle of corners in pixels."""
        fill, outline = (color and self._rgb(color) for color in (fill, outline))
        self.draw.rectangle(tuple(map(float, xy)), fill, outline, width)

    def save(self, filename: str | Path = "image.jpg") -> None:
        """Write the annotated image."""
        self.result(pil=True).save(filename)

    def show(self, title: str | None = None) -> None:
        """Open the annotated image in the viewer of the system, or below the cell of a notebook."""
        self.result(pil=True).show(title)

    def result(self, pil: bool = False) -> np.ndarray | Image.Image:
        """Return the annotated image, (H, W, 3) uint8 in the order of the given one, or a PIL image."""
        placed = []
        for corners, *label in reversed(self._names):  # the last is the best: it has the first choice, and is on top
            _, width, height = self._measure(label[0])
            x, y = self._place(corners, width, height)
            self._taken.add((x, y, x + width, y + height))
            placed.append(((x, y), *label))
        for xy, text, color, txt_color in reversed(placed):
            self.text(xy, text, txt_color, box_color=color)
        self._names.clear()
        if self._given is not None:
            self._given[...] = np.asarray(self.canvas)[..., ::-1]
        if pil:
            return self.canvas.copy()
        return np.asarray(self.canvas)[..., :: self._order].copy() if self._given is None else self._given

    def _rgb(self, color: Color) -> Color:
        return tuple(map(int, color[:: self._order]))

    def _measure(self, text: str) -> tuple[list[tuple[str, ImageFont.FreeTypeFont]], int, int]:
        """Return the runs of a text with their fonts, and its width and height with a margin."""
        size = self.font_size
        while True:
            runs = [(run, load_font(file, size)) for run, file in font_runs(text, self.font)]
            width = math.ceil(sum(font.getlength(run) for run, font in runs)) + 4
            if width <= self.canvas.width or size <= MIN_FONT:
                return runs, width, size + 4
            size = max(MIN_FONT, min(size - 1, size * self.canvas.width // width))

    def _place(self, corners: Corners, width: int, height: int) -> tuple[float, float]:
        """Return the place for a label that covers the least of other labels and of boxes: above, below, beside, in."""
        x1, y1, x2, y2 = corners
        left, right, above, below, lower = x1 - width - 1, x2 - width, y1 - height, y2 + 1, y2 - height
        spots = [(x1, above), (x1, below), (right, above), (right, below), (x2 + 1, y1), (left, y1)]
        spots = np.array([*spots, (x2 + 1, lower), (left, lower), (x1, y1)])
        room = self.canvas.width - width, self.canvas.height - height - 1
        first = spots.clip(0, np.maximum(room, 0))
        last = first + np.array([width, height])

        def covered(rectangles: Iterable[Corners]) -> np.ndarray:  # (spots,) pixels
            others = np.array([*rectangles]).reshape(-1, 1, 4)
            sides = np.minimum(last, others[..., 2:]) - np.maximum(first, others[..., :2])
            return sides.clip(0).prod(-1).sum(0)

        return tuple(first[np.argmin(10 * covered(self._taken) + covered(self._boxes))].tolist())


def plot_images(
    labels: Mapping[str, Any] | Tensor | None = None, images: Any = None, paths: Any = None, fname: Any = "images.jpg",
    names: Any = None, on_plot: Any = None, max_size: int = PAGE_SIDE, max_subplots: int = PAGE_IMAGES,
    save: bool = True, conf_thres: float = PAGE_CONF, *, detections: Sequence[Tensor] | None = None,
    threaded: bool = False, **older: Any,
) -> np.ndarray | None:  # fmt: skip
    """Draw up to `max_subplots` images of a batch on one page, with their labels, or with detections instead.

    Args:
        labels: as collated: img (B, 3, H, W) RGB, uint8 or float 0..1; cls, bboxes, batch_idx; im_file if known. With
            `conf` the boxes are detections. Or the images, with batch_idx, cls and bboxes by name or position.
        images, paths: in place of `img` and `im_file`.
        fname: image file to write; the suffix chooses the format.
        names: class names by index.
        on_plot: called with the file.
        max_size: largest side of the page in pixels.
        save: write the file; otherwise the page is returned, (H, W, 3) uint8 RGB.
        conf_thres: smallest score of a detection.
        detections: (n, 6) for each image, x1, y1, x2, y2 in pixels of `img`, score, class; of equal boxes the best.
    """
    labels, images = ({"img": images, **older}, None) if labels is None else (labels, images)
    if not isinstance(labels, Mapping):  # as in published code before 8.4
        positions = {"batch_idx": images, "cls": paths, **({} if isinstance(fname, (str, Path)) else {"bboxes": fname})}
        labels = {"img": labels, **{key: value for key, value in {**positions, **older}.items() if value is not None}}
        images, paths, fname = None, None, fname if isinstance(fname, (str, Path)) else "images.jpg"
    given = {"img": labels.get("img") if images is None else images, **({"im_file": paths} if paths else {})}
    batch = {key: torch.as_tensor(v) if isinstance(v, np.ndarray) else v for key, v in {**labels, **given}.items()}
    batch["cls"] = batch["cls"].reshape(-1, 1)
    names = names or {int(cls): str(int(cls)) for cls in batch["cls"].unique()}
    images = batch["img"][:max_subplots].detach().cpu()
    pixels = (images.float() * (255 if images.is_floating_point() else 1)).round().byte().permute(0, 2, 3, 1).numpy()
    count, height, width = pixels.shape[:3]
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    scale = min(2.0, max_size / (columns * width), max_size / (rows * height))
    cell_w, cell_h = round(width * scale), round(height * scale)
    page = Image.new("RGB", (columns * (cell_w + 2) - 2, rows * (cell_h + 2) - 2), "white")
    scored = detections is not None or "conf" in batch
    for i, image in enumerate(pixels):
        annotator = Annotator(np.asarray(Image.fromarray(image).resize((cell_w, cell_h)))[..., ::-1])
        table = _label_rows(batch, i) if detections is None else detections[i].cpu().float()
        rows = list(reversed(table[table[:, 4] >= conf_thres].tolist()))  # the best on top
        for *box, score, cls in {tuple(row[:4]): row for row in rows}.values() if scored else rows:
            text = f"{names[int(cls)]} {score:.2f}" if scored else names[int(cls)]
            annotator.box_label([side * scale for side in box], text, colors(int(cls), bgr=True))
        if "im_file" in batch:
            annotator.text((0, cell_h - annotator.font_size - 4), Path(batch["im_file"][i]).name)
        row, column = divmod(i, columns)
        page.paste(annotator.result(pil=True), (column * (cell_w + 2), row * (cell_h + 2)))
    if not save:
        return np.asarray(page)
    page.save(fname)
    if on_plot:
        on_plot(fname)
    return None


def _label_rows(batch: Mapping[str, Any], i: int) -> Tensor:
    """Return the labels of image i as detections with their score or 1: (n, 6), pixels."""
    own = batch["batch_idx"].reshape(-1) == i
    height, width = batch["img"].shape[2:]
    boxes, cls = xywh2xyxy(batch["bboxes"][own]), batch["cls"][own]
    score = batch["conf"].reshape(-1, 1)[own] if "conf" in batch else torch.ones_like(cls)
    return torch.cat([boxes * boxes.new_tensor([width, height, width, height]), score, cls], 1).cpu()


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure; sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(
    figure: Figure, path: Path, *, also: str | None = None, titles: bool = True, on_plot: Any = None
) -> Path:
    """Write a figure, with texts as they are ($ is no formula) and in fonts that have their characters.

    `also` is another format, pdf or svg. Without `titles` the y axis gets the title, if it has no label. `on_plot` is
    called with the path. Class names must come from `drawable`: tick labels are created when the figure is drawn.
    """
    from matplotlib.font_manager import FontProperties, fontManager
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
        if not text.get_text().isascii():
            files = dict.fromkeys([default_font(), *(file for _, file in font_runs(text.get_text()))])
            for file in files:
                fontManager.addfont(str(file))
            text.set_fontfamily([FontProperties(fname=str(file)).get_name() for file in files])
    for axes in figure.axes if not titles else ():
        axes.set_ylabel(axes.get_ylabel() or axes.get_title())
        axes.set_title("")
    for file in (path, *([path.with_suffix(f".{also}")] if also else [])):
        figure.savefig(file, dpi=150)
    if on_plot:
        on_plot(path)
    return path


def plot_results(file: str | Path = "results.csv", dir: str | Path = "", on_plot: Any = None, **style: Any) -> Path:
    """Draw results.csv, or that in `dir`, into results.png beside it, train and val of a loss in one panel.

    Returns the path, with which `on_plot` is called.
    """
    file = Path(dir, "results.csv") if dir else file
    rows = read_csv(file)
    columns = {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}
    panels: dict[str, dict[str, np.ndarray]] = {}
    for name, values in columns.items():
        group, _, rest = name.partition("/")
        if group in ("train", "val"):
            panels.setdefault(rest, {})[group] = values
        elif group == "metrics":
            panels[rest.removesuffix("(B)")] = {"": values}
        elif group == "lr":
            panels.setdefault("learning rate", {})[rest] = values
    figure, grid = epoch_panels([*panels], min(4, len(panels)), (4, 3))
    epochs = columns["epoch"]
    for axes, (title, lines) in zip(grid, panels.items(), strict=True):
        for label, values in lines.items():
            axes.plot(epochs, values, marker="o" if len(epochs) < 40 else None, markersize=3, label=label)
        if "" in lines and not np.isnan(lines[""]).all():
            best = np.nanargmax(lines[""])
            axes.set_title(f"{title} (best {lines[''][best]:.3f} at epoch {epochs[best]:.0f})", fontsize=10)
        elif len(lines) > 1:
            axes.legend(frameon=False)
    return save_figure(figure, Path(file).with_name("results.png"), on_plot=on_plot, **style)


def epoch_panels(titles: Sequence[str], wide: int, size: tuple[float, float]) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure, and a panel over the epochs for each title, `wide` in a row; `size` of one in inches."""
    high = math.ceil(len(titles) / wide)
    figure = new_figure(size[0] * wide, size[1] * high)
    grid = figure.subplots(high, wide, squeeze=False).ravel()
    for axes, title in zip(grid, titles, strict=False):
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    for axes in grid[len(titles) :]:
        axes.set_axis_off()
    return figure, grid[: len(titles)]


def plot_labels(
    boxes: np.ndarray, cls: np.ndarray, names: Any = (), save_dir: str | Path = "", on_plot: Any = None, **style: Any
) -> Path:
    """Draw statistics of the labels: objects per class, outlines about one center, centers and sizes. Return the path.

    Args:
        boxes: (n, 4) cx, cy, w, h in 0..1.
        cls: (n,) class index of each.
        names: class names by index.
        save_dir: folder for labels.jpg, or the image file to write.
        on_plot: called with the file.
        style: arguments of `save_figure`.
    """
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    path = Path(save_dir)
    path = path if path.suffix else path / "labels.jpg"
    boxes, cls = np.asarray(boxes, dtype=float).reshape(-1, 4), np.asarray(cls).astype(int).reshape(-1)
    names = names or range(int(cls.max(initial=-1)) + 1)
    names = names if isinstance(names, Mapping) else dict(enumerate(map(str, names)))
    figure = new_figure(12, 10)
    (bars, outlines), (centers, sizes) = figure.subplots(2, 2)

    # objects per class
    counts = np.bincount(cls, minlength=len(names))
    bars.bar(range(len(counts)), counts, color=[colors.figure(i) for i in range(len(counts))])
    if 0 < len(names) <= 100:
        texts, rotation = [tick_label(name) for name in names.values()], 90 if len(names) > 6 else 0
        bars.set_xticks(range(len(names)), texts, rotation=rotation, fontsize=min(10, 400 / len(names)))
    if len(names) <= 30:
        bars.bar_label(bars.containers[0], fontsize=8)
    bars.set(title=f"Objects per class ({len(cls)} in all)", ylabel="objects")
    bars.margins(x=0.01, y=0.1)

    # outlines of at most a thousand boxes, spread over the data set
    shown = np.linspace(0, len(boxes) - 1, min(len(boxes), 1000)).astype(int)
    patches = [Rectangle((0.5 - w / 2, 0.5 - h / 2), w, h) for w, h in boxes[shown, 2:]]
    edges = [colors.figure(c) for c in cls[shown]]
    outlines.add_collection(PatchCollection(patches, facecolor="none", edgecolor=edges, linewidth=0.5, alpha=0.5))
    outlines.set(title=f"Outlines ({len(shown)} of {len(boxes)})", xlim=(0, 1), ylim=(1, 0), aspect="equal")

    # centers and sizes
    for axes, pair, title, labels in (
        (centers, boxes[:, :2], "Centers (objects per cell)", ("x / image width", "y / image height")),
        (sizes, boxes[:, 2:], "Sizes (objects per cell)", ("box width / image width", "box height / image height")),
    ):
        *_, image = axes.hist2d(*pair.T, bins=50, range=[[0, 1], [0, 1]], cmap="Blues", cmin=1, vmin=0)
        figure.colorbar(image, ax=axes, shrink=0.8)
        axes.set(title=title, xlabel=labels[0], ylabel=labels[1], aspect="equal")
    centers.invert_yaxis()  # y points down, as in the image
    return save_figure(figure, path, on_plot=on_plot, **style)


__getattr__ = public_names(__name__)
