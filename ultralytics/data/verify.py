"""Look at every image and label file of a split once; later runs take the result from the label cache."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ultralytics.data.dataset_yaml import DatasetConfig, label_file, list_images
from ultralytics.data.images import probe_image, read_image
from ultralytics.data.labels import CocoJson, ImageLabels, Problem, Rows, read_coco_json, read_yolo_file
from ultralytics.utils import LOGGER, cache_dir
from ultralytics.utils.errors import DataError
from ultralytics.utils.files import atomic_write

LISTED = 5  # findings of one kind that are named; the rest is counted
KINDS = {
    "corrupt": "unreadable images (skipped)",
    "missing_image": "listed images that do not exist (skipped)",
    "missing_label": "images without a label file (taken as background)",
    "bad_class": "rows with a class outside the names",
    "malformed": "malformed rows (skipped)",
    "out_of_range": "boxes outside the image (skipped)",
    "clipped": "boxes cut at the image border",
    "duplicate": "duplicate rows (kept once)",
    "size": "images whose size differs from the json",
}


@dataclass(frozen=True)
class DatasetReport:
    """Counts of one split, and every finding; `str()` gives the table."""

    split: str
    images: int
    empty: int  # images without boxes, with or without a label file
    crowd: int  # crowd regions: not trained on
    boxes_per_class: tuple[int, ...]
    images_per_class: tuple[int, ...]
    names: dict[int, str]
    problems: tuple[Problem, ...]

    @classmethod
    def of(cls, split: str, labels: list[ImageLabels], names: dict[int, str], problems: list[Problem]) -> DatasetReport:
        """Count the labels of a split."""
        kept = [item.cls[~item.crowd] for item in labels]
        boxes, images = np.zeros((2, len(names)), int)
        for classes in kept:
            np.add.at(boxes, classes, 1)
            images[np.unique(classes)] += 1
        return cls(
            split,
            len(labels),
            sum(not len(classes) for classes in kept),
            sum(int(item.crowd.sum()) for item in labels),
            tuple(boxes.tolist()),
            tuple(images.tolist()),
            names,
            tuple(problems),
        )

    @property
    def boxes(self) -> int:
        """Boxes without crowd regions."""
        return sum(self.boxes_per_class)

    def of_kind(self, kind: str) -> list[Problem]:
        """Findings of one kind."""
        return [problem for problem in self.problems if problem.kind == kind]

    def describe(self, kind: str) -> str:
        """One line with the number of findings of a kind, then the first few, each on a line."""
        found = self.of_kind(kind)
        lines = [f"{len(found)} {KINDS[kind]}", *(f"  {p.where}: {p.detail}" for p in found[:LISTED])]
        if len(found) > LISTED:
            lines.append(f"  ... and {len(found) - LISTED} more")
        return "\n".join(lines)

    def __str__(self) -> str:
        crowd = f", {self.crowd} crowd regions left out" if self.crowd else ""
        lines = [f"{self.split}: {self.images} images, {self.boxes} boxes, {self.empty} images without boxes{crowd}"]
        lines += self._class_table()
        lines += [self.describe(kind) for kind in KINDS if self.of_kind(kind)]
        return "\n".join(lines)

    def _class_table(self) -> list[str]:
        """`name boxes/images` of every class, in as many columns as fit; classes without a box are named last."""
        shown = [i for i in self.names if self.boxes_per_class[i]]
        cells = [f"{self.names[i]} {self.boxes_per_class[i]}/{self.images_per_class[i]}" for i in shown]
        if not cells:
            return []
        width = max(map(len, cells)) + 3
        columns = max(1, 110 // width)
        rows = ["".join(c.ljust(width) for c in cells[k : k + columns]) for k in range(0, len(cells), columns)]
        lines = ["boxes/images of each class:", *(f"  {row.rstrip()}" for row in rows)]
        absent = [self.names[i] for i in self.names if not self.boxes_per_class[i]]
        if absent:
            more = f" and {len(absent) - 10} more" if len(absent) > 10 else ""
            lines.append(f"  {len(absent)} classes without a box: {', '.join(absent[:10])}{more}")
        return lines


LABEL_CACHE_VERSION = 1  # raise it when what is read from label files changes
RESERVE = 0.8  # share of the free memory or disk space that a cache may take
THREADS = min(8, os.cpu_count() or 1)


def fingerprint(paths: Iterable[Path], *facts: object) -> str:
    """Hash over names, sizes and times of files (or their absence), and over `facts`."""
    digest = hashlib.sha256(repr((LABEL_CACHE_VERSION, *facts)).encode())
    for path in paths:
        try:
            status = os.stat(path)
            digest.update(f"{path}|{status.st_size}|{status.st_mtime_ns}\n".encode())
        except OSError:
            digest.update(f"{path}|absent\n".encode())
    return digest.hexdigest()


def save_labels(file: Path, key: str, labels: list[ImageLabels], problems: list[Problem]) -> None:
    """Write labels as plain arrays and json to `file`, or to the cache folder where `file` cannot be written."""
    head = {
        "key": key,
        "files": [str(item.file) for item in labels],
        "ids": [item.image_id for item in labels],
        "problems": [asdict(problem) for problem in problems],
    }
    arrays = {
        "head": np.frombuffer(json.dumps(head).encode(), np.uint8),
        "shapes": np.array([item.shape for item in labels], np.int64).reshape(-1, 2),
        "counts": np.array([len(item.cls) for item in labels], np.int64),
        "cls": np.concatenate([np.zeros(0, np.int64), *(item.cls for item in labels)]),
        "boxes": np.concatenate([np.zeros((0, 4), np.float32), *(item.boxes for item in labels)]),
        "crowd": np.concatenate([np.zeros(0, bool), *(item.crowd for item in labels)]),
    }
    for place in (file, _elsewhere(file)):
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.parent.stat().st_mode & 0o222:  # the superuser could write, but is not meant to
                raise PermissionError(f"{place.parent} is read-only")
            with atomic_write(place, shared=True) as stream:
                np.savez(stream, **arrays)
            return
        except OSError as error:
            reason = error
    LOGGER.warning(f"The label cache could not be written ({reason}); labels will be read again next time")


def load_labels(file: Path, key: str) -> tuple[list[ImageLabels], list[Problem]] | None:
    """Labels of an earlier run, or None when there are none or the files have changed since."""
    for place in (file, _elsewhere(file)):
        try:
            with np.load(place, allow_pickle=False) as stored:
                head = json.loads(stored["head"].tobytes())
                if head["key"] != key:
                    continue
                ends = np.cumsum(stored["counts"])[:-1]
                columns = [np.split(stored[name], ends) for name in ("cls", "boxes", "crowd")]
                shapes = stored["shapes"].tolist()
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            continue  # absent or damaged: the labels are read again
        rows = zip(head["files"], shapes, *columns, head["ids"], strict=True) if head["files"] else ()
        labels = [ImageLabels(Path(f), (h, w), c, b, k, i) for f, (h, w), c, b, k, i in rows]
        return labels, [Problem(**problem) for problem in head["problems"]]
    return None


def available_memory() -> int | None:
    """Bytes that can be taken without swapping, within the limit of a container; None where that cannot be told."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        return min(available, limit - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    except (OSError, ValueError):  # no container, or "max"
        return available


