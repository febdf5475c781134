"""Pictures of many formats, written here by Pillow and OpenCV, against the pixels they were written from."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from ultralytics.data.images import IMAGE_SUFFIXES, decode_image, is_image, read_image
from ultralytics.data.loaders import load_source
from ultralytics.utils.errors import DataError

RGB = np.zeros((24, 40, 3), np.uint8)  # left half blue, right half red, top-left corner white
RGB[:, :20], RGB[:, 20:], RGB[:8, :8] = (0, 0, 200), (200, 0, 0), 255


def frames(source, **options):
    return [frame for batch in load_source(source, **options) for frame in batch]


def differs(image, expected) -> float:
    assert image.dtype == np.uint8 and image.shape == expected.shape
    return float(np.abs(image.astype(int) - expected).mean())


BY_PILLOW = "jpg JPEG jfif png apng bmp dib webp tif tiff jp2 avif ppm pnm tga pcx ico sgi qoi dds gif"


@pytest.mark.parametrize("suffix", BY_PILLOW.split())
def test_what_pillow_writes_is_read(suffix, tmp_path):
    file = tmp_path / f"a.{suffix}"
    sizes = {"sizes": [(40, 24)]} if suffix == "ico" else {}
    Image.fromarray(RGB).save(file, **sizes)
    (frame,) = frames(tmp_path)
    assert differs(frame.image, RGB[..., ::-1]) < 6 and frame.kind == "image" and frame.path == str(file)


@pytest.mark.parametrize("suffix", [".pam", ".ras", ".sr", ".hdr", ".pic", ".ppm", ".jpe"])
def test_what_opencv_writes_is_read(suffix, tmp_path):
    bgr = RGB[..., ::-1].astype(np.float32) / 255 if suffix in (".hdr", ".pic") else RGB[..., ::-1]
    cv2.imencode(suffix, bgr)[1].tofile(tmp_path / f"a{suffix}")
    (frame,) = frames(tmp_path)
    assert differs(frame.image, RGB[..., ::-1]) < 6


MODES = {
    ".png": ("1", "L", "LA", "P", "RGBA", "I;16"),
    ".tiff": ("1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16"),
    ".jpg": ("1", "L", "CMYK", "YCbCr"),
}


@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix, modes in MODES.items() for mode in modes])
def test_modes_of_pixels(mode, suffix, tmp_path):
    if mode == "I;16":
        grey = np.asarray(Image.fromarray(RGB).convert("L"))
        picture = Image.fromarray(grey.astype(np.uint16) * 257)
        expected = np.repeat(grey[..., None], 3, axis=2)
    else:
        picture = Image.fromarray(RGB).convert(mode)
        expected = np.asarray(picture.convert("RGB"))[..., ::-1]
    picture.save(tmp_path / f"a{suffix}")
    assert differs(read_image(tmp_path / f"a{suffix}"), expected) < 6


def test_a_name_without_a_known_suffix_is_read_by_its_content(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "download", "PNG")
    assert differs(frames(tmp_path / "download")[0].image, RGB[..., ::-1]) == 0
    with pytest.raises(DataError, match="no image or video among them"):
        frames(tmp_path)  # in a folder the suffix decides


def test_every_suffix_is_lower_case_and_none_is_a_document():
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)
    assert not {".pdf", ".eps", ".mpg", ".h5", ".gif"} & set(IMAGE_SUFFIXES)


def png(width, height) -> bytes:
    """A PNG that claims a size and has the data of one row."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(bytes(1 + 3 * min(width, 1000))))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")


def jpeg(width, height) -> bytes:
    """A JPEG of 8 x 8 pixels whose header claims more."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "JPEG")
    data = bytearray(out.getvalue())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


CLAIMS = {
    "a.png": png(60_000, 60_000),
    "a.jpg": jpeg(60_000, 60_000),
    "a.ppm": b"P6\n60000 60000\n255\n" + bytes(100),
    "a.pam": b"P7\nWIDTH 60000\nHEIGHT 60000\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n" + bytes(100),
    "a.hdr": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 60000 +X 60000\n" + bytes(100),
    "a.pfm": b"PF\n60000 60000\n-1.0\n" + bytes(100),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_claimed_pixels_are_refused_before_decoding(name, tmp_path, monkeypatch, caplog):
    def no_decoder(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr(cv2, "imdecode", no_decoder)
    with pytest.raises(DataError, match=r"3600 million pixels, at most 179 are read"):
        decode_image(name, CLAIMS[name])
    (tmp_path / name).write_bytes(CLAIMS[name])
    Image.fromarray(RGB).save(tmp_path / "b.bmp")
    assert [frame.path for frame in frames(tmp_path)] == [str(tmp_path / "b.bmp")]  # the run goes on
    assert "3600 million pixels" in caplog.text


def test_the_limit_is_pillows_own(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    data = cv2.imencode(".jpg", RGB)[1].tobytes()
    with pytest.raises(DataError, match="pixels, at most 0 are read"):
        decode_image("a.jpg", data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert decode_image("a.jpg", data).shape == RGB.shape


def test_is_image():
    assert is_image(png(3, 3)) and is_image(png(60_000, 60_000)) and not is_image(b"a.jpg\nb.jpg\n")


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


@pytest.mark.parametrize("error", [RuntimeError("no item"), IndexError("index out of range"), struct.error("short")])
def test_errors_of_pillows_readers_are_data_errors(monkeypatch, error):
    """AVIF raised the first, GIF the second."""

    def opened(*_):
        raise error

    monkeypatch.setattr(Image, "open", opened)
    with pytest.raises(DataError, match=f"a.avif: damaged or truncated image .{error}"):
        decode_image("a.avif", b"anything")
