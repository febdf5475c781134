"""Pictures that are in memory already: arrays, PIL images and tensors."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps

from ultralytics.data.images import DAMAGED, pillow_to_bgr
from ultralytics.utils.errors import DataError


def to_bgr(image: np.ndarray | Image.Image) -> np.ndarray:
    """uint8 BGR (H, W, 3) of a PIL image, or of a uint8 array: grey (H, W), BGR (H, W, 3) or BGRA (H, W, 4)."""
    if isinstance(image, Image.Image):
        try:
            return pillow_to_bgr(ImageOps.exif_transpose(image))  # reads the file only now
        except DAMAGED as error:
            raise DataError(f"source: PIL image {getattr(image, 'filename', '')}: {error}") from error
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.size == 0:
        raise DataError(
            f"source: got an array of {image.dtype} {image.shape}, expected uint8 (H, W, 3) in BGR order; "
            "convert it, or give float RGB in 0..1 as a torch tensor (B, 3, H, W)"
        )
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels == 3:
        return np.ascontiguousarray(image)
    if channels not in (1, 4):
        raise DataError(f"source: got an array {image.shape} with {channels} channels, expected 1, 3 or 4 (H, W, C)")
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR)


def check_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor as (B, 3, H, W); DataError unless it is float RGB in 0..1."""
    images = tensor[None] if tensor.ndim == 3 else tensor
    expected = "float RGB (B, 3, H, W) in 0..1"
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point() or images.numel() == 0:
        raise DataError(f"source: got a tensor of {tensor.dtype} {tuple(tensor.shape)}, expected {expected}")
    low, high = (float(v) for v in images.aminmax())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # false for NaN too
        raise DataError(f"source: got a tensor with values {low:.4g} to {high:.4g}, expected {expected}")
    return images


def tensor_to_image(tensor: torch.Tensor) -> np.ndarray:
    """uint8 BGR (H, W, 3) of a float RGB tensor (3, H, W) in 0..1."""
    rgb = (tensor.detach().float().clamp(0, 1) * 255).round().byte()
    return np.ascontiguousarray(rgb.permute(1, 2, 0).flip(-1).cpu().numpy())
