"""Read the boxes of one image from a YOLO text file or a COCO json, and report invalid ones."""

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from reprlib import repr as short
from typing import Any

import numpy as np

from ultralytics.data.images import image_orientation
from ultralytics.utils.errors import DataError, counted
from ultralytics.utils.files import read_json, read_text

SLACK = 1e-3  # fraction of a side by which rounded boxes may leave the image without a report
EMPTY = 1e-6  # fraction of a side that counts as no area, by rounding
PIXELS = 5  # YOLO text with values beyond so many sides has pixels in place of fractions
MAX_ROWS, LABEL_LIMIT = 100_000, 1 << 25  # rows and bytes of one label file
MAX_NUMBER = 1e9  # of pixels
FLAGS = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}

Shapes = list[tuple[int, int] | None]  # (height, width) of each image, None for an unreadable one
Corners = tuple[float, float, float, float]  # x1, y1, x2, y2


@dataclass(frozen=True)
class Problem:
    """A finding of the scan: `kind` is a key of verify.KINDS, `where` a file or file:line."""

    kind: str
    where: str
    detail: str


@dataclass(frozen=True)
class ImageLabels(Mapping):
    """Labels of one image; boxes are cx, cy, w, h in 0..1 of the upright image."""

    file: Path
    shape: tuple[int, int]  # (height, width)
    cls: np.ndarray  # (n,) int64
    boxes: np.ndarray  # (n, 4) float32
    crowd: np.ndarray  # (n,) bool
    image_id: int | str

    def published(self) -> dict[str, Any]:
        """Return the labels as published data sets have them: `cls` (n, 1), `bboxes` (n, 4), ..."""
        return {
            "im_file": str(self.file), "shape": self.shape, "cls": self.cls[~self.crowd, None].astype(np.float32),
            "bboxes": self.boxes[~self.crowd], "segments": [], "keypoints": None, "normalized": True,
            "bbox_format": "xywh", "image_id": self.image_id,
        }  # fmt: skip

    def __getitem__(self, key: str) -> Any:
        return self.published()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.published())

    def __len__(self) -> int:
        return len(self.published())


def image_ids(images: Sequence[Path]) -> list[int | str]:
    """Return an id for each image in COCO files: its stem, a number if decimal.

    If any are equal, all get the end of their path instead, from as few folders as make them differ.

    Examples:
        >>> image_ids([Path("a/007.jpg"), Path("b/cat.jpg")]), image_ids([Path("a/1.jpg"), Path("b/01.jpg")])
        ([7, 'cat'], ['1.jpg', '01.jpg'])
    """
    ids = [int(image.stem) if image.stem.isdecimal() and len(image.stem) < 19 else image.stem for image in images]
    for depth in range(1, 1 + max(len(image.parts) for image in images)):
        if len(set(ids)) == len(ids):
            break
        ids = ["/".join(image.parts[-depth:]) for image in images]
    return ids


