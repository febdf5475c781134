"""What prediction returns: one `Results` per image, with its boxes, ready to be drawn, saved or turned into a table."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from ultralytics.utils.errors import DataError, DeviceError, MissingPackageError
from ultralytics.utils.files import safe_name
from ultralytics.utils.ops import clip_boxes, xyxy2xywh

if TYPE_CHECKING:
    import pandas

Array = np.ndarray | torch.Tensor


class Boxes:
    """Detections of one image: `data` (n, 6) is x1, y1, x2, y2 in pixels, score, class; best first.

    With (n, 7) a track id stands before score and class. `orig_shape` is the (height, width) that pixels refer to. The
    boxes of a detector may reach over the border of the image.
    """

    def __init__(self, data: Array, orig_shape: tuple[int, int]) -> None:
        if not isinstance(data, (np.ndarray, torch.Tensor)):
            raise TypeError(f"Boxes: got {type(data).__name__}, expected a tensor or array of shape (n, 6) or (n, 7)")
        rows = data[None] if data.ndim == 1 else data
        if rows.ndim != 2 or rows.shape[1] not in (6, 7):
            raise ValueError(f"Boxes: got shape {tuple(data.shape)}, expected (n, 6) or (n, 7)")
        self.data = rows
        self.orig_shape = (int(orig_shape[0]), int(orig_shape[1]))

    @property
    def is_track(self) -> bool:
        """Whether the rows have track ids."""
        return self.data.shape[1] == 7

    @property
    def xyxy(self) -> Array:
        """(n, 4) left, top, right, bottom in pixels."""
        return self.data[:, :4]

    @property
    def xywh(self) -> Array:
        """(n, 4) centre x, centre y, width, height in pixels."""
        return xyxy2xywh(self.xyxy)

    @property
    def xyxyn(self) -> Array:
        """(n, 4) left, top, right, bottom in parts of the image's width and height."""
        return self._normalised(self.xyxy)

    @property
    def xywhn(self) -> Array:
        """(n, 4) centre x, centre y, width, height in parts of the image's width and height."""
        return self._normalised(self.xywh)

    @property
    def conf(self) -> Array:
        """(n,) scores, 0..1."""
        return self.data[:, -2]

    @property
    def cls(self) -> Array:
        """(n,) class indices, as floating numbers."""
        return self.data[:, -1]

    @property
    def id(self) -> Array | None:
        """(n,) track ids, None without tracking."""
        return self.data[:, 4] if self.is_track else None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `data`."""
        return tuple(self.data.shape)

    def clipped(self) -> Boxes:
        """The same boxes, cut off at the border of the image."""
        corners, rest = clip_boxes(self.xyxy, self.orig_shape), self.data[:, 4:]
        together = torch.cat if isinstance(self.data, torch.Tensor) else np.concatenate
        return Boxes(together((corners, rest), 1), self.orig_shape)

    def to(self, *args: Any, **kwargs: Any) -> Boxes:
        """Copy on another device or of another dtype, with the arguments of `torch.Tensor.to`."""
        return Boxes(torch.as_tensor(self.data).to(*args, **kwargs), self.orig_shape)

    def cpu(self) -> Boxes:
        """Copy in main memory."""
        return Boxes(self.data.cpu(), self.orig_shape) if isinstance(self.data, torch.Tensor) else self

    def cuda(self) -> Boxes:
        """Copy on the current GPU."""
        return self.to("cuda")

    def numpy(self) -> Boxes:
        """Copy whose data is a numpy array."""
        return Boxes(self.data.detach().cpu().numpy(), self.orig_shape) if isinstance(self.data, torch.Tensor) else self

    def _normalised(self, pixels: Array) -> Array:
        height, width = self.orig_shape
        sides = [width, height, width, height]
        return pixels / (
            pixels.new_tensor(sides) if isinstance(pixels, torch.Tensor) else np.array(sides, pixels.dtype)
        )

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int | slice | Sequence[int] | Array) -> Boxes:
        return Boxes(self.data[index], self.orig_shape)

    def __iter__(self) -> Iterator[Boxes]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Boxes(shape={self.shape}, orig_shape={self.orig_shape}, data=\n{self.data})"


class Results:
    """Detections of one image together with the image (uint8 BGR), its path, the class names and the time taken.

    `speed` has milliseconds of "preprocess", "inference" and "postprocess". Indexing and `len` go over the boxes.
    """

    masks = keypoints = probs = obb = None  # other tasks' results; scripts for several tasks ask for them

    def __init__(
        self,
        orig_img: np.ndarray,
        path: str | os.PathLike,
        names: Mapping[int, str] | Sequence[str],
        boxes: Boxes | Array | None = None,
        speed: Mapping[str, float] | None = None,
    ) -> None:
        if not isinstance(orig_img, np.ndarray) or orig_img.ndim != 3:
            got = getattr(orig_img, "shape", type(orig_img).__name__)
            raise ValueError(f"Results: orig_img is {got}, expected a numpy array (H, W, 3) in BGR order")
        self.orig_img, self.path = orig_img, str(path)
        self.orig_shape = orig_img.shape[:2]
        self.names = dict(names) if isinstance(names, Mapping) else dict(enumerate(names))
        self.speed = dict(speed or {"preprocess": None, "inference": None, "postprocess": None})
        self.save_dir: str | None = None  # the run folder, where there is one
        self.update(boxes=boxes)

    def update(self, boxes: Boxes | Array | None = None) -> None:
        """Replace the boxes; None means that there are none."""
        if boxes is None:
            boxes = np.zeros((0, 6), np.float32)
        boxes = Boxes(boxes, self.orig_shape) if not isinstance(boxes, Boxes) else boxes
        if boxes.orig_shape != self.orig_shape:
            raise ValueError(f"Results: boxes of an image {boxes.orig_shape}, expected of this one, {self.orig_shape}")
        if unknown := {int(c) for c in boxes.cls.tolist()} - self.names.keys():
            raise ValueError(f"Results: boxes of classes {sorted(unknown)}, expected of {sorted(self.names)}")
        self.boxes = boxes

    @property
    def keys(self) -> list[str]:
        """Names of the kinds of results that are there."""
        return ["boxes"]

    def new(self) -> Results:
        """The same image without boxes."""
        return self._with(None)

    def cpu(self) -> Results:
        """Copy with its boxes in main memory."""
        return self._with(self.boxes.cpu())

    def cuda(self) -> Results:
        """Copy with its boxes on the current GPU."""
        return self._with(self.boxes.cuda())

    def numpy(self) -> Results:
        """Copy whose boxes are numpy arrays."""
        return self._with(self.boxes.numpy())

    def to(self, *args: Any, **kwargs: Any) -> Results:
        """Copy with its boxes on another device or of another dtype, with the arguments of `torch.Tensor.to`."""
        return self._with(self.boxes.to(*args, **kwargs))

    def plot(
        self,
        conf: bool = True,
        line_width: int | None = None,
        labels: bool = True,
        boxes: bool = True,
        img: np.ndarray | None = None,
        color_mode: str = "class",
    ) -> np.ndarray:
        """Draw the detections on a copy of the image, or of `img`: uint8 BGR (H, W, 3).

        `color_mode` gives every "class" or every "instance" a colour of its own; `line_width` None fits the image.
        """
        from ultralytics.utils.plotting import Annotator, colors

        if color_mode not in ("class", "instance"):
            raise ValueError(f"plot: color_mode is {color_mode!r}, expected 'class' or 'instance'")
        canvas = Annotator(self.orig_img if img is None else img, line_width)
        rows = (self.boxes if boxes else self.boxes[:0]).clipped().numpy()
        for place in reversed(range(len(rows))):  # the best are drawn last, over the others
            box, (name, score) = rows.xyxy[place], self._label(rows, place)
            text = f"{name} {score:.2f}" if conf else name
            number = place if color_mode == "instance" else int(rows.cls[place])
            canvas.box_label(box, text if labels else "", color=colors(number, True))
        return canvas.result()

    def save(self, filename: str | os.PathLike | None = None, **plot_options: Any) -> str:
        """Write the drawn image, by default to `results_<name of the image>`; returns where. Options as for `plot`."""
        file = Path(filename or f"results_{image_name(self.path)}")
        write_image(file, self.plot(**plot_options))
        return str(file)

    def show(self, **plot_options: Any) -> None:
        """Show the drawn image in a window until a key is pressed. Options as for `plot`."""
        show_image(self.path, self.plot(**plot_options), milliseconds=0)

    def save_txt(self, txt_file: str | os.PathLike, save_conf: bool = False) -> str:
        """Write a YOLO label file: `class cx cy w h [score] [track id]` a line, in 0..1; returns where.

        Boxes are cut off at the border, so that the file is valid as a label; without detections it is empty.
        """
        boxes = self.boxes.clipped().numpy()
        lines = []
        for place, row in enumerate(boxes.xywhn):
            numbers = [*row, *([boxes.conf[place]] if save_conf else [])]
            identity = [f"{int(boxes.id[place])}"] if boxes.is_track else []
            lines.append(" ".join([f"{int(boxes.cls[place])}", *(f"{v:.6g}" for v in numbers), *identity]))
        file = Path(txt_file)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return str(file)

    def save_crop(self, save_dir: str | os.PathLike, file_name: str | os.PathLike | None = None) -> list[str]:
        """Write each detection's part of the image to `save_dir/<class>/<file_name>_<n>.jpg`; returns where."""
        boxes = self.boxes.clipped().numpy()
        stem = str(file_name or Path(image_name(self.path)).stem).removesuffix(".jpg")
        files = []
        for place, box in enumerate(boxes.xyxy):
            left, top, right, bottom = (int(v) for v in (*np.floor(box[:2]), *np.ceil(box[2:])))
            crop = self.orig_img[top:bottom, left:right]
            if crop.size:
                name = self._label(boxes, place)[0]
                files.append(Path(save_dir) / safe_name(name) / f"{stem}_{place + 1}.jpg")
                write_image(files[-1], crop)
        return [str(file) for file in files]

    def verbose(self) -> str:
        """Number of detections by class: "3 circles, 1 star"."""
        classes = [int(c) for c in self.boxes.cls.tolist()]
        counts = {c: classes.count(c) for c in sorted(set(classes))}
        return ", ".join(_counted(n, self.names[c]) for c, n in counts.items()) or "(no detections)"

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """A dictionary for each detection: name, class, confidence, box {x1, y1, x2, y2} and, if any, track_id."""
        boxes = self.boxes.numpy()
        corners = boxes.xyxyn if normalize else boxes.xyxy
        rows = []
        for place in range(len(boxes)):
            name, score = self._label(boxes, place)
            box = {k: round(float(v), decimals) for k, v in zip(("x1", "y1", "x2", "y2"), corners[place], strict=True)}
            row = {"name": name, "class": int(boxes.cls[place]), "confidence": round(score, decimals), "box": box}
            rows.append(row | ({"track_id": int(boxes.id[place])} if boxes.is_track else {}))
        return rows

    def to_json(self, normalize: bool = False, decimals: int = 5) -> str:
        """The `summary` as JSON text."""
        return json.dumps(self.summary(normalize, decimals), indent=2, ensure_ascii=False)

    def to_csv(self, normalize: bool = False, decimals: int = 5) -> str:
        """A row for each detection under a header: name, class, confidence, x1, y1, x2, y2 and, if any, track_id."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._flat(normalize, decimals))
        return text.getvalue()

    def to_df(self, normalize: bool = False, decimals: int = 5) -> pandas.DataFrame:
        """The table of `to_csv` as a pandas data frame."""
        try:
            import pandas
        except ImportError as error:
            raise MissingPackageError("to_df needs pandas, which is not installed: pip install pandas") from error
        return pandas.DataFrame(self._flat(normalize, decimals), columns=self._columns())

    def _columns(self) -> list[str]:
        return ["name", "class", "confidence", "x1", "y1", "x2", "y2", *(["track_id"] if self.boxes.is_track else [])]

    def _flat(self, normalize: bool, decimals: int) -> list[dict[str, Any]]:
        return [{**row.pop("box"), **row} for row in self.summary(normalize, decimals)]

    def _label(self, boxes: Boxes, place: int) -> tuple[str, float]:
        return self.names[int(boxes.cls[place])], float(boxes.conf[place])

    def _with(self, boxes: Boxes | None) -> Results:
        copy = Results(self.orig_img, self.path, self.names, boxes, self.speed)
        copy.save_dir = self.save_dir
        return copy

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: int | slice | Sequence[int] | Array) -> Results:
        return self._with(self.boxes[index])

    def __iter__(self) -> Iterator[Results]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Results({self.path}, {self.orig_shape[0]}x{self.orig_shape[1]}, {self.verbose()}, speed={self.speed})"


def image_name(path: str) -> str:
    """File name for the drawn picture of a file, stream address or camera number."""
    return safe_name(path.split("://")[-1]) if "://" in path else Path(path).name


def write_image(file: Path, image: np.ndarray) -> None:
    """Write a BGR image, making its folder; the suffix chooses the format. Any path works, on Windows too."""
    try:
        encoded, data = cv2.imencode(file.suffix or ".jpg", image)
    except cv2.error as error:
        raise DataError(f"{file}: no image format for suffix {file.suffix!r}; expected .jpg, .png or .bmp") from error
    if not encoded:
        raise DataError(f"{file}: an image {image.shape} cannot be written as {file.suffix}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data.tobytes())  # not cv2.imwrite: it garbles non-ASCII paths on Windows


def show_image(title: str, image: np.ndarray, *, milliseconds: int) -> None:
    """Show an image in a window and wait for a key, at most `milliseconds` (0: without end)."""
    advice = "save=True writes the picture instead"
    # Asked beforehand, as the window library ends the whole process where it finds no display.
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise DeviceError(f"show: this machine has no display (DISPLAY is not set); {advice}")
    try:
        cv2.imshow(title, image)
        cv2.waitKey(milliseconds)
    except cv2.error as error:
        raise DeviceError(f"show: OpenCV cannot open a window ({error.err}); {advice}") from error


def _counted(count: int, name: str) -> str:
    """`1 bus`, `2 buses`, `3 cars`."""
    if count == 1:
        return f"1 {name}"
    return f"{count} {name}{'es' if name.endswith(('s', 'x', 'ch', 'sh')) else 's'}"