def fits_in_memory(needed: int) -> bool:
    """Whether `needed` bytes of images may be kept in memory; says so when not."""
    available = available_memory()
    if available is None or needed < RESERVE * available:
        return True
    LOGGER.warning(
        f"cache='ram' is left off: the images need {needed / 1e9:.1f} GB of {available / 1e9:.1f} GB free memory; "
        f"use cache='disk', a smaller imgsz or fraction"
    )
    return False


def decoded_file(image: Path) -> Path:
    """`a.jpg` -> `a.jpg.npy`, the decoded image that cache='disk' keeps beside it."""
    return image.with_name(image.name + ".npy")


def read_decoded(image: Path) -> np.ndarray:
    """The image from its decoded copy where that is there and not older, else from the file itself."""
    copy = decoded_file(image)
    if not _is_fresh(copy, image):
        return read_image(image)
    return np.load(copy, allow_pickle=False)


def fill_disk_cache(labels: Sequence[ImageLabels]) -> bool:
    """Write decoded copies of all images that have none; False, with a warning, where there is no room for them."""
    missing = [item for item in labels if not _is_fresh(decoded_file(item.file), item.file)]
    if not missing:
        return True
    needed = sum(item.shape[0] * item.shape[1] * 3 for item in missing)
    folder = missing[0].file.parent
    free = shutil.disk_usage(folder).free
    if needed > RESERVE * free:
        LOGGER.warning(
            f"cache='disk' is left off: needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free in {folder}"
        )
        return False

    def write(item: ImageLabels) -> None:
        image = read_image(item.file)
        with atomic_write(decoded_file(item.file), shared=True) as stream:
            np.save(stream, image)

    try:
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(write, missing))
    except OSError as error:
        LOGGER.warning(f"cache='disk' is left off: {folder} cannot be written ({error.strerror})")
        return False
    return True


def _is_fresh(copy: Path, original: Path) -> bool:
    return copy.exists() and copy.stat().st_mtime >= original.stat().st_mtime


def _elsewhere(file: Path) -> Path:
    """Place for the cache of a data set that is read-only."""
    folder = hashlib.sha256(str(file.parent).encode()).hexdigest()[:16]
    return cache_dir() / "labels" / f"{folder}-{file.name}"


SHOW_PROGRESS_FROM = 2000  # images; fewer are read before a bar can be looked at

Found = tuple[ImageLabels | None, list[Problem]]


