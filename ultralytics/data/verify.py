"""Scan all image and label files of a split and report problems; later runs read the label cache."""

import hashlib
import json
import os
import textwrap
import zipfile
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np

from ultralytics.data.dataset_yaml import DatasetConfig, label_file, list_images
from ultralytics.data.images import PLUGINS, probe_image
from ultralytics.data.labels import (
    CocoJson,
    ImageLabels,
    Problem,
    Rows,
    Shapes,
    find_image,
    image_ids,
    read_coco_json,
    read_yolo_file,
)
from ultralytics.utils import LOGGER, cache_dir, progress
from ultralytics.utils.errors import DataError, counted
from ultralytics.utils.files import atomic_write

LABEL_CACHE_VERSION = 3  # increase it when the interpretation of label files changes
MAX_ABSENT = 20  # classes without a box to name
MAX_LISTED = 5  # findings of one kind to list; others are only counted
THREADS = min(8, os.cpu_count() or 1)
KINDS = {  # noun to count, and the rest
    "corrupt": ("missing or unreadable image", "(skipped)"),
    "missing_label": ("image", "without a label file (used as background)"),
    "bad_class": ("row", "with a class outside the names"),
    "malformed": ("malformed row", "(skipped)"),
    "entry": ("entry", "of the json that cannot be used (left out)"),
    "out_of_range": ("box", "outside the image (skipped)"),
    "clipped": ("box", "clipped at the image border"),
    "duplicate": ("duplicate row", "(kept once)"),
    "size": ("image", "whose size differs from the json"),
    "turned": ("image", "turned by EXIF, with boxes of the stored image in the json (boxes turned)"),
}

ANY_CLASS = 100_000  # with single_cls
CACHE_ERRORS = (  # of the readers of zip and npy files, and for content of another form
    OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, ArithmeticError, RuntimeError, MemoryError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
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
        noun, rest = KINDS[kind]
        return "\n".join([f"{counted(len(found), noun)} {rest}", *shown, *more])

    def check(self, where: str | Path) -> None:
        """Raise DataError for classes outside the names, and if no image can be used."""
        if self.of_kind("bad_class"):
            names = textwrap.shorten(", ".join(f"{i}: {name}" for i, name in self.names.items()), 200)
            raise DataError(
                f"{where}, {self.split}: {self.describe('bad_class')}\n"
                f"names has {counted(len(self.names), 'class')} ({names}); "
                "add the missing names to the data YAML or correct the label files (classes count from 0)"
            )
        if not self.labels:
            raise DataError(f"{where}, {self.split}: none of the images can be used: {self}")

    def __str__(self) -> str:
        present = [item.cls[~item.crowd] for item in self.labels]
        found = [np.concatenate([np.zeros(0, int), *classes]) for classes in (present, map(np.unique, present))]
        boxes, images = (np.bincount(classes, minlength=len(self.names)) for classes in found)
        empty, crowd = sum(not len(classes) for classes in present), sum(item.crowd.sum() for item in self.labels)
        skipped = f", {counted(crowd, 'crowd region')} skipped" if crowd else ""
        total = f"{counted(len(present), 'image')}, {counted(boxes.sum(), 'box')}"
        lines = [f"{self.split}: {total}, {counted(empty, 'image')} without boxes{skipped}"]
        if boxes.any():
            cells = [f"{name} {boxes[i]}/{images[i]}" for i, name in self.names.items() if boxes[i]]
            rows = textwrap.wrap(", ".join(cells), 110, initial_indent="  ", subsequent_indent="  ")
            lines += ["boxes/images of each class:", *rows]
            if absent := [name for i, name in self.names.items() if not boxes[i]]:
                more = f", and {len(absent) - MAX_ABSENT} more" if len(absent) > MAX_ABSENT else ""
                lines.append(f"  {counted(len(absent), 'class')} without a box: {', '.join(absent[:MAX_ABSENT])}{more}")
        return "\n".join([*lines, *(self.describe(kind) for kind in KINDS if self.of_kind(kind))])


def scan_split(config: DatasetConfig, split: str, *, single_cls: bool = False) -> Scan:
    """Read the YOLO text files or the COCO json of a split, or its label cache if no file has changed.

    With `single_cls` the class numbers in YOLO text files may exceed the names, and categories of a json may differ.
    """
    folders, categories, nc = config.splits[split], None, ANY_CLASS if single_cls else config.nc
    if json_file := config.annotations.get(split):
        coco = read_coco_json(json_file) if single_cls else _read_matching_json(json_file, config)
        images = [find_image(entry["file_name"], (*folders, config.root)) for entry in coco.images]
        read_rows = coco.all_rows
        ids, categories = [entry["id"] for entry in coco.images], tuple(coco.categories)
        files, place = [json_file, *images], json_file.with_suffix("")
    else:
        images = list_images(folders, config.root)
        texts = [label_file(image) for image in images]
        read_rows = partial(_yolo_rows, texts, nc)
        ids = image_ids(images)
        files, place = [*images, *texts], texts[0].parent
    # Two data sets may share a folder of labels.
    cache = place.parent / f"{place.name}-{_digest(*folders)}.cache.npz"
    if not os.access(cache.parent, os.W_OK):  # a read-only data set
        cache = cache_dir() / "labels" / f"{_digest(cache.parent)}-{cache.name}"
    installed = [find_spec(module) is not None for _, module, _ in PLUGINS.values()]  # images that could not be read
    key = fingerprint(files, nc, *config.names.values(), *installed)
    if not (found := _load_labels(cache, key, nc, images)):
        found = _read_all(images, ids, read_rows, split)
        found[1].extend(coco.problems if json_file else ())
        try:
            _save_labels(cache, key, *found)
        except OSError as error:  # disk full, no permission: labels are read again next time
            LOGGER.warning(f"{cache}: the label cache was not saved: {error}")
    return Scan(split, config.names, *found, categories)


def _yolo_rows(files: list[Path], nc: int, images: list[Path], shapes: Shapes) -> list[Rows]:
    def read(file: Path, image: Path, shape: tuple[int, int] | None) -> Rows:
        if shape is None or os.path.isfile(file):
            return Rows() if shape is None else read_yolo_file(file, nc)
        return Rows(problems=[Problem("missing_label", str(image), f"looked for {file}")])

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(read, files, images, shapes))


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


