import os
import subprocess
import sys
import threading
from contextlib import closing
from types import MappingProxyType

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.data.test_streams import frames, write_video
from ultralytics.cfg.options import get_cfg
from ultralytics.data import loaders
from ultralytics.data.loaders import load_source, read_ahead
from ultralytics.models.rtdetr.predict import RTDETRPredictor
from ultralytics.utils.errors import DataError

CIRCLE = []
CIRCLE.append(CIRCLE)


def picture(value=100, height=20, width=30):
    return np.full((height, width, 3), value, np.uint8)


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imencode(path.suffix, picture())[1].tofile(path)
    return path


def names(source):
    return [frame.path.replace("\\", "/").rsplit("/", 1)[-1] for frame in frames(source)]


def reader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.jpg", "bild ü.png", "inner/c.png", "._a.jpg"):
        save(tmp_path / "images" / name)
    (tmp_path / "images" / "notes.md").write_text("no image")
    return tmp_path / "images"


@pytest.fixture
def video(tmp_path):
    return write_video(tmp_path / "clip.avi", 200, "MJPG")


def test_path_folder_and_glob(folder):
    assert names(folder / "a.jpg") == ["a.jpg"]
    assert names(str(folder)) == ["a.jpg", "b.png", "bild ü.png"]
    assert names(f"{folder}/*.png") == ["b.png", "bild ü.png"]
    assert names(f"{folder}/**/*.png") == ["b.png", "bild ü.png", "c.png"]
    assert [frame.label.split()[1] for frame in frames(folder)] == ["1/3", "2/3", "3/3"]
    assert names(save(folder / "shot[1].png")) == ["shot[1].png"]  # not a glob
    save(folder / "download.png").rename(folder / "download")
    assert names(folder / "download") == ["download"]  # a single file is read by its content


def test_lists(folder, monkeypatch, caplog):
    monkeypatch.chdir(folder.parent)
    listing = folder / "list.txt"  # the first path from the working folder, the second from that of the list
    listing.write_text("images/a.jpg\n# comment\n\nb.png\nmissing.png\n", encoding="utf-8")
    assert names(listing) == ["a.jpg", "b.png"]
    assert "line 5 skipped" in caplog.text and "missing.png" in caplog.text
    (folder / "list.csv").write_bytes('\ufeffbild ü.png,cat\r\n"b.png",dog\r\n'.encode())
    assert names(folder / "list.csv") == ["bild ü.png", "b.png"]


def test_batches_and_mixed_sources(folder):
    source = [folder, picture(), Image.new("RGB", (9, 7)), [np.zeros((2, 5, 4, 3), np.uint8)]]
    loaded = load_source(source, batch=4)
    assert [len(batch) for batch in loaded] == [len(batch) for batch in loaded] == [4, 3] and len(loaded) == 7
    found = frames(source)
    assert [f.image.shape[:2] for f in found[3:]] == [(20, 30), (7, 9), (5, 4), (5, 4)]
    assert found[3].path == "image3.jpg"


def test_images_videos_and_gifs_in_order(tmp_path, video):
    save(tmp_path / "a.png")
    first, *rest = (Image.new("RGB", (8, 6), (value,) * 3) for value in (10, 60, 110, 160))
    first.save(tmp_path / "d.gif", save_all=True, append_images=rest, duration=40)
    found = frames([tmp_path, picture()], batch=3, vid_stride=3)
    expected = [("image", "1/4"), *[("video", "2/4")] * 66, ("video", "3/4"), ("image", "4/4")]
    assert [(f.kind, f.label.split()[1]) for f in found] == expected
    assert [(f.index, int(f.image[0, 0, 0]), round(f.fps, 2)) for f in found[-2:-1]] == [(1, 110, 8.33)]


