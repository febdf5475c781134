"""Metadata of exported files, ours and those of the published package, as text and as values."""

import json

import pytest

from ultralytics.nn.formats.metadata import Metadata
from ultralytics.nn.head_protocol import ANCHORS, END2END, LETTERBOX, PAIRS, SCORES
from ultralytics.utils.errors import WeightsError

OURS = Metadata({0: "cat", 1: "鸟's"}, (64, 96), 2, False, 32, "int8", "my.yaml", {"nc": 2})
YOLO = Metadata({0: "cat"}, (64, 96), layout=END2END, head="Detect", resize=LETTERBOX, nms=True)
# As ONNX files of the published 8.4.190 hold it.
PUBLISHED = {
    "description": "x", "author": "y", "date": "2026-11-24T17:59:43+00:00", "version": "8.4.190", "stride": "32",
    "task": "detect", "head": "RTDETRDecoder", "batch": "1", "imgsz": "[320, 320]", "names": "{0: 'a', 1: 'b'}",
    "args": "{'data': None, 'batch': 1, 'half': False, 'int8': False, 'dynamic': True, 'nms': None}",
    "channels": "3", "end2end": "False",
}  # fmt: skip


OLDER = {key: text for key, text in PUBLISHED.items() if key not in ("head", "end2end")}  # without layout


@pytest.mark.parametrize(
    ("entries", "layout"),
    [
        (OURS.as_text(), SCORES),
        (YOLO.as_text(), END2END),
        ({**OLDER, "description": "RT-DETR: RGB images in 0..1"}, SCORES),  # our earlier exports
        ({**OLDER, "description": "Ultralytics rtdetr-l model trained on coco.yaml"}, SCORES),
        ({**OLDER, "description": "Ultralytics YOLOv8n model"}, ANCHORS),
        ({**OLDER, "description": "Ultralytics YOLOv10n model", "end2end": "True"}, END2END),
        ({**OLDER, "end2end": "True"}, END2END),
        (OLDER, ""),
        (PUBLISHED, PAIRS),
        ({**PUBLISHED, "head": "Detect"}, ANCHORS),
        ({**PUBLISHED, "head": "v10Detect", "end2end": True}, END2END),
        ({**PUBLISHED, "head": "Detect", "args": "{'nms': True, 'quantize': 16}"}, END2END),
    ],
)
def test_the_layout_of_the_output_is_stated_or_follows_from_other_entries(entries, layout):
    assert Metadata.from_text(entries, "x").layout == layout


def test_entries_of_a_dense_head_are_those_of_published_files():
    entries = YOLO.as_text()
    assert (entries["head"], entries["resize"], entries["end2end"]) == ("Detect", "letterbox", "False")
    assert Metadata.from_text({**entries, "args": "{'quantize': 16}"}, "x").precision == "float16"
    assert "head" not in OURS.as_text()  # published readers expect other columns of it


def test_a_recorded_recipe_is_no_data_set():
    args = "{'data': {'download': 'http://a/b.zip'}}"
    assert Metadata.from_text({**PUBLISHED, "args": args}, "x").data is None


def test_our_entries_round_trip():
    for metadata in (OURS, YOLO):
        assert Metadata.from_text(metadata.as_text(), "x") == metadata
    assert Metadata.from_text(json.loads(json.dumps(OURS.as_text())), "x") == OURS


def test_published_entries_are_parsed():
    read = Metadata.from_text(PUBLISHED, "x")
    assert (read.names, read.imgsz, read.batch, read.stride) == ({0: "a", 1: "b"}, (320, 320), 1, 32)
    assert read.dynamic and read.layout == PAIRS and read.precision == "float32" and read.version == "8.4.190"
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
        ({**PUBLISHED, "stride": 0}, "stride is 0, expected a number from 1"),
        ({**PUBLISHED, "batch": "0"}, "batch is 0, expected a number from 1"),
        ({**PUBLISHED, "batch": float("inf")}, "cannot parse"),
        ({**PUBLISHED, "batch": 100_000}, "batch 100000 of imgsz .* is too large"),
        ({**PUBLISHED, "imgsz": "[1e999, 1]"}, "cannot parse"),
        ({**PUBLISHED, "imgsz": "[-1, 1]"}, "is -1, expected"),
        ({**PUBLISHED, "names": {-1: "a"}}, "numbered from 0 without gaps, got {-1: 'a'}"),
        ({**PUBLISHED, "names": "{}"}, "numbered from 0"),
        ({**PUBLISHED, "args": "[1]"}, "cannot parse"),
        ({**PUBLISHED, "args": "[" * 99}, "cannot parse"),
        ({**PUBLISHED, "model_yaml": "[" * 5000}, "cannot parse"),
        ({**PUBLISHED, "model_yaml": "[1]"}, r"must be a mapping, got \[1\]"),
        ([1], "no class names"),
        ({**PUBLISHED, "layout": "other"}, "layout is 'other', expected"),
    ],
)
def test_other_entries_are_refused(entries, message):
    with pytest.raises(WeightsError, match=message):
        Metadata.from_text(entries, "m.onnx")
