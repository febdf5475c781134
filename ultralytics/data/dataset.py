"""One split of a data set: labels, images loaded at network scale, and augmented samples."""

import hashlib
import math
import os
import re
import shutil
import struct
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ultralytics.data.dataset_yaml import DatasetConfig
from ultralytics.data.images import read_image, stretch
from ultralytics.data.labels import ImageLabels
from ultralytics.data.transforms.sample import Sample, Transform, collate, to_network_input
from ultralytics.data.verify import CACHE_ERRORS, THREADS, Scan
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import counted
from ultralytics.utils.files import atomic_write
from ultralytics.utils.ops import xywhn2xyxy
from ultralytics.utils.public import public_names

BUFFER = 64  # samples to mix from; their images take 79 MB at 640
RESERVE = 0.8  # fraction of the free memory or disk space that an image cache may take
SINGLE_CLASS = "item"


def epoch_order(length: int, seed: int, epoch: int) -> np.ndarray:
    """Return the shuffled indices (length,) of a training epoch."""
    generator = torch.Generator().manual_seed((seed * 100_003 + epoch) % 2**63)
    return torch.randperm(length, generator=generator).numpy()


class MixingBuffer:
    """Buffer of the last BUFFER samples of a shuffled epoch, a random part of the data set, to mix samples from.

    Mixing within the buffer decodes each image once per epoch and worker, however often it is used.
    """

    def __init__(self, length: int, seed: int):
        self.length, self.seed, self.epoch = length, seed, -1
        self.order = self.position = np.zeros(0, np.int64)  # index at each position, position of each index
        self.images: dict[int, np.ndarray] = {}
        self.kept = range(0)  # positions whose images are kept; none until something is mixed

    def draw(self, index: int, epoch: int, count: int, rng: np.random.Generator) -> list[int]:
        """Return `count` random indices of the buffer that ends with sample `index` (at the start: the first ones)."""
        if epoch != self.epoch:
            self.epoch, self.order = epoch, epoch_order(self.length, self.seed, epoch)
            self.position = np.argsort(self.order)
        width = min(BUFFER, self.length)
        first = max(0, int(self.position[index]) + 1 - width)
        self.kept = range(first, first + 2 * width)
        return self.order[first + rng.integers(width, size=count)].tolist()

    def keep(self, index: int, image: np.ndarray) -> None:
        """Keep an image while its sample is in the buffer."""
        if len(self.kept):
            self.images[index] = image
            for old in [i for i in self.images if self.position[i] not in self.kept]:
                del self.images[old]


class ImageSource:
    """Load samples of a split, not augmented: the `SampleSource` of the transforms.

    Images are stretched to (imgsz, imgsz) or, with resize="letterbox", enlarged or shrunk to a longer side of imgsz.
    `max_side` keeps the aspect ratio and only shrinks larger images.
    """

    rectangles: Any = None  # `BatchLetterBox` of the batches

    def __init__(
        self, labels: Sequence[ImageLabels], imgsz: int, *, resize: str = "stretch", max_side: int | None = None,
        cache: bool | str = False, seed: int = 0,
    ):  # fmt: skip
        self.labels, self.imgsz, self.resize, self.max_side, self.seed = labels, imgsz, resize, max_side, seed
        # Epoch, and whether strong augmentation has ended; in shared memory, so that persistent workers see changes.
        self.state = torch.zeros(2, dtype=torch.int64).share_memory_()
        self._buffer = MixingBuffer(len(labels), seed)
        self._images: list[np.ndarray] | None = None
        self._read = read_image
        if cache in (True, "ram") and _has_room("ram", map(self._load_shape, labels), available_memory()):
            with ThreadPoolExecutor(THREADS) as threads:
                self._images = list(threads.map(self._resized, labels))
        elif cache == "disk" and fill_disk_cache(labels):
            self._read = read_decoded

    @property
    def epoch(self) -> int:
        """Return the epoch, which seeds the random numbers."""
        return int(self.state[0])

    @property
    def augment_enabled(self) -> bool:
        """Return whether strong augmentation is on; it is off in the last `close_mosaic` epochs."""
        return not self.state[1]

    def load(self, index: int) -> Sample:
        """Return sample `index` at network scale, without its crowd regions."""
        item = self.labels[index]
        image = self._image(index)
        height, width = image.shape[:2]
        boxes = xywhn2xyxy(item.boxes[~item.crowd], width, height)
        cls = item.cls[~item.crowd].astype(np.float32)
        ratio = (height / item.shape[0], width / item.shape[1])
        return Sample(image, boxes, cls, item.file, item.shape, index, item.image_id, ratio)

    def draw(self, index: int, count: int, rng: np.random.Generator) -> list[int]:
        """Return `count` random indices to mix with sample `index`, from the mixing buffer."""
        return self._buffer.draw(index, self.epoch, count, rng)

    def sample_random(self, index: int, count: int, rng: np.random.Generator) -> list[Sample]:
        """Return the samples of `draw`."""
        return [self.load(i) for i in self.draw(index, count, rng)]

    def _image(self, index: int) -> np.ndarray:
        if self._images is not None:  # cache='ram'
            return self._images[index]
        image = self._buffer.images.get(index)
        if image is None:
            image = self._resized(self.labels[index])
            self._buffer.keep(index, image)
        return image

    def _resized(self, item: ImageLabels) -> np.ndarray:
        return stretch(self._read(item.file), self._load_shape(item))

    def _load_shape(self, item: ImageLabels) -> tuple[int, int]:
        height, width = item.shape
        if self.max_side is not None:
            scale = min(self.max_side, max(height, width)) / max(height, width)
            return max(1, round(height * scale)), max(1, round(width * scale))
        if self.resize == "letterbox":
            scale = self.imgsz / max(height, width)
            return min(math.ceil(height * scale), self.imgsz), min(math.ceil(width * scale), self.imgsz)
        return self.imgsz, self.imgsz