def test_arrays_are_bgr_and_pil_images_rgb(tmp_path):
    blue = np.zeros((4, 6, 3), np.uint8)
    blue[..., 0] = 255
    sources = [blue, np.dstack([blue, blue[..., :1]]), Image.new("RGB", (6, 4), "blue")]
    assert all((frame.image == blue).all() for frame in frames(sources))
    assert frames(np.full((4, 6), 7, np.uint8))[0].image.shape == (4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # camera held sideways
    Image.new("RGB", (30, 20)).save(tmp_path / "sideways.jpg", exif=exif)
    with Image.open(tmp_path / "sideways.jpg") as image:
        (frame,) = frames(image)
    assert frame.image.shape[:2] == (30, 20) and frame.path.endswith("sideways.jpg")


def test_tensors_are_kept():
    tensor = torch.rand(2, 3, 32, 64)
    (_, second), (third,) = load_source([tensor, torch.rand(3, 32, 64)], batch=2)
    assert not reader_threads() and third.path == "image2.jpg"  # tensors and arrays need no thread
    assert (second.tensor == tensor[1]).all()
    expected = (tensor[1].permute(1, 2, 0).flip(-1) * 255).round()
    assert (torch.from_numpy(second.image) == expected).all()


def test_broken_files_are_skipped(folder, caplog):
    (folder / "aa.jpg").write_bytes((folder / "a.jpg").read_bytes()[:200])
    (folder / "broken.mp4").write_bytes(b"no video")
    assert names(folder) == ["a.jpg", "b.png", "bild ü.png"]
    assert names(folder / "notes.md") == []
    assert all(text in caplog.text for text in ("aa.jpg", "broken.mp4 cannot be opened", "notes.md: is not an image"))


def test_pixels_of_any_type_are_those_of_uint8(caplog):
    pixels = np.arange(3 * 32 * 32, dtype=np.uint8).reshape(32, 32, 3)
    tensor = torch.from_numpy(pixels[..., ::-1].copy()).permute(2, 0, 1)
    for source in (pixels.astype(np.float64), pixels.astype(np.int64), tensor, tensor.double(), tensor / 255):
        ((frame,),) = load_source(source)
        assert (frame.image == pixels).all() and (frame.tensor is None or float(frame.tensor.max()) == 1)
    assert not caplog.text
    list(load_source(pixels / 255))
    assert "almost black" in caplog.text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "got None"),
        (True, "got True"),
        ([], r"got \[\]"),
        (-1, "got -1 .*camera number from 0"),
        (2**40, "got 1099511627776"),
        (CIRCLE, "lists within lists"),
        ("~nobody/x", "does not exist"),
        ("http://[::1", "Invalid IPv6"),
        ("x" * 300, "does not exist"),
        ("x" * 300 + "/*.jpg", "0 entries"),
        ("a\0/*.jpg", "no NUL"),
        ("/dev/zero", "is a device"),
        ("{folder}/pipe.jpg", "is a device, pipe"),
        ("{folder}/a.jpeg", "does not exist; did you mean 'a.jpg'"),
        ("{folder}/*.bmp", "0 entries, no image or video among them; expected images .*jpg"),
        ("{folder}/binary.txt", "binary.txt: not UTF-8 text"),
        (["{folder}/a.jpg", "0"], "live streams, which never end \\(1\\), with files or images \\(1\\)"),
        (["{folder}/a.jpg", np.zeros((4, 4, 3), np.complex64)], "array of complex64"),
        (np.zeros((3, 4, 5), np.uint8), r"uint8 \(3, 4, 5\)"),
        (Image.new("F", (4, 4)), "floating-point pixels"),
        (torch.zeros(1, 1, 32, 32), r"tensor of torch.float32 \(1, 1, 32, 32\)"),
        (torch.full((1, 3, 32, 32), 256.0), "values 256 to 256"),
        (torch.full((1, 3, 32, 32), float("nan")), "values nan"),
    ],
)
def test_invalid_sources(folder, source, message):
    os.mkfifo(folder / "pipe.jpg")
    (folder / "binary.txt").write_bytes(b"\0\xff")
    fill = lambda item: item.format(folder=folder) if isinstance(item, str) else item  # noqa: E731
    source = [fill(item) for item in source] if isinstance(source, list) else fill(source)
    with pytest.raises(DataError, match=message):
        frames(source)


def test_two_stars_visit_each_picture_once(folder):
    (folder / "inner" / "loop").symlink_to("..")
    (folder / "inner" / "up").symlink_to(folder.parent)
    counts = {"**": 4, "**/*.png": 3, "**/**/*.jpg": 1, "**/inner/**/*.png": 1, "*/*.png": 1, "*/" * 40 + "*": 4}
    for pattern, count in counts.items():
        assert len(names(f"{folder}/{pattern}")) == count
    assert len(names(f"{folder.parent}/**/*.png")) == 3


