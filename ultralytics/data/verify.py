"""Scan all image and label files of a split and report problems; later runs read the label cache."""

from __future__ import annotations

import hashlib
import json
import os
import textwrap
import zipfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ultralytics.data.dataset_yaml import DatasetConfig, label_file, list_images
from ultralytics.data.images import probe_image
from ultralytics.data.labels import ImageLabels, Problem, Rows, read_coco_json, read_yolo_file
from ultralytics.utils import cache_dir
from ultralytics.utils.errors import DataError
from ultralytics.utils.files import atomic_write

LABEL_CACHE_VERSION = 2  # increase it when the interpretation of label files changes
MAX_LISTED = 5  # findings of one kind to list; others are only counted
PROGRESS_FROM = 2000  # images; smaller splits are scanned without a progress bar
THREADS = min(8, os.cpu_count() or 1)
KINDS = {
    "corrupt": "missing or unreadable images (skipped)",
    "missing_label": "images without a label file (used as background)",
    "bad_class": "rows with a class outside the names",
    "malformed": "malformed rows (skipped)",
    "out_of_range": "boxes outside the image (skipped)",
    "clipped": "boxes clipped at the image border",
    "duplicate": "duplicate rows (kept once)",
    "size": "images whose size differs from the json",
}

Labels = tuple[list[ImageLabels], list[Problem]]
Found = tuple[ImageLabels | None, list[Problem]]


@dataclass(frozen=True)
class DatasetReport:
    """Counts and problems of one split; `str()` returns a table."""

    split: str
    images: int
    empty: int  # images without boxes, with or without a label file
    crowd: int  # crowd regions, which are not trained on
    boxes_per_class: tuple[int, ...]
    images_per_class: tuple[int, ...]
    names: dict[int, str]
    problems: tuple[Problem, ...]

    @classmethod
    def from_labels(
        cls, split: str, labels: list[ImageLabels], names: dict[int, str], problems: list[Problem]
    ) -> DatasetReport:
        """Count the labels of a split."""
        boxes, images, empty = np.zeros(len(names), int), np.zeros(len(names), int), 0
        for item in labels:
            classes = item.cls[~item.crowd]
            np.add.at(boxes, classes, 1)
            images[np.unique(classes)] += 1
            empty += not len(classes)
        crowd = sum(int(item.crowd.sum()) for item in labels)
        counts = tuple(boxes.tolist()), tuple(images.tolist())
        return cls(split, len(labels), empty, crowd, *counts, names, tuple(problems))

    @property
    def boxes(self) -> int:
        """Return the number of boxes without crowd regions."""
        return sum(self.boxes_per_class)

    def of_kind(self, kind: str) -> list[Problem]:
        """Return the problems of one kind, a key of KINDS."""
        return [problem for problem in self.problems if problem.kind == kind]

    def describe(self, kind: str) -> str:
        """Return the number of problems of a kind and the first few, one per line."""
        found = self.of_kind(kind)
        more = [f"  ... and {len(found) - MAX_LISTED} more"] if len(found) > MAX_LISTED else []
        shown = [f"  {problem.where}: {problem.detail}" for problem in found[:MAX_LISTED]]
        return "\n".join([f"{len(found)} {KINDS[kind]}", *shown, *more])

    def check(self, where: str | Path) -> None:
        """Raise DataError for classes outside the names, and if no image can be used."""
        if self.of_kind("bad_class"):
            names = textwrap.shorten(", ".join(f"{i}: {name}" for i, name in self.names.items()), 200)
            raise DataError(
                f"{where}, {self.split}: {self.describe('bad_class')}\nnames has {len(self.names)} classes ({names}); "
                "add the missing names to the data YAML or correct the label files (classes count from 0)"
            )
        if not self.images:
            raise DataError(f"{where}, {self.split}: none of the images can be used: {self}")

    def __str__(self) -> str:
        crowd = f", {self.crowd} crowd regions skipped" if self.crowd else ""
        lines = [f"{self.split}: {self.images} images, {self.boxes} boxes, {self.empty} images without boxes{crowd}"]
        counts = list(zip(self.names.values(), self.boxes_per_class, self.images_per_class, strict=True))
        if self.boxes:
            cells = ", ".join(f"{name} {boxes}/{images}" for name, boxes, images in counts if boxes)
            rows = textwrap.wrap(cells, 110, initial_indent="  ", subsequent_indent="  ")
            lines += ["boxes/images of each class:", *rows]
            if absent := [name for name, boxes, _ in counts if not boxes]:
                shown = textwrap.shorten(", ".join(absent), 200, placeholder=" ...")
                lines.append(f"  {len(absent)} classes without a box: {shown}")
        return "\n".join([*lines, *(self.describe(kind) for kind in KINDS if self.of_kind(kind))])


@dataclass(frozen=True)
class Scan:
    """Labels of all readable images of a split, and the report."""

    labels: list[ImageLabels]
    report: DatasetReport
    category_ids: tuple[int, ...] | None  # COCO category id of each class, for labels from a json


def scan_split(config: DatasetConfig, split: str) -> Scan:
    """Read the YOLO text files or the COCO json of a split, or its label cache if no file has changed."""
    if config.annotations.get(split):
        (labels, problems), categories = _scan_coco(config, split, config.annotations[split])
    else:
        (labels, problems), categories = _scan_yolo(config, split), None
    return Scan(labels, DatasetReport.from_labels(split, labels, config.names, problems), categories)


