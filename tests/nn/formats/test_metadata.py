"""Metadata of exported files, ours and those of the published package, as text and as values."""

import json

import pytest

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


def test_our_entries_round_trip():
    assert Metadata.from_text(OURS.as_text(), "x") == OURS
    assert Metadata.from_text(json.loads(json.dumps(OURS.as_text())), "x") == OURS


def test_published_entries_are_parsed():
    read = Metadata.from_text(PUBLISHED, "x")
    assert (read.names, read.imgsz, read.batch, read.stride) == ({0: "a", 1: "b"}, (320, 320), 1, 32)
    assert read.dynamic and read.pairs and read.precision == "float32" and read.version == "8.4.190"
    as_values = {**PUBLISHED, "names": {0: "a"}, "imgsz": [64, 96], "stride": 32, "batch": 4, "args": {"half": True}}
    read = Metadata.from_text(as_values, "x")  # the YAML beside an OpenVINO model
    assert (read.imgsz, read.batch, read.dynamic, read.precision) == ((64, 96), 4, False, "float16")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, r"m\.onnx: no class names and image size in its metadata; .* no metadata"),
        ({**PUBLISHED, "task": "segment"}, "its task is segment, expected detect"),
        ({**PUBLISHED, "names": "__import__('os')"}, "cannot parse its metadata"),
        ({**PUBLISHED, "imgsz": "[]"}, "cannot parse"),
        ({**PUBLISHED, "stride": "many"}, "cannot parse"),
    ],
)
def test_other_entries_are_refused(entries, message):
    with pytest.raises(WeightsError, match=message):
        Metadata.from_text(entries, "m.onnx")
