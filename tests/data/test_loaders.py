import threading

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from ultralytics.data import streams
from ultralytics.data.loaders import load_source
from ultralytics.utils.errors import DataError


def picture(value=100, height=20, width=30):
    return np.full((height, width, 3), value, np.uint8)


def save(path, image=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imencode(path.suffix, picture() if image is None else image)[1].tofile(path)
    return path


@pytest.fixture
def video(tmp_path):
    file = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), 25, (32, 24))
    for value in range(0, 70, 10):
        writer.write(np.full((24, 32, 3), value, np.uint8))
    writer.release()
    return file


def frames(source, **options):
    return [frame for batch in load_source(source, **options) for frame in batch]


def names(source, **options):
    return [frame.path.replace("\\", "/").rsplit("/", 1)[-1] for frame in frames(source, **options)]


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.jpg", "bild ü.png", "inner/c.png"):
        save(tmp_path / "images" / name)
    (tmp_path / "images" / "notes.md").write_text("no image")
    save(tmp_path / "images" / "._a.jpg")
    return tmp_path / "images"


def test_path_folder_and_glob(folder):
    assert names(folder / "a.jpg") == ["a.jpg"]
    assert names(str(folder)) == ["a.jpg", "b.png", "bild ü.png"]
    assert names(f"{folder}/*.png") == ["b.png", "bild ü.png"]
    assert names(f"{folder}/**/*.png") == ["b.png", "bild ü.png", "c.png"]
    assert [frame.label.split()[1] for frame in frames(folder)] == ["1/3", "2/3", "3/3"]


def test_a_name_with_glob_characters_is_found(tmp_path):
    assert names(save(tmp_path / "shot[1].png")) == ["shot[1].png"]


def test_lists_of_paths_in_files(folder, monkeypatch, caplog):
    monkeypatch.chdir(folder.parent)
    listing = folder / "list.txt"  # the first path from the working folder, the second from that of the list
    listing.write_text("images/a.jpg\n# comment\n\nb.png\nmissing.png\n", encoding="utf-8")
    assert names(listing) == ["a.jpg", "b.png"]
    assert "line 5 skipped" in caplog.text and "missing.png" in caplog.text
    table = folder / "list.csv"
    table.write_text('a.jpg,cat\n"b.png",dog\n')
    assert names(table) == ["a.jpg", "b.png"]


def test_lists_in_lists_end(folder, caplog):
    (folder / "a.txt").write_text("b.txt\na.jpg\n")
    (folder / "b.txt").write_text("a.txt\nb.png\n")
    assert names(folder / "a.txt") == ["b.png", "a.jpg"]
    assert "the list contains itself, or another list that contains it" in caplog.text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_of_lists(folder, encoding, end):
    (folder / "list.txt").write_bytes(end.join(("bild ü.png", "a.jpg", "")).encode(encoding))
    assert names(folder / "list.txt") == ["bild ü.png", "a.jpg"]


def test_lists_that_are_no_text(folder):
    (folder / "list.txt").write_bytes(b"\xff\xfea")
    with pytest.raises(DataError, match=r"list.txt: not text in UTF-8"):
        names(folder / "list.txt")
    (folder / "list.csv").write_bytes(b'"a.jpg\n' + b"x" * 200_000)
    with pytest.raises(DataError, match=r"list.csv: not a readable table"):
        names(folder / "list.csv")


def test_file_addresses(folder):
    assert names((folder / "bild ü.png").as_uri()) == ["bild ü.png"]


def test_a_name_that_is_too_long_is_answered(folder):
    with pytest.raises(DataError, match=r"source x+: "):
        names("x" * 5000)


def test_batches_and_mixed_lists(folder):
    source = [folder, picture(), Image.new("RGB", (9, 7)), [np.zeros((2, 5, 4, 3), np.uint8)]]
    assert [len(batch) for batch in load_source(source, batch=4)] == [4, 3]
    found = frames(source)
    assert [f.image.shape[:2] for f in found[3:]] == [(20, 30), (7, 9), (5, 4), (5, 4)]
    assert found[3].path == "image3.jpg"
    loaded = load_source(source)
    assert len(list(loaded)) == len(list(loaded)) == len(loaded) == 7  # can be gone over again


def test_arrays_are_bgr_and_pil_images_rgb():
    blue = np.zeros((4, 6, 3), np.uint8)
    blue[..., 0] = 255
    sources = [blue, np.dstack([blue, blue[..., :1]]), Image.new("RGB", (6, 4), "blue"), Image.new("P", (6, 4))]
    first, with_alpha, pil, _ = frames(sources)
    assert (first.image == blue).all() and (with_alpha.image == blue).all() and (pil.image == blue).all()
    assert frames(np.full((4, 6), 7, np.uint8))[0].image.shape == (4, 6, 3)


def test_pil_images_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # camera held sideways
    Image.new("RGB", (30, 20)).save(tmp_path / "sideways.jpg", exif=exif)
    with Image.open(tmp_path / "sideways.jpg") as image:
        (frame,) = frames(image)
    assert frame.image.shape[:2] == (30, 20)
    assert frame.path.endswith("sideways.jpg")


