import csv
import io
import json
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from ultralytics.engine.results import Boxes, Results
from ultralytics.utils.errors import DataError, MissingPackageError, UserError
from ultralytics.utils.plotting import colors

ROWS = [[10.0, 20.0, 50.0, 60.0, 0.9, 1.0], [-5.0, 30.0, 30.0, 110.0, 0.8, 0.0], [0.0, 0.0, 20.0, 10.0, 0.3, 1.0]]
SHAPE = (100, 200)
NAMES = {0: "star", 1: "big/circle"}


def results(rows=ROWS, path="photos/a.jpg"):
    return Results(np.full((*SHAPE, 3), 90, np.uint8), path, NAMES, torch.tensor(rows).reshape(-1, 6))


def tracked():
    return Boxes(torch.tensor([[10.0, 20.0, 50.0, 60.0, 7.0, 0.9, 1.0]]), SHAPE)


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
def test_boxes_in_all_formats(convert):
    boxes = Boxes(convert(np.array(ROWS, np.float32)), SHAPE)
    expected = {"xyxy": [10, 20, 50, 60], "xywh": [30, 40, 40, 40]}
    relative = {"xyxyn": [0.05, 0.2, 0.25, 0.6], "xywhn": [0.15, 0.4, 0.2, 0.4]}
    for name, numbers in {**expected, **relative}.items():
        value = getattr(boxes, name)
        assert type(value) is type(boxes.data)
        np.testing.assert_allclose(value[0], numbers, rtol=1e-6)
    assert boxes.conf.tolist() == pytest.approx([0.9, 0.8, 0.3]) and boxes.cls.tolist() == [1, 0, 1]
    assert boxes.id is None and not boxes.is_track and boxes.shape == (3, 6) and len(boxes) == 3


def test_boxes_are_indexed_iterated_and_tracked():
    boxes = results().boxes
    assert boxes[0].shape == (1, 6) and boxes[boxes.conf > 0.5].shape == (2, 6) and boxes[1:].shape == (2, 6)
    assert [float(b.conf) for b in boxes] == pytest.approx([0.9, 0.8, 0.3])
    assert boxes[[2, 0]].cls.tolist() == [1, 1]
    assert tracked().is_track and tracked().id.tolist() == [7] and tracked().conf.tolist() == pytest.approx([0.9])


def test_conversion_of_boxes_and_results():
    result = results()
    for item in (result, result.boxes):
        boxes = getattr(item.numpy(), "boxes", item.numpy())
        assert isinstance(boxes.data, np.ndarray) and boxes.cpu().data is boxes.data
    assert result.to(torch.float64).boxes.data.dtype == torch.float64
    assert result.cpu().path == result.path and result.numpy().to("cpu").boxes.data.equal(result.boxes.data)


@pytest.mark.parametrize("shape", [(2, 5), (1, 2, 6)])
def test_boxes_of_wrong_form(shape):
    with pytest.raises(ValueError, match=r"got shape .*, expected \(n, 6\)"):
        Boxes(torch.zeros(shape), SHAPE)


def test_results_as_a_collection():
    result = results()
    assert len(result) == 3 and len(result[1:]) == 2 and [r.boxes.shape for r in result] == [(1, 6)] * 3
    assert len(result.new()) == 0 and result.new().path == result.path and result.keys == ("boxes",)
    result.update(boxes=result.boxes[:1])
    assert len(result) == 1 and result.masks is None
    assert Results(result.orig_img, "a", ["star", "circle"]).names == {0: "star", 1: "circle"}


def test_verbose_counts_the_classes_with_their_plural():
    assert results().verbose() == "1 star, 2 big/circles" and results([]).verbose() == "(no detections)"
    buses = results([ROWS[0]] * 2)
    buses.names = {1: "bus"}
    assert buses.verbose() == "2 buses"


def test_plot_draws_on_a_copy():
    result = results()
    before = result.orig_img.copy()
    drawn = result.plot(line_width=2)
    assert drawn.shape == before.shape and drawn.dtype == np.uint8 and (result.orig_img == before).all()
    assert (drawn[20, 20:45] != 90).any() and (drawn[35:55, 35:45] == 90).all()  # border of the first box, its middle
    assert (result.plot(boxes=False) == before).all()
    assert (result.plot(labels=False) != drawn).any() and (result.plot(conf=False) != drawn).any()
    assert (result.plot(color_mode="instance") != result.plot()).any()
    other = np.zeros_like(before)
    assert (result.plot(img=other)[80:, 100:] == 0).all()


def test_plot_has_the_ids_of_tracks(monkeypatch):
    result, labels = results(), []
    result.update(boxes=tracked())
    monkeypatch.setattr("ultralytics.engine.results.Annotator.box_label", lambda self, *args: labels.append(args[1:3]))
    result.plot()
    result.plot(conf=False, color_mode="instance")
    assert labels == [("id:7 big/circle 0.90", colors(1, bgr=True)), ("id:7 big/circle", colors(7, bgr=True))]


