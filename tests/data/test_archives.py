import io
import tracemalloc
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image

from ultralytics.data import archives
from ultralytics.data.archives import archive_pictures, open_archive
from ultralytics.data.loaders import load_source
from ultralytics.utils.errors import DataError


def encoded(value=100, suffix=".png") -> bytes:
    return cv2.imencode(suffix, np.full((20, 30, 3), value, np.uint8))[1].tobytes()


def pack(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as packed:
        for name, data in members.items():
            packed.writestr(name, data)
    return path


def frames(source, **options):
    return [frame for batch in load_source(source, **options) for frame in batch]


def values(source, **options):
    return [int(frame.image[0, 0, 0]) for frame in frames(source, **options)]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_in_the_order_of_their_names(tmp_path, method):
    members = {"b.png": encoded(2), "sub/a.bmp": encoded(3, ".bmp"), "a.png": encoded(1), "notes.txt": b"no"}
    file = pack(tmp_path / "a.zip", {**members, "__MACOSX/._a.png": b"x", ".hidden.png": b"x"}, method)
    source = load_source(file, batch=2)
    assert len(source) == 3 and [len(batch) for batch in source] == [2, 1]
    found = frames(file)
    assert [int(f.image[0, 0, 0]) for f in found] == [1, 2, 3]
    assert [f.path for f in found] == [f"{file}/{name}" for name in ("a.png", "b.png", "sub/a.bmp")]
    assert found[2].label == f"image 3/3 {file}/sub/a.bmp"
    assert {p.name for p in tmp_path.iterdir()} == {"a.zip"}  # nothing is unpacked


def test_names_in_any_script_and_names_that_climb(tmp_path):
    names = ["图片 1.png", "größe.png", "/etc/absolute.png", "../../up.png", "win\\dows.png"]
    file = pack(tmp_path / "ü 压缩.zip", {name: encoded() for name in names})
    found = {frame.path.removeprefix(f"{file}/") for frame in frames(file)}
    assert found == {"图片 1.png", "größe.png", "etc/absolute.png", "../../up.png", "win/dows.png"}


def test_utf8_names_without_the_mark(tmp_path):
    file = pack(tmp_path / "a.zip", {"图.png": encoded()})
    data = bytearray(file.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset + 1] &= ~0x08
    file.write_bytes(data)
    assert frames(file)[0].path == f"{file}/图.png"


def test_broken_members_are_reported_and_skipped(tmp_path, caplog):
    noise = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8))[1].tobytes()
    members = {"a.png": encoded(1), "b.png": noise, "c.png": b"no picture", "d.png": noise[:900], "e.png": encoded(5)}
    file = pack(tmp_path / "a.zip", members, zipfile.ZIP_STORED)
    data = bytearray(file.read_bytes())
    place = data.index(noise) + 1000
    data[place : place + 4] = b"XXXX"  # the checksum of b.png is wrong now
    file.write_bytes(data)
    assert values(file) == [1, 5]
    assert "image 2/5 skipped" in caplog.text and "b.png: damaged in the archive (Bad CRC-32" in caplog.text
    assert "c.png: is not an image" in caplog.text and "d.png: damaged or truncated image" in caplog.text


