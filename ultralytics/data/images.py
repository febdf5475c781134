"""Read image files, and resize them to the network's input size."""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps

from ultralytics.utils.errors import DataError

READABLE = (  # formats that Pillow or OpenCV read without further programs
    "jpg jpeg jpe jfif png apng bmp dib webp tif tiff jp2 j2k j2c jpx mpo dng avif hdr pic ppm pgm pbm pnm pam pfm tga "
    "pcx psd ico icns sgi ras sr qoi dds xbm xpm"
)
IMAGE_SUFFIXES = tuple(f".{name}" for name in READABLE.split())
GRAY = 114  # padding, the usual value in the field
EXIF_ORIENTATION = 0x0112
WHITE = (255, 255, 255, 255)
# Exceptions of Pillow's readers for damaged files: each reader has its own code, and many index out of range.
DAMAGED = (OSError, SyntaxError, ValueError, RuntimeError, EOFError, LookupError, ArithmeticError, struct.error)
# Sides in the header of Radiance, PAM and PFM files, which OpenCV decodes without a limit as low as Pillow's.
HEADER_SIZE = re.compile(rb"[-+]Y (\d+) [-+]X (\d+)|WIDTH (\d+)\s+HEIGHT (\d+)|^PF\s+(\d+)\s+(\d+)")


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read an image as uint8 (H, W, 3) BGR, upright by its EXIF orientation.

    Gray becomes three equal channels, 16 bits are reduced to the upper 8, and transparent pixels become white. Raises
    DataError for a truncated or foreign file, and before decoding for one with more pixels than twice Pillow's limit.
    """
    return decode_image(path, _read_bytes(path))


def decode_image(path: str | os.PathLike, data: bytes) -> np.ndarray:
    """Decode an image in memory like `read_image`; `path` is its name in messages."""
    if not _is_whole_jpeg(data):
        return _decode_slowly(path, data)
    _jpeg_header(path, data)  # raises for too many pixels
    try:  # OpenCV is fast, but accepts truncated files silently; hence `_is_whole_jpeg`
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise DataError(f"{path}: cannot be decoded ({error.err}); replace or remove the file") from error
    if image is None:
        raise DataError(f"{path}: JPEG that cannot be decoded; replace or remove the file")
    return image


def probe_image(path: str | os.PathLike) -> tuple[int, int]:
    """Return the (height, width) of `read_image` by the cheapest check that detects truncated and foreign files."""
    data = _read_bytes(path)
    if not _is_whole_jpeg(data):
        return _decode_slowly(path, data).shape[:2]
    (width, height), orientation = _jpeg_header(path, data)
    return (width, height) if orientation >= 5 else (height, width)


def is_image(data: bytes) -> bool:
    """Check whether Pillow recognizes a file by its first bytes."""
    try:
        with Image.open(io.BytesIO(data)):
            return True
    except Image.DecompressionBombError:
        return True
    except DAMAGED:
        return False


def stretch(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image to `size` (height, width) without keeping its aspect ratio, bilinear."""
    if image.shape[:2] == tuple(size):
        return image
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def letterbox(
    image: np.ndarray,
    size: int | tuple[int, int],
    *,
    auto: bool = False,
    scale_fill: bool = False,
    scale_up: bool = True,
    center: bool = True,
    stride: int = 32,
) -> tuple[np.ndarray, tuple[float, float], tuple[int, int]]:
    """Fit an image into `size` (height, width), padding with gray.

    `auto` pads only to the next multiple of `stride`. `scale_fill` stretches instead of padding. `scale_up=False` does
    not enlarge small images. `center=False` pads right and below only.
    Returns the image, the scale factors (of width, of height), and the padding (left, top).

    >>> padded, scale, pad = letterbox(np.zeros((50, 100, 3), np.uint8), 200)
    >>> padded.shape, scale, pad
    ((200, 200, 3), (2.0, 2.0), (0, 50))
    """
    target_h, target_w = (size, size) if isinstance(size, int) else size
    height, width = image.shape[:2]
    if scale_fill:
        return stretch(image, (target_h, target_w)), (target_w / width, target_h / height), (0, 0)
    scale = min(target_h / height, target_w / width)
    if not scale_up:
        scale = min(scale, 1.0)
    new_h, new_w = round(height * scale), round(width * scale)
    spare_h, spare_w = target_h - new_h, target_w - new_w
    if auto:
        spare_h, spare_w = spare_h % stride, spare_w % stride
    # An odd pixel goes to the right and below; 0.1 keeps halves from rounding to even.
    top, left = (round(spare_h / 2 - 0.1), round(spare_w / 2 - 0.1)) if center else (0, 0)
    borders = (top, spare_h - top, left, spare_w - left)
    resized = stretch(image, (new_h, new_w))
    padded = cv2.copyMakeBorder(resized, *borders, cv2.BORDER_CONSTANT, value=(GRAY, GRAY, GRAY))
    return padded, (scale, scale), (left, top)