def _scan_yolo(config: DatasetConfig, split: str) -> Labels:
    images = list_images(config.splits[split], config.root)
    files = [label_file(image) for image in images]

    def read(image: Path, file: Path) -> Found:
        missing = Rows(problems=[Problem("missing_label", str(image), f"looked for {file}")])
        image_id = int(image.stem) if image.stem.isdecimal() else image.stem
        return _labels(image, image_id, lambda _: read_yolo_file(file, config.nc) if file.is_file() else missing)

    cache = files[0].parent.with_name(f"{files[0].parent.name}-{_digest(config.splits[split])}.cache.npz")
    key = fingerprint([*images, *files], config.nc)
    return _cached(cache, key, lambda: _in_threads(read, images, files, split=split))


def _scan_coco(config: DatasetConfig, split: str, json_file: Path) -> tuple[Labels, tuple[int, ...]]:
    coco, folders = read_coco_json(json_file), config.splits[split]
    for index, (theirs, ours) in enumerate(zip_longest(coco.categories.values(), config.names.values())):
        if theirs != ours:
            raise DataError(
                f"{json_file}: class {index}, by ascending category id, is {theirs!r}, but {ours!r} in the names of "
                f"{config.yaml_file or 'the data'}; remove names to use those of the json"
            )
    if not coco.images:
        raise DataError(f"{json_file}: its list of images is empty")

    def find(name: str) -> Path:
        candidates = [folder / name for folder in (*folders, config.root)]
        return next((file for file in candidates if file.is_file()), candidates[0])

    def read(image: Path, entry: dict) -> Found:
        def read_rows(shape: tuple[int, int]) -> Rows:
            given = (entry.get("height", shape[0]), entry.get("width", shape[1]))
            rows = coco.rows(entry["id"], given)
            if shape != given:
                text = f"is {shape[1]} x {shape[0]}, but {given[1]} x {given[0]} in the json; boxes were scaled"
                rows.report("size", str(image), text)
            return rows

        return _labels(image, entry["id"], read_rows)

    files = [find(entry["file_name"]) for entry in coco.images]
    cache = json_file.with_name(f"{json_file.stem}-{_digest(folders)}.cache.npz")
    key = fingerprint([json_file, *files], list(coco.categories.values()))
    return _cached(cache, key, lambda: _in_threads(read, files, coco.images, split=split)), tuple(coco.categories)


def _labels(image: Path, image_id: int | str, read_rows: Callable[[tuple[int, int]], Rows]) -> Found:
    """Return the labels of an image, read for its (height, width), and problems; None for an unreadable image."""
    try:
        shape = probe_image(image)
    except DataError as error:
        return None, [Problem("corrupt", str(image), str(error).removeprefix(f"{image}: "))]
    rows = read_rows(shape)
    return rows.labels(image, shape, image_id), rows.problems


def _in_threads(read: Callable[..., Found], *columns: Sequence, split: str) -> Labels:
    """Call `read` for each row of the columns in threads; collect labels and problems in order."""
    total = len(columns[0])
    with ThreadPoolExecutor(THREADS) as threads:
        results = threads.map(read, *columns)
        results = list(tqdm(results, f"Reading {split} labels", total, disable=total < PROGRESS_FROM))
    return [item for item, _ in results if item], [problem for _, found in results for problem in found]


def _digest(paths: Sequence[Path]) -> str:
    """Return a short hash of the folders of a split, as two data sets may share a folder of labels."""
    return hashlib.sha256("\n".join(map(str, paths)).encode()).hexdigest()[:8]


def fingerprint(paths: Iterable[Path], *facts: object) -> str:
    """Return a hash of names, sizes and times of files (or their absence), and of `facts`."""
    digest = hashlib.sha256(repr((LABEL_CACHE_VERSION, *facts)).encode())
    for path in paths:
        try:
            status = os.stat(path)
            digest.update(f"{path}|{status.st_size}|{status.st_mtime_ns}\n".encode())
        except OSError:
            digest.update(f"{path}|absent\n".encode())
    return digest.hexdigest()


def _cached(file: Path, key: str, read: Callable[[], Labels]) -> Labels:
    """Return the labels in the cache `file` if they have this key, else read and cache them."""
    if not os.access(file.parent, os.W_OK):  # a read-only data set
        file = cache_dir() / "labels" / f"{_digest([file.parent])}-{file.name}"
        file.parent.mkdir(parents=True, exist_ok=True)
    if stored := _load_labels(file, key):
        return stored
    labels, problems = read()
    head = {
        "key": key,
        "files": [str(item.file) for item in labels],
        "ids": [item.image_id for item in labels],
        "problems": [asdict(problem) for problem in problems],
    }
    rows = [np.column_stack([item.cls, item.boxes, item.crowd]) for item in labels]  # (n, 6) each
    with atomic_write(file, shared=True) as stream:
        np.savez(
            stream,
            head=np.frombuffer(json.dumps(head).encode(), np.uint8),
            shapes=np.array([item.shape for item in labels], np.int64).reshape(-1, 2),
            counts=np.array([len(item.cls) for item in labels], np.int64),
            rows=np.concatenate([np.zeros((0, 6)), *rows]),
        )
    return labels, problems


def _load_labels(file: Path, key: str) -> Labels | None:
    """Return cached labels, or None if there are none with this key."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            head, shapes, counts, rows = (stored[name] for name in ("head", "shapes", "counts", "rows"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # absent or damaged
    head = json.loads(head.tobytes())
    if head["key"] != key:
        return None
    tables = np.split(rows, np.cumsum(counts)[:-1])
    labels = [
        ImageLabels(Path(f), shape, t[:, 0].astype(int), t[:, 1:5].astype(np.float32), t[:, 5].astype(bool), image_id)
        for f, shape, t, image_id in zip(head["files"], map(tuple, shapes.tolist()), tables, head["ids"], strict=False)
    ]
    return labels, [Problem(**problem) for problem in head["problems"]]
