"""Videos, the screen, and live streams from fakes and from a server that drops, stalls and comes back."""

import contextlib
import http.server
import struct
import sys
import threading
import time
from contextlib import closing
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from ultralytics.data import streams
from ultralytics.data.loaders import load_source
from ultralytics.utils.errors import DataError

SIZE = (48, 64)
STALL = b"stall"  # instead of a frame: nothing more is sent, and the connection stays open


def jpeg(value) -> bytes:
    return cv2.imencode(".jpg", np.full((*SIZE, 3), value, np.uint8))[1].tobytes()


def shades(*values):
    return [jpeg(value) for value in values for _ in range(4)]


def shade_of(frame):
    return round(float(frame.image.mean()) / 10) * 10


def write_video(path, count, codec):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 25, SIZE[::-1])
    noise = np.random.default_rng(0).integers(0, 30, (count, *SIZE, 3), np.uint8)
    for number in range(count):
        writer.write(noise[number] + np.uint8(5 * (number % 45)))
    writer.release()
    return path


def frames(source, **options):
    return [frame for batch in load_source(source, **options) for frame in batch]


def test_video_frames_in_order(tmp_path, caplog):
    file = write_video(tmp_path / "a.avi", 30, "MJPG")
    found = frames(file, batch=4)
    means = [float(frame.image.mean()) for frame in found]
    assert [f.index for f in found] == list(range(1, 31)) and means == sorted(means)
    assert {(f.kind, f.fps) for f in found} == {("video", 25.0)} and not caplog.text
    assert found[1].label == f"video 1/1 (frame 2/30) {file}"
    strided = frames(file, vid_stride=12)
    assert [float(f.image.mean()) for f in strided] == means[11::12] and strided[0].fps == pytest.approx(25 / 12)
    assert [f.label.split()[2:4] for f in strided] == [["(frame", "1/2)"], ["(frame", "2/2)"]]
    assert frames(file, vid_stride=31) == [] and "a.avi has fewer frames than vid_stride=31" in caplog.text


def test_truncated_videos(tmp_path, caplog):
    for suffix, codec in ((".avi", "MJPG"), (".mp4", "mp4v")):
        whole = write_video(tmp_path / f"a{suffix}", 40, codec).read_bytes()
        (tmp_path / f"a{suffix}").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b.jpg").write_bytes(jpeg(1))
    *found, last = frames(tmp_path)
    assert last.path == str(tmp_path / "b.jpg")  # prediction continues
    assert 5 < len(found) < 30 and {f.kind for f in found} == {"video"}
    assert f"a.avi: ended after {len(found)} of 40 frames; the file is truncated" in caplog.text
    assert "video 2/3 skipped" in caplog.text and "a.mp4 cannot be opened" in caplog.text  # its index is at the end


