"""The file form of TensorRT engines; engines themselves need a CUDA GPU."""

import json
from pathlib import Path

import pytest

from tests.nn.formats.test_metadata import OURS
from ultralytics.nn.formats.tensorrt import split_engine
from ultralytics.utils.errors import WeightsError


def content(metadata: bytes, engine: bytes = b"engine") -> bytes:
    return len(metadata).to_bytes(4, "little") + metadata + engine


def test_metadata_precede_the_engine():
    metadata, engine = split_engine(content(json.dumps(OURS.as_text()).encode()), Path("x.engine"))
    assert metadata == OURS.as_text() and engine == b"engine"


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\x01",
        b"\xff\xff\xff\x7fabc",
        content(b"{not json}"),
        content(b""),
        content(b"[" * 9000),
        content(b"\xff"),
    ],
)
def test_other_files_are_refused(broken):
    with pytest.raises(WeightsError, match=r"x\.engine: not a file of `yolo export format=engine`"):
        split_engine(broken, Path("x.engine"))
