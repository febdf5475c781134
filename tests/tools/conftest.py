"""Tiny data, a tiny model, and the `yolo` command in an empty folder."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from ultralytics import RTDETR
from ultralytics.cli import main

MODEL = """
nc: 6
backbone:
  - [-1, 1, EfficientViT_M0, []]
head:
  - [4, 1, Conv, [64, 1, 1], top]
  - [[2, 3, top], 1, RTDETRDecoder, [nc, 64, 20, 4, 4, 1]]
"""


@pytest.fixture(scope="session")
def images(shapes) -> Path:
    """Return the folder of the three images."""
    return shapes.parent / "shapes" / "images" / "val"


@pytest.fixture(scope="session")
def model_file(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("model") / "tiny-model.yaml"
    file.write_text(MODEL)
    return file


@pytest.fixture(scope="session")
def weights(model_file) -> Path:
    """Write random weights of the tiny model."""
    torch.manual_seed(0)
    file = model_file.with_name("best.pt")
    RTDETR(model_file).save(file)
    return file


@pytest.fixture(scope="session")
def exported(weights) -> Path:
    """Export the weights to TorchScript."""
    return Path(RTDETR(weights).export(format="torchscript", imgsz=64))


@pytest.fixture
def yolo(tmp_path, monkeypatch, capsys, caplog) -> Callable[..., str]:
    """Run `yolo WORDS` in an empty folder, which must end with `code`; returns what was logged and printed."""
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("ultralytics")
    monkeypatch.setattr(logger, "handlers", [logging.NullHandler()])  # setup_logging would add one to a closed stream
    monkeypatch.setattr(logger, "propagate", True)

    def run(*words: object, code: int = 0) -> str:
        caplog.clear()
        ended = main([str(word) for word in words])
        captured = capsys.readouterr()
        assert ended == code, captured.err
        assert not code or (captured.err.count("\n") == 1 and captured.err.startswith("error: "))
        return "\n".join(record.getMessage() for record in caplog.records) + captured.out + captured.err

    return run


@pytest.fixture
def refused(yolo) -> Callable[..., str]:
    """Run `yolo WORDS`, which must end with an error; returns it."""
    return partial(yolo, code=2)