class DetectionDataset(Dataset):
    """Samples of a split, transformed and converted to tensors by `to_network_input`.

    A sample depends on (seed, epoch, index) only, whatever the number of workers.
    """

    collate_fn = staticmethod(collate)

    def __init__(
        self, config: DatasetConfig, scan: Scan, source: ImageSource, transforms: Transform, names: dict[int, str]
    ):
        self.config, self.split, self.names = config, scan.split, names
        self.report, self.category_ids, self.labels = str(scan), scan.category_ids, source.labels
        self.source, self.transforms = source, transforms
        # COCO json whose boxes are those of the labels
        self.json_file = None if scan.of_kind("size") or scan.of_kind("turned") else config.annotations.get(scan.split)

    @cached_property
    def fingerprint(self) -> str:
        """Return a hash of the class names and of names, sizes and labels of the images, equal on every machine."""
        parts = [
            repr((item.file.name, item.file.stat().st_size, item.shape, item.cls.tolist())).encode()
            + item.boxes.tobytes()
            + item.crowd.tobytes()
            for item in self.source.labels
        ]
        return hashlib.sha256(b"".join([repr(self.names).encode(), *sorted(parts)])).hexdigest()[:12]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        rng = np.random.default_rng((self.source.seed, self.source.epoch, index))
        return to_network_input(self.transforms(self.source.load(index), rng))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which seeds the random numbers; call it before iterating."""
        self.source.state[0] = epoch

    def close_mosaic(self, hyp: object = None) -> None:
        """End strong augmentation from the next epoch on."""
        self.source.state[1] = True


def select_labels(
    labels: list[ImageLabels], *, fraction: float = 1.0, classes: list[int] | None = None, single_cls: bool = False
) -> list[ImageLabels]:
    """Return an evenly spread `fraction` of the images, with boxes of `classes` only.

    With `single_cls` all boxes get class 0.
    """
    if fraction < 1:
        count = max(1, round(len(labels) * fraction))
        LOGGER.info(f"fraction={fraction}: using {count} of {counted(len(labels), 'image')}")
        labels = [labels[int(i)] for i in np.linspace(0, len(labels) - 1, count).round()]
    if classes is not None:
        kept = [(item, np.isin(item.cls, classes)) for item in labels]
        labels = [replace(item, cls=item.cls[k], boxes=item.boxes[k], crowd=item.crowd[k]) for item, k in kept]
    return [replace(item, cls=np.zeros_like(item.cls)) for item in labels] if single_cls else labels


def available_memory() -> float:
    """Return the bytes available without swapping, within the limit of a container; infinite if unknown."""
    available = math.inf
    with suppress(OSError):
        (line,) = re.findall(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
        available = 1024 * int(line)
        group = Path("/sys/fs/cgroup")
        limit, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
        return available if limit == "max" else min(available, int(limit) - used)
    return available


def _has_room(cache: str, shapes: Iterable[tuple[int, int]], free: float) -> bool:
    """Check that decoded images of these (height, width) fit into `free` bytes; warn if not."""
    needed = sum(height * width * 3 for height, width in shapes)
    if needed <= RESERVE * free:
        return True
    LOGGER.warning(f"cache={cache} is disabled: the images need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")
    return False


def fill_disk_cache(labels: Sequence[ImageLabels]) -> bool:
    """Write decoded copies, `a.jpg.npy`, of all images that have none. Return False if there is no room for them."""
    missing = [item for item in labels if _open_copy(item.file, item.shape) is None]

    def write(item: ImageLabels) -> OSError | None:
        key, image = _copy_key(item.file), read_image(item.file)
        try:
            with atomic_write(f"{item.file}.npy", shared=True) as stream:
                np.save(stream, image)
                stream.write(key)
        except OSError as error:  # a read-only folder, a name that is too long
            return error

    free = shutil.disk_usage(missing[0].file.parent).free if missing else 0
    if not _has_room("disk", [item.shape for item in missing], free):
        return False
    with ThreadPoolExecutor(THREADS) as threads:
        failed = [error for error in threads.map(write, missing) if error]
    if failed:
        LOGGER.warning(f"cache=disk: no copy of {counted(len(failed), 'image')}, read as usual: {failed[0]}")
    return True


def read_decoded(image: Path) -> np.ndarray:
    """Read the decoded copy of an image; fall back to the image if the copy is missing, damaged or of another file."""
    copy = _open_copy(image)
    return read_image(image) if copy is None else np.array(copy)


def _open_copy(image: Path, shape: tuple[int, int] | None = None) -> np.ndarray | None:
    """Map the decoded copy of an image into memory, if it has the key of this file, and `shape` (height, width)."""
    try:
        file = f"{image}.npy"
        copy = np.load(file, mmap_mode="r") if os.path.isfile(file) else None
        if copy is None or copy.dtype != np.uint8 or copy.shape[2:] != (3,) or not copy.flags.c_contiguous:
            return None
        end = copy.offset + copy.nbytes
        with open(file, "rb") as stream:
            stream.seek(end)
            return copy if stream.read() == _copy_key(image) and shape in (None, copy.shape[:2]) else None
    except CACHE_ERRORS:  # damaged or made by hand
        return None


def _copy_key(image: Path) -> bytes:
    """Return size and time of an image, appended to its copy; a replaced image may be older."""
    status = image.stat()
    return struct.pack("<qq", status.st_size, status.st_mtime_ns)


__getattr__ = public_names(__name__)
