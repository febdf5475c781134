"""Data sets and loaders from options."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Protocol

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from ultralytics.data.augment import AugmentOptions, longest_side, train_transforms, val_transforms
from ultralytics.data.dataset import DetectionDataset, epoch_order
from ultralytics.data.dataset_yaml import DatasetConfig
from ultralytics.utils import LOGGER, dist
from ultralytics.utils.checks import usable_cores
from ultralytics.utils.errors import DataError


class DataOptions(AugmentOptions, Protocol):
    """The options that are read here; see cfg/default.yaml."""

    cache: bool | str
    single_cls: bool
    fraction: float
    classes: list[int] | None
    seed: int


def build_dataset(
    options: DataOptions,
    config: DatasetConfig,
    split: str,
    *,
    training: bool,
    imgsz: int | None = None,
    stretched: bool = True,
) -> DetectionDataset:
    """The split with augmentation (training) or without; logs the table of what was found in it."""
    size = imgsz or options.imgsz
    dataset = DetectionDataset(
        config,
        split,
        imgsz=size,
        transforms=val_transforms(size, stretch=stretched),
        stretched=stretched,
        longest=longest_side(options, size) if training else None,
        cache=options.cache,
        single_cls=options.single_cls,
        fraction=options.fraction if training else 1.0,
        classes=options.classes,
        seed=options.seed,
    )
    LOGGER.info(str(dataset.report))
    if training:
        if not any((~item.crowd).any() for item in dataset.labels):
            missing = dataset.report.of_kind("missing_label")
            hint = f"; {missing[0].where}: {missing[0].detail}" if missing else ""
            raise DataError(
                f"{config.yaml_file or 'data'}: {split}: no boxes to train on in {len(dataset)} images"
                f"{hint or ' (see the table above, and the option classes)'}"
            )
        dataset.transforms = train_transforms(options, dataset, size)
    return dataset


class EpochSampler(Sampler[int]):
    """Indices of one training epoch, shuffled by (seed, epoch) and dealt out to the processes of the run.

    Batch k of all processes together is batch k of a single process with as many images.
    """

    def __init__(self, length: int, seed: int):
        self.length, self.seed, self.epoch = length, seed, 0
        self.start = 0  # indices left out at the beginning

    def __len__(self) -> int:
        return -(-self.length // dist.world_size())

    def __iter__(self) -> Iterator[int]:
        order = epoch_order(self.length, self.seed, self.epoch)
        # Every process gets equally many; the first indices fill up the last round.
        mine = np.arange(dist.rank(), len(self) * dist.world_size(), dist.world_size()) % self.length
        return iter(order[mine[self.start :]].tolist())


class BlockSampler(Sampler[int]):
    """All indices in order; of several processes each gets every n-th batch, so that no image is judged twice."""

    def __init__(self, length: int, batch: int):
        starts = range(dist.rank() * batch, length, dist.world_size() * batch)
        self.indices = [index for start in starts for index in range(start, min(start + batch, length))]

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


class EpochLoader(DataLoader):
    """DataLoader whose order and random numbers are those of the epoch that was set."""

    def set_epoch(self, epoch: int, done: int = 0) -> None:
        """Call it before iterating. The same epoch always gives the same batches; the first `done` are not loaded."""
        self.sampler.epoch, self.sampler.start = epoch, done * self.batch_size
        self.dataset.set_epoch(epoch)


def build_dataloader(
    dataset: DetectionDataset, *, batch: int, workers: int, shuffle: bool, seed: int = 0, drop_last: bool = False
) -> EpochLoader:
    """Loader of batches as `DetectionDataset.collate` makes them; the same for any number of workers.

    In a distributed run `batch` and the batches are this process's share.
    """
    # More processes than cores would only get in each other's way.
    workers = min(workers, usable_cores() // min(dist.world_size(), usable_cores()))
    sampler = EpochSampler(len(dataset), seed) if shuffle else BlockSampler(len(dataset), batch)
    return EpochLoader(
        dataset,
        batch_size=batch,
        sampler=sampler,
        num_workers=workers,
        collate_fn=dataset.collate,
        pin_memory=torch.cuda.is_available(),
        drop_last=drop_last and len(sampler) >= batch,
        worker_init_fn=_start_worker,
        persistent_workers=workers > 0,
    )


def _start_worker(worker: int) -> None:
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # signals to the whole run (Ctrl-C, a cluster's SIGTERM) are for the trainer, which saves
    else:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)  # each worker is one thread of its own already