@dataclass
class Rows:
    """Valid boxes of one image, and the problems of invalid ones."""

    cls: list[int] = field(default_factory=list)
    boxes: list[tuple[float, ...]] = field(default_factory=list)  # cx, cy, w, h in 0..1
    crowd: list[bool] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    _seen: set[tuple] = field(default_factory=set)

    def add(self, where: str, cls: int, corners: Corners, crowd: bool = False) -> None:
        """Add a box x1, y1, x2, y2 in 0..1, clipped to the image; skip and report it if it is invalid."""
        x1, y1, x2, y2 = corners
        excess = max(-x1, -y1, x2 - 1, y2 - 1)
        left, top, right, bottom = max(x1, 0.0), max(y1, 0.0), min(x2, 1.0), min(y2, 1.0)
        if (cls, corners, crowd) in self._seen:
            self.report("duplicate", where, "same class and box as an earlier row; kept once")
        elif x2 <= x1 or y2 <= y1:
            self.report("malformed", where, f"width {x2 - x1:g} or height {y2 - y1:g} is not positive")
        elif right - left < EMPTY or bottom - top < EMPTY:
            text = f"box x1, y1, x2, y2 = {x1:.4g}, {y1:.4g}, {x2:.4g}, {y2:.4g} has no area in the image; row skipped"
            self.report("out_of_range", where, text)
        else:
            if excess > SLACK:
                self.report("clipped", where, f"box leaves the image by {excess:.3g} of its side; clipped")
            self._seen.add((cls, corners, crowd))
            self.cls.append(cls)
            self.boxes.append(((left + right) / 2, (top + bottom) / 2, right - left, bottom - top))
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
        lines = read_text(path, DataError, guess=True, limit=LABEL_LIMIT).splitlines()
        if len(lines) > MAX_ROWS:
            raise DataError(f"{len(lines):,} rows, expected at most {MAX_ROWS:,} for one image")
    except DataError as error:
        rows.report("malformed", str(path), str(error).removeprefix(f"{path}: "))
        return rows
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            cls, corners = _parse_row(line.split())
        except ValueError as error:
            rows.report("malformed", where, str(error))
            continue
        if not 0 <= cls < nc:
            rows.report("bad_class", where, f"class {short(cls)}, expected 0..{nc - 1}")
        elif max(map(abs, corners)) > PIXELS:
            text = "box x1, y1, x2, y2 = {:.4g}, {:.4g}, {:.4g}, {:.4g}; are these pixels? expected 0..1; row skipped"
            rows.report("out_of_range", where, text.format(*corners))
        else:
            rows.add(where, cls, corners)
    return rows


def parse_number(text: str) -> float:
    """Return a finite number in ASCII digits. Raises ValueError for `nan`, `1_0` and digits of other scripts."""
    value = float(text) if text.isascii() and "_" not in text else math.nan
    if not math.isfinite(value):
        raise ValueError(f"not a finite number: {text[:60]!r}")
    return value


def _parse_row(words: list[str]) -> tuple[int, Corners]:
    """Return class and corners of a row. Raises ValueError with the reason if it is malformed."""
    if len(words) != 5 and (len(words) < 7 or len(words) % 2 == 0):
        columns = counted(len(words), "column")
        raise ValueError(f"{columns}, expected 5 (class cx cy w h) or a class and at least 3 x y pairs")
    try:
        values = [parse_number(word) for word in words]
    except ValueError as error:
        raise ValueError(f"not a finite number in {' '.join(words[:5])[:100]!r}") from error
    if values[0] != int(values[0]):
        raise ValueError(f"class {words[0]} is not a whole number")
    if len(words) > 5:  # a polygon
        xs, ys = values[1::2], values[2::2]
        return int(values[0]), (min(xs), min(ys), max(xs), max(ys))
    cx, cy, w, h = values[1:]
    return int(values[0]), (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)


