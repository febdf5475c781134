"""`batch=-1`: fit the memory of small training steps with a line to find the largest batch the GPU holds."""

import copy
from collections.abc import Callable
from statistics import linear_regression

import torch
from torch import Tensor, nn

from ultralytics.cfg.options import Options
from ultralytics.data.dataset import DetectionDataset, available_memory
from ultralytics.utils import LOGGER, dist
from ultralytics.utils.errors import UserError
from ultralytics.utils.torch_utils import autocast, half_dtype

MEMORY_SHARE = 0.7  # of the free memory; the rest is for fragmentation, crowded images and other programs
MEASURED_BATCHES = (1, 2, 4, 8, 16)
PIXEL_BYTES, PAIR_BYTES = 100, 4  # of a pixel (image, stem) and a pair of queries (attention); less than any network
GB = 1024**3


def choose_batch(measure: Callable[[int], int], *, budget: int, images: int) -> int:
    """Return the largest batch in 1..`images` whose training step needs at most `budget` bytes by `measure(batch)`."""
    needed: dict[int, int] = {}  # bytes by batch
    try:
        for batch in MEASURED_BATCHES:
            if batch <= images and max(needed.values(), default=0) <= budget:
                needed[batch] = measure(batch)
    except torch.cuda.OutOfMemoryError:
        if not needed:
            raise UserError("batch=-1: the GPU memory does not hold a step on one image; try a smaller imgsz") from None
    if len(needed) == 1:
        return 1
    slope, base = linear_regression(list(needed), list(needed.values()))
    return max(min(int((budget - base) / slope), images), 1) if slope > 0 else max(needed)


def check_memory(options: Options) -> None:
    """Raise UserError for sizes that no detector can train with on this CPU: the system would kill the process.

    Real networks need several times as much for their activations.
    """
    tokens = (options.queries or 0) + 2 * (options.denoising or 0)
    needed = options.batch * (options.imgsz**2 * PIXEL_BYTES + tokens**2 * PAIR_BYTES)
    if needed > (free := available_memory()):
        sizes = {key: getattr(options, key) for key in ("imgsz", "batch", "queries", "denoising")}
        text = ", ".join(f"{key}={value}" for key, value in sizes.items() if value is not None)
        raise UserError(
            f"{text}: training needs more than {needed / GB:.0f} GB of memory, {free / GB:.0f} GB are free; "
            "reduce them."
        )


def default_batch() -> int:
    """Return the batch without a GPU: 16, rounded down to a multiple of the number of ranks."""
    return max(16 // dist.world_size(), 1) * dist.world_size()


def measured_batch(
    model: nn.Module, dataset: DetectionDataset, device: torch.device, dtype: torch.dtype | None, side: int
) -> int:
    """Return the batch of all ranks together for images of `side` px; the default if the device is not a GPU."""
    if device.type != "cuda":
        return autobatch(model, batch_size=default_batch(), device=device)
    world, boxes = dist.world_size(), max(len(item.cls) for item in dataset.source.labels)  # of the most crowded image
    with dist.alone():  # one rank may run out of memory earlier than the others
        mine = autobatch(model, side, MEMORY_SHARE, 0, boxes, max(len(dataset) // world, 1), device=device, dtype=dtype)
    batch = min(dist.gather(mine)) * world  # the smallest choice of all ranks
    LOGGER.info(f"batch=-1: using batch={batch}")
    return batch


def autobatch(
    model: nn.Module, imgsz: int = 640, fraction: float = 0.6, batch_size: int = 16, max_num_obj: int = 1,
    dataset_size: int = 0, *, device: torch.device | None = None, dtype: torch.dtype | None = None,
) -> int:  # fmt: skip
    """Return the batch, at most `dataset_size`, whose step takes a fraction of the free GPU memory; or `batch_size`."""
    device = device or next(model.parameters()).device
    if device.type != "cuda":
        LOGGER.info(f"batch=-1: memory is measured on CUDA devices only; using batch={batch_size} on {device}.")
        return batch_size
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device)  # memory cached by torch is free, too; the model is measured with a step

    def measure(images: int) -> int:
        return step_memory(model, device, dtype, random_batch(images, imgsz, max_num_obj, model.nc, device))

    batch = choose_batch(measure, budget=int(free * fraction), images=dataset_size or 1024)
    torch.cuda.empty_cache()
    LOGGER.info(f"batch=-1: {batch} images take {fraction:.0%} of {free / GB:.1f} GB at {imgsz} px.")
    return batch


def check_train_batch_size(
    model: nn.Module, imgsz: int = 640, amp: bool | torch.dtype = True, batch: float = -1, max_num_obj: int = 1,
    dataset_size: int = 0,
) -> int:  # fmt: skip
    """Return `autobatch` of a network in mixed precision, for a `batch` in 0..1 with this fraction."""
    dtype = half_dtype(next(model.parameters()).device) if amp is True else amp or None
    return autobatch(model, imgsz, batch if 0 < batch < 1 else 0.6, 16, max_num_obj, dataset_size, dtype=dtype)


def step_memory(model: nn.Module, device: torch.device, dtype: torch.dtype | None, batch: dict[str, Tensor]) -> int:
    """Return the peak memory of a training step, in bytes. CUDA only."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    trial_step(model, device, dtype, batch)  # the copy it makes takes the place of the EMA, which is built later
    weights = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return torch.cuda.max_memory_allocated(device) + 2 * weights  # Adam adds two moments


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
    """Return noise (`images`, 3, `side`, `side`) with `boxes` random boxes per image, like a preprocessed batch."""
    total = images * boxes
    sizes = 0.05 + 0.25 * torch.rand(total, 2, device=device)
    centers = sizes / 2 + (1 - sizes) * torch.rand(total, 2, device=device)
    return {
        "img": torch.rand(images, 3, side, side, device=device),
        "cls": torch.randint(classes, (total, 1), device=device).float(),
        "bboxes": torch.cat((centers, sizes), 1),
        "batch_idx": torch.arange(images, device=device).repeat_interleave(boxes).float(),
    }
