"""Published ways of calling things, with what each must give: an expression that is true, or an error's message."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.interop.published_page import CALLS
from tests.small_detector import YOLO_CONTENT, write_weights
from ultralytics import RTDETR, YOLO
from ultralytics.data.synthetic import NAMES


@pytest.fixture(scope="module")
def model():
    return YOLO("yolo11n.yaml", verbose=False)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    content = {**YOLO_CONTENT, "nc": len(NAMES), "names": list(NAMES)}
    return str(write_weights(tmp_path_factory.mktemp("small"), content))


@pytest.mark.parametrize("name", CALLS)
def test_a_published_call(name, model, small, shapes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, expected = CALLS[name]["call"], CALLS[name]["gives"].strip()
    space = {
        "im": np.zeros((64, 64, 3), np.uint8), "rows": np.array([[8, 8, 40, 40, 0.9, 1]], np.float32), "Path": Path,
        "names": {0: "a", 1: "b"}, "data": str(shapes), "np": np, "torch": torch, "model": model, "YOLO": YOLO,
        "RTDETR": RTDETR, "small": small,
    }  # fmt: skip
    try:
        exec(code, space)
    except (ValueError, ImportError, AttributeError, TypeError) as error:
        assert str(error).startswith(expected)
    else:
        assert eval(expected, space)


def test_callbacks_read_the_published_attributes_of_a_trainer(shapes, tiny, tmp_path):
    seen = {}

    def on_batch(trainer):
        items = trainer.label_loss_items(trainer.loss_items)
        seen.update(items, lr=trainer.lr, loss=float(trainer.loss), size=trainer.batch_size, first=trainer.start_epoch)

    network = RTDETR(str(tiny))
    network.add_callback("on_train_batch_end", on_batch)
    sizes = {"imgsz": 64, "batch": 2, "epochs": 1, "workers": 0, "denoising": 4, "plots": False, "device": "cpu"}
    network.train(data=str(shapes), project=str(tmp_path), name="run", **sizes)
    assert seen["size"] == 2 and seen["first"] == 0 and seen["lr"]["lr/pg0"] > 0 and seen["loss"] > 0
    assert {name for name in seen if name.startswith("train/")} == {*network.trainer.label_loss_items()}
    assert network.trainer.csv.exists() and (network.trainer.wdir / "best.pt").exists()
