"""What exported files say, ours and those of the published package, in every form it is kept in."""

import json

import pytest

from ultralytics.nn.formats import backend_name
from ultralytics.nn.formats.metadata import Metadata
from ultralytics.utils.errors import WeightsError

OURS = Metadata({0: "cat", 1: "鸟's"}, (64, 96), 2, False, 32, "int8", "my.yaml", {"nc": 2})
# As ONNX files of the published 8.4.190 hold it.
PUBLISHED = {
    "description": "x", "author": "y", "date": "2026-11-24T17:59:43+00:00", "version": "8.4.190", "stride": "32",
    "task": "detect", "head": "RTDETRDecoder", "batch": "1", "imgsz": "[320, 320]", "names": "{0: 'a', 1: 'b'}",
    "args": "{'data': None, 'batch': 1, 'half': False, 'int8': False, 'dynamic': True, 'nms': None}",
    "channels": "3", "end2end": "False",
}  # fmt: skip


def test_ours_come_back_from_text():
    assert Metadata.from_text(OURS.as_text(), "x") == OURS
    assert Metadata.from_text(json.loads(json.dumps(OURS.as_text())), "x") == OURS


def test_published_ones_are_read():
    read = Metadata.from_text(PUBLISHED, "x")
    assert (read.names, read.imgsz, read.batch, read.stride) == ({0: "a", 1: "b"}, (320, 320), 1, 32)
    assert read.dynamic and read.pairs and read.precision == "float32" and read.version == "8.4.190"
    as_values = {**PUBLISHED, "names": {0: "a"}, "imgsz": [64, 96], "stride": 32, "batch": 4, "args": {"half": True}}
    read = Metadata.from_text(as_values, "x")  # the YAML beside an OpenVINO model
    assert (read.imgsz, read.batch, read.dynamic, read.precision) == ((64, 96), 4, False, "float16")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, r"m\.onnx: says nothing of its classes and image size; .* no metadata at all"),
        ({"producer": "x"}, r"It holds producer\."),
        ({**PUBLISHED, "task": "segment"}, "is a model to segment, expected one to detect"),
        ({**PUBLISHED, "names": "{0: "}, "what it says of its model cannot be read"),
        ({**PUBLISHED, "names": "__import__('os')"}, "what it says of its model cannot be read"),
        ({**PUBLISHED, "imgsz": "[]"}, "cannot be read"),
        ({**PUBLISHED, "stride": "many"}, "cannot be read"),
    ],
)
def test_other_files_are_told(entries, message):
    with pytest.raises(WeightsError, match=message):
        Metadata.from_text(entries, "m.onnx")


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/best.onnx", "onnx"), ("BEST.ONNX", "onnx"), ("best.torchscript", "torchscript"), ("x.engine", "tensorrt"),
     ("runs/best_int8_openvino_model", "openvino"), ("best_openvino_model/", "openvino"), ("m/best.xml", "openvino"),
     ("best.pt", None), ("model.yaml", None), ("best.safetensors", None)],
)  # fmt: skip
def test_the_runtime_is_known_by_the_name(path, name):
    assert backend_name(path) == name
