"""`Results` of one image: boxes to draw, save and convert to tables."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
import torch
from PIL import Image

from ultralytics.data.streams import opencv_text
from ultralytics.utils.checks import check_imshow, in_notebook
from ultralytics.utils.errors import DataError, OptionError, counted, did_you_mean
from ultralytics.utils.files import increment_path, safe_name, short_name
from ultralytics.utils.ops import clip_boxes, xywh2xyxy, xyxy2xywh, xyxy2xywhn
from ultralytics.utils.plotting import Annotator, colors
from ultralytics.utils.public import public_names
from ultralytics.utils.tables import Column, SummaryExports, Table

if TYPE_CHECKING:
    from typing import Self

Array = np.ndarray | torch.Tensor
OTHER_TASKS = {  # arguments of the published `plot` without a meaning for boxes: what is drawn, and its default
    "masks": ("masks", True), "im_gpu": ("masks", None), "probs": ("class scores", True),
    "kpt_radius": ("keypoints", 5), "kpt_line": ("keypoints", True),
}  # fmt: skip


class _Detections:
    """Conversion and iteration, common to `Boxes` and `Results`; each returns a copy."""

    _map: Callable[[Callable[[Array], Array]], Self]  # applies a function to the data of the boxes

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move the boxes to another device or dtype; arguments as in `torch.Tensor.to`."""
        return self._map(lambda data: torch.as_tensor(data).to(*args, **kwargs))

    def cuda(self) -> Self:
        """Move the boxes to the current GPU."""
        return self.to("cuda")

    def cpu(self) -> Self:
        """Move the boxes to main memory."""
        return self._map(lambda data: data.cpu() if isinstance(data, torch.Tensor) else data)

    def numpy(self) -> Self:
        """Convert the boxes to numpy arrays."""
        return self._map(lambda data: data.detach().cpu().numpy() if isinstance(data, torch.Tensor) else data)

    def __iter__(self) -> Iterator[Self]:
        return (self[i] for i in range(len(self)))


