import csv
import logging
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ultralytics.nn.tasks import feature_visualization
from ultralytics.utils import fonts, plotting
from ultralytics.utils.ops import box_iou
from ultralytics.utils.plotting import Annotator, colors, plot_images, plot_labels, plot_results

NAMES = {0: "cat", 1: "Straße", 2: "собака", 3: "$x$", 4: "猫"}


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize("name", NAMES.values())
def test_a_box_and_its_name_are_drawn(name):
    image = np.zeros((120, 160, 3), np.uint8)
    annotator = Annotator(image, line_width=2)
    annotator.box_label((40, 50, 140, 110), name, color=(10, 200, 30))
    result = annotator.result()
    assert result.shape == image.shape and result is image
    assert result[80, 40].tolist() == result[109, 100].tolist() == [10, 200, 30]  # left side and bottom, BGR
    assert not result[80, 60:120].any()  # nothing inside
    plate = result[36:49, 41:60].reshape(-1, 3)
    assert (plate == [10, 200, 30]).all(1).any() and (plate != [10, 200, 30]).any()  # plate, and ink on it


def test_boxes_over_the_border_are_drawn_and_other_images_refused():
    for box in (-50, -50, 500, 400), (5, 0, 30, 20), (150, 100, 159, 119), (60, 60, 20, 20):
        annotator = Annotator(np.zeros((120, 160, 3), np.uint8))
        annotator.box_label(box, "a long name of a class", (255, 255, 255))
        assert annotator.result().any()
    for image in np.zeros((9, 9, 3)), np.zeros(9, np.uint8), np.zeros((9, 9, 4), np.uint8):
        with pytest.raises(ValueError, match="expected uint8"):
            Annotator(image)


def test_names_cover_neither_each_other_nor_the_boxes():
    rng = np.random.default_rng(0)
    for height, width in (120, 160), (480, 640):
        size = np.array([width, height])
        centers = np.stack(np.meshgrid([0.2, 0.5, 0.8], [0.25, 0.75]), -1).reshape(-1, 2)
        centers = centers[:2] if height < 200 else centers + rng.uniform(-0.05, 0.05, (6, 2))
        boxes = np.concatenate([centers - 0.08, centers + 0.08], 1) * np.tile(size, 2)
        annotator = Annotator(np.zeros((height, width, 3), np.uint8))
        for n, box in enumerate(boxes):
            annotator.box_label(box, f"triangle 0.{n}", colors(n, bgr=True))
        annotator.result()
        texts = np.array([*annotator._taken])
        assert len(texts) == len(boxes) and (texts >= 0).all() and (texts <= [width, height] * 2).all()
        rectangles = torch.from_numpy(np.concatenate([texts, boxes]))
        assert box_iou(rectangles[: len(texts)], rectangles).fill_diagonal_(0).max() == 0


def test_a_box_over_the_whole_image_keeps_its_name_inside():
    annotator = Annotator(np.zeros((200, 300, 3), np.uint8))
    annotator.box_label((0, 0, 300, 200), "everything", (0, 0, 255))
    assert (annotator.result()[2:8, 2:40] == (0, 0, 255)).all(2).any()


@pytest.mark.parametrize("name", ["two\nlines", "a\r\n\tb", "\n", "nul\0", "\udcff"])
def test_names_with_control_characters_are_drawn(name, batch, tmp_path):
    annotator = Annotator(np.zeros((80, 120, 3), np.uint8))
    annotator.box_label((40, 40, 80, 70), name)
    assert annotator.result().any() and "\n" not in fonts.drawable(name)
    plot_images({**batch, "im_file": [f"{name}.jpg"] * 3}, fname=tmp_path / "a.png", names={0: name, 4: name})
    plot_labels(np.full((2, 4), 0.5), np.array([0, 1]), {0: name, 1: "b"}, tmp_path / "labels.png")


def test_boxes_with_infinite_sides_are_clipped_and_without_numbers_left_out():
    annotator = Annotator(np.zeros((80, 120, 3), np.uint8))
    annotator.box_label((float("nan"), 0, 10, 10), "a")
    assert not annotator.result().any()
    annotator.box_label((float("-inf"), 20, float("inf"), 60), "b", (9, 9, 9))
    assert annotator.result()[20, 60].tolist() == [9, 9, 9]


def test_arguments_of_published_code(caplog):
    image = Image.new("RGB", (160, 120))
    small, large = (Annotator(image, 2, size, fonts.default_font().name, True, "abc") for size in (8, 30))
    for annotator in small, large:
        annotator.box_label((20, 60, 60, 100), "ab", (0, 0, 200), (0, 255, 0))
    pictures = [np.asarray(annotator.result()) for annotator in (small, large)]
    assert isinstance(small.im, Image.Image) and [(p == (0, 255, 0)).all(2).any() for p in pictures] == [1, 1]
    plates = [(p[:59] == (0, 0, 200)).all(2).sum() for p in pictures]  # a PIL image: RGB
    assert plates[1] > 4 * plates[0]
    assert Annotator(np.zeros((12, 16), np.uint8), font="Arial.ttf", font_size=0.1).result().shape == (12, 16, 3)
    assert not caplog.text
    Annotator(image, font="Nowhere.ttf")
    assert "font='Nowhere.ttf': no such font on this system" in caplog.text


def test_neighboring_classes_have_different_colors():
    assert len({colors(i) for i in range(20)}) == 20
    assert colors(3) == colors(23) == colors(3, bgr=True)[::-1]


