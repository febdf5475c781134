"""`yolo inspect`: files, errors, and a picture in which no edge crosses a box."""

from itertools import pairwise
from pathlib import Path

import pytest
from matplotlib.text import Annotation

from ultralytics.nn.summary import inspect_model
from ultralytics.nn.tasks import DetectionModel
from ultralytics.tools.common import load_network
from ultralytics.tools.inspect_model import draw_graph
from ultralytics.utils.plotting import save_figure

FILES = ["graph.png", "graph.svg", "layers.csv"]
FORK_MODULES = Path(__file__).parents[1] / "nn" / "fork_modules"


def test_a_model_file_and_weights(yolo, refused, tmp_path, model_file, weights):
    text = yolo("inspect", f"model={model_file}", "nc=3")
    assert "RTDETRDecoder" in text and "layers.csv, graph.svg, graph.png written" in text
    assert "at 128x128 by thop" in yolo("inspect", f"model={model_file}", "imgsz=128")
    folder = tmp_path / "runs/inspect"
    assert sorted(file.name for file in (folder / "tiny-model").iterdir()) == FILES
    assert (folder / "tiny-model2/graph.svg").is_file()
    assert "20x7" in (folder / "tiny-model/layers.csv").read_text()
    yolo("inspect", f"model={weights}", "project=out", "name=mine")
    assert sorted(file.name for file in (tmp_path / "out/mine").iterdir()) == FILES
    assert "weights for a fixed number of classes" in refused("inspect", f"model={weights}", "nc=3")


@pytest.mark.parametrize("name", ["rtdetr-efficientvit-m0.yaml", "rtdetr-efficientvit-m0-bifpn.yaml", "rtdetr-l.yaml"])
def test_no_edge_of_the_picture_crosses_a_box(name):
    result = inspect_model(load_network(name, meta=True))
    figure = draw_graph(result, name)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    texts = [text for text in axes.texts if text.get_bbox_patch()]
    boxes = [text.get_bbox_patch().get_window_extent() for text in texts]
    centers = [axes.transData.transform(text.get_position()) for text in texts]
    assert len(boxes) == len(result.rows) + 1
    assert len(axes.lines) == sum(len(row.sources) for row in result.rows)
    for line, arrow in zip(axes.lines, (t for t in axes.texts if isinstance(t, Annotation)), strict=True):
        points = axes.transData.transform([*line.get_xydata(), arrow.xy])
        for (x0, y0), (x1, y1) in pairwise(points):
            x0, x1, y0, y1 = *sorted((x0, x1)), *sorted((y0, y1))
            crossed = [box for box in boxes if x0 < box.x1 and x1 > box.x0 and y0 < box.y1 and y1 > box.y0]
            assert all(any(box.contains(*end) for end in (points[0], points[-1])) for box in crossed)
    assert len({tuple(center) for center in centers}) == len(boxes)


def test_names_in_other_scripts(tmp_path):
    conv = "[-1, 1, Conv, [8]"
    (tmp_path / "m.yaml").write_text(f"nc: 2\nbackbone:\n  - {conv}, 主干]\nhead:\n  - {conv}, 颈]\n  - {conv}]\n")
    figure = draw_graph(inspect_model(DetectionModel(tmp_path / "m.yaml")), "模型 $x$")
    assert save_figure(figure, tmp_path / "graph.png").stat().st_size > 1000


def test_a_module_of_another_folder_that_reads_values(yolo, refused, tmp_path, model_file):
    (tmp_path / "my.yaml").write_text(model_file.read_text().replace("Conv, [64, 1, 1]", "TableOnCpu, []"))
    yolo("inspect", "model=my.yaml", f"modules={FORK_MODULES}")
    text = (tmp_path / "runs/inspect/my/layers.csv").read_text()
    assert "TableOnCpu" in text and "192x20x20" in text
    refused("inspect", "model=my.yaml")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("model=none.yaml",), "error: model 'none.yaml': no such file"),
        (("model=none.pt",), "none.pt"),
        (("model=notes.txt",), "error: model 'notes.txt': expected a model file (.yaml), weights (.pt) or an"),
        (("model=rtdetr-r18.yaml", "imgsz=8"), "imgsz: expected an integer >= 32, got 8"),
    ],
)
def test_errors_are_one_line(refused, words, message, tmp_path):
    assert message in refused("inspect", *words) and not (tmp_path / "runs").exists()
