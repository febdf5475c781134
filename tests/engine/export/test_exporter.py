"""Exports of every format, run beside PyTorch; what is refused; what the file says."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.engine.export.detector import CLASSES
from ultralytics import RTDETR
from ultralytics.cfg.options import FORMATS as NAMES
from ultralytics.engine import exporter as source
from ultralytics.engine.exporter import Exporter, ExportMismatchError
from ultralytics.nn.formats import FORMATS
from ultralytics.nn.formats import common as comparison
from ultralytics.utils.errors import DataError, DeviceError, MissingPackageError, OptionError, UserError, WeightsError

PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "safetensors": "safetensors"}


@pytest.fixture
def own(weights, tmp_path) -> Path:
    """A copy of the weights, so that what is exported lies in a folder of its own."""
    return Path(shutil.copy(weights, tmp_path / "small.pt"))


@torch.no_grad()
def outputs(file, images: torch.Tensor) -> torch.Tensor:
    return RTDETR(file, verbose=False).model.eval()(images)[0]


def near(file, weights, images: torch.Tensor, precision: str = "float32") -> bool:
    found, expected = outputs(file, images), outputs(weights, images)
    return comparison.compare(expected, found, precision).within(comparison.BOUNDS[precision])


def test_the_formats_of_the_option_are_those_that_exist():
    assert set(NAMES) == set(FORMATS)


@pytest.mark.parametrize("kind", ["onnx", "openvino", "torchscript", "safetensors"])
def test_a_fixed_export_computes_what_the_network_does(kind, own):
    pytest.importorskip(PACKAGES.get(kind, "torch"))
    file = RTDETR(own).export(format=kind, imgsz=[64, 96], batch=2)
    assert Path(file).parent == own.parent
    assert near(file, own, torch.rand(3, 3, 64, 96))  # three images, for a batch of two
    assert RTDETR(file).names == dict(enumerate(CLASSES))
    if kind != "safetensors":
        with pytest.raises(
            DataError, match=r"takes images of 64x96 only, got 64x64; use imgsz=\[64,96\], or export it"
        ):
            outputs(file, torch.rand(1, 3, 64, 64))


@pytest.mark.parametrize("kind", ["onnx", "openvino", "torchscript"])
def test_a_dynamic_export_takes_any_size_and_batch(kind, own):
    pytest.importorskip(PACKAGES.get(kind, "torch"))
    file = RTDETR(own).export(format=kind, imgsz=64, dynamic=True)
    model = RTDETR(file).model
    opened = model._run
    for batch, height, width in ((1, 64, 64), (3, 96, 64), (2, 128, 160)):
        images = torch.rand(batch, 3, height, width)
        difference = comparison.compare(outputs(own, images), model(images)[0], "float32")
        assert difference.within(comparison.BOUNDS["float32"]), (batch, height, width, str(difference))
    assert model._run is opened  # nothing was made anew for another size
    assert model.metadata.smallest == 32  # 16, 4 and 1 positions for 12 queries
    with pytest.raises(DataError, match=r"multiples of 32, from 32x32 on, got 64x80"):
        model(torch.rand(1, 3, 64, 80))


@pytest.mark.parametrize("kind", ["onnx", "openvino", "torchscript", "safetensors"])
def test_half_keeps_the_head_in_float32(kind, own):
    pytest.importorskip(PACKAGES.get(kind, "torch"))
    file = RTDETR(own).export(format=kind, imgsz=64, half=True)
    assert "_half" in Path(file).name
    assert near(file, own, torch.rand(2, 3, 64, 64), "float16")


@pytest.mark.parametrize("kind", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_int8_is_calibrated_on_the_data_set(kind, own, tmp_path, capfd):
    pytest.importorskip("nncf" if kind == "openvino" else "onnxruntime")
    from ultralytics.data.synthetic import generate_shapes

    generate_shapes(tmp_path / "shapes", images_train=1, images_val=6, size=64)
    data = {"path": str(tmp_path / "shapes"), "train": "images/train", "val": "images/val", "names": list("abcdef")}
    file = RTDETR(own).export(format=kind, imgsz=64, int8=True, data=data)
    assert RTDETR(file).model.metadata.precision == "int8"
    assert "/network/model." not in "".join(capfd.readouterr())  # no line for every node that stays in float
    if kind == "onnx":
        import onnx

        nodes = onnx.load(file).graph.node
        quantised = [node for node in nodes if node.op_type == "DequantizeLinear"]
        assert len(quantised) > 20
        assert not any("/model.9/" in node.name for node in quantised if node.name.startswith("/"))


def test_what_it_says_comes_back(own):
    pytest.importorskip("onnxruntime")
    said = RTDETR(RTDETR(own).export(imgsz=[64, 96], batch=2)).model.metadata
    assert (said.imgsz, said.batch, said.dynamic, said.stride, said.precision) == ((64, 96), 2, False, 32, "float32")
    predicted = RTDETR(own.with_suffix(".onnx")).predict(np.zeros((50, 70, 3), np.uint8))[0]  # at the file's size
    assert predicted.names == dict(enumerate(CLASSES)) and predicted.orig_shape == (50, 70)


def test_safetensors_are_weights_to_train_further(own):
    pytest.importorskip("safetensors")
    model = RTDETR(RTDETR(own).export(format="safetensors"))
    assert not model.is_exported and model.model.model[-1].num_queries == 12
    before, after = RTDETR(own).model.state_dict(), model.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_the_network_stays_as_it_is(own):
    model = RTDETR(own)
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    model.export(format="torchscript", imgsz=64)
    after = model.model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(value, after[name]) for name, value in before.items())
    assert not model.model.model[-1].export and not model.model.fused


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"format": "torchscript", "int8": True},
            OptionError,
            "format=torchscript has no such thing; .* onnx, openvino",
        ),
        ({"format": "safetensors", "dynamic": True}, OptionError, "dynamic=True: format=safetensors has no such thing"),
        ({"int8": True, "half": True, "data": "x.yaml"}, OptionError, "give one of them"),
        ({"int8": True}, OptionError, "which images.* write data="),
        ({"format": "onnx", "opset": 11}, OptionError, "opset=11: RT-DETR's attention needs 16 or newer"),
        ({"format": "tflite"}, OptionError, "format='tflite'|tflite"),
        ({"format": "onnx", "batch": -1}, OptionError, "batch=-1"),
    ],
)
def test_what_a_format_does_not_have_is_refused(options, error, message, own):
    with pytest.raises(error, match=message):
        RTDETR(own).export(imgsz=64, **options)
    assert [file.name for file in own.parent.iterdir()] == ["small.pt"]


def test_a_dynamic_export_needs_a_position_for_every_query(own):
    with pytest.raises(
        OptionError, match=r"images of 32x32 have 21 positions for 40 queries; export with a larger imgsz"
    ):
        model = RTDETR(own)
        model.model.model[-1].num_queries = 40
        model.export(format="torchscript", imgsz=32, dynamic=True)


def test_an_engine_is_refused_clearly_where_it_cannot_be_built(own):
    with pytest.raises((MissingPackageError, DeviceError), match=r"pip install \"tensorrt\"|CUDA"):
        RTDETR(own).export(format="engine", imgsz=64)


def test_int8_without_a_readable_image(own, tmp_path):
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "data" / "images"
    folder.mkdir(parents=True)
    (folder / "broken.jpg").write_bytes(b"not an image")
    data = {"path": str(tmp_path / "data"), "train": "images", "val": "images", "names": ["a"]}
    with pytest.raises(DataError, match="1 image files, none of which can be read"):
        RTDETR(own).export(imgsz=64, int8=True, data=data)


def test_a_comparison_downloads_nothing(own, tmp_path, monkeypatch, caplog):
    def download(*_):
        pytest.fail("the data set is being downloaded")

    monkeypatch.setattr("ultralytics.data.converter.fetch_dataset", download)
    (tmp_path / "far.yaml").write_text(
        "path: far\ntrain: images\nval: images\nnames: [a]\ndownload: {files: [{url: 'http://127.0.0.1:9/x.zip'}]}\n"
    )
    with caplog.at_level("INFO", logger="ultralytics"):
        RTDETR(own).export(format="torchscript", imgsz=64, data=str(tmp_path / "far.yaml"))
    assert "compared on drawn images, for those of the data set are not at hand" in caplog.text


class Shifted(nn.Module):
    """Stands in for an exported model that computes something else."""

    def __init__(self, *_):
        super().__init__()

    def forward(self, images):
        return torch.full((len(images), 12, 7), 0.5), None


def test_another_result_is_an_error_and_the_file_is_kept(own, monkeypatch):
    monkeypatch.setattr(source, "AutoBackend", Shifted)
    with pytest.raises(
        ExportMismatchError, match=r"small\.torchscript: differs from PyTorch: boxes .* The file is kept"
    ):
        RTDETR(own).export(format="torchscript", imgsz=64)
    assert own.with_suffix(".torchscript").is_file()


def test_callbacks_and_the_class_itself(own):
    seen = []
    model = RTDETR(own)
    model.add_callback("on_export_start", lambda exporter: seen.append(exporter.file))
    model.add_callback("on_export_end", lambda exporter: seen.append(str(exporter.difference)))
    model.export(format="torchscript", imgsz=64)
    assert seen[0] is None and "48 queries" in seen[1]
    exporter = Exporter(overrides={"format": "torchscript", "imgsz": 64, "batch": 1, "model": str(own)})
    exporter.add_callback("on_export_end", lambda exporter: seen.append(exporter.file))
    assert exporter(model=RTDETR(own).model) == str(own.with_suffix(".torchscript")) == str(seen[-1])


def test_an_exported_model_only_runs(own):
    file = RTDETR(own).export(format="torchscript", imgsz=64)
    model = RTDETR(file)
    for call in (model.train, model.export, model.save, model.load, model.fuse, model.info):
        arguments = {"data": "x.yaml"} if call == model.train else {}
        positional = ("x.pt",) if call in (model.save, model.load) else ()
        with pytest.raises(OptionError, match=r"small\.torchscript is an exported model, which runs only"):
            call(*positional, **arguments)
    with pytest.raises(OptionError, match="embed: an exported model"):
        model.embed(np.zeros((64, 64, 3), np.uint8), layers=[1])


def test_queries_are_matched_one_to_one():
    expected = torch.rand(2, 30, 9)
    shuffled = torch.stack([image[torch.randperm(30)] for image in expected])
    assert comparison.compare(expected, shuffled, "float32") == comparison.Difference(0.0, 0.0, 60, 0)
    shuffled[0, 0] += 0.5
    one = comparison.compare(expected, shuffled, "float32")
    assert (one.queries, one.swapped) == (59, 1) and one.within(comparison.BOUNDS["float32"])
    shuffled[1, :5, 4:] += 0.5
    many = comparison.compare(expected, shuffled, "float32")
    assert many.swapped == 0 and many.scores > 0.1 and not many.within(comparison.BOUNDS["float32"])
    shuffled[0, 0, 0] = torch.nan
    assert not comparison.compare(expected, shuffled, "float32").within(comparison.BOUNDS["float32"])
    broken = expected.clone()
    broken[0, 0, 0] = torch.nan  # a single one
    assert not comparison.compare(expected, broken, "float32").within(comparison.BOUNDS["float32"])
    with pytest.raises(WeightsError, match=r"gives \(2, 29, 9\), expected \(2, 30, 9\)"):
        comparison.compare(expected, shuffled[:, 1:], "float32")


def test_of_int8_only_what_would_be_shown_counts():
    expected = torch.zeros(1, 20, 5)
    expected[0, :, :4] = torch.rand(20, 4)
    expected[0, :3, 4] = 0.9
    found = expected.clone()
    found[0, 5:, :4] = torch.rand(15, 4)  # boxes of what is no object
    assert comparison.compare(expected, found, "int8") == comparison.Difference(0.0, 0.0, 3, 0)
    found[0, 0, 4] = 0.5
    assert not comparison.compare(expected, found, "int8").within(comparison.BOUNDS["int8"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "openvino", "torchscript"])
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(
    "model", ["rtdetr-efficientvit-m0.yaml", "rtdetr-efficientvit-m5.yaml", "rtdetr-l.yaml", "rtdetr-r18.yaml",
              "rtdetr-resnet50.yaml", "rtdetr-timm.yaml", "rtdetr-x.yaml"],
)  # fmt: skip
def test_model_files_of_the_package(kind, dynamic, model, tmp_path, monkeypatch):
    pytest.importorskip(PACKAGES.get(kind, "torch"))
    monkeypatch.chdir(tmp_path)
    try:
        RTDETR(model).export(format=kind, imgsz=[160, 224], dynamic=dynamic)
    except UserError as error:
        pytest.fail(str(error))
