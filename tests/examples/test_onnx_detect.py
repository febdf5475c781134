"""The stand-alone example gives the boxes of the package."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.small_detector import CONTENT, YOLO_CONTENT, write_weights
from ultralytics.models import Model

EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_detect.py"

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module", params=["RT-DETR", "YOLO", "YOLO with NMS"])
def exported(tmp_path_factory, request) -> str:
    content = CONTENT if request.param == "RT-DETR" else YOLO_CONTENT
    weights = write_weights(tmp_path_factory.mktemp("example"), content)
    return Model(weights).export(format="onnx", imgsz=[64, 96], nms=request.param.endswith("NMS"), conf=0.01)


def test_its_boxes_are_those_of_predict(exported):
    spec = importlib.util.spec_from_file_location("onnx_detect", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    image = np.random.default_rng(0).integers(0, 255, (75, 130, 3), dtype=np.uint8)
    found = example.Detector(exported)(image, conf=0.01)
    expected = Model(exported).predict(image, conf=0.01)[0].boxes.data.numpy()
    assert len(found) == len(expected) > 3
    assert np.abs(found - expected).max() < 1e-3


def test_it_needs_no_torch_and_draws(exported, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((40, 60, 3), 90, np.uint8))
    code = (
        "import sys, runpy; sys.modules['torch'] = sys.modules['ultralytics'] = None; "
        f"sys.argv = ['x', {exported!r}, 'a.png', '--conf', '0.01']; "
        f"runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "objects, drawn in a_detected.jpg" in run.stdout
    assert cv2.imread(str(tmp_path / "a_detected.jpg")).shape == (40, 60, 3)
    assert len(EXAMPLE.read_text().splitlines()) <= 100
