import io
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from ultralytics.data import piped
from ultralytics.data.loaders import load_source
from ultralytics.utils.errors import DataError


@pytest.fixture
def pipe(monkeypatch):
    """Put bytes on the standard input."""

    def put(data: bytes):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return put


@pytest.fixture
def pictures(tmp_path):
    for number, name in enumerate(("a.png", "b 1.png", "ü.png")):
        cv2.imencode(".png", np.full((4, 6, 3), number, np.uint8))[1].tofile(tmp_path / name)
    return tmp_path


def frames(source="-", **options):
    return [frame for batch in load_source(source, **options) for frame in batch]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"])
def test_paths(pipe, pictures, end):
    names = [str(pictures / name) for name in ("ü.png", "a.png", "b 1.png")]
    pipe(end.join(names).encode() + end.encode())
    found = frames()
    assert [f.path for f in found] == names and [int(f.image[0, 0, 0]) for f in found] == [2, 0, 1]
    assert found[1].label == f"image 2/3 {names[1]}"


def test_rows_that_lead_nowhere_are_skipped(pipe, pictures, caplog, monkeypatch):
    monkeypatch.chdir(pictures)
    pipe(b"# list\n\n  a.png \nmissing.png\nb 1.png\n-\n")
    source = load_source("-", batch=2)
    assert [len(batch) for batch in source] == [2]
    assert [len(batch) for batch in source] == [2]  # paths can be gone over again
    assert "source -, line 4 skipped" in caplog.text and "missing.png: does not exist" in caplog.text


@pytest.mark.parametrize("suffix", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM"])
def test_the_bytes_of_an_image(pipe, suffix):
    out = io.BytesIO()
    Image.new("RGB", (30, 20), (90, 90, 90)).save(out, suffix)
    pipe(out.getvalue())
    (frame,) = frames()
    assert frame.image.shape == (20, 30, 3) and abs(int(frame.image.mean()) - 90) < 3
    assert frame.path == "stdin.jpg" and frame.label == "image 1/1 stdin.jpg"


def test_a_picture_in_text_form(pipe):
    pipe(b"P2\n2 1\n255\n10 20\n")
    assert frames()[0].image[0, :, 0].tolist() == [10, 20]


def test_a_broken_image_is_reported(pipe, caplog):
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 20, 3), np.uint8)).save(out, "PNG")
    pipe(out.getvalue()[:500])
    assert frames() == [] and "stdin.jpg: damaged or truncated" in caplog.text


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "the standard input is empty; pipe paths"), (b" \n", "is empty"), (b"x.png\ny.png\n", "none of its 2 rows")],
)
def test_nothing_useful(pipe, data, message):
    pipe(data)
    with pytest.raises(DataError, match=message):
        frames()


def test_a_terminal_or_no_standard_input(monkeypatch):
    class Terminal(io.TextIOWrapper):
        def isatty(self):
            return True

    for stdin in (Terminal(io.BytesIO(b"a.png")), None):
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(DataError, match="not a pipe; pipe paths or an image"):
            frames()


def test_too_much(pipe, monkeypatch):
    monkeypatch.setattr(piped, "LIMIT", 1 << 20)
    pipe(b"a" * (2 << 20))
    with pytest.raises(DataError, match="more than 1 MB came in"):
        frames()
