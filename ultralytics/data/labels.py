"""Boxes of one image, read from a YOLO text file or a COCO json, with everything odd about them written down."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ultralytics.utils.errors import DataError

SLACK = 1e-3  # rounding of label writers: boxes may leave the image by this share of its side without remark
REPAIRABLE = 0.05  # boxes that leave it by up to this share are cut at the border; beyond, the row is skipped


@dataclass(frozen=True)
class Problem:
    """One finding: `kind` is a key of report.KINDS, `where` a file or file:line."""

    kind: str
    where: str
    detail: str


@dataclass(frozen=True)
class ImageLabels:
    """`boxes` (n, 4) float32 are cx, cy, w, h in 0..1 of the upright image of `shape` (h, w)."""

    file: Path
    shape: tuple[int, int]
    cls: np.ndarray  # (n,) int64
    boxes: np.ndarray  # (n, 4) float32
    crowd: np.ndarray  # (n,) bool
    image_id: int | str


@dataclass
class Rows:
    """Boxes collected for one image, and what was wrong with others."""

    cls: list[int] = field(default_factory=list)
    boxes: list[tuple[float, ...]] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    _seen: set[tuple] = field(default_factory=set)

    def add(self, where: str, cls: int, corners: tuple[float, ...], crowd: bool = False) -> None:
        """Take a box given as x1, y1, x2, y2 in 0..1: cut at the border, or reported and left out."""
        if (cls, corners, crowd) in self._seen:
            self.problems.append(Problem("duplicate", where, "same class and box as an earlier row; kept once"))
            return
        x1, y1, x2, y2 = corners
        if x2 <= x1 or y2 <= y1:
            self.problems.append(
                Problem("malformed", where, f"width {x2 - x1:g} or height {y2 - y1:g} is not positive")
            )
            return
        excess = max(-x1, -y1, x2 - 1, y2 - 1)
        if excess > REPAIRABLE or min(x2, y2) <= 0 or max(x1, y1) >= 1:
            hint = "; are these pixels? expected 0..1" if max(corners) > 2 else ""
            text = f"box x1, y1, x2, y2 = {x1:.4g}, {y1:.4g}, {x2:.4g}, {y2:.4g} leaves the image; row skipped{hint}"
            self.problems.append(Problem("out_of_range", where, text))
            return
        if excess > SLACK:
            self.problems.append(Problem("clipped", where, f"box leaves the image by {excess:.3g} of its side; cut"))
        x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, 1.0), min(y2, 1.0)
        self._seen.add((cls, corners, crowd))
        self.cls.append(cls)
        self.boxes.append(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1))
        self.crowd.append(crowd)

    def labels(self, file: Path, shape: tuple[int, int], image_id: int | str) -> ImageLabels:
        """The boxes that were taken, as arrays."""
        return ImageLabels(
            file,
            shape,
            np.array(self.cls, np.int64),
            np.array(self.boxes, np.float32).reshape(-1, 4),
            np.array(self.crowd, bool),
            image_id,
        )


def read_yolo_file(path: Path, nc: int) -> Rows:
    """Rows of `class cx cy w h` or `class x1 y1 x2 y2 x3 y3 ...` (a polygon: its box is taken), all in 0..1."""
    rows = Rows()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        rows.problems.append(Problem("malformed", str(path), f"cannot be read as text ({error}); whole file skipped"))
        return rows
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            cls, corners = _parse_row(line.split())
        except ValueError as error:
            rows.problems.append(Problem("malformed", where, str(error)))
            continue
        if not 0 <= cls < nc:
            rows.problems.append(Problem("bad_class", where, f"class {cls}, expected 0..{nc - 1}"))
        else:
            rows.add(where, cls, corners)
    return rows


def _parse_row(words: list[str]) -> tuple[int, tuple[float, float, float, float]]:
    """Class and corners of one row; ValueError says what is wrong with it."""
    if len(words) != 5 and (len(words) < 7 or len(words) % 2 == 0):
        raise ValueError(f"{len(words)} columns, expected 5 (class cx cy w h) or a class and at least 3 x y pairs")
    values = [float(word) for word in words]
    if not all(map(math.isfinite, values)):
        raise ValueError(f"not a finite number in {' '.join(words[:5])!r}")
    if values[0] != int(values[0]):
        raise ValueError(f"class {words[0]} is not a whole number")
    if len(words) == 5:
        cx, cy, w, h = values[1:]
        return int(values[0]), (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    xs, ys = values[1::2], values[2::2]
    return int(values[0]), (min(xs), min(ys), max(xs), max(ys))


@dataclass(frozen=True)
class CocoJson:
    """The parts of a COCO annotation file that detection needs."""

    path: Path
    images: list[dict]
    annotations: dict[int | str, list[dict]]  # by image id
    categories: dict[int, str]  # sorted by category id

    def rows(self, image_id: int | str, shape: tuple[int, int]) -> Rows:
        """Boxes of one image; pixel coordinates are divided by `shape` (h, w), the size they were drawn at."""
        rows = Rows()
        height, width = shape
        index = {category: i for i, category in enumerate(self.categories)}
        for entry in self.annotations.get(image_id, ()):
            where = f"{self.path.name}, annotation {entry.get('id')}"
            box = entry.get("bbox") or ()
            if len(box) != 4 or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in box):
                rows.problems.append(
                    Problem("malformed", where, f"bbox is {list(box)}, expected [x, y, width, height]")
                )
            elif entry.get("category_id") not in index:
                text = f"category_id {entry.get('category_id')} is not among the categories"
                rows.problems.append(Problem("bad_class", where, text))
            else:
                x, y, w, h = box
                corners = (x / width, y / height, (x + w) / width, (y + h) / height)
                rows.add(where, index[entry["category_id"]], corners, bool(entry.get("iscrowd")))
        return rows


def read_coco_json(path: Path) -> CocoJson:
    """A COCO annotation file; DataError when it is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such COCO annotation file; check `annotations:` in the data YAML") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as json ({error})") from error
    present = content if isinstance(content, dict) else ()
    missing = [key for key in ("images", "annotations", "categories") if key not in present]
    if missing:
        raise DataError(f"{path}: not a COCO detection file: it has no {', '.join(missing)}")
    by_image = defaultdict(list)
    for entry in content["annotations"]:
        by_image[entry["image_id"]].append(entry)
    categories = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
    return CocoJson(path, content["images"], dict(by_image), dict(sorted(categories.items())))
