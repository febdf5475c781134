"""`batch=-1`: fit the memory of small training steps with a line to find the largest batch the GPU holds."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ultralytics.data.dataset import DetectionDataset
from ultralytics.utils import LOGGER, dist
from ultralytics.utils.errors import UserError
from ultralytics.utils.torch_utils import autocast

DEFAULT_BATCH = 16  # without a GPU
MEMORY_SHARE = 0.7  # of the free memory; the rest is for fragmentation, crowded images and other programs
MEASURED_BATCHES = (1, 2, 4, 8, 16)
ADAM_MOMENTS = 2  # tensors of the size of the weights that Adam adds to what is measured
GB = 1024**3


def choose_batch(measure: Callable[[int], int], *, budget: int, images: int) -> int:
    """Return the largest batch in 1..`images` whose training step needs at most `budget` bytes.

    `measure(batch)` returns the bytes of a step, or raises torch.cuda.OutOfMemoryError.

    Raises:
        UserError: not even a step on one image fits.
    """
    points: list[tuple[int, int]] = []
    for batch in (batch for batch in MEASURED_BATCHES if batch <= images):
        try:
            points.append((batch, measure(batch)))
        except torch.cuda.OutOfMemoryError:
            break
        if points[-1][1] > budget:
            break
    if not points:
        raise UserError(
            "batch=-1: the GPU memory does not hold a step on one image; try a smaller imgsz or model, or check with "
            "nvidia-smi whether another program uses the GPU."
        )
    largest, needed = points[-1]
    base, slope = fit_line(points)
    if slope <= 0:  # memory does not grow with the batch, or only one image was measured
        return largest if needed <= budget else 1
    return max(min(int((budget - base) // slope), images), 1)


def fit_line(points: list[tuple[int, int]]) -> tuple[float, float]:
    """Return base and slope of the least-squares line through (x, y); slope 0 for a single point."""
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
    return mean_y - slope * mean_x, slope


def default_batch() -> int:
    """Return the default batch, rounded down to a multiple of the number of ranks."""
    world = dist.world_size()
    return max(DEFAULT_BATCH // world, 1) * world


def measured_batch(
    model: nn.Module, dataset: DetectionDataset, device: torch.device, dtype: torch.dtype | None, side: int
) -> int:
    """Return the batch of all ranks together for images of `side` px; the default if the device is not a GPU.

    Measured with as many boxes per image as the most crowded one of `dataset` has. The smallest choice of all ranks
    is used.
    """
    world = dist.world_size()
    if device.type != "cuda":
        LOGGER.info(f"batch=-1: memory is measured on CUDA devices only; using batch={default_batch()} on {device}.")
        return default_batch()
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device)  # memory cached by torch is free, too; the model is measured with a step
    images, boxes = max(len(dataset) // world, 1), max(len(item.cls) for item in dataset.labels)
    with dist.alone():  # one rank may run out of memory earlier than the others
        mine = choose_batch(
            lambda batch: measure_step(model, device, dtype, random_batch(batch, side, boxes, model.nc, device)),
            budget=int(free * MEMORY_SHARE),
            images=images,
        )
    torch.cuda.empty_cache()
    batch = min(dist.gather(mine)) * world
    LOGGER.info(
        f"batch=-1: using batch={batch}{f', on {world} ranks together,' if world > 1 else ''} for "
        f"{MEMORY_SHARE:.0%} of {free / GB:.1f} GB at {side} px."
    )
    return batch


def measure_step(model: nn.Module, device: torch.device, dtype: torch.dtype | None, batch: dict[str, Tensor]) -> int:
    """Return the peak memory of a training step, in bytes. CUDA only.

    The step is done by a copy of the model, so weights and BatchNorm statistics do not change; the copy
    takes the place of the EMA, which is built later.
    """
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    trial_step(model, device, dtype, batch)
    weights = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return torch.cuda.max_memory_allocated(device) + ADAM_MOMENTS * weights


def trial_step(
    model: nn.Module, device: torch.device, dtype: torch.dtype | None, batch: dict[str, Tensor]
) -> nn.Module:
    """Run forward and backward of a batch on a copy of the model, and return the copy with its gradients."""
    twin = copy.deepcopy(model).train()
    with autocast(device, dtype):
        loss, _ = twin(batch)
    loss.backward()
    return twin


def random_batch(images: int, side: int, boxes: int, classes: int, device: torch.device) -> dict[str, Tensor]:
    """Return noise with `boxes` random boxes per image, as the trainer's preprocessing returns it.

    img (B, 3, side, side) in 0..1; cls (N, 1); bboxes (N, 4) as normalized cx, cy, w, h; batch_idx (N,).
    """
    total = images * boxes
    sizes = 0.05 + 0.25 * torch.rand(total, 2, device=device)
    centers = sizes / 2 + (1 - sizes) * torch.rand(total, 2, device=device)
    return {
        "img": torch.rand(images, 3, side, side, device=device),
        "cls": torch.randint(classes, (total, 1), device=device).float(),
        "bboxes": torch.cat((centers, sizes), 1),
        "batch_idx": torch.arange(images, device=device).repeat_interleave(boxes).float(),
    }
