"""Build data sets and loaders from options."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from ultralytics.cfg.options import Options
from ultralytics.data.augment import DETAIL, FIT, train_transforms
from ultralytics.data.dataset import SINGLE_CLASS, DetectionDataset, ImageSource, epoch_order, select_labels
from ultralytics.data.dataset_yaml import DatasetConfig
from ultralytics.data.labels import ImageLabels
from ultralytics.data.transforms.geometry import LetterBox
from ultralytics.data.transforms.sample import Sample, Transform, takes_labels
from ultralytics.data.verify import Scan, scan_split
from ultralytics.utils import LOGGER, dist
from ultralytics.utils.checks import usable_cores
from ultralytics.utils.errors import DataError, UserError, counted
from ultralytics.utils.overrides import BUILDER, DATASET_NAMES, accepted, replaced
from ultralytics.utils.public import public, public_names


def build_dataset(
    options: Options, config: DatasetConfig, split: str, *, training: bool, imgsz: int | None = None,
    resize: str = "stretch", rect: bool = False, stride: int = 32,
) -> DetectionDataset:  # fmt: skip
    """Build the data set of a split, see `dataset_parts`; with what a script has assigned to its public names."""
    options, name = options.replace(imgsz=imgsz or options.imgsz), DATASET_NAMES[resize]
    if replaced(name) or replaced("v8_transforms") or replaced(BUILDER):
        given, build = {"mode": "train" if training else "val", "name": name}, replaced(BUILDER) or public(BUILDER)
        given = accepted(build, **given, rect=rect, stride=stride)
        return build(options, config[split], options.batch, config, **given)
    settings = {"training": training, "resize": resize, "rect": rect, "stride": stride}
    return DetectionDataset(*dataset_parts(options, config, split, **settings))


def dataset_parts(
    options: Options, config: DatasetConfig, split: str, *, training: bool, imgsz: int | None = None,
    resize: str = "stretch", rect: bool = False, stride: int = 32,
    adapt: Callable[[list[ImageLabels]], list[ImageLabels]] = list,
) -> tuple[DatasetConfig, Scan, ImageSource, Transform, dict[int, str]]:  # fmt: skip
    """Scan a split, log its report, and return the arguments of `DetectionDataset`, with augmentation for training.

    Args:
        resize: "stretch" to a square, or "letterbox".
        rect: letterbox to rectangles; images are sorted by aspect ratio, see `BatchLetterBox`, and not mixed.
        stride: multiple of the sides of these rectangles.
        adapt: changes the labels, which `rect` has sorted.

    Raises DataError for classes outside the names, and if there are no usable images or no boxes to train on.
    """
    size, where = imgsz or options.imgsz, config.yaml_file or "data"
    scan = scan_split(config, split, single_cls=options.single_cls)
    scan.check(where)
    if unknown := [i for i in options.classes or () if i not in config.names]:
        raise DataError(f"classes={options.classes}: class {unknown[0]} is unknown; {where} has 0..{config.nc - 1}")
    fraction = options.fraction if training else 1.0
    labels = select_labels(scan.labels, fraction=fraction, classes=options.classes, single_cls=options.single_cls)
    LOGGER.info(str(scan))
    if training and all(item.crowd.all() for item in labels):
        missing = scan.of_kind("missing_label")
        hint = f"{missing[0].where}: {missing[0].detail}" if missing else "see the report above, and the option classes"
        raise DataError(f"{where}: {split}: no boxes to train on in {counted(len(labels), 'image')}; {hint}")
    max_side = DETAIL * size if training and options.augmentation == "official" else None
    if rect := rect and resize == "letterbox":
        labels = sorted(labels, key=lambda item: item.shape[0] / item.shape[1])
    labels = adapt(labels)
    source = ImageSource(labels, size, resize=resize, max_side=max_side, cache=options.cache, seed=options.seed)
    source.rectangles = BatchLetterBox(labels, size, stride, training=training) if rect else None
    if training:
        if rect:
            LOGGER.warning("rect=True: batches of similar shapes in a fixed order, no mosaic, mixup, cutmix and dense")
        transforms = train_transforms(options, source, size, resize, source.rectangles)
    else:
        transforms = source.rectangles or FIT[resize](size)
    return config, scan, source, transforms, {0: SINGLE_CLASS} if options.single_cls else config.names


class BatchLetterBox:
    """Letterbox samples, sorted by aspect ratio, to one shape a batch: just large enough for all its images.

    Each side has at least half a stride of padding, as in published validations: 480 x 640 images become 512 x 672. In
    training, it is only padded to a multiple of the stride.
    """

    def __init__(self, labels: Sequence[ImageLabels], size: int, stride: int, *, training: bool = False) -> None:
        self.margin, self.scaleup = (0.0, True) if training else (0.5, False)
        self.aspects, self.size, self.stride = [item.shape[0] / item.shape[1] for item in labels], size, stride
        self.set_batch(1)

    def set_batch(self, batch: int) -> None:
        """Set the batch size, and compute the shape of each batch."""
        self.batch, self.shapes = batch, []
        for start in range(0, len(self.aspects), batch):
            low, high = self.aspects[start], self.aspects[start : start + batch][-1]
            shape = (min(high, 1), min(1 / low, 1))  # height, width as fractions of `size`
            cells = (math.ceil(side * self.size / self.stride + self.margin) for side in shape)
            self.shapes.append(tuple(count * self.stride for count in cells))

    @takes_labels
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return LetterBox(self.shapes[sample.index // self.batch], scaleup=self.scaleup)(sample)


class EpochSampler(Sampler[int]):
    """Indices of a training epoch, shuffled by (seed, epoch) or `ordered`, distributed round-robin over the ranks.

    Batch k of all ranks together is batch k of a single process with as many images.
    """

    def __init__(self, length: int, seed: int, ordered: bool = False):
        self.length, self.seed, self.epoch, self.ordered = length, seed, 0, ordered
        self.start = 0  # number of indices to skip at the beginning

    def __len__(self) -> int:
        return -(-self.length // dist.world_size())

    def __iter__(self) -> Iterator[int]:
        # All ranks get equally many; the first indices fill up the last round, or the last index keeps its shape.
        mine = np.arange(dist.rank(), len(self) * dist.world_size(), dist.world_size())
        if self.ordered:
            return iter(mine.clip(max=self.length - 1)[self.start :].tolist())
        order, mine = epoch_order(self.length, self.seed, self.epoch), mine % self.length
        return iter(order[mine[self.start :]].tolist())


def block_indices(length: int, batch: int) -> list[int]:
    """Return the indices of this rank in order: blocks of `batch`, distributed round-robin without repeats."""
    starts = range(dist.rank() * batch, length, dist.world_size() * batch)
    return [index for start in starts for index in range(start, min(start + batch, length))]


class EpochLoader(DataLoader):
    """DataLoader whose order and random numbers depend on the epoch."""

    def __iter__(self) -> Iterator[dict]:
        """Yield batches; an error in a worker is raised as it is without workers."""
        try:
            yield from super().__iter__()
        except UserError as error:  # torch has put the traceback of the worker into the message
            name = f"\n{type(error).__module__}.{type(error).__name__}: "
            raise type(error)(str(error).rpartition(name)[2].strip()) from None
        except RuntimeError as error:
            raise killed_worker(error, self.num_workers) or error from error

    def close(self) -> None:
        """End the workers."""
        if self._iterator is not None:
            self._iterator._shutdown_workers()
            self._iterator = None

    def set_epoch(self, epoch: int, done: int = 0) -> None:
        """Set the epoch and skip its first `done` batches; call it before iterating."""
        self.sampler.epoch, self.sampler.start = epoch, done * self.batch_size
        for part in own_parts(self.dataset):
            part.set_epoch(epoch)


def own_parts(dataset: Any) -> list[Any]:
    """Return the data sets of this package in one of a script: a `Subset` or `ConcatDataset` of them, or its own."""
    parts = getattr(dataset, "datasets", [getattr(dataset, "dataset", dataset)])
    return [part for part in parts if hasattr(part, "set_epoch")]


def labels_of(dataset: Any) -> list[ImageLabels]:
    """Return the labels of the images of these parts."""
    return [item for part in own_parts(dataset) for item in part.source.labels]


def epoch_batches(loader: Any, epoch: int, done: int) -> Iterator[dict]:
    """Return the batches of an epoch from `done` on; the loader, or its sampler, may be of a script."""
    if hasattr(loader, "set_epoch") and isinstance(getattr(loader, "sampler", None), EpochSampler | None):
        loader.set_epoch(epoch, done)
        return iter(loader)
    for part in own_parts(loader.dataset):
        part.set_epoch(epoch)
    return islice(loader, done, None)


def build_dataloader(
    dataset: Any, batch: int, workers: int = 0, shuffle: bool = True, rank: int = -1, drop_last: bool = False,
    pin_memory: bool = True, *, seed: int | None = None,
) -> EpochLoader:  # fmt: skip
    """Build a loader of batches; they are the same for any number of workers. `batch` is per rank.

    The rank is that of this process; -1 is a single process, too. Without `seed`, that of torch shuffles. The data set
    may also be any sequence of samples.
    """
    if rank not in (-1, dist.rank()):
        raise UserError(f"build_dataloader: rank={rank}, but this process has rank {dist.rank()}")
    workers = min(workers, usable_cores() // min(dist.world_size(), usable_cores()))  # at most one per core
    if rectangles := getattr(getattr(dataset, "source", None), "rectangles", None):
        rectangles.set_batch(batch * dist.world_size() if shuffle else batch)
    seed = torch.initial_seed() if seed is None else seed
    sampler = EpochSampler(len(dataset), seed, bool(rectangles)) if shuffle else block_indices(len(dataset), batch)
    batches = len(sampler) // batch if drop_last else -(-len(sampler) // batch)
    workers = min(workers, batches) if batches > 1 else 0
    return EpochLoader(
        dataset,
        batch_size=min(batch, len(dataset)),  # torch refuses 0, of an empty data set
        sampler=sampler,
        num_workers=workers,
        collate_fn=getattr(dataset, "collate_fn", None),
        pin_memory=pin_memory and torch.cuda.is_available(),
        drop_last=drop_last and len(sampler) >= batch,
        worker_init_fn=_start_worker,
        persistent_workers=workers > 0,
    )


def loader_of(dataset: Any, **given: Any) -> Any:
    """Build a loader by what a script has assigned to `build_dataloader`, or by it."""
    build = replaced("build_dataloader") or build_dataloader
    return build(dataset, **accepted(build, **given))


def killed_worker(error: Exception, workers: int) -> DataError | None:
    """Return the error to show in place of torch's error for a data worker that was killed; None for other errors."""
    if "DataLoader worker (pid" not in str(error):
        return None
    reason = " ".join(str(error).split()).removeprefix("DataLoader worker ")
    return DataError(
        f"a data worker was killed ({reason.rstrip('. ')}), usually because the memory or /dev/shm was full; use fewer "
        f"workers= than {workers}, or workers=0"
    )


def _start_worker(worker: int) -> None:
    if hasattr(os, "setpgrp"):  # not on Windows
        os.setpgrp()  # Ctrl-C and a cluster's SIGTERM are handled by the trainer, which saves
    cv2.setNumThreads(0)  # one thread per worker


__getattr__ = public_names(__name__)
