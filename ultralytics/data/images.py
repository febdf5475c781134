"""Read image files, and resize them to the network's input size."""

import io
import os
import struct
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from ultralytics.utils.errors import DataError

READABLE = (  # formats that Pillow or OpenCV read without further programs
    "jpg jpeg jpe jfif png apng bmp dib webp tif tiff jp2 j2k j2c jpx mpo dng avif hdr pic ppm pgm pbm pnm pam pfm tga "
    "pcx psd ico icns sgi ras sr qoi dds xbm xpm"
)
IMAGE_SUFFIXES = tuple(f".{name}" for name in READABLE.split())
EXIF_ORIENTATION = 0x0112
WHITE = (255, 255, 255, 255)
PILLOW_ERRORS = (  # of its readers for damaged files: each has its own code, and many index out of range
    OSError, SyntaxError, ValueError, RuntimeError, EOFError, LookupError, ArithmeticError, struct.error,
    Image.DecompressionBombError,
)  # fmt: skip


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read an image as uint8 (H, W, 3) BGR, upright by its EXIF orientation.

    Gray becomes three equal channels, 16 bits are reduced to the upper 8, and transparent pixels become white. Raises
    DataError for a truncated or foreign file, and before decoding for one with more pixels than twice Pillow's limit.
    """
    return decode_image(path, read_bytes(path))


def decode_image(path: str | os.PathLike, data: bytes) -> np.ndarray:
    """Decode an image in memory like `read_image`; `path` is its name in messages."""
    if _is_whole_jpeg(data):
        _jpeg_header(path, data)  # raises for too many pixels
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)  # fast, but accepts truncated files
        if image is not None:
            return image
    return _decode_slowly(path, data)


def probe_image(path: str | os.PathLike) -> tuple[int, int]:
    """Return the (height, width) of `read_image` by the cheapest check that detects truncated and foreign files."""
    data = read_bytes(path)
    if not _is_whole_jpeg(data):
        return _decode_slowly(path, data).shape[:2]
    (width, height), orientation = _jpeg_header(path, data)
    return (width, height) if orientation >= 5 else (height, width)


def image_orientation(path: str | os.PathLike) -> int:
    """Return the EXIF orientation of an image file, 1 to 8; 1 if it has none."""
    try:
        with Image.open(path) as image:
            return exif_orientation(image)
    except PILLOW_ERRORS:
        return 1


def exif_orientation(image: Image.Image) -> int:
    value = image.getexif().get(EXIF_ORIENTATION, 1)
    return int(value) if value in range(1, 9) else 1


def stretch(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image to `size` (height, width) without keeping its aspect ratio, bilinear."""
    if image.shape[:2] == tuple(size):
        return image
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def read_bytes(path: str | os.PathLike) -> bytes:
    """Return the content of a file."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _is_whole_jpeg(data: bytes) -> bool:
    """Check for a JPEG start, and an end-of-image marker after the last start of a scan."""
    return data[:3] == b"\xff\xd8\xff" and data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda") > 0


def _jpeg_header(path: str | os.PathLike, data: bytes) -> tuple[tuple[int, int], int]:
    """Return ((width, height) as stored, EXIF orientation 1 to 8)."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.size, image.getexif().get(EXIF_ORIENTATION, 1)
    except PILLOW_ERRORS as error:
        raise _unreadable(path, error) from error


def _decode_slowly(path: str | os.PathLike, data: bytes) -> np.ndarray:
    """Decode with Pillow, which detects missing data, or with OpenCV if Pillow does not know the format."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            ImageOps.exif_transpose(image, in_place=True)  # avoids a second copy of a large image
            return pillow_to_bgr(image)
    except UnidentifiedImageError as error:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:  # also for no data
            image = None
        if image is None:
            raise DataError(f"{path}: is not an image ({len(data)} bytes); replace or remove the file") from error
        return image
    except PILLOW_ERRORS as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str | os.PathLike, error: BaseException) -> DataError:
    hint = "cut it into tiles" if isinstance(error, Image.DecompressionBombError) else "replace or remove the file"
    return DataError(f"{path}: damaged, truncated or too large image ({error}); {hint}")


def pillow_to_bgr(image: Image.Image) -> np.ndarray:
    """Convert a Pillow image of any mode to uint8 (H, W, 3) BGR: transparent becomes white, 16 bits the upper 8."""
    if image.mode.startswith("I"):  # 16-bit gray, as "I;16" or widened to 32 bits
        gray = np.clip(np.asarray(image) // 256, 0, 255).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)  # (H, W) -> (H, W, 3)
    if image.mode == "F":
        raise DataError("floating-point pixels have no fixed range; convert the image to 8 or 16 bits")
    if "A" in image.mode or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image.convert("RGBA"))
    rgb = image if image.mode == "RGB" else image.convert("RGB")  # convert copies even an RGB image
    return cv2.cvtColor(np.asarray(rgb), cv2.COLOR_RGB2BGR)


def to_bgr(image: np.ndarray | Image.Image) -> np.ndarray:
    """Convert a PIL image or uint8 array, gray (H, W), BGR (H, W, 3) or BGRA (H, W, 4), to uint8 BGR (H, W, 3)."""
    if isinstance(image, Image.Image):
        return pillow_to_bgr(ImageOps.exif_transpose(image))  # reads the file only now
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or channels not in (1, 3, 4) or image.size == 0:
        raise DataError(
            f"source: got an array of {image.dtype} {image.shape}, expected uint8 (H, W, 3) in BGR order; "
            "convert it, or use float RGB in 0..1 as a torch tensor (B, 3, H, W)"
        )
    if channels == 3:
        return np.ascontiguousarray(image)
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
