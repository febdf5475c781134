"""Look at every image and label file of a split once; later runs take the result from the label cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from tqdm import tqdm

from ultralytics.data.cache import THREADS, fingerprint, load_labels, save_labels
from ultralytics.data.images import probe_image
from ultralytics.data.labels import CocoJson, ImageLabels, Problem, Rows, read_coco_json, read_yolo_file
from ultralytics.data.utils import DatasetConfig, label_file, list_images
from ultralytics.utils.errors import DataError

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
