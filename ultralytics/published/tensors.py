"""Functions of tensors and modules of the published interface."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.utils.ops import scale_boxes, xyxy2xywh
from ultralytics.utils.torch_utils import clock, half_dtype


class Profile(contextlib.ContextDecorator):
    """Add up, in `t`, the seconds of a block or function with the work queued on a device; `dt` is the last of them."""

    def __init__(self, t: float = 0.0, device: torch.device | None = None) -> None:
        self.t, self.dt, self.device = t, 0.0, torch.device(device or "cpu")

    def __enter__(self) -> Profile:
        self.start = clock(self.device)
        return self

    def __exit__(self, *error: object) -> None:
        self.dt = clock(self.device) - self.start
        self.t += self.dt


def smart_inference_mode() -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that runs a function in inference mode."""
    return torch.inference_mode()


def get_num_params(model: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def intersect_dicts(
    da: Mapping[str, Tensor], db: Mapping[str, Tensor], exclude: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Return the entries of `da` that `db` has with the same shape, and whose key contains none of `exclude`."""
    same = {key: value for key, value in da.items() if key in db and value.shape == db[key].shape}
    return {key: value for key, value in same.items() if not any(part in key for part in exclude)}


def copy_attr(a: object, b: object, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
    """Copy public attributes of `b` to `a`, only those in `include` if it is not empty, and none in `exclude`."""
    for key, value in vars(b).items():
        if not key.startswith("_") and key not in exclude and (not include or key in include):
            setattr(a, key, value)


def scale_img(img: Tensor, ratio: float = 1.0, same_shape: bool = False, gs: int = 32) -> Tensor:
    """Resize images (B, 3, H, W) by `ratio`, and pad them to multiples of `gs`, or to their size with `same_shape`."""
    if ratio == 1.0:
        return img
    inner = [int(side * ratio) for side in img.shape[2:]]
    down, right = (side if same_shape else int(-(-side * ratio // gs) * gs) for side in img.shape[2:])
    img = F.interpolate(img, inner, mode="bilinear", align_corners=False)
    return F.pad(img, (0, right - inner[1], 0, down - inner[0]), value=0.447)  # mean of ImageNet


def check_amp(model: nn.Module) -> bool:
    """Check whether mixed precision is used on the device of a network: on CUDA."""
    return half_dtype(next(model.parameters()).device) is not None


class AGLU(nn.Module):
    """Compute exp(softplus(kappa * x - log(lambda)) / lambda), https://arxiv.org/abs/2402.01369."""

    def __init__(self, device: Any = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.lambd, self.kappa = (nn.Parameter(torch.rand(1, device=device, dtype=dtype)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the unit to each value."""
        lambd = self.lambd.clamp(min=0.0001)
        return torch.exp(F.softplus(self.kappa * x - lambd.log()) / lambd)


def output_to_target(output: Sequence[Tensor], max_det: int = 300) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return image index, class, box cx, cy, w, h and score of the detections (n, 6) of each image."""
    rows = [table[:max_det].cpu() for table in output]
    index, table = torch.cat([table.new_full((len(table),), i) for i, table in enumerate(rows)]), torch.cat(rows)
    return index, table[:, 5], xyxy2xywh(table[:, :4]), table[:, 4]


def convert_torch2numpy_batch(batch: Tensor) -> np.ndarray:
    """Convert images (B, 3, H, W) in 0..1 to (B, H, W, 3) uint8."""
    return (batch.permute(0, 2, 3, 1) * 255).clamp(0, 255).byte().cpu().numpy()


def segments2boxes(segments: Sequence[np.ndarray]) -> np.ndarray:
    """Return the upright box cx, cy, w, h around each outline (n, 2)."""
    return xyxy2xywh(np.array([[*points.min(0), *points.max(0)] for points in segments], np.float32).reshape(-1, 4))


def scale_coords(
    img1_shape: tuple[int, int], coords: Tensor, img0_shape: tuple[int, int], ratio_pad: Any = None,
    normalize: bool = False, padding: bool = True,
) -> Tensor:  # fmt: skip
    """Move points (..., 2) in place from the letterboxed image of shape `img1_shape` to that of `img0_shape`."""
    points = coords[..., :2].reshape(-1, 2)
    moved = scale_boxes(img1_shape, torch.cat((points, points), -1), img0_shape, ratio_pad, padding)[:, :2]
    moved /= moved.new_tensor([img0_shape[1], img0_shape[0]]) if normalize else 1
    coords[..., :2] = moved.view_as(coords[..., :2])
    return coords
