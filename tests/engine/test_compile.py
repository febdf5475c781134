"""compile=True in training, validation and prediction, with the real compiler: minutes."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
import yaml

from tests.engine.test_model import QUICK
from tests.shapes import write_shapes
from ultralytics import RTDETR

ROWS = {
    "nc": 3,
    "backbone": [[-1, 1, "Conv", [16 * n, 3, 2]] for n in (1, 1, 2, 2)],
    "head": [[[2, 3], 1, "RTDETRDecoder", ["nc", 32, 10, 2, 4, 1]]],
}


@pytest.mark.slow
def test_compiled_network_equals_the_plain_one(tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(ROWS))
    data = write_shapes(tmp_path / "data", train=6, val=3)
    options = {**QUICK, "data": str(data), "plots": False, "exist_ok": True, "multi_scale": False}
    # Of Adam's first step rounding decides the sign where a gradient is near 0; SGD's is the gradient itself.
    options |= {"optimizer": "SGD", "lr0": 1.0}
    states, scores, boxes = [], [], []
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for compile in (False, True):
        model = RTDETR("small.yaml")
        with caplog.at_level(logging.WARNING, logger="ultralytics"):
            model.train(**options, compile=compile, name=f"compile-{compile}")
            metrics = model.val(data=str(data), imgsz=64, batch=3, workers=0, device="cpu", compile=compile)
            boxes.append(model.predict(image, imgsz=64, conf=0, device="cpu", compile=compile)[0].boxes.data)
        states.append(model.model.state_dict())
        scores.append(metrics.box.map50)
    assert "torch.compile failed" not in caplog.text
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-5)
    assert scores[1] == pytest.approx(scores[0], abs=0.02)
    assert len(boxes[0]) == len(boxes[1])
    nearest = torch.cdist(boxes[0], boxes[1]).min(1).values  # places may be changed by rounding
    assert nearest.max() < 0.5
