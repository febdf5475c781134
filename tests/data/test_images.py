import io
import json
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.golden import inputs
from ultralytics.data.images import decode_image, is_image, letterbox, probe_image, read_image
from ultralytics.data.loaders import load_source
from ultralytics.utils.errors import DataError

GOLDEN = Path(__file__).parents[1] / "golden"
PUBLIC_NAMES = {"scaleFill": "scale_fill", "scaleup": "scale_up", "new_shape": "size"}


@pytest.fixture
def picture() -> np.ndarray:
    """(24, 40, 3) BGR: left half blue, right half red, top-left corner white; no two orientations are alike."""
    image = np.zeros((24, 40, 3), np.uint8)
    image[:, :20], image[:, 20:], image[:8, :8] = (200, 0, 0), (0, 0, 200), 255
    return image


def save(image: np.ndarray, path: Path, **kwargs) -> Path:
    Image.fromarray(np.ascontiguousarray(image[..., ::-1])).save(path, **kwargs)
    return path


def close(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and np.abs(a.astype(int) - b).mean() < 4  # JPEG is lossy


def test_letterbox_agrees_with_the_reference():
    facts = json.loads((GOLDEN / "letterbox_8.4.190.json").read_text())
    arrays = np.load(GOLDEN / "letterbox_8.4.190.npz")
    for entry in facts["images"]:
        image = inputs.gradient(entry["h"], entry["w"], entry["k"])
        for number, option in enumerate(facts["options"]):
            kwargs = {PUBLIC_NAMES.get(key, key): value for key, value in option.items()}
            fitted, _, _ = letterbox(image, kwargs.pop("size"), **kwargs)
            expected = arrays[f"im{entry['image']}_o{number}"]
            assert fitted.shape == expected.shape
            # Equal with the OpenCV the reference was made with; other builds may round differently.
            assert np.abs(fitted.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_exif_orientation(picture, tmp_path, orientation, suffix):
    stored = {  # how the file must hold the upright picture for each orientation
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.transpose(1, 0, 2),
        6: np.rot90(picture, 1),
        7: picture[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(picture, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(stored, tmp_path / f"a{suffix}", exif=exif)
    assert close(read_image(path), picture)
    assert probe_image(path) == (24, 40)


def test_gray_and_non_ascii_path(tmp_path):
    for name in ("gray.jpg", "图像 ü.png", "größe.jpg"):
        Image.fromarray(np.full((10, 12), 90, np.uint8)).save(tmp_path / name)
        image = read_image(tmp_path / name)
        assert image.shape == (10, 12, 3) and (image == 90).all() and image.flags.c_contiguous


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
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), np.full(shape, 0x8001, np.uint16))
    image = read_image(path)
    assert image.shape == (6, 8, 3) and (image == 0x80).all() and image.dtype == np.uint8


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_truncated_file(tmp_path, suffix, share):
    path = save(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), tmp_path / f"a{suffix}")
    assert probe_image(path) == (64, 64)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    for reader in (read_image, probe_image):
        with pytest.raises(DataError, match=path.name):
            reader(path)


def test_truncated_jpeg_with_a_thumbnail(tmp_path):
    small = save(np.zeros((8, 8, 3), np.uint8), tmp_path / "small.jpg").read_bytes()
    path = save(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), tmp_path / "a.jpg")
    data = path.read_bytes()
    # A thumbnail is a whole JPEG inside an early segment, end marker and all.
    path.write_bytes(data[:2] + b"\xff\xe2" + (len(small) + 2).to_bytes(2, "big") + small + data[2 : len(data) // 2])
    with pytest.raises(DataError, match="truncated"):
        read_image(path)


def test_jpeg_followed_by_other_bytes_is_whole(picture, tmp_path):
    path = save(picture, tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes() + b"\0" * 100)
    assert close(read_image(path), picture)


@pytest.mark.parametrize(("content", "message"), [(b"", "0 bytes"), (b"<html>", "not an image"), (None, "folder")])
def test_not_an_image(tmp_path, content, message):
    path = tmp_path / "a.jpg"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_image(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_image(tmp_path / "absent.jpg")


RGB = np.zeros((24, 40, 3), np.uint8)  # left half blue, right half red, top-left corner white
RGB[:, :20], RGB[:, 20:], RGB[:8, :8] = (0, 0, 200), (200, 0, 0), 255


def differs(image, expected) -> float:
    assert image.dtype == np.uint8 and image.shape == expected.shape
    return float(np.abs(image.astype(int) - expected).mean())


BY_PILLOW = "jpg JPEG jfif png apng bmp dib webp tif tiff jp2 avif ppm pnm tga pcx ico sgi qoi dds gif"


@pytest.mark.parametrize("suffix", BY_PILLOW.split())
def test_what_pillow_writes_is_read(suffix, tmp_path):
    file = tmp_path / f"a.{suffix}"
    sizes = {"sizes": [(40, 24)]} if suffix == "ico" else {}
    Image.fromarray(RGB).save(file, **sizes)
    ((frame,),) = load_source(tmp_path)
    assert differs(frame.image, RGB[..., ::-1]) < 6 and frame.kind == "image" and frame.path == str(file)


@pytest.mark.parametrize("suffix", [".pam", ".ras", ".sr", ".hdr", ".pic", ".ppm", ".jpe"])
def test_what_opencv_writes_is_read(suffix, tmp_path):
    bgr = RGB[..., ::-1].astype(np.float32) / 255 if suffix in (".hdr", ".pic") else RGB[..., ::-1]
    cv2.imencode(suffix, bgr)[1].tofile(tmp_path / f"a{suffix}")
    ((frame,),) = load_source(tmp_path)
    assert differs(frame.image, RGB[..., ::-1]) < 6


MODES = {
    ".png": ("1", "L", "LA", "P", "RGBA"),
    ".tiff": ("1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"),
    ".jpg": ("1", "L", "CMYK", "YCbCr"),
}


@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix, modes in MODES.items() for mode in modes])
def test_modes_of_pixels(mode, suffix, tmp_path):
    picture = Image.fromarray(RGB).convert(mode)
    expected = np.asarray(picture.convert("RGB"))[..., ::-1]
    picture.save(tmp_path / f"a{suffix}")
    assert differs(read_image(tmp_path / f"a{suffix}"), expected) < 6


def test_a_name_without_a_known_suffix_is_read_by_its_content(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "download", "PNG")
    assert differs(next(iter(load_source(tmp_path / "download")))[0].image, RGB[..., ::-1]) == 0
    with pytest.raises(DataError, match="no image or video among them"):
        load_source(tmp_path)  # in a folder the suffix decides


def jpeg(width, height) -> bytes:
    """A JPEG of 8 x 8 pixels whose header claims more."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "JPEG")
    data = bytearray(out.getvalue())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


CLAIMS = {
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
    assert [frame.path for (frame,) in load_source(tmp_path)] == [str(tmp_path / "b.bmp")]  # prediction continues
    assert "3600 million pixels" in caplog.text


def test_the_limit_is_pillows_own(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    data = cv2.imencode(".jpg", RGB)[1].tobytes()
    with pytest.raises(DataError, match="pixels, at most 0 are read"):
        decode_image("a.jpg", data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert decode_image("a.jpg", data).shape == RGB.shape


def test_is_image():
    assert is_image(jpeg(8, 8)) and is_image(jpeg(60_000, 60_000)) and not is_image(b"a.jpg\nb.jpg\n")


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