@dataclass(frozen=True)
class CocoJson:
    """Detection part of a COCO annotation file, without entries that cannot be used."""

    path: Path
    images: list[dict]
    annotations: dict[int | str, list[dict]]  # by image id
    categories: dict[int | str, str]  # sorted by category id
    problems: list[Problem]  # entries that are left out

    def rows(self, image_id: int | str, shape: tuple[float, float], orientation: int = 1) -> Rows:
        """Return the boxes of an image, in pixels of a size `shape` (h, w), upright by its EXIF orientation."""
        rows = Rows()
        height, width = shape
        index = {category: i for i, category in enumerate(self.categories)}
        for entry in self.annotations.get(image_id, ()):
            where = f"{self.path.name}, annotation {short(entry.get('id'))}"
            if problem := self.problem_of(entry):
                rows.report("malformed" if _box_problem(entry) else "bad_class", where, problem)
            else:
                x, y, w, h = entry["bbox"]
                corners = (x / width, y / height, (x + w) / width, (y + h) / height)
                cls, turned = index[_as_id(entry["category_id"])], turn_corners(corners, orientation)
                rows.add(where, cls, turned, _is_crowd(entry))
        return rows

    def problem_of(self, entry: dict) -> str:
        """Return why the bbox, category or iscrowd of an annotation cannot be used; empty if they can."""
        category = entry.get("category_id")
        if (problem := _box_problem(entry)) or _as_id(category) in self.categories:
            return problem
        return f"category_id {short(category)} is not among the categories {short(list(self.categories))}"

    def all_rows(self, images: list[Path], shapes: Shapes) -> list[Rows]:
        """Return the boxes of the images, whose files and upright (height, width) are given.

        They are in pixels of the upright images, or of the stored ones if sizes in the json show that.
        """
        sizes = [size_of_entry(entry) for entry in self.images]
        listed = list(enumerate(zip(images, shapes, sizes, strict=True)))
        turns = {
            i: turn
            for i, (file, shape, size) in listed
            if shape and size == shape[::-1] != shape and (turn := image_orientation(file)) >= 5
        }
        # These sizes are those of the stored images, so one tool has written all boxes for them, unless others deny it.
        alike = {i: image_orientation(file) for i, (file, shape, size) in listed if turns and shape and size == shape}
        if not any(turn >= 5 and shapes[i] != shapes[i][::-1] for i, turn in alike.items()):
            turns |= {i: turn for i, turn in alike.items() if turn > 1}  # by 180 degrees, mirrored, or square
        found = []
        for i, (entry, file, shape, size) in enumerate(zip(self.images, images, shapes, sizes, strict=True)):
            if shape is None:
                found.append(Rows())
                continue
            rows = self.rows(entry["id"], size or shape, turn := turns.get(i, 1))
            if turn > 1:
                rows.report("turned", str(file), f"EXIF orientation {turn}")
            elif size != shape and not {"height", "width"}.isdisjoint(entry):
                given = f"{short(entry.get('width'))} x {short(entry.get('height'))}"
                action = "boxes were scaled" if size else "boxes are used as pixels of the image"
                rows.report("size", str(file), f"is {shape[1]} x {shape[0]}, but {given} in the json; {action}")
            found.append(rows)
        return found

    def truth(self) -> dict:
        """Return the content of a COCO file with the valid boxes, in pixels as in this file."""
        known = [(i, entry) for i, group in self.annotations.items() for entry in group if not self.problem_of(entry)]
        boxes = [
            {
                "id": number, "image_id": image_id, "category_id": _as_id(entry["category_id"]),
                "bbox": entry["bbox"], "iscrowd": int(_is_crowd(entry)),
                "ignore": int(1 in (entry.get("ignore"), entry.get("difficult"))),  # True is 1
                "area": area if is_number(area := entry.get("area")) else entry["bbox"][2] * entry["bbox"][3],
            }
            for number, (image_id, entry) in enumerate(known, 1)
        ]  # fmt: skip
        categories = [{"id": category, "name": name} for category, name in self.categories.items()]
        return {"images": self.images, "annotations": boxes, "categories": categories}


def turn_corners(corners: Corners, orientation: int) -> Corners:
    """Turn a box in 0..1 of an image as stored by its EXIF orientation, 1 to 8."""
    x1, y1, x2, y2 = corners
    if orientation >= 5:
        x1, y1, x2, y2 = y1, x1, y2, x2
    if orientation in (2, 3, 6, 7):
        x1, x2 = 1 - x2, 1 - x1
    if orientation in (3, 4, 7, 8):
        y1, y2 = 1 - y2, 1 - y1
    return x1, y1, x2, y2


