import io
import struct
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from ultralytics.data import images
from ultralytics.data.dataset_yaml import list_images
from ultralytics.data.images import decode_image, probe_image, read_image, to_bgr
from ultralytics.data.loaders import load_source
from ultralytics.utils.errors import DataError

RGB = np.zeros((24, 40, 3), np.uint8)  # left half blue, right half red, top-left corner white: no two sides are alike
RGB[:, :20], RGB[:, 20:], RGB[:8, :8] = (0, 0, 200), (200, 0, 0), 255
NOISE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)


def save(rgb: np.ndarray, path: Path, **kwargs) -> Path:
    Image.fromarray(np.ascontiguousarray(rgb)).save(path, **kwargs)
    return path


def difference(image: np.ndarray, rgb: np.ndarray) -> float:
    assert image.dtype == np.uint8 and image.shape == rgb.shape
    return float(np.abs(image[..., ::-1].astype(int) - rgb).mean())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff", ".webp"])
def test_exif_orientation(tmp_path, orientation, suffix):
    turned = RGB if orientation < 5 else RGB.transpose(1, 0, 2)  # how the file must hold the upright picture
    flips = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (-1, 1), 7: (-1, -1), 8: (1, -1)}.get(orientation, (1, 1))
    stored = turned[:: flips[0], :: flips[1]]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(stored, tmp_path / f"a{suffix}", exif=exif)
    assert difference(read_image(path), RGB) < 4 and probe_image(path) == (24, 40)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_white(tmp_path, mode):
    image = Image.new("RGBA", (8, 6), (10, 10, 10, 255))
    image.paste((10, 10, 10, 0), (0, 0, 4, 6))
    image.convert(mode).save(tmp_path / "a.png")
    result = read_image(tmp_path / "a.png")
    assert (result[:, :4] == 255).all() and (result[:, 4:] == 10).all()


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 3)])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits(tmp_path, shape, suffix):
    cv2.imwrite(str(tmp_path / f"a{suffix}"), np.full(shape, 0x8001, np.uint16))
    assert difference(read_image(tmp_path / f"a{suffix}"), np.full((6, 8, 3), 0x80)) == 0


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff"])
@pytest.mark.parametrize("share", [0.05, 0.9])
def test_truncated_file(tmp_path, suffix, share):
    path = save(NOISE, tmp_path / f"a{suffix}")
    assert probe_image(path) == (64, 64)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    for reader in (read_image, probe_image):
        with pytest.raises(DataError, match=path.name):
            reader(path)


