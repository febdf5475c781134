"""The file form of TensorRT engines; engines themselves need a CUDA GPU."""

import json
from pathlib import Path

import pytest

from tests.nn.backends.test_metadata import OURS
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.formats.tensorrt import split_engine
from ultralytics.utils.errors import DeviceError, MissingPackageError, WeightsError


def content(said: bytes, engine: bytes = b"engine") -> bytes:
    return len(said).to_bytes(4, "little") + said + engine


def test_metadata_stand_before_the_engine():
    said, engine = split_engine(content(json.dumps(OURS.as_text()).encode()), Path("x.engine"))
    assert said == OURS.as_text() and engine == b"engine"


@pytest.mark.parametrize("broken", [b"", b"\x01", b"\xff\xff\xff\x7fabc", content(b"{not json}"), content(b"")])
def test_other_files_are_told(broken):
    with pytest.raises(WeightsError, match=r"x\.engine: the metadata in front of a TensorRT engine cannot be read"):
        split_engine(broken, Path("x.engine"))


def test_without_a_gpu_it_is_said(tmp_path):
    (tmp_path / "x.engine").write_bytes(content(json.dumps(OURS.as_text()).encode()))
    with pytest.raises((MissingPackageError, DeviceError), match=r"pip install \"tensorrt\"|runs on a CUDA GPU"):
        AutoBackend(tmp_path / "x.engine")
    with pytest.raises(WeightsError, match="no such file"):
        AutoBackend(tmp_path / "none.engine")
