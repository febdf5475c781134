"""Read the boxes of one image from a YOLO text file or a COCO json, and report invalid ones."""

import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ultralytics.utils.errors import DataError
from ultralytics.utils.files import read_json, read_text

SLACK = 1e-3  # fraction of a side by which rounded boxes may leave the image without a report
REPAIRABLE = 0.05  # boxes that leave the image by up to this fraction are clipped, others skipped


@dataclass(frozen=True)
class Problem:
    """A finding of the scan: `kind` is a key of verify.KINDS, `where` a file or file:line."""

    kind: str
    where: str
    detail: str


@dataclass(frozen=True)
class ImageLabels:
    """Labels of one image; boxes are cx, cy, w, h in 0..1 of the upright image."""

    file: Path
    shape: tuple[int, int]  # (height, width)
    cls: np.ndarray  # (n,) int64
    boxes: np.ndarray  # (n, 4) float32
    crowd: np.ndarray  # (n,) bool
    image_id: int | str


@dataclass
class Rows:
    """Valid boxes of one image, and the problems of invalid ones."""

    cls: list[int] = field(default_factory=list)
    boxes: list[tuple[float, ...]] = field(default_factory=list)  # cx, cy, w, h in 0..1
    crowd: list[bool] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    _seen: set[tuple] = field(default_factory=set)

    def add(self, where: str, cls: int, corners: tuple[float, ...], crowd: bool = False) -> None:
        """Add a box x1, y1, x2, y2 in 0..1, clipped to the image; skip and report it if it is invalid."""
        x1, y1, x2, y2 = corners
        excess = max(-x1, -y1, x2 - 1, y2 - 1)
        if (cls, corners, crowd) in self._seen:
            self.report("duplicate", where, "same class and box as an earlier row; kept once")
        elif x2 <= x1 or y2 <= y1:
            self.report("malformed", where, f"width {x2 - x1:g} or height {y2 - y1:g} is not positive")
        elif excess > REPAIRABLE or min(x2, y2) <= 0 or max(x1, y1) >= 1:
            hint = "; are these pixels? expected 0..1" if max(corners) > 2 else ""
            text = f"box x1, y1, x2, y2 = {x1:.4g}, {y1:.4g}, {x2:.4g}, {y2:.4g} leaves the image; row skipped{hint}"
            self.report("out_of_range", where, text)
        else:
            if excess > SLACK:
                self.report("clipped", where, f"box leaves the image by {excess:.3g} of its side; clipped")
            x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, 1.0), min(y2, 1.0)
            self._seen.add((cls, corners, crowd))
            self.cls.append(cls)
            self.boxes.append(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1))
            self.crowd.append(crowd)

    def report(self, kind: str, where: str, detail: str) -> None:
        self.problems.append(Problem(kind, where, detail))

    def labels(self, file: Path, shape: tuple[int, int], image_id: int | str) -> ImageLabels:
        """Return the valid boxes as arrays."""
        boxes = np.array(self.boxes, np.float32).reshape(-1, 4)
        return ImageLabels(file, shape, np.array(self.cls, np.int64), boxes, np.array(self.crowd, bool), image_id)


def read_yolo_file(path: Path, nc: int) -> Rows:
    """Read rows of `class cx cy w h` or `class x1 y1 x2 y2 x3 y3 ...` (a polygon, replaced by its box), all in 0..1."""
    rows = Rows()
    try:
        text = read_text(path, error=DataError)
    except DataError as error:
        rows.report("malformed", str(path), str(error))
        return rows
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            cls, corners = _parse_row(line.split())
        except ValueError as error:
            rows.report("malformed", where, str(error))
            continue
        if 0 <= cls < nc:
            rows.add(where, cls, corners)
        else:
            rows.report("bad_class", where, f"class {cls}, expected 0..{nc - 1}")
    return rows


def _parse_row(words: list[str]) -> tuple[int, tuple[float, float, float, float]]:
    """Return class and corners of a row. Raises ValueError with the reason if it is malformed."""
    if len(words) != 5 and (len(words) < 7 or len(words) % 2 == 0):
        raise ValueError(f"{len(words)} columns, expected 5 (class cx cy w h) or a class and at least 3 x y pairs")
    values = [float(word) for word in words]
    if not all(map(math.isfinite, values)):
        raise ValueError(f"not a finite number in {' '.join(words[:5])!r}")
    if values[0] != int(values[0]):
        raise ValueError(f"class {words[0]} is not a whole number")
    if len(words) > 5:  # a polygon
        xs, ys = values[1::2], values[2::2]
        return int(values[0]), (min(xs), min(ys), max(xs), max(ys))
    cx, cy, w, h = values[1:]
    return int(values[0]), (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)


@dataclass(frozen=True)
class CocoJson:
    """Detection part of a COCO annotation file."""

    path: Path
    images: list[dict]
    annotations: dict[int | str, list[dict]]  # by image id
    categories: dict[int, str]  # sorted by category id

    def rows(self, image_id: int | str, shape: tuple[int, int]) -> Rows:
        """Return the boxes of one image, whose pixel coordinates refer to a size of `shape` (h, w)."""
        rows = Rows()
        height, width = shape
        index = {category: i for i, category in enumerate(self.categories)}
        for entry in self.annotations.get(image_id, ()):
            where = f"{self.path.name}, annotation {entry.get('id')}"
            box = entry.get("bbox") or ()
            if len(box) != 4 or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in box):
                rows.report("malformed", where, f"bbox is {list(box)}, expected [x, y, width, height]")
            elif entry.get("category_id") not in index:
                rows.report("bad_class", where, f"category_id {entry.get('category_id')} is not among the categories")
            else:
                x, y, w, h = box
                corners = (x / width, y / height, (x + w) / width, (y + h) / height)
                rows.add(where, index[entry["category_id"]], corners, bool(entry.get("iscrowd")))
        return rows


def read_coco_json(path: Path) -> CocoJson:
    """Read a COCO annotation file. Raises DataError if it is missing or invalid."""
    content = read_json(path, DataError)
    present = content if isinstance(content, dict) else ()
    if missing := [key for key in ("images", "annotations", "categories") if key not in present]:
        raise DataError(f"{path}: not a COCO detection file: it has no {', '.join(missing)}")
    by_image = defaultdict(list)
    for entry in content["annotations"]:
        by_image[entry["image_id"]].append(entry)
    categories = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
    return CocoJson(path, content["images"], dict(by_image), dict(sorted(categories.items())))
