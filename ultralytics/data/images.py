"""Reading image files and fitting them to the network's input size."""

from __future__ import annotations

import io
import os
import re
import struct
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from ultralytics.utils.errors import DataError

READABLE = (  # what Pillow or OpenCV reads without further programs
    "jpg jpeg jpe jfif png apng bmp dib webp tif tiff jp2 j2k j2c jpx mpo dng avif hdr pic ppm pgm pbm pnm pam pfm tga "
    "pcx psd ico icns sgi ras sr qoi dds xbm xpm"
)
IMAGE_SUFFIXES = tuple(f".{name}" for name in READABLE.split())
GREY = 114  # of padding; the value the field pads with
EXIF_ORIENTATION = 0x0112
WHITE = (255, 255, 255, 255)
# What Pillow's readers raise over damaged data: each is code of its own, and many index into what is not there.
DAMAGED = (OSError, SyntaxError, ValueError, RuntimeError, EOFError, LookupError, ArithmeticError, struct.error)
# Sides that the header of a Radiance picture, a PAM or a PFM claims: OpenCV has no limit as low as Pillow's.
CLAIMED_SIZE = re.compile(rb"[-+]Y (\d+) [-+]X (\d+)|WIDTH (\d+)\s+HEIGHT (\d+)|^PF\s+(\d+)\s+(\d+)")


def read_image(path: str | os.PathLike) -> np.ndarray:
    """uint8 (H, W, 3) BGR image, upright by its EXIF orientation.

    Grey becomes three equal channels, 16 bits are reduced to their upper 8, and transparent pixels are laid over white,
    as a viewer shows them. A truncated file or one that is no image raises DataError, and so does one that claims more
    pixels than Pillow's limit, before it is decoded.
    """
    return decode_image(path, _read_bytes(path))


def decode_image(path: str | os.PathLike, data: bytes) -> np.ndarray:
    """As `read_image`, of an encoded image in memory; `path` is what messages call it."""
    if _is_whole_jpeg(data):
        _jpeg_header(path, data)  # refuses what is too large before it is decoded
        # OpenCV is the fast path, but takes a cut-off file without complaint; hence the look at the end of the data.
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error as error:
            raise DataError(f"{path}: cannot be decoded ({error.err}); replace or remove the file") from error
        if image is None:
            raise DataError(f"{path}: a JPEG that cannot be decoded; replace or remove the file")
        return image
    return _decode_slowly(path, data)


def probe_image(path: str | os.PathLike) -> tuple[int, int]:
    """(height, width) as `read_image` will give it, with the cheapest check that finds truncated and foreign files."""
    data = _read_bytes(path)
    if not _is_whole_jpeg(data):
        return _decode_slowly(path, data).shape[:2]
    (width, height), orientation = _jpeg_header(path, data)
    return (width, height) if orientation >= 5 else (height, width)


def is_image(data: bytes) -> bool:
    """Whether Pillow knows the file by its beginning; says nothing of the rest."""
    try:
        with Image.open(io.BytesIO(data)):
            return True
    except Image.DecompressionBombError:
        return True
    except DAMAGED:
        return False


def stretch(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The image resized to `size` (height, width) without keeping its proportions, bilinear."""
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
    """Fit an image into `size` (height, width), padding with grey.

    `auto` pads only to the next multiple of `stride`, `scale_fill` stretches instead of padding, `scale_up=False`
    leaves small images small, `center=False` pads right and below only.
    Returns the image, the scale factors (of width, of height), and the padding (left, top).
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
    # An odd pixel goes to the right and below; the 0.1 keeps halves from rounding to even.
    top, left = (round(spare_h / 2 - 0.1), round(spare_w / 2 - 0.1)) if center else (0, 0)
    fitted = cv2.copyMakeBorder(
        stretch(image, (new_h, new_w)),
        top,
        spare_h - top,
        left,
        spare_w - left,
        cv2.BORDER_CONSTANT,
        value=(GREY, GREY, GREY),
    )
    return fitted, (scale, scale), (left, top)


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
    """Starts as a JPEG, and an end-of-image marker follows the last start of a scan."""
    return data[:3] == b"\xff\xd8\xff" and data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda") > 0


def _jpeg_header(path: str | os.PathLike, data: bytes) -> tuple[tuple[int, int], int]:
    """((width, height) as stored, EXIF orientation 1 to 8)."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.size, image.getexif().get(EXIF_ORIENTATION, 1)
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: {_too_large(error)}") from error
    except DAMAGED as error:
        raise DataError(f"{path}: not a readable JPEG ({error}); replace or remove the file") from error


def _decode_slowly(path: str | os.PathLike, data: bytes) -> np.ndarray:
    """Everything but plain JPEG, by Pillow, which notices missing data; formats it does not know go to OpenCV."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            ImageOps.exif_transpose(image, in_place=True)  # no second copy of a large image
            return pillow_to_bgr(image)
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: {_too_large(error)}") from error
    except Image.UnidentifiedImageError:
        return _decode_by_opencv(path, data)
    except DAMAGED as error:
        raise DataError(f"{path}: damaged or truncated image ({error}); replace or remove the file") from error


def _decode_by_opencv(path: str | os.PathLike, data: bytes) -> np.ndarray:
    """Formats that Pillow does not know (Radiance, PAM, PFM in colour)."""
    limit = Image.MAX_IMAGE_PIXELS and 2 * Image.MAX_IMAGE_PIXELS
    if (claim := CLAIMED_SIZE.search(data[:1024])) and limit:
        first, second = (int(side) for side in claim.groups() if side)
        if first * second > limit:
            raise DataError(f"{path}: {_too_large(first * second)}")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise DataError(f"{path}: is not an image; replace or remove the file")
    return image


def _too_large(error: Image.DecompressionBombError | int) -> str:
    count = re.search(r"\d+", str(error))
    pixels = f"{int(count[0]) / 1e6:.0f}" if count else "too many"
    return (
        f"{pixels} million pixels, at most {2 * Image.MAX_IMAGE_PIXELS / 1e6:.0f} are read; cut the image into tiles: "
        "stretched to the network's size, objects in it would be a few pixels"
    )


def pillow_to_bgr(image: Image.Image) -> np.ndarray:
    """Pillow image of any mode as uint8 (H, W, 3) BGR: transparent becomes white, of 16 bits the upper 8 are kept."""
    if image.mode.startswith("I"):  # 16-bit grey, as "I;16" or widened to 32 bits
        grey = np.clip(np.asarray(image) // 256, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)  # (H, W) -> (H, W, 3)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; convert the file to 8 or 16 bits")
    if "A" in image.mode or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image.convert("RGBA"))
    colours = image if image.mode == "RGB" else image.convert("RGB")  # converting copies even what is RGB already
    return cv2.cvtColor(np.asarray(colours), cv2.COLOR_RGB2BGR)
