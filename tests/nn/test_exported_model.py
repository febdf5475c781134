"""ExportedModel: exported files with the interface of a network, and files that it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.nn.formats.test_metadata import OLDER, PUBLISHED
from tests.shapes import write_data, write_shapes
from tests.small_detector import CLASSES, write_weights
from ultralytics import RTDETR
from ultralytics.nn.exported_model import ExportedModel
from ultralytics.nn.formats.metadata import Metadata
from ultralytics.nn.head_protocol import ANCHORS, SCORES
from ultralytics.utils.errors import ModelConfigError, UserError, WeightsError


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Weights and their TorchScript export for a batch of two images of 64 x 64."""
    weights = write_weights(tmp_path_factory.mktemp("exported"))
    return weights, RTDETR(weights).export(format="torchscript", imgsz=64, batch=2)


def write_onnx(file: Path, outputs: list[int], entries: dict) -> Path:
    """A model whose output (1, 2, n) is the mean of the image times a constant, with metadata."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    table = np.arange(np.prod(outputs), dtype=np.float32).reshape(outputs)
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Mul", ["mean", "table"], ["output0"]),
        ],
        "model",
        [helper.make_tensor_value_info("images", 1, [1, 3, 320, 320])],
        [helper.make_tensor_value_info("output0", 1, outputs)],
        [onnx.numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, entries)
    onnx.save(model, file)
    return file


def test_images_run_in_groups_of_the_fixed_batch(exported):
    weights, file = exported
    backend, network = ExportedModel(file), RTDETR(weights).model.eval()
    images = torch.rand(5, 3, 64, 64)
    with torch.no_grad():
        found, extras = backend(images)
        expected = network(images)[0]
    assert extras is None and found.shape == (5, 12, 7)
    assert torch.allclose(found, expected, atol=1e-5)
    assert list(backend.names.values()) == ["cat", "Hund", "鸟"] and backend.stride.tolist() == [32] and backend.fused


def test_validation_and_prediction_match_the_network(exported, tmp_path):
    weights, file = exported
    write_shapes(tmp_path, train=1, val=5)
    for label in (tmp_path / "shapes/labels").rglob("*.txt"):  # of six classes three
        rows = [line for line in label.read_text().splitlines(keepends=True) if line[0] in "012"]
        label.write_text("".join(rows))
    data = str(write_data(tmp_path / "shapes", "three.yaml", CLASSES))
    options = {"data": data, "plots": False, "workers": 0, "imgsz": 64, "project": str(tmp_path / "runs")}
    ours, theirs = (RTDETR(m).val(**options).results_dict for m in (weights, file))
    assert ours == pytest.approx(theirs, abs=1e-3, nan_ok=True)
    picture = np.random.default_rng(0).integers(0, 255, (80, 60, 3), dtype=np.uint8)
    ours, theirs = (RTDETR(m).predict(picture, imgsz=64, conf=0.01)[0].boxes.data for m in (weights, file))
    assert torch.allclose(ours, theirs, atol=1e-2)


def test_box_score_class_outputs_become_class_scores(tmp_path):
    pytest.importorskip("onnxruntime")
    names = str({i: str(i) for i in range(20)})
    file = write_onnx(tmp_path / "m.onnx", [1, 2, 6], {**PUBLISHED, "names": names})
    y = ExportedModel(file)(torch.ones(1, 3, 320, 320))[0]  # boxes 0..3, 6..9; scores 4, 10; classes 5, 11
    assert y.shape == (1, 2, 24)
    assert y[0, :, :4].tolist() == [[0, 1, 2, 3], [6, 7, 8, 9]]
    assert y[0, 0, 4 + 5] == 4 and y[0, 1, 4 + 11] == 10 and y[0, :, 4:].count_nonzero() == 2


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"description": "Ultralytics RT-DETR-l model"}, (1, 2, 6)),  # two classes: boxes and both scores
        ({"layout": "boxes and class scores"}, (1, 2, 6)),
        ({}, "6 columns may be a box and two scores, or box, score and class of a YOLO"),
        ({"names": "{0: 'a', 1: 'b', 2: 'c'}"}, r"got output \(1, 2, 6\), expected \(images, queries, 7\)"),
        ({"head": "v10Detect", "end2end": "True"}, (1, 2, 6)),  # corners, score, class
        ({"head": "v10Detect"}, r"got output \(1, 2, 6\), expected \(images, 6, anchors\)"),
        ({"imgsz": "[64, 64]"}, r"its input is \[1, 3, 320, 320\], but its metadata states \[1, 3, 64, 64\]"),
    ],
)
def test_six_columns_are_read_as_the_metadata_states(tmp_path, changes, answer):
    pytest.importorskip("onnxruntime")
    args = PUBLISHED["args"].replace("'dynamic': True", "'dynamic': False")
    file = write_onnx(tmp_path / "two.onnx", [1, 2, 6], {**OLDER, "args": args, **changes})
    if isinstance(answer, tuple):
        assert ExportedModel(file)(torch.ones(1, 3, 320, 320))[0].shape == answer
    else:
        with pytest.raises(WeightsError, match=answer):
            ExportedModel(file)(torch.ones(1, 3, 320, 320))


def test_anchors_without_metadata_are_found_by_the_shape_of_the_output(tmp_path):
    pytest.importorskip("onnxruntime")
    names = str({i: str(i) for i in range(4)})
    for shape, layout in (([1, 8, 21], ANCHORS), ([1, 21, 8], SCORES)):
        assert ExportedModel(write_onnx(tmp_path / "m.onnx", shape, {**OLDER, "names": names})).layout == layout


def test_models_that_fail_or_return_something_else(tmp_path, caplog):
    class Broken(torch.nn.Module):
        def forward(self, x):
            assert x.shape[3] == 1, "too wide"
            return x

    class Pair(torch.nn.Module):
        def forward(self, x):
            return x, x

    pytest.importorskip("onnxruntime")
    for name, network, message in (("broken", Broken(), "too wide"), ("pair", Pair(), "'tuple' object")):
        file = tmp_path / f"{name}.torchscript"
        torch.jit.save(torch.jit.script(network), file, _extra_files={"config.txt": json.dumps(PUBLISHED)})
        with caplog.at_level("INFO", logger="ultralytics"), pytest.raises(WeightsError, match=f"{name}.*{message}"):
            ExportedModel(file)(torch.ones(1, 3, 320, 320))
        assert f"{file}: a TorchScript file is a program; open only those of people you trust" in caplog.messages
    file = write_onnx(tmp_path / "yolo.onnx", [1, 84, 8400], PUBLISHED)
    with pytest.raises(WeightsError, match=r"yolo\.onnx: got output \(1, 84, 8400\), expected \(images, queries, 6\)"):
        ExportedModel(file)(torch.ones(1, 3, 320, 320))


def test_other_files_are_refused(exported, tmp_path):
    pytest.importorskip("onnxruntime")
    write_onnx(tmp_path / "plain.onnx", [1, 2, 6], {})
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "cut.torchscript").write_bytes(Path(exported[1]).read_bytes()[:5000])
    torch.jit.save(torch.jit.script(torch.nn.Identity()), tmp_path / "other.torchscript")
    (tmp_path / "empty_openvino_model").mkdir()
    for name, message in {
        "plain.onnx": "no class names and image size in its metadata",
        "text.onnx": "onnxruntime cannot run it as an ONNX model",
        "none.onnx": "no such file",
        "cut.torchscript": "not a whole TorchScript file",
        "other.torchscript": "no class names",
        "best.pt": "expected an exported model",
    }.items():
        with pytest.raises(WeightsError, match=rf"{name}: {message}"):
            ExportedModel(tmp_path / name)
    with pytest.raises(ModelConfigError, match=r"expected a model file \(\.yaml\), weights \(\.pt\) or an exported"):
        RTDETR("model.tflite")


def test_incomplete_openvino_folders_are_refused(tmp_path):
    pytest.importorskip("openvino")
    folder = tmp_path / "x_openvino_model"
    for name, content, message in (
        ("readme", "", r"expected a folder with one \.xml and its \.bin, found 0"),
        ("x.xml", "<net/>", r"metadata\.yaml: no such file"),
        ("metadata.yaml", json.dumps(Metadata({0: "a"}, (64, 64)).as_text()), r"x\.xml: OpenVINO cannot run it"),
    ):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(content)
        with pytest.raises(UserError, match=message):
            ExportedModel(folder)