def test_plot_takes_what_published_code_passes(tmp_path, monkeypatch):
    result, shown = results(), []
    monkeypatch.setattr("ultralytics.engine.results.show_image", lambda title, image, **_: shown.append(image))
    ours, others = {"font_size": 20, "txt_color": (0, 255, 0)}, {"masks": True, "probs": None, "kpt_radius": 5}
    options = {"font": "DejaVuSans.ttf", "filename": str(tmp_path / "a.png"), **ours, **others}
    picture = result.plot(pil=True, show=True, save=True, **options)
    assert (np.asarray(picture)[..., ::-1] == shown[0]).all() and (shown[0] == (0, 255, 0)).all(2).any()
    assert (cv2.imread(str(tmp_path / "a.png")) == shown[0]).all()
    for wrong, message in (
        ({"masks": 2}, "masks= draws masks, and a detector predicts boxes only"),
        ({"kpt_radius": 7}, "draws keypoints"),
        ({"line_width": "2"}, "line_width and font_size: expected pixels"),
        ({"font_size": -3}, "got -3"),
        ({"filename": "/proc/nowhere/a.png"}, "the image cannot be written"),
        ({"line_widht": 2}, "unknown argument 'line_widht'; did you mean 'line_width'"),
        ({"color_mode": "rainbow"}, "expected 'class' or 'instance'"),
        ({"filename": "a.xyz"}, r"a.xyz: an image of 200 x 100 cannot be written as .xyz"),
    ):
        with pytest.raises(UserError, match=message):
            result.plot(**wrong)


def test_notebooks_show_the_picture(monkeypatch):
    shown = []
    display = SimpleNamespace(Image=lambda data: data, display=shown.append)
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell, display=display))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    results().show(labels=False)
    shown.append(results()._repr_png_())
    decoded = [cv2.imdecode(np.frombuffer(data, np.uint8), 1) for data in shown]
    assert (decoded[0] == results().plot(labels=False)).all() and (decoded[1] == results().plot()).all()


def test_save_writes_non_ascii_paths_and_the_default_name(tmp_path, monkeypatch):
    file = tmp_path / "ergebnis ü" / "bild.png"
    assert results().save(file) == str(file)
    assert (cv2.imdecode(np.fromfile(file, np.uint8), 1) == results().plot()).all()
    monkeypatch.chdir(tmp_path)
    assert results().save(labels=False) == "results_a.jpg" and (tmp_path / "results_a.jpg").exists()


def test_save_txt_is_a_valid_label_file(tmp_path):
    file = tmp_path / "labels" / "a.txt"
    results().save_txt(file)
    rows = [line.split() for line in file.read_text().splitlines()]
    assert rows[0] == ["1", "0.15", "0.4", "0.2", "0.4"]
    assert rows[1] == ["0", "0.075", "0.65", "0.15", "0.7"]  # cut off at the left and lower border
    results([]).save_txt(tmp_path / "none.txt")
    assert not (tmp_path / "none.txt").exists()
    result = results()
    result.update(boxes=tracked())
    result.save_txt(file, save_conf=True)
    assert file.read_text().splitlines()[len(rows) :] == ["1 0.15 0.4 0.2 0.4 0.9 7"]  # appended


def test_save_crop(tmp_path):
    files = results([*ROWS, [-50.0, -50.0, -10.0, -10.0, 0.3, 1.0]]).save_crop(tmp_path, "a.jpg")
    assert files == [str(tmp_path / name) for name in ("big_circle/a.jpg", "star/a.jpg", "big_circle/a-2.jpg")]
    assert cv2.imread(files[0]).shape == (51, 51, 3)  # a margin of 5 pixels and 1 % at each side, within the image


def test_tables():
    result = results()
    box = {"x1": 10.0, "y1": 20.0, "x2": 50.0, "y2": 60.0}
    assert result.summary(decimals=2)[0] == {"name": "big/circle", "class": 1, "confidence": 0.9, "box": box}
    assert json.loads(result.to_json()) == result.summary()
    assert result.summary(normalize=True)[0]["box"] == {"x1": 0.05, "y1": 0.2, "x2": 0.25, "y2": 0.6}
    rows = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert len(rows) == 3 and rows[1]["name"] == "star" and float(rows[1]["x1"]) == -5
    assert results([]).to_csv() == "name,class,confidence,x1,y1,x2,y2\n"
    result.update(boxes=tracked())
    assert result.summary()[0]["track_id"] == 7 and result.to_csv().splitlines()[0].endswith("track_id")


def test_data_frame(monkeypatch):
    pytest.importorskip("pandas")
    frame = results().to_df()
    assert list(frame.columns) == ["name", "class", "confidence", "x1", "y1", "x2", "y2"] and len(frame) == 3
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingPackageError, match='pip install "pandas"'):
        results().to_df()


@pytest.mark.parametrize("name", ["a.\udcff", "a.xyz", "a.ü", "a.jpg"])
def test_names_that_opencv_cannot_read_are_errors(tmp_path, name):
    """OpenCV ends the process for text that is not UTF-8."""
    image = np.zeros((1, 70_000 if name == "a.jpg" else 9, 3), np.uint8)
    with pytest.raises(DataError, match="cannot be written"):
        Results(image, "a.jpg", {0: "a"}).save(tmp_path / name)
