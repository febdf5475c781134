"""Export to every format, the comparison with PyTorch, and refused options."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.small_detector import CLASSES, write_weights
from ultralytics import RTDETR
from ultralytics.data.synthetic import generate_shapes
from ultralytics.engine import exporter as exporter_module
from ultralytics.engine.exporter import BOUNDS, Difference, Exporter, ExportMismatchError, compare
from ultralytics.nn.head_protocol import END2END
from ultralytics.utils.errors import DataError, DeviceError, MissingPackageError, OptionError, UserError

PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "safetensors": "safetensors"}
RUNTIMES = pytest.mark.parametrize("kind", ["onnx", "openvino", "torchscript"])
FORMATS = pytest.mark.parametrize("kind", ["onnx", "openvino", "torchscript", "safetensors"])


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    return write_weights(tmp_path_factory.mktemp("detector"))


@pytest.fixture
def own(weights, tmp_path, request) -> Path:
    """Copy the weights to a folder for the files of one test. Skip formats whose package is missing."""
    if "kind" in request.fixturenames:
        pytest.importorskip(PACKAGES.get(request.getfixturevalue("kind"), "torch"))
    return Path(shutil.copy(weights, tmp_path / "small.pt"))


def is_close(file, weights, images: torch.Tensor, precision: str = "float32") -> bool:
    with torch.no_grad():
        found, expected = (RTDETR(f, verbose=False).model.eval()(images)[0] for f in (file, weights))
    return compare(expected, found, precision).within(BOUNDS[precision])


@FORMATS
def test_fixed_export_matches_pytorch(kind, own):
    file = RTDETR(own).export(format=kind, imgsz=[64, 96], batch=2)
    assert Path(file).parent == own.parent
    assert is_close(file, own, torch.rand(3, 3, 64, 96))  # three images with batch 2
    model = RTDETR(file)
    assert model.names == dict(enumerate(CLASSES)) and model.is_exported == (kind != "safetensors")
    assert model.predict(np.zeros((50, 70, 3), np.uint8), imgsz=[64, 96])[0].orig_shape == (50, 70)
    if model.is_exported:
        metadata = model.model.metadata
        assert (metadata.imgsz, metadata.batch, metadata.dynamic, metadata.stride) == ((64, 96), 2, False, 32)
        with pytest.raises(DataError, match=r"got images of 64x64, expected 64x96; use imgsz=\[64,96\]"):
            RTDETR(file).model(torch.rand(1, 3, 64, 64))


@RUNTIMES
def test_dynamic_export_accepts_any_size_and_batch(kind, own):
    file = RTDETR(own).export(format=kind, imgsz=64, dynamic=True)
    model = RTDETR(file).model
    runtime = model._run
    for batch, height, width in ((1, 64, 64), (3, 96, 64), (2, 128, 160)):
        assert is_close(file, own, torch.rand(batch, 3, height, width)), (batch, height, width)
    assert model._run is runtime  # another size does not open the runtime again
    with pytest.raises(DataError, match="expected sides that are multiples of 32"):
        model(torch.rand(1, 3, 64, 80))


@FORMATS
def test_half_export_keeps_the_head_in_float32(kind, own):
    file = RTDETR(own).export(format=kind, imgsz=64, half=True)
    assert "_half" in Path(file).name and is_close(file, own, torch.rand(2, 3, 64, 64), "float16")


@pytest.mark.parametrize("kind", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_int8_export_is_calibrated_on_the_data_set(kind, own, tmp_path, capfd):
    if kind == "openvino":
        pytest.importorskip("nncf")
    generate_shapes(tmp_path / "shapes", images_train=1, images_val=6, size=64)
    data = {"path": str(tmp_path / "shapes"), "train": "images/train", "val": "images/val", "names": list("abcdef")}
    file = RTDETR(own).export(format=kind, imgsz=64, int8=True, data=data)
    assert RTDETR(file).model.metadata.precision == "int8"
    assert "/network/model." not in "".join(capfd.readouterr())  # no log line for every float node
    if kind == "onnx":
        import onnx

        nodes = [node for node in onnx.load(file).graph.node if node.op_type == "DequantizeLinear"]
        assert len(nodes) > 20
        assert not any("/model.9/" in node.name for node in nodes if node.name.startswith("/"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "torchscript", "int8": True}, "int8 is not supported by format=torchscript; supported: onnx, open"),
        ({"format": "safetensors", "dynamic": True}, "dynamic is not supported by format=safetensors"),
        ({"int8": True, "half": True, "data": "x.yaml"}, "choose one of them"),
        ({"int8": True}, "int8: needs images .* add data="),
        ({"format": "onnx", "opset": 11}, "opset=11: .*added in version 1.* The default is 17"),
        ({"format": "onxx"}, "format='onxx': expected one of .*; did you mean 'onnx'"),
        ({"format": "onnx", "batch": -1}, "batch=-1"),
        ({"format": "onnx", "nms": True}, "option 'nms' is not supported by RT-DETR: it predicts a set"),
        ({"format": "torchscript", "nms": True}, "option 'nms' is not supported by RT-DETR"),
    ],
)
def test_unsupported_options_are_refused(options, message, own):
    with pytest.raises(OptionError, match=message):
        RTDETR(own).export(imgsz=64, **options)
    assert [file.name for file in own.parent.iterdir()] == ["small.pt"]


def test_options_of_other_formats_are_reported(caplog):
    Exporter(overrides={"format": "torchscript", "opset": 17, "simplify": True})._check_format()
    assert "without effect with format=torchscript: opset, simplify" in caplog.text


def test_dynamic_export_needs_a_position_for_every_query(own):
    model = RTDETR(own)
    model.model.model[-1].num_queries = 40
    with pytest.raises(OptionError, match=r"images of 32x32 have 21 positions for 40 queries; export with a larger"):
        model.export(format="torchscript", imgsz=32, dynamic=True)


def test_engine_export_without_tensorrt_or_gpu_is_refused(own):
    with pytest.raises((MissingPackageError, DeviceError), match=r"pip install \"tensorrt>=10\"|CUDA"):
        RTDETR(own).export(format="engine", imgsz=64)


def test_all_missing_packages_are_named_before_the_export(own, monkeypatch):
    for name in ("onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError, match=r'pip install "onnx" "onnxruntime"; .*pip install -e "\.\[export\]"'):
        RTDETR(own).export(format="onnx", imgsz=64)
    assert [file.name for file in own.parent.iterdir()] == ["small.pt"]


class ConstantModel(nn.Module):
    """An exported model with a wrong output."""

    def __init__(self, *_):
        super().__init__()

    def forward(self, images):
        return torch.full((len(images), 12, 7), 0.5), None


def test_queries_are_matched_one_to_one():
    expected = torch.rand(2, 30, 9)
    shuffled = torch.stack([image[torch.randperm(30)] for image in expected])
    assert compare(expected, shuffled, "float32") == Difference(0.0, 0.0, 60, 0)
    shuffled[0, 0] += 0.5
    one = compare(expected, shuffled, "float32")
    assert (one.queries, one.swapped) == (59, 1) and one.within(BOUNDS["float32"])
    shuffled[1, :5, 4:] += 0.5
    many = compare(expected, shuffled, "float32")
    assert many.swapped == 0 and many.scores > 0.1 and not many.within(BOUNDS["float32"])


def test_a_head_of_equal_scores_may_select_any_boxes():
    expected, found = torch.rand(2, 1, 30, 6)
    expected[..., 4] = found[..., 4] = 1e-4
    expected[0, :20, 4], found[0, :20] = 0.5, expected[0, :20]
    found[0, :20, 4] = 0.5
    difference = compare(expected, found, "float32", END2END)
    assert difference.within(BOUNDS["float32"]) and difference.queries >= 20 and difference.swapped
    found[0, :20, :4] += 0.5
    assert not compare(expected, found, "float32", END2END).within(BOUNDS["float32"])


def test_one_nan_is_a_mismatch():
    expected = torch.rand(2, 30, 9)
    found = expected.clone()
    found[0, 0, 0] = torch.nan
    assert not compare(expected, found, "float32").within(BOUNDS["float32"])


def test_int8_compares_confident_queries_only():
    expected = torch.zeros(1, 20, 5)
    expected[0, :, :4] = torch.rand(20, 4)
    expected[0, :3, 4] = 0.9
    found = expected.clone()
    found[0, 5:, :4] = torch.rand(15, 4)  # boxes without an object
    assert compare(expected, found, "int8") == Difference(0.0, 0.0, 3, 0)
    found[0, 0, 4] = 0.5
    assert not compare(expected, found, "int8").within(BOUNDS["int8"])


def test_mismatch_raises_and_keeps_the_file(own, monkeypatch):
    monkeypatch.setattr(exporter_module, "ExportedModel", ConstantModel)
    with pytest.raises(ExportMismatchError, match=r"small\.torchscript: differs from PyTorch: boxes .* file is kept"):
        RTDETR(own).export(format="torchscript", imgsz=64)
    assert own.with_suffix(".torchscript").is_file()


def test_exporter_runs_callbacks_and_does_not_change_the_network(own):
    seen, model = [], RTDETR(own)
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    model.add_callback("on_export_start", lambda exporter: seen.append(exporter.file))
    model.add_callback("on_export_end", lambda exporter: seen.append(str(exporter.difference)))
    model.export(format="torchscript", imgsz=64)
    assert seen[0] is None and "48 boxes" in seen[1]
    # by itself
    exporter = Exporter(overrides={"format": "torchscript", "imgsz": 64, "batch": 1, "model": str(own)})
    exporter.add_callback("on_export_end", lambda exporter: seen.append(exporter.file))
    assert exporter(model=model.model) == str(own.with_suffix(".torchscript")) == str(seen[-1])
    after = model.model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(value, after[name]) for name, value in before.items())
    assert not model.model.model[-1].export and not model.model.fused


def test_exported_model_only_predicts_and_validates(own):
    model = RTDETR(RTDETR(own).export(format="torchscript", imgsz=64))
    calls = [model.export, model.fuse, model.info, lambda: model.save("x.pt"), lambda: model.load("x.pt")]
    for call in (*calls, lambda: model.train(data="x.yaml")):
        with pytest.raises(OptionError, match=r"small\.torchscript is an exported model"):
            call()
    with pytest.raises(OptionError, match="embed: an exported model"):
        model.embed(np.zeros((64, 64, 3), np.uint8), layers=[1])


@pytest.mark.slow
@RUNTIMES
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(
    "model", ["rtdetr-efficientvit-m0.yaml", "rtdetr-efficientvit-m5.yaml", "rtdetr-l.yaml", "rtdetr-r18.yaml",
              "rtdetr-resnet50.yaml", "rtdetr-timm.yaml", "rtdetr-x.yaml"],
)  # fmt: skip
def test_model_files_of_the_package_export(kind, dynamic, model, tmp_path, monkeypatch):
    pytest.importorskip(PACKAGES.get(kind, "torch"))
    monkeypatch.chdir(tmp_path)
    try:
        RTDETR(model).export(format=kind, imgsz=[160, 224], dynamic=dynamic)
    except UserError as error:
        pytest.fail(str(error))
