import http.server
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest

from ultralytics.utils.downloads import download_file, extract, fetch, find_released
from ultralytics.utils.errors import UserError
from ultralytics.utils.settings import SETTINGS

CONTENT = bytes(range(256)) * 400


@pytest.fixture
def server(monkeypatch):
    """Serve CONTENT on this machine; `ranges` collects the requested ranges."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            self.server.ranges.append(asked)
            if self.path.startswith("/to/"):
                self.send_response(302)
                self.send_header("Location", self.path.removeprefix("/to/"))
                self.end_headers()
                return
            if self.path == "/digest":
                self.send_response(401)
                self.send_header("WWW-Authenticate", "Digest a, b=, =")
                self.end_headers()
                return
            if self.path == "/absent":
                self.send_error(404)
                return
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            if self.path == "/slow":
                time.sleep(0.5)
            sent = {"/short": 1000 if not start else 0, "/pieces": 30_000}.get(self.path)
            self.wfile.write(CONTENT[start : None if sent is None else start + sent])

        def log_message(self, *args):
            pass

    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.url, listening.ranges = f"http://127.0.0.1:{listening.server_port}", []
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield listening
    listening.shutdown()
    listening.server_close()


def test_download_and_resume(server, tmp_path):
    file = tmp_path / "deep" / "a.bin"
    assert download_file(f"{server.url}/a", file).read_bytes() == CONTENT
    download_file(f"{server.url}/a", file)
    assert server.ranges == [None]  # it existed already
    (tmp_path / "b.bin.part").write_bytes(CONTENT[:5000])
    assert download_file(f"{server.url}/a", tmp_path / "b.bin").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=5000-"]


def test_interrupted_transfers_are_resumed_while_bytes_arrive(server, tmp_path):
    assert download_file(f"{server.url}/pieces", tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=30000-", "bytes=60000-", "bytes=90000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_another_process_downloads(server, tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr("ultralytics.utils.downloads.lock_file", lambda file: bool(waited))
    monkeypatch.setattr("time.sleep", lambda seconds: waited.append((tmp_path / "a.bin").write_bytes(b"x")))
    assert download_file(f"{server.url}/a", tmp_path / "a.bin").read_bytes() == b"x"
    assert not server.ranges


def test_a_slow_server_times_out(server, tmp_path, monkeypatch):
    monkeypatch.setattr("ultralytics.utils.downloads.TIMEOUT", 0.2)
    with pytest.raises(UserError, match=r"timed out.*run again"):
        download_file(f"{server.url}/slow", tmp_path / "a.bin")


@pytest.mark.parametrize("name", ["yolo11n.pt", "rtdetr_r18vd", "rtdetr_r18vd.pth"])
def test_released_weights(server, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for base in ("PUBLISHED", "OFFICIAL"):
        monkeypatch.setattr(f"ultralytics.utils.downloads.{base}", server.url)
    monkeypatch.setitem(SETTINGS._changed, "weights_dir", str(tmp_path / "cache"))

    def check(file):
        if file.read_bytes() != CONTENT:
            raise UserError("damaged")

    stored = "yolo11n.pt" if "yolo" in name else "rtdetr_r18vd_dec3_6x_coco_from_paddle.pth"
    assert find_released(f"sub/{name}", check) == Path("sub", name)  # a path is not a name
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / f"{stored}.part").write_bytes(b"of another version")
    with pytest.raises(UserError, match=f"{stored}: the download is not used .damaged."):
        find_released(name, check)
    assert find_released(name, check) == tmp_path / "cache" / stored
    assert [file.name for file in (tmp_path / "cache").iterdir()] == [stored]
    (tmp_path / stored).write_bytes(b"x")  # a file here comes first
    assert find_released(name, check) == Path(stored)
    assert len(server.ranges) == 2


def test_failures_have_a_next_step(server, tmp_path):
    with pytest.raises(UserError, match=r"absent could not be downloaded .*save it as .*a.bin"):
        download_file(f"{server.url}/absent", tmp_path / "a.bin")
    with pytest.raises(UserError, match="run again"):
        download_file(f"{server.url}/short", tmp_path / "a.bin")
    assert [file.name for file in tmp_path.iterdir()] == ["a.bin.part"]
    with pytest.raises(UserError, match="Check the network"):
        download_file("http://127.0.0.1:9/a", tmp_path / "a.bin")


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
@pytest.mark.parametrize("strip", [True, False])
def test_extract(tmp_path, suffix, strip):
    source = tmp_path / "top" / "images"
    source.mkdir(parents=True)
    (source / "a.txt").write_text("a")
    archive = tmp_path / f"a{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as packed:
            packed.write(source / "a.txt", "top/images/a.txt")
    else:
        with tarfile.open(archive, "w:gz" if suffix == ".tar.gz" else "w") as packed:
            packed.add(tmp_path / "top", "top")
    extract(archive, tmp_path / "out", strip=strip)
    assert [str(f.relative_to(tmp_path / "out")) for f in (tmp_path / "out").rglob("*.txt")] == [
        "images/a.txt" if strip else "top/images/a.txt"
    ]


def test_archives_that_cannot_be_unpacked(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"not a readable zip or tar.*delete it"):
        extract(tmp_path / "a.zip", tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as packed:
        packed.writestr("../outside.txt", "x")
    extract(tmp_path / "b.zip", tmp_path / "out")
    assert not (tmp_path / "outside.txt").exists()
    for flags, message in ((b"\x14\0\1\0", "password"), (b"\xd5\0\0\0", "zip file version 21.3")):
        with zipfile.ZipFile(tmp_path / "c.zip", "w") as packed:
            packed.writestr("a", "x")
        data = (tmp_path / "c.zip").read_bytes()
        start = data.index(b"PK\1\2")
        (tmp_path / "c.zip").write_bytes(data[: start + 6] + flags + data[start + 10 :])
        with pytest.raises(UserError, match=f"not a readable zip or tar file .*{message}"):
            extract(tmp_path / "c.zip", tmp_path / "out")


def test_bombs_and_files_outside(tmp_path, monkeypatch):
    monkeypatch.setattr("ultralytics.utils.downloads.UNPACKED_LIMIT", 1000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a", bytes(10**6))
    (tmp_path / "zeros").write_bytes(bytes(10**6))
    for mode in ("gz", "xz"):
        with tarfile.open(tmp_path / f"a.{mode}", f"w:{mode}") as packed:
            packed.add(tmp_path / "zeros", "a")
    for suffix in ("zip", "gz", "xz"):
        with pytest.raises(UserError, match="unpacks to 1,000,000 bytes or more, expected at most"):
            extract(tmp_path / f"a.{suffix}", tmp_path / "out")
    (tmp_path / "link").symlink_to("/etc")
    with tarfile.open(tmp_path / "b.tar", "w") as packed:
        packed.add(tmp_path / "link", "link")
    with pytest.raises(UserError, match="not a readable zip or tar file"):
        extract(tmp_path / "b.tar", tmp_path / "out")
    assert not [file for file in (tmp_path / "out").rglob("*") if file.is_file()]


@pytest.mark.parametrize(
    "address", ["data:,x", "file:///etc/passwd", "ftp://127.0.0.1/x", "http://[::1", "x", "http://a:9e9"]
)
def test_only_http(server, tmp_path, address):
    for url in (address, f"{server.url}/to/{address}"):
        with pytest.raises(UserError):
            download_file(url, tmp_path / "a")
        with pytest.raises(UserError):
            fetch(url, 1000)
    assert not (tmp_path / "a").exists()


def test_size_and_authentication(server, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="could not be read"):
        fetch(f"http://a:b@127.0.0.1:{server.server_port}/digest", 1000)
    monkeypatch.setattr("ultralytics.utils.downloads.DOWNLOAD_LIMIT", 1000)
    with pytest.raises(UserError, match="102,400 bytes, expected at most 1,000"):
        download_file(f"{server.url}/a", tmp_path / "a")