def read_coco_json(path: Path, *, named: bool = True) -> CocoJson:
    """Read a COCO annotation file. Entries that cannot be used are left out and listed in `problems`.

    Without `named`, as for metrics, images need no file_name. Raises DataError if the file is missing or no COCO file,
    and for unclear categories or image ids.
    """
    content = read_json(path, DataError)
    present = content if isinstance(content, dict) else {}
    if missing := [k for k in ("images", "annotations", "categories") if not isinstance(present.get(k), list)]:
        raise DataError(f"{path}: not a COCO detection file: it has no {', '.join(missing)} (lists)")
    problems: list[Problem] = []
    categories = _read_categories(path, content["categories"])
    used = Counter(_as_id(e.get("category_id")) for e in content["annotations"] if isinstance(e, dict))
    if (root := _empty_root(content["categories"], used)) is not None:
        detail = f"{categories.pop(root)!r} without boxes is the supercategory of all others; left out"
        problems.append(Problem("entry", f"{path.name}, category {root!r}", detail))
    images: dict[int | str, dict] = {}
    for number, entry in enumerate(content["images"]):
        image_id = _as_id(entry.get("id")) if isinstance(entry, dict) else None
        name = entry.get("file_name") if image_id is not None else None
        if image_id is None or (named and not (isinstance(name, str) and name.strip())):
            detail = f"is {short(entry)}; expected an id (a number or text) and a file_name"
            problems.append(Problem("entry", f"{path.name}, images[{number}]", detail))
        elif image_id in images:
            other = short(images[image_id].get("file_name"))
            raise DataError(
                f"{path}: images[{number}], {short(name)}, has the id {image_id!r} of {other}, so their boxes cannot "
                "be distinguished; give each image an id of its own"
            )
        else:
            images[image_id] = {**entry, "id": image_id}
    by_image, ids, of_text = defaultdict(list), short(list(images)), {str(image_id): image_id for image_id in images}
    for number, entry in enumerate(content["annotations"]):
        image_id = entry.get("image_id") if isinstance(entry, dict) else None
        if (known := _as_id(image_id)) in images or (known := of_text.get(str(image_id))) is not None:
            by_image[known].append(entry)
        else:
            known = f"image_id {short(image_id)} is not among the images {ids}"
            detail = known if isinstance(entry, dict) else short(entry)
            problems.append(Problem("entry", f"{path.name}, annotations[{number}]", detail))
    return CocoJson(path, list(images.values()), dict(by_image), categories, problems)


def find_image(name: str, folders: Iterable[Path]) -> Path:
    """Return the file of a name in a list or json, also with backslashes or as absolute path of another machine."""
    windows = PureWindowsPath(name)
    absolute = windows.is_absolute() or name.startswith("/")
    names = dict.fromkeys([name, windows.as_posix(), *([windows.name] if absolute else [])])
    places = [os.path.join(folder, name) for folder in folders for name in names]
    return Path(next(filter(os.path.isfile, places), places[len(names) - 1]))


def _read_categories(path: Path, entries: list) -> dict[int | str, str]:
    categories: dict[int | str, str] = {}
    for number, entry in enumerate(entries):
        category = _as_id(entry.get("id")) if isinstance(entry, dict) else None
        if category is None or not isinstance(entry.get("name"), (str, int, float)):
            raise DataError(f"{path}: categories[{number}] is {short(entry)}; expected an id and a name")
        if category in categories:
            raise DataError(f"{path}: two categories have the id {category!r}; expected an id of its own for each")
        categories[category] = str(entry["name"])
    if len({type(category) for category in categories}) > 1:
        raise DataError(f"{path}: category ids are numbers and texts: {short(list(categories))}; write all as numbers")
    return dict(sorted(categories.items()))


def _empty_root(categories: list[dict], used: Counter) -> int | str | None:
    """Return the id of the category that Roboflow adds as the supercategory of all others, if it has no boxes."""
    for entry in categories:
        others = [other.get("supercategory") for other in categories if other is not entry]
        is_root = others and all(other == entry["name"] for other in others)
        if is_root and entry.get("supercategory") in (None, "", "none") and not used[_as_id(entry["id"])]:
            return _as_id(entry["id"])
    return None


def _as_id(value: object) -> int | str | None:
    """Return an id, a whole number or text; None for other values."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def is_number(value: object) -> bool:
    """Check for a finite number, not a bool or text, of less than MAX_NUMBER."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < MAX_NUMBER


def _is_crowd(entry: dict) -> bool | None:
    """Return whether an annotation is a crowd region; None if its value is not clear."""
    value = entry.get("iscrowd") or 0
    if isinstance(value, str):
        return FLAGS.get(value.strip().lower())
    return bool(value) if value in (0, 1) else None


def _box_problem(entry: dict) -> str:
    box = entry.get("bbox")
    if not isinstance(box, list) or [is_number(value) for value in box] != [True] * 4:
        return f"bbox is {short(box)}, expected [x, y, width, height] in pixels"
    return f"iscrowd is {short(entry['iscrowd'])}, expected 0 or 1" if _is_crowd(entry) is None else ""


def size_of_entry(entry: dict) -> tuple[float, float] | None:
    """Return (height, width) of an image entry of a COCO file; None if it has none that can be used."""
    size = entry.get("height"), entry.get("width")
    return size if all(is_number(value) and value > 0 for value in size) else None