def test_tensors_stay_as_they_are_and_only_equal_shapes_share_a_batch():
    tensor = torch.rand(2, 3, 32, 64)
    got = list(load_source([tensor, torch.rand(3, 32, 32), picture()], batch=8))
    assert [len(batch) for batch in got] == [2, 1, 1]
    assert (got[0][1].tensor == tensor[1]).all()
    expected = (tensor[1].permute(1, 2, 0).flip(-1) * 255).round()
    assert (torch.from_numpy(got[0][1].image) == expected).all()


def test_video(video):
    got = frames(video)
    assert [round(float(f.image.mean()), -1) for f in got] == list(range(0, 70, 10))
    assert got[1].label == f"video 1/1 (frame 2/7) {video}" and got[0].fps == 25
    strided = frames(video, vid_stride=3)
    assert [f.index for f in strided] == [1, 4, 7] and strided[0].fps == pytest.approx(25 / 3)


def test_broken_files_are_reported_and_skipped(folder, video, caplog):
    (folder / "aa.jpg").write_bytes((folder / "a.jpg").read_bytes()[:200])
    (folder / "broken.mp4").write_bytes(b"no video")
    assert names([folder, video])[:3] == ["a.jpg", "b.png", "bild ü.png"]
    assert "aa.jpg" in caplog.text and "broken.mp4 cannot be opened" in caplog.text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "got None"),
        ("", "got ''"),
        (True, "got True"),
        ([], "an empty list"),
        ({"a": 1}, "a path, glob, camera number"),
        ("{folder}/a.jpeg", "does not exist; did you mean 'a.jpg'"),
        ("{folder}/nowhere/a.jpg", "nowhere does not exist"),
        ("{folder}/*.bmp", "no image or video among them; expected images .*jpg"),
        ("{folder}/notes.md", "unknown file type '.md'"),
        (["{folder}/a.jpg", "0"], "1 live streams together with 1 files"),
        (np.zeros((4, 4, 3), np.float32), "array of float32"),
        (np.zeros((3, 4, 5), np.uint8), "5 channels"),
        (Image.new("F", (4, 4)), r"PIL image .*floating-point"),
        (np.zeros((0, 4, 3), np.uint8), "expected uint8"),
        (torch.zeros(1, 1, 32, 32), r"tensor of torch.float32 \(1, 1, 32, 32\)"),
        (torch.full((1, 3, 32, 32), 255.0), "values 255 to 255"),
        (torch.full((1, 3, 32, 32), float("nan")), "values nan"),
    ],
)
def test_unusable_sources_are_answered(folder, source, message):
    fill = lambda item: item.format(folder=folder) if isinstance(item, str) else item  # noqa: E731
    source = [fill(item) for item in source] if isinstance(source, list) else fill(source)
    with pytest.raises(DataError, match=message):
        frames(source)


def test_an_empty_folder_names_what_is_accepted(tmp_path):
    with pytest.raises(DataError, match=r"0 entries, no image or video among them; expected images .*\.jpg"):
        load_source(tmp_path)


class FakeCapture:
    """A camera: `connections[address]` lists how many frames each connection gives; past the last, none opens."""

    connections: dict = {}  # noqa: RUF012

    def __init__(self, address, *timeouts):
        waiting = self.connections[address]
        self.left = waiting.pop(0) if waiting else 0

    def get(self, _):
        return float("nan")

    def grab(self):
        self.left -= 1
        return self.left >= 0

    def retrieve(self):
        return True, picture(self.left % 256)

    def release(self):
        pass


@pytest.fixture
def cameras(monkeypatch):
    monkeypatch.setattr(streams.cv2, "VideoCapture", FakeCapture)
    monkeypatch.setattr(streams, "RECONNECT_SECONDS", 0.001)
    monkeypatch.setattr(FakeCapture, "connections", {})
    return FakeCapture.connections


def test_streams_reconnect_and_end_with_a_report(cameras, tmp_path, caplog):
    cameras.update({"rtsp://user:secret@door/1": [3, 2], "rtsp://yard": [4]})
    listing = tmp_path / "all.streams"
    listing.write_text("rtsp://user:secret@door/1\nrtsp://yard\n")
    got = frames(listing, stream_buffer=True)
    assert [f.index for f in got if "door" in f.path] == [1, 2, 3, 4, 5]
    assert [f.index for f in got if "yard" in f.path] == [1, 2, 3, 4]
    assert {(f.kind, f.fps) for f in got} == {("stream", 30.0)}
    assert "stream 1/2 rtsp://door/1: stopped after 5 frames; gave up after 3 attempts" in caplog.text
    assert "secret" not in caplog.text + "".join(f.path + f.label for f in got)


def test_without_a_buffer_the_newest_frame_is_taken(cameras):
    cameras[0] = [50]
    numbers = [batch[0].index for batch in load_source(0)]
    assert numbers == sorted(numbers) and numbers[-1] == 50 and len(numbers) < 50


def test_streams_that_never_open_are_an_error(cameras):
    cameras[3] = []
    with pytest.raises(DataError, match=r"no stream gave a frame: stream 1/1 3: cannot be opened.*check the address"):
        frames("3")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_reader_that_fails_does_not_leave_the_caller_waiting(cameras):
    with pytest.raises(DataError, match="its reader failed"):
        frames("9")  # a camera that the fake does not know


def test_leaving_a_stream_stops_its_thread(cameras):
    cameras[0] = [10**9]
    batches = iter(load_source(0))
    next(batches)
    before = threading.active_count()
    batches.close()
    assert threading.active_count() == before - 1