def test_encrypted_members_are_reported(tmp_path, caplog):
    file = pack(tmp_path / "a.zip", {"a.png": encoded(1), "b.png": encoded(2)})
    data = bytearray(file.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    file.write_bytes(data)
    assert values(file) == [2]
    assert "a.png: is encrypted; unpack the archive with its password" in caplog.text


def test_archives_inside_are_not_entered(tmp_path, caplog):
    inner = pack(tmp_path / "inner.zip", {"x.png": encoded(9)}).read_bytes()
    assert values(pack(tmp_path / "a.zip", {"a.png": encoded(1), "inner.zip": inner})) == [1]
    assert "1 archives inside are not entered (inner.zip)" in caplog.text


def test_animations_in_archives(tmp_path):
    out = io.BytesIO()
    shades = [Image.new("RGB", (8, 6), (value,) * 3) for value in (10, 60, 110)]
    shades[0].save(out, "GIF", save_all=True, append_images=shades[1:], duration=40)
    assert values(pack(tmp_path / "a.zip", {"a.gif": out.getvalue()})) == [10, 60, 110]


def test_patterns_of_archives(tmp_path, caplog):
    pack(tmp_path / "a.zip", {"a.png": encoded(1)})
    pack(tmp_path / "b.zip", {"b.png": encoded(2)})
    (tmp_path / "c.zip").write_bytes(b"no archive")
    assert values(f"{tmp_path}/*.zip") == [1, 2]
    assert "c.zip: not a readable zip archive" in caplog.text
    with pytest.raises(DataError, match="no image or video among them"):
        frames(tmp_path)  # a folder's archives are not opened


@pytest.mark.parametrize(
    ("members", "message"),
    [({}, "0 files, no image"), ({"a.mp4": b"x"}, "1 files, no image among them; unpack it if it holds videos")],
)
def test_archives_without_pictures(tmp_path, members, message):
    with pytest.raises(DataError, match=message):
        load_source(pack(tmp_path / "a.zip", members))


def test_damaged_archives(tmp_path):
    whole = pack(tmp_path / "a.zip", {"a.png": encoded()}).read_bytes()
    for content in (b"", b"PK", whole[: len(whole) // 2]):
        (tmp_path / "b.zip").write_bytes(content)
        with pytest.raises(DataError, match=r"b.zip: not a readable zip archive"):
            load_source(tmp_path / "b.zip")


def bomb(path, unpacked, method=zipfile.ZIP_DEFLATED):
    """An archive with a picture that is `unpacked` bytes of zero, and a good one."""
    with zipfile.ZipFile(path, "w", method) as packed:
        with packed.open("a.bmp", "w") as member:
            for _ in range(unpacked // (1 << 20)):
                member.write(bytes(1 << 20))
        packed.writestr("b.png", encoded(7))
    return path


@pytest.mark.parametrize(
    ("method", "lie", "most"),
    [  # MB; of bzip2, the 4 KB that are unpacked at once hold up to 80 MB, and zipfile copies them
        (zipfile.ZIP_DEFLATED, False, 8),
        (zipfile.ZIP_DEFLATED, True, 8),
        (zipfile.ZIP_BZIP2, False, 8),
        (zipfile.ZIP_BZIP2, True, 200),
    ],
)
def test_a_member_over_the_limit_is_not_unpacked(tmp_path, monkeypatch, caplog, method, lie, most):
    monkeypatch.setattr(archives, "MEMBER_LIMIT", 4 << 20)
    file = bomb(tmp_path / "a.zip", 64 << 20, method)
    source = open_archive(file)
    if lie:  # the declared size is small: what is unpacked counts
        for name, info in source.members:
            info.file_size = 1000 if name == "a.bmp" else info.file_size
    tracemalloc.start()
    found = dict(archive_pictures(source))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(found["a.bmp"], DataError) and found["b.png"] == encoded(7)
    expected = "damaged in the archive" if lie else "claims 67 MB, at most 4 MB are read"
    assert expected in str(found["a.bmp"])
    assert peak < most << 20
    assert values(file) == [7] and "a.bmp: claims 67 MB" in caplog.text


def test_a_small_chunk_that_unpacks_to_much_stops_at_the_limit(tmp_path, monkeypatch):
    """The declared size is true, but the check of it is taken away: reading stops by itself."""
    file = bomb(tmp_path / "a.zip", 64 << 20)
    (_, info), *_ = open_archive(file).members
    monkeypatch.setattr(archives, "MEMBER_LIMIT", 4 << 20)

    class Unbounded:
        def __init__(self, info):
            self.flag_bits, self.compress_type, self.file_size = info.flag_bits, info.compress_type, 0

    with zipfile.ZipFile(file) as packed:
        monkeypatch.setattr(packed, "open", lambda _, original=packed.open: original(info))
        with pytest.raises(DataError, match="more than 4 MB"):
            archives._read_member(packed, "a.bmp", Unbounded(info))


def test_members_that_share_their_bytes_are_a_bomb(tmp_path, monkeypatch):
    """A thousand names for one megabyte: more than deflate can pack, hence no honest archive."""
    monkeypatch.setattr(archives, "BOMB_BYTES", 1 << 20)
    file = tmp_path / "a.zip"
    content = encoded()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.png", content)
        info = packed.infolist()[0]
        for number in range(300):
            twin = zipfile.ZipInfo(f"{number}.png")
            for field in ("compress_type", "CRC", "compress_size", "header_offset"):
                setattr(twin, field, getattr(info, field))
            twin.file_size = 1 << 30
            packed.filelist.append(twin)
            packed._didModify = True
    with pytest.raises(DataError, match=r"claim to hold 322.1 GB of pictures; a zip bomb"):
        load_source(file)
