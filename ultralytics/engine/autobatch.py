"""`batch=-1`: as many images a step as the memory of the GPU holds, found by measuring a few small batches."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ultralytics.utils import LOGGER, dist
from ultralytics.utils.errors import UserError
from ultralytics.utils.torch_utils import autocast

if TYPE_CHECKING:
    from ultralytics.engine.trainer import BaseTrainer


DEFAULT = 16  # images where nothing can be measured
SHARE = 0.7  # of the free memory; the rest is for fragments, crowded images and the other programs of the GPU
MEASURED = (1, 2, 4, 8, 16)  # images
MOMENTS = 2  # tensors of the size of the weights that Adam keeps and the measurement does not have
GIGABYTE = 1024**3


@dataclass(frozen=True)
class Choice:
    """A number of images, and why it is this one."""

    batch: int
    reason: str


def choose_batch(measure: Callable[[int], int], *, budget: int, images: int) -> Choice:
    """The largest batch whose step needs at most `budget` bytes, from 1 to `images`.

    Args:
        measure: bytes that a step on so many images needs; raises torch.cuda.OutOfMemoryError when it cannot be done.
        budget: bytes.
        images: training images there are.

    Raises:
        UserError: not even a step on one image can be done.
    """
    points: list[tuple[int, int]] = []
    for size in (size for size in MEASURED if size <= images):
        try:
            points.append((size, measure(size)))
        except torch.cuda.OutOfMemoryError:
            break
        if points[-1][1] > budget:
            break
    if not points:
        raise UserError(
            "batch=-1: the memory of the GPU does not even hold a step on one image; try a smaller imgsz or model, or "
            "look with nvidia-smi whether another program uses the GPU."
        )
    largest, needed = points[-1]
    base, slope = fit_line(points)
    if needed <= budget and slope <= 0:
        return Choice(largest, f"memory did not grow with the batch, and {largest} is the largest that was tried")
    if slope > 0:
        batch = int((budget - base) // slope)
    else:  # the only batch that was measured, one image, is over the budget
        batch = 1
    if batch >= images:
        return Choice(images, "that is all training images")
    return Choice(max(batch, 1), f"{base / GIGABYTE:.2f} GB and {slope / GIGABYTE:.3f} GB an image were measured")


def fit_line(points: list[tuple[int, int]]) -> tuple[float, float]:
    """Base and slope of the line through (x, y) with the least squares; slope 0 for a single point."""
    count = len(points)
    mean_x, mean_y = (sum(values) / count for values in zip(*points, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
    return mean_y - slope * mean_x, slope


def provisional_batch() -> int:
    """The default batch, or what is near to it and can be dealt out to all processes."""
    world = dist.world_size()
    return max(DEFAULT // world, 1) * world


def measured_batch(trainer: BaseTrainer, side: int) -> int:
    """The batch of all processes together for images of `side` px as crowded as the fullest; told in the log.

    The smallest choice of all processes counts. Where there is no CUDA device it is the default.
    """
    world = dist.world_size()
    if trainer.device.type != "cuda":
        batch = provisional_batch()
        LOGGER.info(f"batch=-1: memory is measured on CUDA devices only; on {trainer.device} the batch is {batch}.")
        return batch
    free, _ = torch.cuda.mem_get_info(trainer.device)
    # What torch has taken and does not use is free to it as well; the model itself is part of what is measured.
    free += torch.cuda.memory_reserved(trainer.device)
    data = trainer.train_loader.dataset
    images, boxes = max(len(data) // world, 1), max(len(item.cls) for item in data.labels)
    step = StepMemory(trainer.model, trainer.device, trainer.dtype, side, boxes)
    with dist.alone():  # one process may have to give up earlier than the others
        mine = choose_batch(step, budget=int(free * SHARE), images=images)
    torch.cuda.empty_cache()
    choice = min(dist.gather(mine), key=lambda choice: choice.batch)
    batch = choice.batch * world
    LOGGER.info(
        f"batch=-1: {batch} images a step{f', {choice.batch} in each of {world} processes' if world > 1 else ''} "
        f"({SHARE:.0%} of {free / GIGABYTE:.1f} GB at {side} px: {choice.reason})."
    )
    return batch


class StepMemory:
    """Bytes that a training step on so many images takes at its peak: `StepMemory(...)(images)`. CUDA only.

    A copy of the model does the step, so that neither weights nor statistics change. The copy stands for the average
    of the weights (EMA), which is made later; Adam's two moments are added to what was measured.
    """

    def __init__(self, model: nn.Module, device: torch.device, dtype: torch.dtype | None, side: int, boxes: int):
        self.model, self.device, self.dtype = model, device, dtype
        self.side, self.boxes = side, boxes

    def __call__(self, images: int) -> int:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        self.step(images)
        weights = sum(p.numel() * p.element_size() for p in self.model.parameters() if p.requires_grad)
        return torch.cuda.max_memory_allocated(self.device) + MOMENTS * weights

    def step(self, images: int) -> None:
        """Forward and backward of a copy on a random batch."""
        twin = copy.deepcopy(self.model).train()
        batch = random_batch(images, side=self.side, boxes=self.boxes, classes=self.model.nc, device=self.device)
        with autocast(self.device, self.dtype):
            loss, _ = twin(batch)
        loss.backward()


def random_batch(images: int, *, side: int, boxes: int, classes: int, device: torch.device) -> dict[str, Tensor]:
    """Noise with `boxes` random boxes in each image, as a loader and the trainer's preprocessing give it.

    img (B, 3, side, side) in 0..1; cls (N, 1); bboxes (N, 4) as normalised cx, cy, w, h; batch_idx (N,).
    """
    total = images * boxes
    sizes = 0.05 + 0.25 * torch.rand(total, 2, device=device)
    centres = sizes / 2 + (1 - sizes) * torch.rand(total, 2, device=device)
    return {
        "img": torch.rand(images, 3, side, side, device=device),
        "cls": torch.randint(classes, (total, 1), device=device).float(),
        "bboxes": torch.cat((centres, sizes), 1),
        "batch_idx": torch.arange(images, device=device).repeat_interleave(boxes).float(),
    }