def test_lists_in_lists_and_odd_rows_are_skipped(folder, caplog):
    rows = ["a.jpg", "b.txt", "~nobody/x.jpg", "http://[::1/a.jpg", "x" * 300, "y" * 5000, "a\0.jpg", "/dev/zero", "-1"]
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text("\n".join([*rows, "a.txt\nb.txt\n" * 50]))
    assert names(folder / "a.txt") == ["a.jpg"]
    assert "list within a list" in caplog.text and "line 8 skipped: source /dev/zero: is a device" in caplog.text


def test_sources_are_bounded(folder, monkeypatch):
    monkeypatch.setattr(loaders, "MAX_ENTRIES", 5)
    (folder / "a.txt").write_text(f"{folder}\n{folder}\n")
    for source in ([folder, folder], folder / "a.txt"):
        with pytest.raises(DataError, match="more than 5 images"):
            load_source(source)


@pytest.mark.parametrize("name", [b"\xff\xfe.jpg", b"a\nb.jpg", b"n" * 251 + b".jpg", "猫".encode() * 83 + b".png"])
def test_odd_file_names(folder, name):
    file = folder / os.fsdecode(name)
    (folder / "a.jpg").rename(file)
    for source in (folder, file, f"{folder}/**"):
        assert file.name in names(source)


def numbers(count, log, fails_at=None):
    try:
        for number in range(count):
            if number == fails_at:
                raise KeyboardInterrupt
            log.append(number)
            yield number
    finally:
        log.append("closed")


def test_read_ahead_is_ordered_and_bounded():
    log = []
    with closing(read_ahead(numbers(300, log), 4)) as items:
        for taken, item in enumerate(items):
            assert item == taken and len(log) <= taken + 1 + 4 + 1  # taken, waiting, and "closed"
    assert taken == 299 and log[-1] == "closed" and not reader_threads()
    items = read_ahead(numbers(10**9, log), 4)
    next(items)
    del items  # closes it
    assert not reader_threads() and log[-1] == "closed"
    log, seen = [], []  # an error is raised after the items before
    with pytest.raises(KeyboardInterrupt):
        for item in read_ahead(numbers(10, log, fails_at=4), 2):
            seen.append(item)
    assert seen == [0, 1, 2, 3] and log == [0, 1, 2, 3, "closed"] and not reader_threads()


class FailingNetwork(nn.Module):
    """Detect nothing; fail at the third call."""

    names, stride, calls = MappingProxyType({0: "thing"}), torch.tensor([32.0]), 0

    def forward(self, x):
        self.calls += 1
        if self.calls == 3:
            raise RuntimeError("the network failed")
        return torch.zeros(len(x), 1, 5), None


def test_reader_ends_with_a_failed_network_and_an_early_exit(tmp_path, video):
    options = {"mode": "predict", "device": "cpu", "imgsz": 64, "save": False, "verbose": False, "project": tmp_path}
    predictor = RTDETRPredictor(get_cfg(None, options))
    with pytest.raises(RuntimeError, match="the network failed"):
        predictor(video, FailingNetwork())
    assert not reader_threads()
    for _ in predictor(video, FailingNetwork(), stream=True):
        assert reader_threads()
        break
    assert not reader_threads()


def test_script_that_ends_within_a_source(video):
    """A thread that returns from its decoder after interpreter exit would abort the process."""
    script = (
        "import sys; from ultralytics.data.loaders import load_source\n"
        "batches = iter(load_source(sys.argv[1])); next(batches)\n"
        "keep = [batches]; keep.append(keep)  # never closed\n"
    )
    run = subprocess.run([sys.executable, "-c", script, video], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_a_loader_and_the_only_row_of_a_table_are_sources(tmp_path):
    from ultralytics.data import load_inference_source

    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    (tmp_path / "list.csv").write_text("a.png,b.png")
    loader = load_inference_source(tmp_path / "list.csv", batch=2)
    source = load_source(loader)
    assert source is loader.source and source.bs == loader.bs == 2 and len(source) == 2
