"""A split of a data set: labels of all images, and samples ready for the network."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import Dataset

from ultralytics.data.dataset_yaml import DatasetConfig
from ultralytics.data.images import read_image, stretch
from ultralytics.data.labels import ImageLabels
from ultralytics.data.transforms import Sample, Transform, collate, to_network_input
from ultralytics.data.verify import THREADS, DatasetReport, fill_disk_cache, fits_in_memory, read_decoded, scan_split
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError

WINDOW = 64  # samples: enough for mosaics of all kinds; their images take 79 MB at 640


def epoch_order(length: int, seed: int, epoch: int) -> np.ndarray:
    """(length,) the indices in the order of an epoch of training."""
    generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
    return torch.randperm(length, generator=generator).numpy()


class Window:
    """The last WINDOW samples of an epoch up to one of them; for the first ones of the epoch, its beginning.

    Mixing within it, an epoch decodes each image once (in each worker that needs it), however often it is used. The
    order of an epoch is random, so its windows are random shares of the data set.
    """

    def __init__(self, length: int, seed: int):
        self.length, self.seed, self.epoch = length, seed, -1
        self.order = self.turn = np.zeros(0, np.int64)  # index at each turn, turn of each index
        self.images: dict[int, np.ndarray] = {}
        self.kept = range(0)  # turns whose images are kept; none as long as nothing is mixed

    def draw(self, index: int, epoch: int, count: int, rng: np.random.Generator) -> list[int]:
        """`count` random indices of the window of sample `index`, itself among them."""
        if epoch != self.epoch:
            self.epoch, self.order = epoch, epoch_order(self.length, self.seed, epoch)
            self.turn = np.argsort(self.order)
        width = min(WINDOW, self.length)
        first = max(0, int(self.turn[index]) + 1 - width)
        self.kept = range(first, first + 2 * width)  # those which come next are loaded before they draw
        return self.order[first + rng.integers(width, size=count)].tolist()

    def keep(self, index: int, image: np.ndarray) -> None:
        """Have the image at hand as long as the window lasts."""
        if len(self.kept):
            self.images[index] = image
            for gone in [i for i in self.images if self.turn[i] not in self.kept]:
                del self.images[gone]


SINGLE_CLASS = "item"


class DetectionDataset(Dataset):
    """Items are dictionaries of `to_network_input`; they depend on (seed, epoch, index) alone, not on the worker.

    `stretched=False` keeps the proportions of images (letterbox) instead of stretching them to (imgsz, imgsz).
    `longest` keeps them, too, and the detail: images are only made smaller, where a side has more pixels than that.
    `classes` keeps only boxes of these class indices; `fraction` takes that share of the images, spread evenly.
    """

    collate = staticmethod(collate)

    def __init__(
        self,
        config: DatasetConfig,
        split: str,
        *,
        imgsz: int,
        transforms: Transform,
        stretched: bool = True,
        longest: int | None = None,
        cache: bool | str = False,
        single_cls: bool = False,
        fraction: float = 1.0,
        classes: list[int] | None = None,
        seed: int = 0,
    ):
        found = scan_split(config, split)
        self.report = DatasetReport.of(split, found.labels, config.names, found.problems)
        _refuse_unusable(self.report, config)
        unknown = [i for i in classes or () if i not in config.names]
        if unknown:
            raise DataError(f"classes={classes}: there is no class {unknown[0]}; the data has 0..{config.nc - 1}")
        self.config, self.split, self.imgsz, self.transforms = config, split, imgsz, transforms
        self.stretched, self.longest, self.seed = stretched, longest, seed
        self.category_ids = found.category_ids
        self.names = {0: SINGLE_CLASS} if single_cls else dict(config.names)
        self.labels = [_select(item, classes, single_cls) for item in _spread(found.labels, fraction)]
        # Shared memory, so that workers which stay alive see the change: epoch, strong augmentation ended.
        self._state = torch.zeros(2, dtype=torch.int64).share_memory_()
        self._window = Window(len(self.labels), seed)
        self._images: list[np.ndarray] | None = None
        self._read = read_image
        if cache in (True, "ram"):
            self._fill_memory()
        elif cache == "disk" and fill_disk_cache(self.labels):
            self._read = read_decoded

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        rng = np.random.default_rng((self.seed, int(self._state[0]), index))
        return to_network_input(self.transforms(self.load(index), rng))

    @property
    def strong(self) -> bool:
        """Whether strong augmentation is still on: mosaic, mixup, dense; of the official pipeline all but the flip."""
        return not self._state[1]

    def close_mosaic(self) -> None:
        """End strong augmentation, from the next epoch on."""
        self._state[1] = 1

    def set_epoch(self, epoch: int) -> None:
        """Fix the random numbers of an epoch; call it before the epoch is iterated."""
        self._state[0] = epoch

    def load(self, index: int) -> Sample:
        """The sample, not augmented: (imgsz, imgsz), or the longer side imgsz for letterbox or at most `longest`."""
        item = self.labels[index]
        image = self._image(index)
        height, width = image.shape[:2]
        cx, cy, w, h = item.boxes[~item.crowd].T
        boxes = np.stack([(cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height], 1)
        return Sample(
            image,
            boxes,
            item.cls[~item.crowd].astype(np.float32),
            item.file,
            item.shape,
            index,
            item.image_id,
            ratio=(height / item.shape[0], width / item.shape[1]),
        )

    def others(self, index: int, count: int, rng: np.random.Generator) -> list[Sample]:
        """Random samples to mix with that of `index`, from those near it in the order of the epoch."""
        return [self.load(i) for i in self._window.draw(index, int(self._state[0]), count, rng)]

    def _image(self, index: int) -> np.ndarray:
        if self._images is not None:
            return self._images[index]
        image = self._window.images.get(index)
        if image is None:
            image = self._scaled(self.labels[index])
            self._window.keep(index, image)
        return image

    def _scaled(self, item: ImageLabels) -> np.ndarray:
        return stretch(self._read(item.file), self._network_shape(item.shape))

    def _network_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        if self.longest is not None:
            scale = min(1.0, self.longest / max(shape))
        elif self.stretched:
            return self.imgsz, self.imgsz
        else:
            scale = self.imgsz / max(shape)
        return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))

    def _fill_memory(self) -> None:
        shapes = [self._network_shape(item.shape) for item in self.labels]
        if fits_in_memory(sum(h * w * 3 for h, w in shapes)):
            with ThreadPoolExecutor(THREADS) as threads:
                self._images = list(threads.map(self._scaled, self.labels))


YOLODataset = DetectionDataset


def _refuse_unusable(report: DatasetReport, config: DatasetConfig) -> None:
    where = f"{config.yaml_file or 'data'}, {report.split}"
    if report.of_kind("bad_class"):
        names = ", ".join(f"{i}: {name}" for i, name in list(config.names.items())[:10])
        raise DataError(
            f"{where}: {report.describe('bad_class')}\n"
            f"names has {config.nc} classes ({names}{', ...' if config.nc > 10 else ''}); add the missing names to the "
            f"data YAML or correct the label files (classes count from 0)"
        )
    if not report.images:
        raise DataError(f"{where}: none of the images can be used: {report}")


def _spread(labels: list[ImageLabels], fraction: float) -> list[ImageLabels]:
    """A share of the images, evenly spread: neighbours in a folder are often alike."""
    if fraction >= 1:
        return labels
    count = max(1, round(len(labels) * fraction))
    LOGGER.info(f"fraction={fraction}: {count} of {len(labels)} images are used")
    return [labels[int(i)] for i in np.linspace(0, len(labels) - 1, count).round()]


def _select(item: ImageLabels, classes: list[int] | None, single_cls: bool) -> ImageLabels:
    if classes is not None:
        keep = np.isin(item.cls, classes)
        item = replace(item, cls=item.cls[keep], boxes=item.boxes[keep], crowd=item.crowd[keep])
    return replace(item, cls=np.zeros_like(item.cls)) if single_cls else item