def test_characters_without_a_font_become_escapes_with_one_warning(monkeypatch, caplog):
    """On a machine on which only matplotlib's own font can draw."""
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: [])
    monkeypatch.setattr(fonts, "_find_font", cache(fonts._find_font.__wrapped__))
    with caplog.at_level(logging.WARNING, "ultralytics"):
        assert fonts.drawable("猫 2") == "\\u732b 2" and fonts.drawable("犬") == "\\u72ac"
    assert len(caplog.records) == 1 and "'中'" in caplog.text
    assert fonts.drawable("собака") == "собака"
    monkeypatch.setattr(fonts, "_find_font", lambda c: fonts.default_font() if c.isascii() else Path("other.ttf"))
    assert fonts.font_runs("猫 2") == [("猫", Path("other.ttf")), (" 2", fonts.default_font())]


@pytest.fixture
def batch():
    return {
        "img": torch.zeros(3, 3, 64, 96, dtype=torch.uint8),
        "cls": torch.tensor([[0.0], [4.0]]),
        "bboxes": torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.25, 0.5, 0.25, 0.25]]),
        "batch_idx": torch.tensor([0.0, 2.0]),
        "im_file": ["a.jpg", "b.jpg", "图.jpg"],
    }


def test_a_batch_is_one_picture_with_its_labels(batch, tmp_path):
    plot_images(batch, fname=tmp_path / "batch.png", names=NAMES)
    page = picture(tmp_path / "batch.png")  # 2 x 2 cells of 128 x 192, 2 white pixels between them
    assert page.shape == (2 * 128 + 2, 2 * 192 + 2, 3)
    assert page[64, 48].tolist() == list(colors(0)) and page[128 + 2 + 64, 24].tolist() == list(colors(4))
    assert (page[130:, 194:] == 255).all()  # the fourth cell is empty

    plot_images({**batch, "img": batch["img"].float() / 255}, fname=tmp_path / "float.png", names=NAMES)
    assert (picture(tmp_path / "float.png") == page).all()


def test_detections_take_the_place_of_labels(batch, tmp_path):
    rows = torch.tensor([[10.0, 10, 90, 60, 0.9, 1], [0, 0, 96, 64, 0.2, 2]])
    plot_images(
        {**batch, "img": batch["img"][:1]}, fname=tmp_path / "found.png", names=NAMES, detections=[rows, rows[:0], rows]
    )
    page = picture(tmp_path / "found.png")
    assert page.shape == (128, 192, 3)
    assert page[80, 20].tolist() == list(colors(1))
    assert not (page == colors(0)).all(2).any() and not (page == colors(2)).all(2).any()  # no label, none below conf


@pytest.mark.parametrize("count", [0, 1, 3000])
def test_label_statistics_are_drawn(count, tmp_path):
    boxes = np.random.default_rng(0).uniform(0.1, 0.5, (count, 4))
    assert picture(plot_labels(boxes, np.arange(count) % 5, NAMES, tmp_path / "labels.png")).std() > 5


def test_figures_have_the_colors_of_pictures_and_outlines_one_center(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(plotting, "save_figure", lambda figure, path, **_: figures.append(figure) or path)
    boxes = np.array([[0.2, 0.3, 0.1, 0.4], [0.8, 0.7, 0.3, 0.2]])
    plot_labels(boxes, np.array([0, 4]), NAMES, tmp_path / "labels.png")
    bars, outlines, *_ = figures[0].axes
    assert [bar.get_facecolor()[:3] for bar in bars.containers[0]] == [colors.figure(i) for i in range(5)]
    (drawn,) = outlines.collections
    assert [tuple(edge[:3]) for edge in drawn.get_edgecolor()] == [colors.figure(0), colors.figure(4)]
    for path, size in zip(drawn.get_paths(), boxes[:, 2:], strict=True):
        low, high = path.get_extents().get_points()
        np.testing.assert_allclose([(low + high) / 2, high - low], [[0.5, 0.5], size])


@pytest.mark.parametrize("suffix", ["pdf", "svg"])
def test_figures_are_also_written_for_a_paper(suffix, tmp_path):
    figure = plotting.new_figure(3, 2)
    axes, other = figure.subplots(1, 2)
    axes.set(title="Objects", ylabel="count")
    other.set_title("mAP50")
    file = plotting.save_figure(figure, tmp_path / "a.png", also=suffix, titles=False)
    starts = {"a.png": b"\x89PNG", "a.pdf": b"%PDF", "a.svg": b"<?xml"}
    assert file.name == "a.png" and {p.name for p in tmp_path.iterdir()} == {"a.png", f"a.{suffix}"}
    assert all(p.read_bytes().startswith(starts[p.name]) for p in tmp_path.iterdir())
    assert (axes.get_title(), axes.get_ylabel(), other.get_title(), other.get_ylabel()) == ("", "count", "", "mAP50")


@pytest.mark.parametrize("epochs", [1, 50])
def test_results_are_drawn(epochs, tmp_path):
    file = tmp_path / "results.csv"
    columns = ["epoch", "time", "train/giou_loss", "metrics/mAP50(B)", "val/giou_loss", "lr/pg0", "lr/pg1"]
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        for e in range(epochs):
            writer.writerow([e + 1, 10 * e, 1 / (e + 1), "nan" if e == 0 else e / 100, "", 1e-4, 1e-5])
    assert plot_results(file) == tmp_path / "results.png"
    assert picture(tmp_path / "results.png").std() > 5


def test_feature_maps_are_drawn(tmp_path):
    x = torch.randn(2, 40, 5, 10)
    path = feature_visualization(x, "ultralytics.nn.modules.conv.Conv", 3, tmp_path / "features")
    assert path.name == "stage3_Conv_features.png" and picture(path).shape == (4 * 68, 8 * 132, 3)
    assert feature_visualization(x[..., :1, :1], "Conv", 4, tmp_path) is None