def _read_bytes(path: str | os.PathLike) -> bytes:
    try:
        data = Path(path).read_bytes()
    except IsADirectoryError as error:
        raise DataError(f"{path}: is a folder, expected an image file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if not data:
        raise DataError(f"{path}: is empty (0 bytes); replace or remove the file")
    return data


def _is_whole_jpeg(data: bytes) -> bool:
    """Check for a JPEG start, and an end-of-image marker after the last start of a scan."""
    return data[:3] == b"\xff\xd8\xff" and data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda") > 0


@contextmanager
def _pillow_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turn exceptions of Pillow's readers into DataError."""
    try:
        yield
    except Image.DecompressionBombError as error:
        count = re.search(r"\d+", str(error))
        raise _too_many_pixels(path, int(count[0]) if count else 0) from error
    except DAMAGED as error:
        raise DataError(f"{path}: damaged or truncated image ({error}); replace or remove the file") from error


def _jpeg_header(path: str | os.PathLike, data: bytes) -> tuple[tuple[int, int], int]:
    """Return ((width, height) as stored, EXIF orientation 1 to 8)."""
    with _pillow_errors(path), Image.open(io.BytesIO(data)) as image:
        return image.size, image.getexif().get(EXIF_ORIENTATION, 1)


def _decode_slowly(path: str | os.PathLike, data: bytes) -> np.ndarray:
    """Decode with Pillow, which detects missing data, or with OpenCV if Pillow does not know the format."""
    with _pillow_errors(path):
        try:
            with Image.open(io.BytesIO(data)) as image:
                ImageOps.exif_transpose(image, in_place=True)  # avoids a second copy of a large image
                return pillow_to_bgr(image)
        except Image.UnidentifiedImageError:
            pass
    limit = Image.MAX_IMAGE_PIXELS and 2 * Image.MAX_IMAGE_PIXELS
    if (header := HEADER_SIZE.search(data[:1024])) and limit:
        first, second = (int(side) for side in header.groups() if side)
        if first * second > limit:
            raise _too_many_pixels(path, first * second)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise DataError(f"{path}: is not an image; replace or remove the file")
    return image


def _too_many_pixels(path: str | os.PathLike, count: int) -> DataError:
    return DataError(
        f"{path}: {count / 1e6:.0f} million pixels, at most {2 * Image.MAX_IMAGE_PIXELS / 1e6:.0f} are read; cut the "
        "image into tiles, as objects would shrink to a few pixels at the network's input size"
    )


def pillow_to_bgr(image: Image.Image) -> np.ndarray:
    """Convert a Pillow image of any mode to uint8 (H, W, 3) BGR: transparent becomes white, 16 bits the upper 8."""
    if image.mode.startswith("I"):  # 16-bit gray, as "I;16" or widened to 32 bits
        gray = np.clip(np.asarray(image) // 256, 0, 255).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)  # (H, W) -> (H, W, 3)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; convert the file to 8 or 16 bits")
    if "A" in image.mode or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image.convert("RGBA"))
    rgb = image if image.mode == "RGB" else image.convert("RGB")  # convert copies even an RGB image
    return cv2.cvtColor(np.asarray(rgb), cv2.COLOR_RGB2BGR)


def to_bgr(image: np.ndarray | Image.Image) -> np.ndarray:
    """Convert a PIL image or uint8 array, gray (H, W), BGR (H, W, 3) or BGRA (H, W, 4), to uint8 BGR (H, W, 3)."""
    if isinstance(image, Image.Image):
        try:
            return pillow_to_bgr(ImageOps.exif_transpose(image))  # reads the file only now
        except DAMAGED as error:
            raise DataError(f"source: PIL image {getattr(image, 'filename', '')}: {error}") from error
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.size == 0:
        raise DataError(
            f"source: got an array of {image.dtype} {image.shape}, expected uint8 (H, W, 3) in BGR order; "
            "convert it, or use float RGB in 0..1 as a torch tensor (B, 3, H, W)"
        )
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels == 3:
        return np.ascontiguousarray(image)
    if channels not in (1, 4):
        raise DataError(f"source: got an array {image.shape} with {channels} channels, expected 1, 3 or 4 (H, W, C)")
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR)


def check_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor as (B, 3, H, W). Raises DataError unless it is float RGB in 0..1."""
    images = tensor[None] if tensor.ndim == 3 else tensor
    expected = "float RGB (B, 3, H, W) in 0..1"
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point() or images.numel() == 0:
        raise DataError(f"source: got a tensor of {tensor.dtype} {tuple(tensor.shape)}, expected {expected}")
    low, high = (float(v) for v in images.aminmax())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # also False for NaN
        raise DataError(f"source: got a tensor with values {low:.4g} to {high:.4g}, expected {expected}")
    return images


def tensor_to_image(tensor: torch.Tensor) -> np.ndarray:
    """Convert a float RGB tensor (3, H, W) in 0..1 to uint8 BGR (H, W, 3)."""
    rgb = (tensor.detach().float().clamp(0, 1) * 255).round().byte()
    return np.ascontiguousarray(rgb.permute(1, 2, 0).flip(-1).cpu().numpy())