def test_videos_of_too_large_frames_are_skipped(tmp_path, caplog):
    frame = b"\x2c" + struct.pack("<4HB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    head = b"GIF89a" + struct.pack("<HH", 16_000, 16_000) + b"\x80\0\0" + bytes(6)
    (tmp_path / "a.gif").write_bytes(head + frame + b"\x3b")
    assert frames(tmp_path / "a.gif") == [] and "too large, 16000 x 16000" in caplog.text


class Desktop:
    """Two monitors side by side, 200 x 100 and 100 x 80; blue is the column, green the row."""

    monitors = (
        {"left": 0, "top": 0, "width": 300, "height": 100},
        {"left": 0, "top": 0, "width": 200, "height": 100},
        {"left": 200, "top": 0, "width": 100, "height": 80},
    )

    def grab(self, area):
        image = np.zeros((area["height"], area["width"], 4), np.uint8)
        image[..., 0] = (area["left"] + np.arange(area["width"])) % 256
        image[..., 1] = (area["top"] + np.arange(area["height"]))[:, None]
        return image

    def close(self):
        pass


@pytest.fixture
def desktop(monkeypatch):
    monkeypatch.setitem(sys.modules, "mss", SimpleNamespace(MSS=Desktop))
    monkeypatch.setattr(streams, "SCREEN_FPS", 1000.0)


@pytest.mark.parametrize(
    ("source", "corner", "shape"),
    [
        ("screen", (0, 0), (100, 300)),
        ("screen 10 20 30 40", (10, 20), (40, 30)),
        ("Screen 2 10 20 30 40", (210, 20), (40, 30)),
    ],
)
def test_screen_regions(desktop, source, corner, shape):
    with closing(iter(load_source(source))) as batches:
        (frame,) = next(batches)
    assert frame.image.shape == (*shape, 3) and frame.image[0, 0].tolist() == [*corner, 0]
    assert (frame.kind, frame.path, frame.label) == ("stream", source, f"stream 1/1 {source}")


def test_invalid_screen_regions_and_a_missing_package(desktop, monkeypatch):
    for source, message in (
        ("screen 3", "there is no monitor 3"),
        ("screen 1 150 0 100 50", "not within monitor 1 of 200x100"),
        ("screen 1 2", r"expected screen \[monitor\]"),
    ):
        with pytest.raises(DataError, match=message):
            frames(source)
    monkeypatch.setitem(sys.modules, "mss", None)
    with pytest.raises(DataError, match='pip install "mss"'):
        frames("screen")


class Camera(http.server.ThreadingHTTPServer):
    """`/NAME.mjpg` sends the frames of the next connection in `connections[NAME]`; after the last one, 404."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.connections, self.url = {}, f"http://127.0.0.1:{self.server_port}"
        self.leaving, self.sent = threading.Event(), threading.Event()  # `sent`: a stream to its end
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # a client that disconnected


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.strip("/").split(".")[0]
        bodies = {"picture": jpeg(90), "short": jpeg(90), "broken": b"no picture", "locked": jpeg(120)}
        if name == "silent":
            self.server.leaving.wait(20)
        elif name == "locked" and self.headers.get("Authorization") != "Basic dXNlcjpzZWNyZXQ=":  # user:secret
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
        elif name in bodies:
            self.send_body(bodies[name], lacking=100 if name == "short" else 0)
        elif self.server.connections.get(name):
            self.send_stream(self.server.connections[name].pop(0))
        else:
            self.send_error(404)

    def send_body(self, body, lacking=0):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) - lacking])

    def send_stream(self, bodies):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n"
        with contextlib.suppress(OSError):  # the client disconnected
            for body in bodies:
                if body is STALL:
                    return self.server.leaving.wait(20)
                self.wfile.write(head % (len(body), body))
                time.sleep(0.002)
            self.server.sent.set()

    def log_message(self, *args):
        pass


@pytest.fixture
def camera(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(streams, "RECONNECT_SECONDS", 0.01)
    server = Camera()
    yield server
    server.leaving.set()
    server.shutdown()
    server.server_close()


def test_stream_that_drops_reconnects(camera, caplog):
    broken = [b"no picture", jpeg(250)[:300]]
    camera.connections["a"] = [[*shades(10), *broken, *shades(30)], shades(50), shades(70, 90)]
    found = frames(f"{camera.url}/a.mjpg", stream_buffer=True)
    assert {10, 30, 50, 70, 90} <= {shade_of(f) for f in found}
    assert [f.index for f in found] == sorted({f.index for f in found}) and {f.kind for f in found} == {"stream"}
    assert "broken data after frame 4, skipped" in caplog.text and "reconnecting in 0.01 s" in caplog.text
    assert "gave up after 3 attempts to reconnect" in caplog.text


def test_several_streams_one_of_which_ends(camera, tmp_path, caplog):
    camera.connections.update(a=[shades(10)], b=[shades(*range(50, 250, 10))])
    urls = [f"{camera.url}/{name}.mjpg" for name in "abc"]
    (tmp_path / "all.streams").write_text("\n".join(urls).replace("//", "//user:secret@"))
    batches = list(load_source(tmp_path / "all.streams", stream_buffer=True))
    assert all([f.path for f in batch] in ([urls[0]], [urls[1]], urls[:2]) for batch in batches)
    for url, minimum in zip(urls, (3, 75, 0), strict=True):
        own = [f for batch in batches for f in batch if f.path == url]
        assert [f.index for f in own] == list(range(1, len(own) + 1)) and len(own) >= minimum
        assert [shade_of(f) for f in own] == sorted(shade_of(f) for f in own)
    assert f"stream 3/3 {urls[2]}: cannot be opened; gave up after 3 attempts" in caplog.text
    assert "secret" not in caplog.text + "".join(f.path + f.label for batch in batches for f in batch)


def test_silent_server_times_out_and_stalled_stream_reconnects(camera, monkeypatch, caplog):
    monkeypatch.setattr(streams, "SILENT_SECONDS", 0.4)
    camera.connections["a"] = [[*shades(10), STALL], shades(50)]
    found = {shade_of(f) for f in frames(f"{camera.url}/a.mjpg", stream_buffer=True)}
    assert found == {10, 50} and "reconnecting" in caplog.text
    monkeypatch.setattr(streams, "RECONNECTS", 1)
    with pytest.raises(
        DataError, match=r"no stream gave a frame: .*silent.mjpg: cannot be opened; gave up after 1 att"
    ):
        frames(f"{camera.url}/silent.mjpg")


def test_leaving_streams_early_ends_their_readers(camera):
    camera.connections.update(a=[shades(*[10] * 400)], b=[shades(*[10] * 400)])
    with closing(iter(load_source([f"{camera.url}/a.mjpg", f"{camera.url}/b.mjpg"]))) as batches:
        next(batches)
        assert len([t for t in threading.enumerate() if t.name.startswith("stream")]) == 2
    assert not [t for t in threading.enumerate() if t.name.startswith("stream")]


def test_slow_consumer_gets_the_newest_frame_or_all_frames(camera):
    camera.connections.update(a=[shades(*range(10, 210, 10))], b=[shades(*range(10, 210, 10))])
    newest, every = [], []
    for batch in load_source(f"{camera.url}/a.mjpg"):
        newest += [f.index for f in batch]
        camera.sent.wait(10)  # slower than any camera
    for batch in load_source(f"{camera.url}/b.mjpg", stream_buffer=True):
        every += [f.index for f in batch]
        time.sleep(0.004)
    assert newest == sorted(newest) and len(newest) < newest[-1]
    assert every == list(range(1, len(every) + 1)) and len(every) >= 75


def test_pictures_behind_addresses(camera, tmp_path, caplog):
    names = ["absent.jpg", "short.jpg", "broken.jpg", "absent.mp4", "picture.jpg?size=large"]
    rows = [f"{camera.url}/{name}" for name in names]
    rows += [camera.url.replace("//", f"//user:{password}@") + "/locked.jpg" for password in ("wrong", "secret")]
    (tmp_path / "list.txt").write_text("\n".join(rows))
    picture, locked = frames(tmp_path / "list.txt")
    assert (shade_of(picture), shade_of(locked)) == (90, 120) and {picture.kind, locked.kind} == {"image"}
    for text in ("Not Found", "100 bytes too early", "is not an image", "absent.mp4 cannot", "Unauthorized"):
        assert text in caplog.text
    assert "wrong" not in caplog.text and "secret" not in caplog.text + locked.path + locked.label


def test_address_that_answers_with_single_pictures_is_polled(camera, caplog):
    with closing(iter(load_source(f"{camera.url}/picture"))) as batches:
        assert [shade_of(frame) for _ in range(4) for frame in next(batches)] == [90] * 4
    assert "reconnecting" not in caplog.text
