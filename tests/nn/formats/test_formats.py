"""The registry of formats: every module of the folder, and nothing else."""

import pytest
import torch

from tests.small_detector import write_weights
from ultralytics import RTDETR
from ultralytics.nn import formats
from ultralytics.nn.formats import export_formats, find_format

# A format in one file
NEW_FORMAT = """
import torch
from ultralytics.nn.formats.export_spec import ExportFormat, ExportWrapper, RuntimeModel

def export(spec):
    torch.save({"network": ExportWrapper(spec.network), "metadata": spec.metadata}, spec.file)
    return spec.file

def load(path, device, threads):
    content = torch.load(path, weights_only=False)
    return RuntimeModel(content["metadata"], content["network"].to(device))

FORMAT = ExportFormat("pickle", (".pickle",), export, load, half=False)
"""


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/best.onnx", "onnx"), ("BEST.ONNX", "onnx"), ("best.torchscript", "torchscript"), ("x.engine", "engine"),
     ("runs/best_int8_openvino_model", "openvino"), ("best_openvino_model/", "openvino"), ("m/best.xml", "openvino"),
     ("best.pt", None), ("model.yaml", None), ("best.safetensors", None)],
)  # fmt: skip
def test_the_format_is_found_by_the_name(path, name):
    found = find_format(path)
    assert (found and found.name) == name


def test_every_format_of_the_folder_is_registered():
    assert {"onnx", "openvino", "safetensors", "engine", "torchscript"} <= export_formats().keys()


def test_a_format_is_added_by_one_file(tmp_path, monkeypatch):
    (tmp_path / "pickle_format.py").write_text(NEW_FORMAT)
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path)])
    export_formats.cache_clear()
    try:
        file = RTDETR(write_weights(tmp_path)).export(format="pickle", imgsz=64)
        assert RTDETR(file).model(torch.rand(1, 3, 64, 64))[0].shape == (1, 12, 7)
    finally:
        export_formats.cache_clear()
