import base64
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from PIL import Image

from tests.metrics.test_image_errors import made_boxes
from ultralytics.metrics.error_report import (
    CROP_SIDE,
    FOUND,
    LABEL,
    draw_sizes,
    error_note,
    error_table,
    write_error_report,
)
from ultralytics.metrics.image_errors import confusion_by_size
from ultralytics.utils.fonts import tick_label

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PROBE = """<script>
const values = () => [...document.querySelectorAll(".gallery")].map(g => [...g.children].map(f => f.dataset.values));
const click = i => document.querySelectorAll(`button[data-place="${i}"]`).forEach(button => button.click());
const orders = [0, 1].map(i => (click(i), values()));
const overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
document.title = JSON.stringify({orders, overflow, images: [...document.images].map(i => i.complete && i.width > 0)});
</script></body>"""


def write_images(folder, boxes):
    files = [folder / f"{i} & b.png" for i in range(len(boxes.ids))]
    for file in files:
        Image.fromarray(np.full((600, 600, 3), 90, np.uint8)).save(file)
    return replace(boxes, files=[str(file) for file in files], names={0: "cat <1>", 1: "鸟"})


def test_the_page_is_one_file_with_all_crops(tmp_path):
    boxes = write_images(tmp_path, made_boxes())
    assert write_error_report(boxes, tmp_path, "a & b", files=boxes.files).counts["missed"] == 1  # at any confidence
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "http" not in page.replace("http-equiv", "") and 'src="data:' in page
    pictures = [base64.b64decode(data) for data in re.findall(r"data:image/jpeg;base64,([^\"]+)", page)]
    assert len(pictures) == 4 + 1 + 2  # false positives, confusions, false negatives
    assert all(max(Image.open(io.BytesIO(data)).size) == CROP_SIDE for data in pictures)
    assert "Errors: a &amp; b" in page and "cat &lt;1&gt; 0.70" in page and "class, IoU 1.00<br>0 &amp; b.png" in page
    assert (tmp_path / "images.csv").read_text().splitlines()[1].endswith(",0.25,1,1,0,1,1,0," + boxes.files[0])
    for name in ("errors.png", "confusion_by_size.png"):
        assert Image.open(tmp_path / name).width > 1000


def test_crops_show_both_boxes(tmp_path):
    """A localization error: the label is the square, the detection its upper part."""
    boxes = write_images(tmp_path, made_boxes())
    write_error_report(boxes, tmp_path, "", files=boxes.files)
    cells = (tmp_path / "report.html").read_text(encoding="utf-8").split("<figure data-values")
    (cell,) = [cell for cell in cells if "localization, IoU 0.40" in cell]
    data = re.search(r"base64,([^\"]+)", cell)[1]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)
    for color, bottom in ((LABEL, 100), (FOUND, 40)):
        near = np.abs(pixels - np.frombuffer(bytes.fromhex(color[1:]), np.uint8)).max(-1) < 60
        left, right = np.flatnonzero(near.any(0))[[0, -1]]
        assert abs(left - 30) < 4 and abs(right - 130) < 4  # a margin of 30 % of the side
        assert abs(np.flatnonzero(near.any(1))[-1] - bottom) < 4  # the image ends above


def test_images_that_cannot_be_read_are_named_and_left_out(tmp_path, caplog):
    boxes = write_images(tmp_path, made_boxes())
    (tmp_path / "2 & b.png").write_bytes(b"no image")
    Image.new("RGB", (30, 30)).save(tmp_path / "0 & b.png")  # not the image of the annotations
    write_error_report(boxes, tmp_path, "", files=boxes.files)
    named = [record.getMessage() for record in caplog.records if "report.html" in record.getMessage()]
    assert len(named) == 2 and "2 & b.png: is not an image" in named[1]
    assert "0 & b.png: 30 x 30 pixels, but a box is at" in named[0]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "missed, IoU 1.00" in page and "background<br>2 &amp; b.png" in page and page.count("image/jpeg") >= 2