def test_ends_of_jpegs(tmp_path):
    small, data = (save(rgb, tmp_path / "a.jpg").read_bytes() for rgb in (RGB, NOISE))
    assert difference(decode_image("a.jpg", small + b"\0" * 100), RGB) < 4  # other bytes may follow
    # A thumbnail is a whole JPEG inside an early segment, end marker and all.
    thumbnail = b"\xff\xe2" + (len(small) + 2).to_bytes(2, "big") + small
    with pytest.raises(DataError, match="truncated"):
        decode_image("a.jpg", data[:2] + thumbnail + data[2 : len(data) // 2])


@pytest.mark.parametrize(
    ("start", "message"),
    [(b"\0\0\0\x18ftypheic", "HEIC image; to read it, pip install pillow-heif"),
     (b"\0\0\0\x18ftypmif1", "HEIC image; to read it, pip install pillow-heif"),
     (b"\xff\x0a", "JPEG XL image; to read it, pip install pillow-jxl-plugin")],
)  # fmt: skip
@pytest.mark.parametrize("name", ["a.jpg", "a.HEIC"])
def test_formats_of_other_packages(tmp_path, start, message, name, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # not installed
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    (tmp_path / name).write_bytes(start + bytes(50))
    for read in (images.read_image, images.probe_image):
        with pytest.raises(DataError, match=f"{name}: is a {message}, or convert the file to JPEG"):
            read(tmp_path / name)
    assert list_images([tmp_path], tmp_path) == [tmp_path / name]


@pytest.mark.parametrize(("content", "message"), [(b"", "0 bytes"), (b"<html>", "not an image"), (None, "no such")])
def test_not_an_image(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.jpg: .*{message}"):
        read_image(tmp_path / "a.jpg")


BY_PILLOW = "jpg JPEG jfif png apng bmp dib webp tif tiff jp2 avif ppm pnm tga pcx ico sgi qoi dds"
BY_OPENCV = "pam ras sr hdr pic jpe"


@pytest.mark.parametrize("suffix", [*BY_PILLOW.split(), *BY_OPENCV.split()])
def test_formats(suffix, tmp_path):
    file = tmp_path / f"a.{suffix}"
    if suffix in BY_OPENCV:
        bgr = RGB[..., ::-1].astype(np.float32) / 255 if suffix in ("hdr", "pic") else RGB[..., ::-1]
        cv2.imencode(file.suffix, bgr)[1].tofile(file)
    else:
        save(RGB, file, **({"sizes": [(40, 24)]} if suffix == "ico" else {}))
    ((frame,),) = load_source(tmp_path)
    assert difference(frame.image, RGB) < 6 and frame.kind == "image" and frame.path == str(file)


MODES = {".png": "1 L LA P RGBA", ".tiff": "1 L LA P RGBA CMYK YCbCr", ".jpg": "1 L CMYK YCbCr"}


@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix in MODES for mode in MODES[suffix].split()])
def test_modes_of_pixels_and_non_ascii_paths(mode, suffix, tmp_path):
    picture = Image.fromarray(RGB).convert(mode)
    picture.save(tmp_path / f"图像 ü{suffix}")
    image = read_image(tmp_path / f"图像 ü{suffix}")
    assert difference(image, np.asarray(picture.convert("RGB"))) < 6 and image.flags.c_contiguous


def encoded(image, kind) -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def jpeg(width, height) -> bytes:
    """A JPEG of 8 x 8 pixels whose header claims more."""
    data = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def png(width, height, kind) -> bytes:
    """A PNG whose header claims more than its 8 x 8 pixels."""
    data = bytearray(encoded(Image.new(kind, (8, 8)), "PNG"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def tiff(width, height) -> bytes:
    """A TIFF of pixels that Pillow does not know."""
    data = cv2.imencode(".tiff", np.zeros((8, 8, 3), np.int16))[1].tobytes()
    return data.replace(struct.pack("<HHII", 256, 3, 1, 8), struct.pack("<HHII", 256, 4, 1, width)).replace(
        struct.pack("<HHII", 257, 3, 1, 8), struct.pack("<HHII", 257, 4, 1, height)
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    "data",
    [
        jpeg(60_000, 60_000), jpeg(12_000, 12_000), b"P6\n60000 60000\n255\n" + bytes(100), png(13_300, 13_300, "RGB"),
        png(9000, 9000, "RGBA"), png(9000, 9000, "P"), b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 30000 +X 30000\n\2",
        b"P7\nWIDTH 30000\nHEIGHT 30000\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n", tiff(30_000, 30_000),
        b"\x59\xa6\x6a\x95" + struct.pack(">7I", 30_000, 30_000, 24, 0, 2, 0, 0),
    ],
)  # fmt: skip
def test_claimed_pixels_are_refused_before_decoding(data, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    with pytest.raises(DataError, match=r"^a: (too large, |damaged, .*exceeds limit).*tiles$"):
        decode_image("a", data)


def test_tiff_that_only_opencv_reads():
    assert decode_image("a", tiff(8, 8)).shape == (8, 8, 3)


def test_threads_share_the_memory_of_decoding(monkeypatch):
    """Of eight images that take a third of the limit each, never more than two are decoded at once."""
    monkeypatch.setattr(images, "MEMORY_LIMIT", 3 * 8 * 64 * 64)
    decode, active, most = Image.Image.crop, [], []

    def slow(image, box):
        active.append(image)
        most.append(len(active))
        time.sleep(0.01)
        active.pop()
        return decode(image, box)

    monkeypatch.setattr(Image.Image, "crop", slow)
    data = encoded(Image.fromarray(NOISE), "PNG")
    with ThreadPoolExecutor(8) as threads:
        assert len(list(threads.map(decode_image, "abcdefgh", [data] * 8))) == 8
    assert max(most) == 2


def oriented(kind, order, value) -> bytes:
    """EXIF data whose orientation has the type `kind`, in byte order "<" or ">"."""
    code, width = {"BYTE": (1, "B"), "SHORT": (3, "H"), "LONG": (4, "I"), "SLONG": (9, "i")}[kind]
    field = struct.pack(order + width, value).ljust(4, b"\0")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHI", 0x0112, code, 1) + field
    return b"Exif\0\0" + mark + struct.pack(order + "IH", 8, 1) + entry + bytes(4)


XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["BYTE", "SHORT", "LONG", "SLONG", "XMP"])
@pytest.mark.parametrize("value", [0, 1, 6, 8, 9, 200, -6])
def test_one_orientation_for_all_readers(tmp_path, suffix, order, kind, value):
    if value < 0 and kind != "SLONG":
        return
    file = tmp_path / f"a{suffix}"
    if suffix == ".tiff":
        save(RGB, file, tiffinfo={0x0112: max(0, value)})
    elif kind == "XMP":
        text = XMP.replace("6", str(value))
        chunk = PngImagePlugin.PngInfo()
        chunk.add_itxt("XML:com.adobe.xmp", text)
        save(RGB, file, xmp=text.encode(), **({"pnginfo": chunk} if suffix == ".png" else {}))
    else:
        save(RGB, file, exif=oriented(kind, order, value))
    image = read_image(file)
    with Image.open(file) as opened:
        assert (to_bgr(opened) == image).all() or suffix == ".jpg"  # another decoder
    assert probe_image(file) == image.shape[:2] == ((40, 24) if value in (6, 8) else (24, 40))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_files_raise_nothing_but_data_errors():
    """Bytes changed at random in files of many formats; Pillow answers with errors of many kinds."""
    rng = np.random.default_rng(3)
    for suffix in BY_PILLOW.split():
        out = io.BytesIO()
        Image.fromarray(RGB).save(out, Image.registered_extensions()[f".{suffix.lower()}"])
        for _ in range(15):
            data = bytearray(out.getvalue()[: rng.integers(1, len(out.getvalue()) + 1)])
            for place in rng.integers(0, min(len(data), 60), 4):
                data[place] = rng.integers(256)
            try:
                assert decode_image("a", bytes(data)).ndim == 3
            except DataError as error:
                assert str(error).startswith("a: ")  # either of the two is right
