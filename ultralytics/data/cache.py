"""Files that spare work: labels read before, and decoded images in memory or on disk."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ultralytics.data.images import read_image
from ultralytics.data.labels import ImageLabels, Problem
from ultralytics.utils import LOGGER, cache_dir
from ultralytics.utils.atomic import atomic_write

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
