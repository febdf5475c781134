"""Streams and pictures from a server in this process: one that dies, comes back, stays silent or is broken."""

import contextlib
import http.server
import threading
import time
from contextlib import closing

import cv2
import numpy as np
import pytest

from ultralytics.data import loaders, streams
from ultralytics.data.loaders import load_source
from ultralytics.utils.errors import DataError

STALL = b"stall"  # in place of a frame: nothing more comes, and the connection stays


def jpeg(value) -> bytes:
    return cv2.imencode(".jpg", np.full((48, 64, 3), value, np.uint8))[1].tobytes()


def part(body: bytes) -> bytes:
    return b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(body), body)


class Camera(http.server.ThreadingHTTPServer):
    """`/NAME.mjpg` gives the frames of the next connection in `connections[NAME]`; past the last one, 404."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.connections = {}
        self.pause = 0.002  # seconds between frames
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.leaving = threading.Event()
        self.sent = threading.Event()  # a stream to its end
        self.outlasted = []  # silences that no client gave up
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # a client that left


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.strip("/").split(".")[0]
        if name == "silent":
            self.stay_silent()
        elif name == "picture":
            self.send_body(jpeg(90))
        elif name == "locked":
            if self.headers.get("Authorization") == "Basic dXNlcjpzZWNyZXQ=":  # user:secret
                self.send_body(jpeg(120))
            else:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.end_headers()
        elif name == "short":
            self.send_body(jpeg(90), lacking=100)
        elif name == "broken":
            self.send_body(b"no picture")
        elif self.server.connections.get(name):
            self.send_stream(self.server.connections[name].pop(0))
        else:
            self.send_error(404)

    def stay_silent(self):
        if not self.server.leaving.wait(20):
            self.server.outlasted.append(self.path)

    def send_body(self, body, lacking=0):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) - lacking])

    def send_stream(self, bodies):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        with contextlib.suppress(OSError):  # the client left
            for body in bodies:
                if body is STALL:
                    return self.stay_silent()
                self.wfile.write(part(body))
                time.sleep(self.server.pause)
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


def shades(*values):
    return [jpeg(value) for value in values for _ in range(4)]


def frames(source, **options):
    return [frame for batch in load_source(source, **options) for frame in batch]


def look(frame):
    """The shade the frame was made with."""
    return round(float(frame.image.mean()) / 10) * 10


def test_a_stream_that_dies_and_comes_back(camera, caplog):
    camera.connections["a"] = [shades(10, 30), shades(50), shades(70, 90)]
    found = frames(f"{camera.url}/a.mjpg", stream_buffer=True)
    assert sorted({look(f) for f in found}) == [10, 30, 50, 70, 90]
    assert [look(f) for f in found] == sorted(look(f) for f in found)  # in order over the connections
    assert [f.index for f in found] == list(range(1, len(found) + 1))
    assert {f.kind for f in found} == {"stream"}
    assert "reconnecting in 0.01 s" in caplog.text
    assert "gave up after 3 attempts to reconnect" in caplog.text


def test_two_streams_at_once_in_order(camera):
    camera.connections.update(a=[shades(10, 30, 50)], b=[shades(110, 130, 150)])
    urls = [f"{camera.url}/a.mjpg", f"{camera.url}/b.mjpg"]
    batches = list(load_source(urls, stream_buffer=True))
    for batch in batches:  # one frame of each at most, in the order of the sources
        assert [f.path for f in batch] in ([urls[0]], [urls[1]], urls)
    for url, expected in zip(urls, ([10, 30, 50], [110, 130, 150]), strict=True):
        own = [f for batch in batches for f in batch if f.path == url]
        assert [f.index for f in own] == list(range(1, len(own) + 1)) and len(own) >= 9
        assert sorted({look(f) for f in own}) == expected


def test_a_stream_that_dies_does_not_end_the_others(camera, caplog):
    camera.connections.update(a=[shades(10)], b=[shades(*range(50, 250, 10))])
    found = frames([f"{camera.url}/a.mjpg", f"{camera.url}/b.mjpg", f"{camera.url}/c.mjpg"], stream_buffer=True)
    assert {look(f) for f in found if "a.mjpg" in f.path} == {10}
    assert len([f for f in found if "b.mjpg" in f.path]) >= 75
    assert f"stream 3/3 {camera.url}/c.mjpg: cannot be opened; gave up after 3 attempts" in caplog.text


def test_the_end_of_a_stream_is_told_while_another_always_has_a_frame(camera, monkeypatch, caplog):
    monkeypatch.setattr(streams, "RECONNECTS", 0)
    camera.connections["b"] = [shades(*[50] * 500)]
    with closing(iter(load_source([f"{camera.url}/a.mjpg", f"{camera.url}/b.mjpg"], stream_buffer=True))) as batches:
        next(batches)
        camera.sent.wait(0.5)  # from here on 30 frames of b wait at any time
        for _ in zip(range(100), batches, strict=False):
            if "a.mjpg: cannot be opened" in caplog.text:
                break
            time.sleep(0.01)
    assert "a.mjpg: cannot be opened; gave up" in caplog.text and not camera.sent.is_set()


def test_a_broken_frame_of_a_stream_is_not_its_end(camera, caplog):
    camera.connections["a"] = [[*shades(50), b"no picture", jpeg(70)[:300], *shades(90)]]
    found = {look(f) for f in frames(f"{camera.url}/a.mjpg", stream_buffer=True)}
    assert {50, 90} <= found and "broken data after frame 4, skipped" in caplog.text


def test_a_silent_server_is_given_up(camera, monkeypatch):
    monkeypatch.setattr(streams, "SILENT_SECONDS", 0.3)
    monkeypatch.setattr(streams, "RECONNECTS", 1)
    with pytest.raises(DataError, match=r"silent.mjpg: cannot be opened; gave up after 1 attempts"):
        frames(f"{camera.url}/silent.mjpg")
    assert not camera.outlasted


def test_a_stream_that_stalls_is_made_anew(camera, monkeypatch, caplog):
    monkeypatch.setattr(streams, "SILENT_SECONDS", 0.4)
    camera.connections["a"] = [[*shades(10), STALL], shades(50)]
    found = {look(f) for f in frames(f"{camera.url}/a.mjpg", stream_buffer=True)}
    assert found == {10, 50} and "reconnecting" in caplog.text
    assert not camera.outlasted


def test_leaving_a_stalled_stream(camera):
    camera.connections["a"] = [[*shades(10), STALL]]
    batches = iter(load_source(f"{camera.url}/a.mjpg", stream_buffer=True))
    next(batches)
    batches.close()
    assert not camera.outlasted


def test_leaving_a_stream_early_ends_its_reader(camera):
    before = set(threading.enumerate())
    camera.connections.update(a=[shades(*[10] * 400)], b=[shades(*[10] * 400)])
    with closing(iter(load_source([f"{camera.url}/a.mjpg", f"{camera.url}/b.mjpg"]))) as batches:
        next(batches)
        assert len([t for t in threading.enumerate() if t.name.startswith("stream")]) == 2
    assert not [t for t in set(threading.enumerate()) - before if t.name.startswith("stream")]


def test_a_slow_consumer_sees_the_newest_frame_or_all_of_them(camera):
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


def test_a_picture_behind_an_address(camera):
    (frame,) = frames(f"{camera.url}/picture.jpg?size=large")
    assert look(frame) == 90 and frame.kind == "image"


def test_an_address_that_gives_one_picture_is_asked_again(camera, caplog):
    with closing(iter(load_source(f"{camera.url}/picture"))) as batches:  # no suffix: a stream
        assert [look(frame) for _ in range(4) for frame in next(batches)] == [90] * 4
    assert "reconnecting" not in caplog.text


def test_a_picture_behind_a_password(camera, caplog):
    address = camera.url.replace("//", "//user:secret@")
    (frame,) = frames(f"{address}/locked.jpg")
    assert look(frame) == 120 and "secret" not in frame.path + frame.label
    assert frames(f"{address.replace('secret', 'wrong')}/locked.jpg") == []
    assert "Unauthorized" in caplog.text and "wrong" not in caplog.text


def test_pictures_that_cannot_be_read_are_skipped(camera, tmp_path, caplog):
    listing = tmp_path / "list.txt"
    rows = ("absent.jpg", "short.jpg", "broken.jpg", "picture.jpg")
    listing.write_text("".join(f"{camera.url}/{name}\n" for name in rows))
    assert [f.path for f in frames(listing)] == [f"{camera.url}/picture.jpg"]
    assert "absent.jpg could not be read (Not Found)" in caplog.text
    assert "short.jpg: the connection ended 100 bytes too early" in caplog.text
    assert "broken.jpg: is not an image" in caplog.text


def test_an_endless_picture_is_not_read_to_its_end(camera, monkeypatch, caplog):
    monkeypatch.setattr(loaders, "ADDRESS_LIMIT", 100)
    assert frames(f"{camera.url}/picture.jpg") == []
    assert "picture.jpg: more than" in caplog.text


def test_a_video_behind_an_address_that_is_not_there(camera, caplog):
    assert frames(f"{camera.url}/absent.mp4") == []
    assert "absent.mp4 cannot be opened" in caplog.text