class Boxes(_Detections):
    """Detections of one image, by descending score. Boxes may extend beyond the image.

    Args:
        data: (n, 6) x1, y1, x2, y2 in pixels, score, class; or (n, 7) with a track id before the score.
        orig_shape: (height, width) of the image.

    Examples:
        >>> boxes = Boxes(np.array([[10.0, 20, 50, 60, 0.9, 2]]), orig_shape=(100, 200))
        >>> boxes.xywh.tolist(), boxes.xywhn.tolist()
        ([[30.0, 40.0, 40.0, 40.0]], [[0.15, 0.4, 0.2, 0.4]])
        >>> boxes.conf.tolist(), boxes.cls.tolist()
        ([0.9], [2.0])
    """

    def __init__(self, data: Array, orig_shape: tuple[int, int]) -> None:
        data = data if isinstance(data, Array) else np.array(data, np.float32)
        self.data = data[None] if data.ndim == 1 else data
        if self.data.ndim != 2 or self.data.shape[1] not in (6, 7):
            raise DataError(f"Boxes: got shape {tuple(data.shape)}, expected (n, 6) or (n, 7)")
        self.orig_shape = tuple(orig_shape)

    @property
    def is_track(self) -> bool:
        """Rows have track ids."""
        return self.data.shape[1] == 7

    @property
    def xyxy(self) -> Array:
        """Left, top, right, bottom in pixels (n, 4)."""
        return self.data[:, :4]

    @property
    def xywh(self) -> Array:
        """Center x, center y, width, height in pixels (n, 4)."""
        return xyxy2xywh(self.xyxy)

    @property
    def xyxyn(self) -> Array:
        """Left, top, right, bottom relative to the image's width and height (n, 4)."""
        return xywh2xyxy(self.xywhn)

    @property
    def xywhn(self) -> Array:
        """Center x, center y, width, height relative to the image's width and height (n, 4)."""
        height, width = self.orig_shape
        return xyxy2xywhn(self.xyxy, width, height)

    @property
    def conf(self) -> Array:
        """Scores (n,), 0..1."""
        return self.data[:, -2]

    @property
    def cls(self) -> Array:
        """Class indices (n,), as floats."""
        return self.data[:, -1]

    @property
    def id(self) -> Array | None:
        """Track ids (n,), None without tracking."""
        return self.data[:, 4] if self.is_track else None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `data`."""
        return self.data.shape

    def clipped(self) -> Boxes:
        """Return the boxes clipped at the border of the image."""
        rows = deepcopy(self.data)
        rows[:, :4] = clip_boxes(self.xyxy, self.orig_shape)
        return Boxes(rows, self.orig_shape)

    def _map(self, function: Callable[[Array], Array]) -> Boxes:
        return Boxes(function(self.data), self.orig_shape)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int | slice | Sequence[int] | Array) -> Boxes:
        return Boxes(self.data[index], self.orig_shape)

    def __repr__(self) -> str:
        return f"Boxes(shape={self.shape}, orig_shape={self.orig_shape}, data=\n{self.data})"


class Results(SummaryExports, _Detections):
    """Detections of one image, with the image, its path, the class names and the times. Indexing applies to the boxes.

    Args:
        orig_img: (H, W, 3) uint8 BGR.
        path: file or address of the image.
        names: class names by index.
        boxes: `Boxes`, or their data; none by default.
        speed: milliseconds of "preprocess", "inference" and "postprocess".

    Examples:
        >>> rows = np.array([[10.0, 10, 50, 60, 0.9, 0], [70, 20, 90, 40, 0.6, 1]])
        >>> result = Results(np.zeros((100, 100, 3), np.uint8), "a.jpg", {0: "bus", 1: "cat"}, rows)
        >>> result.verbose(), len(result[result.boxes.conf > 0.7]), result.plot().shape
        ('1 bus, 1 cat', 1, (100, 100, 3))
        >>> result.summary()[0]["box"]
        {'x1': 10.0, 'y1': 10.0, 'x2': 50.0, 'y2': 60.0}
    """

    masks = keypoints = probs = obb = None  # results of other tasks, for scripts that check them
    keys = ("boxes",)

    def __init__(
        self, orig_img: np.ndarray, path: str | os.PathLike, names: Mapping[int, str] | Sequence[str],
        boxes: Boxes | Array | None = None, masks: None = None, probs: None = None, keypoints: None = None,
        obb: None = None, speed: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        if any(part is not None for part in (masks, probs, keypoints, obb)):
            raise OptionError("Results: masks, probs, keypoints and obb must be None; this package detects boxes only")
        self.orig_img, self.path, self.orig_shape = orig_img, str(path), orig_img.shape[:2]
        self.names = dict(names) if isinstance(names, Mapping) else dict(enumerate(names))
        self.speed = dict(speed or {"preprocess": None, "inference": None, "postprocess": None})
        self.save_dir: str | None = None  # the run folder, if any
        self.boxes: Boxes | None = None
        self.update(boxes=boxes)

    def update(self, boxes: Boxes | Array | None = None) -> None:
        """Replace the boxes, if any are given."""
        if boxes is not None:
            self.boxes = boxes if isinstance(boxes, Boxes) else Boxes(boxes, self.orig_shape)

    @property
    def found(self) -> Boxes:
        """Return the boxes, none where `boxes` is None."""
        return Boxes(np.zeros((0, 6), np.float32), self.orig_shape) if self.boxes is None else self.boxes

    def new(self, boxes: Boxes | None = None) -> Results:
        """Return a copy with other boxes, by default without any."""
        copy = Results(self.orig_img, self.path, self.names, boxes, speed=self.speed)
        copy.save_dir = self.save_dir
        return copy

    def plot(
        self, conf: bool = True, line_width: int | None = None, font_size: float | None = None,
        font: str | None = None, pil: bool = False, img: np.ndarray | None = None, *, labels: bool = True,
        boxes: bool = True, show: bool = False, save: bool = False, filename: str | os.PathLike | None = None,
        color_mode: Literal["class", "instance"] = "class", txt_color: tuple[int, int, int] | None = None,
        **of_other_tasks: Any,
    ) -> np.ndarray | Image.Image:  # fmt: skip
        """Draw detections and track ids on a copy of the image: (H, W, 3) uint8 BGR, or a PIL image with `pil`.

        Args:
            conf: add the scores to the labels.
            line_width, font_size, font: see `Annotator`.
            img: image to draw on instead.
            show, save, filename: also show the image, or write it, see `show` and `save`.
            color_mode: color by class, or by instance: a track id, or a box.
            txt_color: BGR of the labels' text; black or white by default.
            of_other_tasks: `masks`, `probs`, `kpt_line` and others, as published code passes them, off or by default.

        Raises:
            OptionError: an argument for the results of other tasks has a value, or an argument is unknown.
        """
        for key, value in of_other_tasks.items():
            if key not in OTHER_TASKS:
                raise OptionError(f"plot: unknown argument {key!r}{did_you_mean(key, signature(self.plot).parameters)}")
            drawn, default = OTHER_TASKS[key]
            if not (value is None or value is False or (isinstance(value, int) and value == default)):
                raise OptionError(f"plot: {key}= draws {drawn}, and a detector predicts boxes only; remove it")
        if color_mode not in ("class", "instance"):
            raise OptionError(f"plot: color_mode={color_mode!r}, expected 'class' or 'instance'")
        canvas = Annotator((self.orig_img if img is None else img).copy(), line_width, font_size, font)
        rows = self.found[: None if boxes else 0].clipped().numpy()
        for i in reversed(range(len(rows))):  # the best on top
            cls = int(rows.cls[i])
            number = int(rows.id[i]) if rows.is_track else i
            text = f"id:{number} {self.names[cls]}" if rows.is_track else self.names[cls]
            text += f" {rows.conf[i]:.2f}" if conf else ""
            color = colors(number if color_mode == "instance" else cls, bgr=True)
            canvas.box_label(rows.xyxy[i], text if labels else "", color, txt_color)
        picture = canvas.result()
        if save or filename:
            write_image(Path(filename or self._picture_name()), picture)
        if show:
            show_image(self.path, picture, milliseconds=0)
        return canvas.result(pil=True) if pil else picture

    def save(self, filename: str | os.PathLike | None = None, **plot_options: Any) -> str:
        """Write the drawn image, by default to `results_<name of the image>`, and return its path.

        Options as in `plot`.
        """
        file = Path(filename or self._picture_name())
        self.plot(**plot_options, filename=file)
        return str(file)

    def show(self, **plot_options: Any) -> None:
        """Show the drawn image: in a notebook below the cell, else in a window until a key is pressed.

        Options as in `plot`.
        """
        self.plot(**plot_options, show=True)

    def _repr_png_(self) -> bytes:  # of notebooks
        return as_png(self.plot())

    def _picture_name(self) -> str:
        name = Path(image_name(self.path))
        return short_name(f"results_{name.stem}", name.suffix)

    def save_txt(self, txt_file: str | os.PathLike, save_conf: bool = False) -> str:
        """Append the detections to a YOLO label file, and return its path; without any, no file is written.

        Lines are `class cx cy w h [score] [track id]` in 0..1, clipped at the border.
        """
        lines = []
        for box in self.found.clipped().numpy():
            numbers = [*box.xywhn[0], *(box.conf if save_conf else ())]
            track = [int(box.id[0])] if box.is_track else []
            lines.append(" ".join(map(str, [int(box.cls[0]), *(f"{number:.6g}" for number in numbers), *track])))
        file = Path(txt_file)
        if lines:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as text:
                text.writelines(f"{line}\n" for line in lines)
        return str(file)

    def save_crop(self, save_dir: str | os.PathLike, file_name: str | os.PathLike = "im.jpg") -> list[str]:
        """Write the crop of each detection, with a margin, as `save_dir/<class>/<file_name>.jpg`; return the paths.

        No file is overwritten: further crops are `<file_name>-2.jpg`, `<file_name>-3.jpg`. See `save_one_box`.
        """
        stem = short_name(str(file_name).removesuffix(".jpg"), end := "-9999.jpg").removesuffix(end)
        files = []
        for box in self.found.cpu():
            file = increment_path(Path(save_dir) / safe_name(self.names[int(box.cls[0])]) / f"{stem}.jpg", sep="-")
            if save_one_box(box.xyxy, self.orig_img, file, BGR=True).size:
                files.append(str(file))
        return files

    def verbose(self) -> str:
        """Return the number of detections by class: "3 circles, 1 star"."""
        counts = sorted(Counter(self.found.cls.tolist()).items())
        return ", ".join(counted(count, self.names[int(cls)]) for cls, count in counts) or "(no detections)"

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """Return a dictionary per detection: name, class, confidence, box {x1, y1, x2, y2} and, if any, track_id."""
        rows = []
        for box in self.found.numpy():
            cls, corners = int(box.cls[0]), (box.xyxyn if normalize else box.xyxy)[0]
            sides = {key: round(float(v), decimals) for key, v in zip(("x1", "y1", "x2", "y2"), corners, strict=True)}
            score = round(float(box.conf[0]), decimals)
            row = {"name": self.names[cls], "class": cls, "confidence": score, "box": sides}
            rows.append(row | ({"track_id": int(box.id[0])} if box.is_track else {}))
        return rows

    def _table(self, normalize: bool = False, decimals: int = 5) -> Table:
        track = ["track_id"] if self.found.is_track else []
        titles = ["name", "class", "confidence", "x1", "y1", "x2", "y2", *track]
        rows = [{**row, **row["box"]} for row in self.summary(normalize, decimals)]
        return Table([Column(title) for title in titles], [[row[title] for title in titles] for row in rows])

    def _map(self, function: Callable[[Array], Array]) -> Results:
        return self.new(self.found._map(function))

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, index: int | slice | Sequence[int] | Array) -> Results:
        return self.new(self.found[index])

    def __repr__(self) -> str:
        return f"Results({self.path}, {self.orig_shape[0]}x{self.orig_shape[1]}, {self.verbose()}, speed={self.speed})"


def image_name(path: str) -> str:
    """Return a file name for the drawn image of a file, stream address or camera number."""
    return safe_name(path.split("://")[-1]) if "://" in path else Path(path).name


def save_one_box(
    xyxy: Array | Sequence[float], im: np.ndarray, file: str | os.PathLike = "im.jpg", gain: float = 1.02,
    pad: int = 10, square: bool = False, BGR: bool = False, save: bool = True,
) -> np.ndarray:  # fmt: skip
    """Cut a box out of an image, enlarged by `gain` and `pad` pixels, or to a square; write it as a new file.

    The channels are in the order of `im` in the file; with `BGR`, of a BGR image, in RGB order as files are read. The
    returned crop is BGR in both cases.
    """
    box = xyxy2xywh(torch.as_tensor(xyxy).reshape(1, 4).float())
    if square:
        box[:, 2:] = box[:, 2:].max(1).values[:, None]
    box[:, 2:] = box[:, 2:] * gain + pad
    left, top, right, bottom = clip_boxes(xywh2xyxy(box).long(), im.shape[:2])[0].tolist()
    crop = im[top:bottom, left:right, :: 1 if BGR else -1]
    if save and crop.size:
        write_image(increment_path(Path(file).with_suffix(".jpg"), sep="-"), np.ascontiguousarray(crop))
    return crop


def write_image(file: Path, image: np.ndarray) -> None:
    """Write a BGR image, and create its folder; the suffix chooses the format. Non-ASCII paths work on Windows, too."""
    try:
        encoded, data = cv2.imencode(opencv_text(file.suffix or ".jpg"), image)
    except cv2.error:  # also no pixels
        encoded = False
    if not encoded:
        raise DataError(f"{file}: an image of {image.shape[1]} x {image.shape[0]} cannot be written as {file.suffix}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.tobytes())
    except (OSError, ValueError) as error:  # also a NUL character
        raise DataError(f"{str(file)!r}: the image cannot be written: {error}") from error


def as_png(image: np.ndarray) -> bytes:
    """Return a BGR image as the content of a PNG file."""
    return cv2.imencode(".png", image)[1].tobytes()


def show_image(title: str, image: np.ndarray, *, milliseconds: int) -> None:
    """Show an image in a notebook, or in a window until a key is pressed, at most `milliseconds` (0: without limit)."""
    if in_notebook():
        from IPython.display import Image as Output
        from IPython.display import display

        display(Output(data=as_png(image)))
        return
    if check_imshow(warn=True):
        cv2.imshow(opencv_text(title), image)
        cv2.waitKey(milliseconds)


__getattr__ = public_names(__name__)
