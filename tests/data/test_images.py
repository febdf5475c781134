import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.golden import inputs
from ultralytics.data.images import letterbox, probe_image, read_image
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


def test_letterbox_returns_scale_and_padding():
    fitted, ratio, pad = letterbox(np.zeros((50, 100, 3), np.uint8), (200, 200))
    assert (fitted.shape, ratio, pad) == ((200, 200, 3), (2, 2), (0, 50))
    assert (fitted[:50] == 114).all() and not fitted[50:150].any()


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


def test_grey_and_non_ascii_path(tmp_path):
    for name in ("grey.jpg", "图像 ü.png", "größe.jpg"):
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


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_an_image_of_too_many_pixels(tmp_path, suffix, monkeypatch):
    path = save(np.zeros((40, 60, 3), np.uint8), tmp_path / f"a{suffix}")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match=r"a\.(jpg|png): 0 million pixels, at most 0 are read"):
        probe_image(path)
