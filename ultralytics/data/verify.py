"""Scan all image and label files of a split and report problems; later runs read the label cache."""

import hashlib
import json
import os
import textwrap
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ultralytics.data.dataset_yaml import DatasetConfig, label_file, list_images
from ultralytics.data.images import probe_image
from ultralytics.data.labels import CocoJson, ImageLabels, Problem, Rows, read_coco_json, read_yolo_file
from ultralytics.utils import LOGGER, cache_dir
from ultralytics.utils.errors import DataError
from ultralytics.utils.files import atomic_write

LABEL_CACHE_VERSION = 2  # increase it when the interpretation of label files changes
MAX_LISTED = 5  # findings of one kind to list; others are only counted
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


@dataclass(frozen=True)
class Scan:
    """Labels of all readable images of a split, and problems; `str()` returns a table."""

    split: str
    names: dict[int, str]
    labels: list[ImageLabels]
    problems: list[Problem]
    category_ids: tuple[int, ...] | None  # COCO category id of each class, for labels from a json

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
        if not self.labels:
            raise DataError(f"{where}, {self.split}: none of the images can be used: {self}")

    def __str__(self) -> str:
        present = [item.cls[~item.crowd] for item in self.labels]
        found = [np.concatenate([np.zeros(0, int), *classes]) for classes in (present, map(np.unique, present))]
        boxes, images = (np.bincount(classes, minlength=len(self.names)) for classes in found)
        empty, crowd = sum(not len(classes) for classes in present), sum(item.crowd.sum() for item in self.labels)
        skipped = f", {crowd} crowd regions skipped" if crowd else ""
        lines = [f"{self.split}: {len(present)} images, {boxes.sum()} boxes, {empty} images without boxes{skipped}"]
        if boxes.any():
            cells = [f"{name} {boxes[i]}/{images[i]}" for i, name in self.names.items() if boxes[i]]
            rows = textwrap.wrap(", ".join(cells), 110, initial_indent="  ", subsequent_indent="  ")
            lines += ["boxes/images of each class:", *rows]
            if absent := [name for i, name in self.names.items() if not boxes[i]]:
                shown = textwrap.shorten(", ".join(absent), 200, placeholder=" ...")
                lines.append(f"  {len(absent)} classes without a box: {shown}")
        return "\n".join([*lines, *(self.describe(kind) for kind in KINDS if self.of_kind(kind))])


def scan_split(config: DatasetConfig, split: str) -> Scan:
    """Read the YOLO text files or the COCO json of a split, or its label cache if no file has changed."""
    folders, categories = config.splits[split], None
    if json_file := config.annotations.get(split):
        coco = _read_matching_json(json_file, config)
        places = [[folder / entry["file_name"] for folder in (*folders, config.root)] for entry in coco.images]
        images = [next(filter(Path.is_file, files), files[0]) for files in places]
        readers = [partial(_coco_rows, coco, entry) for entry in coco.images]
        ids, categories = [entry["id"] for entry in coco.images], tuple(coco.categories)
        files, place = [json_file, *images], json_file.with_suffix("")
    else:
        images = list_images(folders, config.root)
        texts = [label_file(image) for image in images]
        readers = [partial(_yolo_rows, text, config.nc) for text in texts]
        ids = [int(image.stem) if image.stem.isdecimal() else image.stem for image in images]
        files, place = [*images, *texts], texts[0].parent
    # Two data sets may share a folder of labels.
    cache = place.with_name(f"{place.name}-{_digest(*folders)}.cache.npz")
    if not os.access(cache.parent, os.W_OK):  # a read-only data set
        cache = cache_dir() / "labels" / f"{_digest(cache.parent)}-{cache.name}"
    key = fingerprint(files, *config.names.values())
    if not (found := _load_labels(cache, key)):
        found = _read_all(images, ids, readers, split)
        try:
            _save_labels(cache, key, *found)
        except OSError as error:  # disk full, no permission: labels are read again next time
            LOGGER.warning(f"{cache}: the label cache was not saved: {error}")
    return Scan(split, config.names, *found, categories)


def _yolo_rows(file: Path, nc: int, image: Path, shape: tuple[int, int]) -> Rows:
    if file.is_file():
        return read_yolo_file(file, nc)
    return Rows(problems=[Problem("missing_label", str(image), f"looked for {file}")])


def _coco_rows(coco: CocoJson, entry: dict, image: Path, shape: tuple[int, int]) -> Rows:
    given = (entry.get("height", shape[0]), entry.get("width", shape[1]))
    rows = coco.rows(entry["id"], given)
    if shape != given:
        text = f"is {shape[1]} x {shape[0]}, but {given[1]} x {given[0]} in the json; boxes were scaled"
        rows.report("size", str(image), text)
    return rows


def _read_matching_json(file: Path, config: DatasetConfig) -> CocoJson:
    """Read a COCO json, and check that its categories are the names of the data set."""
    coco = read_coco_json(file)
    for index, (theirs, ours) in enumerate(zip_longest(coco.categories.values(), config.names.values())):
        if theirs != ours:
            raise DataError(
                f"{file}: class {index}, by ascending category id, is {theirs!r}, but {ours!r} in the names of "
                f"{config.yaml_file or 'the data'}; remove names to use those of the json"
            )
    return coco


def _read_all(images: list[Path], ids: list[int | str], readers: list[Callable[..., Rows]], split: str) -> Labels:
    """Read labels and problems of all images in threads; `readers` take an image and its (height, width)."""

    def read(image: Path, image_id: int | str, read_rows: Callable[..., Rows]) -> Labels:
        try:
            shape = probe_image(image)
        except DataError as error:
            return [], [Problem("corrupt", str(image), str(error).removeprefix(f"{image}: "))]
        rows = read_rows(image, shape)
        return [rows.labels(image, shape, image_id)], rows.problems

    with ThreadPoolExecutor(THREADS) as threads:
        found = threads.map(read, images, ids, readers)
        found = list(tqdm(found, f"Reading {split} labels", len(images), delay=1))
    return [item for items, _ in found for item in items], [item for _, items in found for item in items]


def _digest(*paths: Path) -> str:
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


def _save_labels(file: Path, key: str, labels: list[ImageLabels], problems: list[Problem]) -> None:
    head = {
        "key": key,
        "files": [str(item.file) for item in labels],
        "ids": [item.image_id for item in labels],
        "problems": [asdict(problem) for problem in problems],
    }
    rows = [np.column_stack([item.cls, item.boxes, item.crowd]) for item in labels]  # (n, 6) each
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file, shared=True) as stream:
        np.savez(
            stream,
            head=np.frombuffer(json.dumps(head).encode(), np.uint8),
            shapes=np.array([item.shape for item in labels], np.int64).reshape(-1, 2),
            counts=np.array([len(item.cls) for item in labels], np.int64),
            rows=np.concatenate([np.zeros((0, 6)), *rows]),
        )


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