@dataclass(frozen=True)
class Scan:
    """Labels of all readable images of a split, and everything odd that was found."""

    labels: list[ImageLabels]
    problems: list[Problem]
    category_ids: tuple[int, ...] | None  # of a COCO json, by class index


def scan_split(config: DatasetConfig, split: str) -> Scan:
    """Read a split of a data set in YOLO text or COCO json form."""
    if config.annotations.get(split):
        return _scan_coco(config, split, config.annotations[split])
    images = list_images(config.splits[split], config.root)
    files = [label_file(image) for image in images]
    key = fingerprint([*images, *files], config.nc)

    def read() -> tuple[list[ImageLabels], list[Problem]]:
        return _in_threads(lambda pair: _read_yolo(*pair, config.nc), list(zip(images, files, strict=True)), split)

    folder = files[0].parent
    labels, problems = _cached(folder.parent / f"{folder.name}-{_digest(config.splits[split])}.cache.npz", key, read)
    return Scan(labels, problems, None)


def _scan_coco(config: DatasetConfig, split: str, json_file: Path) -> Scan:
    coco = read_coco_json(json_file)
    categories = list(coco.categories.values())
    for index, (there, here) in enumerate(zip_longest(categories, config.names.values())):
        if there != here:
            raise DataError(
                f"{json_file}: class {index}, by ascending category id, is {there!r}, but {here!r} in the names of "
                f"{config.yaml_file or 'the data'}; leave names out to take them from the json"
            )
    folders = config.splits[split]
    if not coco.images:
        raise DataError(f"{json_file}: its list of images is empty")
    files = [_find_listed(entry["file_name"], folders, config.root) for entry in coco.images]
    key = fingerprint([json_file, *files], categories)

    def read() -> tuple[list[ImageLabels], list[Problem]]:
        pairs = list(zip(files, coco.images, strict=True))
        labels, problems = _in_threads(lambda pair: _read_coco(*pair, coco), pairs, split)
        unlisted = sorted(coco.annotations.keys() - {entry["id"] for entry in coco.images}, key=str)
        problems += [
            Problem("malformed", json_file.name, f"boxes of image_id {image_id}, which is not among the images")
            for image_id in unlisted
        ]
        return labels, problems

    labels, problems = _cached(json_file.with_name(f"{json_file.stem}-{_digest(folders)}.cache.npz"), key, read)
    return Scan(labels, problems, tuple(coco.categories))


def _cached(file: Path, key: str, read: Callable) -> tuple[list[ImageLabels], list[Problem]]:
    stored = load_labels(file, key)
    if stored is None:
        stored = read()
        save_labels(file, key, *stored)
    return stored


def _digest(sources: Sequence[Path]) -> str:
    """Short name for the folders and lists of a split: two data sets may share a folder of labels."""
    return hashlib.sha256("\n".join(map(str, sources)).encode()).hexdigest()[:8]


def _find_listed(name: str, folders: Sequence[Path], root: Path) -> Path:
    """File of an image that a json names: in one of the folders of the split, else below the root."""
    candidates = [folder / name for folder in folders] + [root / name]
    return next((file for file in candidates if file.is_file()), candidates[0])


def _in_threads(
    read: Callable[[tuple], Found], items: list[tuple], split: str
) -> tuple[list[ImageLabels], list[Problem]]:
    labels, problems = [], []
    with ThreadPoolExecutor(THREADS) as threads:
        results = threads.map(read, items)
        for found, remarks in tqdm(
            results, f"Reading {split} labels", len(items), disable=len(items) < SHOW_PROGRESS_FROM
        ):
            problems += remarks
            if found is not None:
                labels.append(found)
    return labels, problems


def _probe(image: Path) -> tuple[tuple[int, int] | None, list[Problem]]:
    if not image.exists():
        return None, [Problem("missing_image", str(image), "no such file")]
    try:
        return probe_image(image), []
    except DataError as error:
        return None, [Problem("corrupt", str(image), str(error).removeprefix(f"{image}: "))]


def _read_yolo(image: Path, file: Path, nc: int) -> Found:
    shape, problems = _probe(image)
    if shape is None:
        return None, problems
    if file.is_file():
        rows = read_yolo_file(file, nc)
    else:
        rows = Rows(problems=[Problem("missing_label", str(image), f"looked for {file}")])
    stem = image.stem
    return rows.labels(image, shape, int(stem) if stem.isdecimal() else stem), rows.problems


def _read_coco(image: Path, entry: dict, coco: CocoJson) -> Found:
    shape, problems = _probe(image)
    if shape is None:
        return None, problems
    stated = (entry.get("height", shape[0]), entry.get("width", shape[1]))
    rows = coco.rows(entry["id"], stated)
    if shape != stated:
        text = f"is {shape[1]} x {shape[0]}, the json says {stated[1]} x {stated[0]}; boxes were scaled"
        rows.problems.append(Problem("size", str(image), text))
    return rows.labels(image, shape, entry["id"]), rows.problems