def test_stored_predictions_need_no_images_and_may_be_without_errors(tmp_path):
    boxes = made_boxes()
    write_error_report(boxes.with_rows(boxes.found.score < 0, np.zeros(6, bool)), tmp_path, "empty", conf=0.3)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "AP -. dAP (TIDE): undefined without labels or detections." in page
    assert page.count("</h3>none") == 3 and "image/jpeg" not in page and "images: conf > 0.3." in page


def test_without_detections_no_gain_is_defined(tmp_path):
    boxes = made_boxes()
    errors = write_error_report(boxes.with_rows(boxes.found.score < 0), tmp_path, "")
    assert errors.ap == 0 and set(errors.delta.values()) == {None} and errors.counts["missed"] == 5
    assert error_table(errors).cells[5] == ["missed", "5", "-"] and error_note(errors).startswith("AP 0.00. dAP (TIDE)")


def test_detections_beyond_the_limit_are_named(tmp_path, caplog):
    write_error_report(made_boxes(), tmp_path, "", limit=4)
    left = "2 detections with conf > 0.25, beyond 4 of an image, left out"
    assert left in (tmp_path / "report.html").read_text(encoding="utf-8") and left in caplog.text
    write_error_report(made_boxes(), tmp_path, "", limit=6)
    assert "left out" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_boxes_of_negative_width_are_drawn(tmp_path):
    boxes = write_images(tmp_path, made_boxes())
    boxes.found.box[0] = boxes.found.box[0, [2, 3, 0, 1]]
    write_error_report(boxes, tmp_path, "", files=boxes.files)
    assert (tmp_path / "report.html").read_text(encoding="utf-8").count("image/jpeg") >= 7


@pytest.mark.filterwarnings("error")  # of matplotlib, if no place is left for the axes
def test_long_class_names_are_cut(tmp_path):
    names = {0: "a" * 300, 1: "b"}
    assert draw_sizes(np.ones((3, 3, 3), int), names, tmp_path / "long.png")
    assert tick_label(names[0]) == "a" * 21 + "..." and tick_label("b") == "b"


def test_many_classes_are_not_drawn(tmp_path):
    names = {i: str(i) for i in range(30)}
    assert draw_sizes(np.ones((3, 31, 31), int), names, tmp_path / "a.png") is None
    some = {i: str(i) for i in range(17)}
    size = Image.open(draw_sizes(np.ones((3, 18, 18), int), some, tmp_path / "b.png")).size
    assert size[0] < 1600 and size[1] > 2 * size[0]  # below each other
    few = np.zeros((3, 31, 31), int)
    few[:, :2, 30] = 1
    assert draw_sizes(few, names, tmp_path / "a.png") == tmp_path / "a.png"
    assert confusion_by_size(made_boxes()).shape == (3, 3, 3)


@pytest.mark.skipif(not BROWSER, reason="no chromium")
def test_galleries_are_sorted_in_the_browser(tmp_path):
    boxes = write_images(tmp_path, made_boxes())
    write_error_report(boxes, tmp_path, "", files=boxes.files)
    file = tmp_path / "report.html"
    file.write_text(file.read_text(encoding="utf-8").replace("</body>", PROBE), encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=390,800", "--dump-dom"]
    command += ["--enable-logging=stderr", f"--user-data-dir={tmp_path / 'browser'}", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = json.loads(unescape(re.search("<title>(.*?)</title>", done.stdout)[1]))
    orders = [[[tuple(map(float, v.split())) for v in group] for group in order] for order in found["orders"]]
    by_score, by_loss = orders
    assert [score for score, _ in by_score[0]] == [0.95, 0.8, 0.6, 0.5] and by_score[2][0][0] == 0.1
    assert [round(loss, 3) for _, loss in by_loss[0]] == [1, 1, 0.6, 0.1] and by_loss[2][0] == (0, 1)
    assert found["overflow"] <= 0 and all(found["images"]) and len(found["images"]) == 9
    assert "CONSOLE" not in done.stderr, done.stderr
