import pytest

from tests.data.formats.examples import result
from ultralytics.data.formats.common import FileNames, LabelBox, Spool, assemble, label_image, readable


def test_boxes_are_cut_at_the_border_and_what_vanishes_is_left_out():
    image = label_image(result(), "街 1.jpg", "街 1")
    assert (image.width, image.height) == (60, 40)
    assert [box.cls for box in image.boxes] == [1, 2]
    assert image.boxes[0][3:] == (0, 0, 10, 10)
    assert image.boxes[1][3:] == pytest.approx((20.4, 20.6, 60, 40))


def test_rounded_boxes_stay_inside():
    box = LabelBox(0, "a", 1.0, 0.005, 0.0, 10.0, 10.0)
    left, _, width, _ = box.xywh(decimals=2)
    assert left + width <= 10.0
    assert box.xywh(decimals=1, scale=(2, 3)) == [0.0, 0.0, 20.0, 30.0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("猫 🐈", "猫 🐈"),
        ("a\x00b\x1bc", "a\ufffdb\ufffdc"),
        (b"caf\xe9.jpg".decode("utf-8", "surrogateescape"), "caf\ufffd.jpg"),
    ],
)
def test_text_that_utf8_and_xml_can_hold(text, expected):
    assert readable(text) == expected
    assert readable(text).encode("utf-8")


def test_images_of_one_name_are_told_apart_by_their_folders():
    names = FileNames()
    paths = [
        "/a/day/x.jpg",
        "/a/night/x.jpg",
        "/b/night/x.jpg",
        "/a/day/x.jpg",
        "C:\\p\\y.jpg",
        "/a/y.jpg",
        "rtsp://h/s",
    ]
    assert [names.name(p) for p in paths] == [
        "x.jpg",
        "night/x.jpg",
        "b/night/x.jpg",
        "x.jpg",
        "y.jpg",
        "a/y.jpg",
        "s",
    ]


def test_spool_leaves_out_a_record_that_was_not_written_whole(tmp_path, monkeypatch):
    spool = Spool(tmp_path)
    spool.add("one")
    writes = spool._file

    class Full:
        """A file on a disk that takes two more bytes."""

        def __getattr__(self, name):
            return getattr(writes, name)

        def write(self, data):
            writes.write(data[:2])
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool, "_file", Full())
    with pytest.raises(OSError, match="No space"):
        spool.add("two", between=",")
    monkeypatch.undo()
    spool.add("three", between=",")
    assemble(tmp_path / "out.txt", "<", spool, ">")
    assert (tmp_path / "out.txt").read_text() == "<one,three>"
    assert [f.name for f in tmp_path.iterdir()] == ["out.txt"]
