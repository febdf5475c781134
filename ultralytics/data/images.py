"""Read image files, and resize them to the network's input size."""

import importlib
import io
import os
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from threading import Lock, Semaphore

import cv2
import numpy as np
import torch
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError
from ultralytics.utils.files import read_bytes

READABLE = (  # formats that Pillow or OpenCV read without further programs
    "jpg jpeg jpe jfif png apng bmp dib webp tif tiff jp2 j2k j2c jpx mpo dng avif hdr pic ppm pgm pbm pnm pam pfm tga "
    "pcx psd ico icns sgi ras sr qoi dds xbm xpm"
)
PLUGINS = {  # start of a file: its format, and the module and package by which Pillow reads it
    re.compile(rb"(?s)\A.{4}ftyp(hei[cxms]|hev[cxms]|mif1|msf1)"): ("HEIC", "pillow_heif", "pillow-heif"),
    re.compile(rb"\A(\xff\x0a|\0\0\0\x0cJXL )"): ("JPEG XL", "pillow_jxl", "pillow-jxl-plugin"),
}
IMAGE_SUFFIXES = tuple(f".{name}" for name in f"{READABLE} heic heif hif jxl".split())
OTHER_SUFFIXES = (  # of images that cannot be read, or are videos
    ".gif", ".svg", ".eps", ".exr", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2",
)  # fmt: skip
EXIF_ORIENTATION = 0x0112
WHITE = (255, 255, 255, 255)
FILE_LIMIT = 1 << 29  # bytes of an image file
MEMORY_LIMIT = 500_000_000  # bytes that decoding takes, of all threads together
COSTS = {None: 3, "JPEG": 7, "MPO": 7, "PNG": 8, "BMP": 11, "PPM": 11, "TIFF": 11}  # bytes per pixel; None: in memory
OTHER_COST, PROGRESSIVE_COST = 20, 6  # of JPEG 2000; of the coefficients of a JPEG
BAND_PIXELS = 1 << 20  # converted at once
SLOTS = 8  # parts of the memory limit that threads share
OPENCV_HEADERS = (  # width and height, or height and width, of formats that only OpenCV reads
    re.compile(rb"\A#\?(?s:.{0,4000}?)\n-Y (?P<height>\d{1,9}) \+X (?P<width>\d{1,9})\n"),  # Radiance HDR
    re.compile(rb"\AP7\n(?s:.{0,4000}?)WIDTH (?P<width>\d{1,9})\n(?s:.{0,4000}?)HEIGHT (?P<height>\d{1,9})\n"),  # PAM
)
PILLOW_ERRORS = (  # of its readers for damaged files: each has its own code, and many index out of range
    OSError, SyntaxError, ValueError, RuntimeError, EOFError, LookupError, ArithmeticError, struct.error, TypeError,
    AttributeError, AssertionError, MemoryError, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read an image as uint8 (H, W, 3) BGR, upright by its EXIF orientation.

    Gray becomes three equal channels, 16 bits are reduced to the upper 8, and transparent pixels become white. Raises
    DataError for a truncated or foreign file, and before decoding for one that takes more than MEMORY_LIMIT.
    """
    return decode_image(path, read_bytes(path, DataError, FILE_LIMIT))


def decode_image(path: str | os.PathLike, data: bytes, least: int = MEMORY_LIMIT) -> np.ndarray:
    """Decode an image in memory like `read_image`; `path` is its name in messages.

    JPEG is decoded at 1/8, 1/4 or 1/2 of its size, which is faster, if `least` pixels remain on each side.
    """
    if _is_whole_jpeg(data):
        size, orientation, slots = _jpeg_header(path, data)
        with _memory(slots):
            flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
            flags |= next((8 * factor for factor in (8, 4, 2) if min(size) >= factor * least), 0)  # IMREAD_REDUCED_...
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)  # fast, but accepts truncated files
            if image is not None:
                return upright(image, orientation)
    return _decode_slowly(path, data)


def probe_image(path: str | os.PathLike) -> tuple[int, int]:
    """Return the (height, width) of `read_image` by the cheapest check that detects truncated and foreign files."""
    data = read_bytes(path, DataError, FILE_LIMIT)
    if not _is_whole_jpeg(data):
        return _decode_slowly(path, data).shape[:2]
    (width, height), orientation, _ = _jpeg_header(path, data)
    return (width, height) if orientation >= 5 else (height, width)


def image_orientation(path: str | os.PathLike) -> int:
    """Return the EXIF orientation of an image file, 1 to 8; 1 if it has none."""
    try:
        with Image.open(path) as image:
            return exif_orientation(image)
    except PILLOW_ERRORS:
        return 1


def exif_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation 1 to 8, of a number of any type; 1 for all others."""
    value = image.getexif().get(EXIF_ORIENTATION, 1)
    value = value[0] if isinstance(value, (bytes, tuple)) and value else value
    return int(value) if value in range(1, 9) else 1


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an image (H, W, 3) as stored by its EXIF orientation, 1 to 8."""
    rows, columns = ((1, 1), (1, -1), (-1, -1), (-1, 1))[(orientation - 1) % 4]
    turned = image.transpose(1, 0, 2) if orientation >= 5 else image
    return np.ascontiguousarray(turned[::rows, ::columns])


def stretch(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image to `size` (height, width) without keeping its aspect ratio, bilinear."""
    if image.shape[:2] == tuple(size):
        return image
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def _cost(image: Image.Image) -> int:
    return COSTS.get(image.format, OTHER_COST) + PROGRESSIVE_COST * ("progressive" in image.info)


def memory_slots(path: str | os.PathLike, size: tuple[int, int], cost: int) -> int:
    """Return the share of the memory limit that decoding (width, height) takes; DataError for too large an image."""
    width, height = size
    if (needed := width * height * cost) > MEMORY_LIMIT:
        raise DataError(
            f"{path}: too large, {width} x {height} pixels; expected at most {MEMORY_LIMIT // cost / 1e6:.0f} million "
            "in such a file; cut it into tiles"
        )
    return -(-needed * SLOTS // MEMORY_LIMIT)


@cache
def _locks(process: int) -> tuple[Semaphore, Lock]:
    """Return the free slots, and a lock for taking them; a forked process has its own."""
    return Semaphore(SLOTS), Lock()


@contextmanager
def _memory(slots: int) -> Iterator[None]:
    """Wait for slots of the memory limit, which all threads share."""
    (free, taking), taken = _locks(os.getpid()), 0
    try:
        with taking:
            while taken < slots:
                taken += free.acquire()
        yield
    finally:
        for _ in range(taken):
            free.release()


def _is_whole_jpeg(data: bytes) -> bool:
    """Check for a JPEG start, and an end-of-image marker after the last start of a scan."""
    return data[:3] == b"\xff\xd8\xff" and data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda") > 0


def _jpeg_header(path: str | os.PathLike, data: bytes) -> tuple[tuple[int, int], int, int]:
    """Return (width, height) as stored, EXIF orientation, and the slots that OpenCV takes to decode."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            orientation = exif_orientation(image)
            cost = _cost(image) - 3 * (orientation == 1)  # without a turned copy
            return image.size, orientation, memory_slots(path, image.size, cost)
    except PILLOW_ERRORS as error:
        raise _unreadable(path, error) from error


def _decode_slowly(path: str | os.PathLike, data: bytes) -> np.ndarray:
    """Decode with Pillow, which detects missing data, or with OpenCV if Pillow does not know the format."""
    try:
        kind = _add_plugin(data)
        with Image.open(io.BytesIO(data)) as image:
            return pillow_to_bgr(image, path)
    except UnidentifiedImageError as error:
        if kind:
            raise DataError(f"{path}: {kind}, or convert the file to JPEG") from error
        image = None
        if size := _opencv_size(data):
            with _memory(memory_slots(path, size, OTHER_COST)), suppress(cv2.error):
                image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise DataError(f"{path}: is not an image ({len(data)} bytes); replace or remove the file") from error
        return image
    except PILLOW_ERRORS as error:
        raise _unreadable(path, error) from error


def _add_plugin(data: bytes) -> str:
    """Make Pillow read the format of `data` by another package; return what to install if that is missing."""
    name, module, package = next((found for start, found in PLUGINS.items() if start.match(data)), (None, None, None))
    if name is None:
        return ""
    try:
        getattr(importlib.import_module(module), "register_heif_opener", lambda: None)()
    except ImportError:
        return f"is a {name} image; to read it, pip install {package}"
    return f"is a {name} image that {package} cannot read; replace the file"


def _opencv_size(data: bytes) -> tuple[int, int] | None:
    """Return the (width, height) of a file in a format that only OpenCV reads, or None."""
    if match := next(filter(None, (header.match(data) for header in OPENCV_HEADERS)), None):
        return int(match["width"]), int(match["height"])
    if data[:4] == b"\x59\xa6\x6a\x95" and len(data) > 12:  # Sun raster
        return struct.unpack(">II", data[4:12])
    if data[:4] in (b"II*\0", b"MM\0*"):  # TIFF of unusual pixels
        tags, stream = TiffImagePlugin.ImageFileDirectory_v2(data[:8]), io.BytesIO(data)
        with suppress(*PILLOW_ERRORS):
            stream.seek(tags.next)
            tags.load(stream)
            return int(tags[256]), int(tags[257])
    return None


def _unreadable(path: str | os.PathLike, error: BaseException) -> DataError:
    if isinstance(error, DataError):
        return DataError(f"{path}: {str(error).removeprefix(f'{path}: ')}")
    hint = "cut it into tiles" if isinstance(error, Image.DecompressionBombError) else "replace or remove the file"
    return DataError(f"{path}: damaged, truncated or too large image ({error}); {hint}")


def pillow_to_bgr(image: Image.Image, path: str | os.PathLike = "source") -> np.ndarray:
    """Convert a Pillow image of any mode to upright uint8 (H, W, 3) BGR.

    Transparent becomes white, 16 bits the upper 8. Raises DataError, with the name `path`, for too large an image.
    """
    with _memory(memory_slots(path, image.size, _cost(image))):
        image.load()
        width, height = image.size  # of a TIFF, turned by load
        bgr, band = np.empty((height, width, 3), np.uint8), max(1, BAND_PIXELS // width)
        for top in range(0, height, band):  # conversions of a whole image would take several copies of it
            bgr[top : top + band] = _to_bgr(image.crop((0, top, width, min(top + band, height))))
        return upright(bgr, exif_orientation(image))


def _to_bgr(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16-bit gray, as "I;16" or widened to 32 bits
        return np.clip(np.asarray(image) // 256, 0, 255).astype(np.uint8)[..., None]  # (H, W) -> (H, W, 1)
    if image.mode == "F":
        raise DataError("floating-point pixels have no fixed range; convert the image to 8 or 16 bits")
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image)
    return np.asarray(image.convert("RGB"))[..., ::-1]


def to_bgr(image: np.ndarray | Image.Image) -> np.ndarray:
    """Convert a PIL image or array, gray (H, W), BGR (H, W, 3) or BGRA (H, W, 4), to uint8 BGR (H, W, 3).

    Arrays of other types have pixels 0..255, too, and are rounded.
    """
    if isinstance(image, Image.Image):
        name = getattr(image, "filename", "") or "source"
        try:
            return pillow_to_bgr(image, name)  # reads the file only now
        except PILLOW_ERRORS as error:
            raise _unreadable(name, error) from error
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.dtype.kind not in "buif" or image.ndim not in (2, 3) or channels not in (1, 3, 4) or image.size == 0:
        raise DataError(f"source: got an array of {image.dtype} {image.shape}, expected (H, W, 3) in BGR order, 0..255")
    if image.dtype != np.uint8:
        low, high = float(image.min()), float(image.max())
        if not 0 <= low <= high <= 255:  # also False for NaN
            raise DataError(f"source: got an array with values {low:.4g} to {high:.4g}, expected pixels 0..255")
        if high <= 1 and low < high:
            LOGGER.warning("source: an array with values up to 1 is almost black: pixels are 0..255; multiply by 255")
        image = np.rint(image.astype(np.float32)).astype(np.uint8)
    if channels == 3:
        return np.ascontiguousarray(image)
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR)


def check_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """Return RGB images as float (B, 3, H, W) in 0..1; uint8, and floats above 1, have pixels 0..255.

    Raises DataError for other tensors.
    """
    images = tensor[None] if tensor.ndim == 3 else tensor
    expected = "RGB (B, 3, H, W), float in 0..1 or pixels 0..255"
    if images.ndim != 4 or images.shape[1] != 3 or images.is_complex() or images.numel() == 0:
        raise DataError(f"source: got a tensor of {tensor.dtype} {tuple(tensor.shape)}, expected {expected}")
    low, high = (float(v) for v in images.aminmax())
    if not (low >= -1e-3 and high <= 255):  # also False for NaN
        raise DataError(f"source: got a tensor with values {low:.4g} to {high:.4g}, expected {expected}")
    if images.dtype == torch.uint8 or high > 1 + 1e-3:
        return images.float() / 255
    return images.float()


def tensor_to_image(tensor: torch.Tensor) -> np.ndarray:
    """Convert a float RGB tensor (3, H, W) in 0..1 to uint8 BGR (H, W, 3)."""
    rgb = (tensor.detach().float().clamp(0, 1) * 255).round().byte()
    return np.ascontiguousarray(rgb.permute(1, 2, 0).flip(-1).cpu().numpy())