def _read_all(images: list[Path], ids: list[int | str], read_rows: Callable[..., list[Rows]], split: str) -> Labels:
    """Read labels and problems of all images; `read_rows` takes the images and their (height, width), or None."""

    def probe(image: Path) -> tuple[int, int] | Problem:
        try:
            return probe_image(image)
        except DataError as error:
            return Problem("corrupt", str(image), str(error).removeprefix(f"{image}: "))

    with ThreadPoolExecutor(THREADS) as threads:
        probed = list(progress(threads.map(probe, images), f"Reading {split} images", len(images), delay=1))
    shapes = [None if isinstance(shape, Problem) else shape for shape in probed]
    rows = read_rows(images, shapes)
    labels = [r.labels(*item) for r, *item in zip(rows, images, shapes, ids, strict=True) if item[1]]
    problems = chain(*([p] * isinstance(p, Problem) + r.problems for p, r in zip(probed, rows, strict=True)))
    return labels, list(problems)


def _digest(*paths: Path) -> str:
    return hashlib.sha256("\n".join(map(str, paths)).encode(errors="surrogatepass")).hexdigest()[:8]


def fingerprint(paths: Iterable[Path], *facts: object) -> str:
    """Return a hash of names, sizes and times of files (or their absence), and of `facts`."""
    digest = hashlib.sha256(repr((LABEL_CACHE_VERSION, *facts)).encode())
    for path in paths:
        try:
            status = os.stat(path)
            state = f"{status.st_size}|{status.st_mtime_ns}"
        except (OSError, ValueError):  # ValueError: a NUL character in a list
            state = "absent"
        digest.update(f"{path}|{state}\n".encode(errors="surrogatepass"))  # names may not be UTF-8
    return digest.hexdigest()


def _save_labels(file: Path, key: str, labels: list[ImageLabels], problems: list[Problem]) -> None:
    head = {
        "key": key, "files": [str(item.file) for item in labels], "ids": [item.image_id for item in labels],
        "problems": [asdict(problem) for problem in problems],
    }  # fmt: skip
    rows = [np.column_stack([item.cls, item.boxes, item.crowd]) for item in labels]  # (n, 6) each
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file, shared=True) as stream:
        np.savez(
            stream, head=np.frombuffer(json.dumps(head).encode(), np.uint8),
            shapes=np.array([item.shape for item in labels], np.int64).reshape(-1, 2),
            counts=np.array([len(item.cls) for item in labels], np.int64),
            rows=np.concatenate([np.zeros((0, 6)), *rows]),
        )  # fmt: skip


def _load_labels(file: Path, key: str, nc: int, images: list[Path]) -> Labels | None:
    """Return cached labels; None if there are none with this key, or if values in them are not valid."""
    try:
        with zipfile.ZipFile(file) as packed:  # numpy.savez does not compress: no member is larger than the file
            if sum(member.file_size for member in packed.infolist()) > file.stat().st_size:
                return None
        with np.load(file, allow_pickle=False) as stored:
            head = json.loads(stored["head"].tobytes())
            if head["key"] != key:
                return None
            shapes, counts, rows = (stored[name] for name in ("shapes", "counts", "rows"))
        files, ids = [Path(name) for name in head["files"]], list(head["ids"])
        problems = [Problem(**problem) for problem in head["problems"]]
        cls, boxes, crowd = rows[:, 0], rows[:, 1:5], rows[:, 5]
        valid = (
            *(set(images).issuperset(files), shapes.shape == (len(files), 2), counts.sum() == len(rows)),
            len(files) == len(ids) == len(counts),
            *(rows.shape[1] == 6, shapes.dtype == counts.dtype == np.int64, rows.dtype == np.float64),
            *((shapes > 0).all(), (counts >= 0).all(), (cls == np.clip(cls.round(), 0, nc - 1)).all()),
            *(((boxes >= 0) & (boxes <= 1)).all(), np.isin(crowd, (0, 1)).all()),
            *(all(isinstance(value, (int, str)) for value in ids), all(p.kind in KINDS for p in problems)),
        )
    except CACHE_ERRORS:
        return None  # absent, damaged or made by hand
    if not all(valid):
        return None
    tables = np.split(rows, np.cumsum(counts)[:-1])
    labels = [
        ImageLabels(name, shape, t[:, 0].astype(int), t[:, 1:5].astype(np.float32), t[:, 5].astype(bool), image_id)
        for name, shape, t, image_id in zip(files, map(tuple, shapes.tolist()), tables, ids, strict=False)
    ]
    return labels, problems
