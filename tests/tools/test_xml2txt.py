import pytest

from tests.data.test_converter import VOC_XML

DOG = "1 0.200000 0.300000 0.200000 0.400000\n"  # of VOC_XML: pixels 11..30 of 100, 6..25 of 50; its cat is difficult


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "xml/sub").mkdir(parents=True)
    (tmp_path / "xml/a.xml").write_text(VOC_XML)
    (tmp_path / "xml/sub/b.xml").write_text(VOC_XML.replace("<xmax>30<", "<xmax>130<").replace("dog", "emu"))
    return tmp_path


def test_names_are_found_and_boxes_converted(yolo, refused, folder):
    (folder / "xml/unnamed.xml").write_text(VOC_XML.replace("dog", " "))
    text = yolo("xml2txt", "xml=xml", "save=labels")
    assert "2 label files with 2 boxes, 1 annotation not converted; 3 classes: cat, dog, emu" in text
    assert (folder / "labels/a.txt").read_text() == DOG
    assert (folder / "labels/sub/b.txt").read_text() == "2 0.550000 0.300000 0.900000 0.400000\n"  # cut at the border
    assert (folder / "labels/classes.txt").read_text() == "cat\ndog\nemu\n"
    assert "already exists and is not empty; nothing is overwritten" in refused("xml2txt", "xml=xml", "save=labels")


def test_classes_have_the_given_order_and_failures_are_reported(yolo, folder):
    (folder / "xml/broken.xml").write_text("<annotation>")
    (folder / "xml/nosize.xml").write_text(VOC_XML.replace(">100<", ">0<"))
    (folder / "xml/flat.xml").write_text(VOC_XML.replace("<xmax>30<", "<xmax>5<"))
    text = yolo("xml2txt", "xml=xml", "save=out", "classes=dog,cat")
    assert "2 label files with 1 box, 3 annotations not converted" in text
    assert (folder / "out/a.txt").read_text() == "0" + DOG[1:]
    for message in ("class 'emu' is not among dog, cat", "broken.xml: not a Pascal VOC annotation", "size is 0 x 50",
                    "flat.xml, object 1: width -0.05"):  # fmt: skip
        assert message in text


@pytest.mark.parametrize(
    "declared",
    ["", "gb2312", "gbk", "gb18030", "big5", "shift_jis", "utf-16", "utf-16-le", "utf-16-be", "utf-8", "no-such"],
)
def test_encodings(yolo, folder, declared):
    """The declared encoding, also one of several bytes, which expat does not know; else UTF-8 and GB18030."""
    text = f'<?xml version="1.0" encoding="{declared}"?>\n' * bool(declared) + VOC_XML.replace("dog", " 安全\n")
    known = declared if declared not in ("", "utf-8", "no-such") else "gbk"
    (folder / "xml/c.xml").write_bytes(("\n" * (known == "gbk") + text).encode(known))
    (folder / "xml/._c.xml").write_bytes(b"\0\5\x16\7")  # macOS
    (folder / "xml/odd.xml").write_bytes(b"\xff\xff" + text.encode(known))
    text = yolo("xml2txt", "xml=xml", "save=labels")
    assert "3 label files with 3 boxes, 1 annotation not converted; 4 classes: cat, dog, emu, 安全" in text
    assert "odd.xml" in text and "._c" not in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("xml=none", "save=out"), "no folder with .xml files"),
        (("xml=xml",), "save= is missing"),
        (("xml=xml", "save=out", "classes=cow"), "none of its files could be converted; the first: xml/a.xml"),
        (("xml=xml/a.xml", "save=out"), "no folder with .xml files"),
    ],
)
def test_errors(refused, folder, words, message):
    assert message in refused("xml2txt", *words) and not (folder / "out").exists()
