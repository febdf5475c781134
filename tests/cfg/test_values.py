"""Conversion, checking and parsing of option values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ultralytics.cfg.options import get_cfg, option_types
from ultralytics.cfg.values import parse_value
from ultralytics.utils.errors import OptionError


@pytest.mark.parametrize(
    ("key", "value", "kept"),
    [
        ("lr0", 1, 1.0),
        ("imgsz", np.int64(320), 320),
        ("conf", np.float32(0.5), 0.5),
        ("imgsz", [320, 320], 320),
        ("imgsz", (320, 640), [320, 640]),
        ("cache", "RAM", "ram"),
        ("cache", True, True),
        ("optimizer", "adamw", "AdamW"),
        ("model", Path("a") / "b.yaml", str(Path("a") / "b.yaml")),
        ("data", {"train": "x"}, {"train": "x"}),
        ("device", 0, "0"),
        ("device", "cuda", "0"),
        ("device", "cuda:1", "1"),
        ("device", [0, 1], "0,1"),
        ("device", "0, 1", "0,1"),
        ("device", "CPU", "cpu"),
        ("device", None, None),
        ("classes", 2, [2]),
        ("classes", (0, 2), [0, 2]),
        ("freeze", 5, 5),
        ("save_period", -1, -1),
        ("resume", True, True),
        ("resume", "last.pt", "last.pt"),
        ("source", 0, 0),
        ("batch", -1, -1),
        ("loggers", "wandb", ["wandb"]),
        ("loggers", "TensorBoard, mlflow", ["tensorboard", "mlflow"]),
        ("loggers", "[wandb,clearml]", ["wandb", "clearml"]),
        ("loggers", ("mlflow", "mlflow"), ["mlflow"]),
    ],
)
def test_values_are_converted_to_one_form(key, value, kept):
    option = getattr(get_cfg(overrides={key: value}), key)
    assert option == kept
    assert type(option) is type(kept)


def test_a_torch_device_is_accepted():
    torch = pytest.importorskip("torch")
    assert get_cfg(overrides={"device": torch.device("cuda:1")}).device == "1"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "epochs",
            "72",
            "epochs: expected an integer >= 1, got '72' (str); write epochs=72 without quotes",
        ),
        ("epochs", True, "epochs: expected an integer >= 1, got True (bool)"),
        ("epochs", 0, "epochs: expected an integer >= 1, got 0 (int)"),
        ("epochs", 3.5, "got 3.5 (float)"),
        ("epochs", None, "got None (NoneType)"),
        ("lr0", 0, "lr0: expected a number > 0, got 0 (int)"),
        ("lr0", float("nan"), "got nan (float)"),
        ("lr0", float("inf"), "got inf (float)"),
        ("scale", 1.0, "scale: expected a number in [0, 1), got 1.0"),
        ("mosaic", 1.2, "mosaic: expected a number in [0, 1], got 1.2"),
        ("conf", -0.1, "conf: expected a number in [0, 1] or null, got -0.1"),
        ("plots", 1, "plots: expected True or False, got 1 (int)"),
        ("amp", "false", "write amp=false without quotes"),
        ("optimizer", "adamx", "one of 'AdamW', 'Adam', 'SGD', 'auto', got 'adamx' (str); did you mean 'Adam'?"),
        ("cache", "rom", "True or False or one of 'ram', 'disk', got 'rom' (str); did you mean 'ram'?"),
        ("split", 3, "expected one of 'train', 'val', 'test', got 3"),
        ("device", "gpu", "device: expected 'cpu', 'mps', a GPU index such as 0"),
        ("device", -1, "device: expected"),
        ("device", "0,0", "a GPU is listed twice"),
        ("imgsz", [320, 640, 64], "imgsz: expected an integer or [height, width], got [320, 640, 64]"),
        ("imgsz", 16, ">= 32"),
        ("imgsz", [320, 16], ">= 32"),
        ("name", "", "name: expected a string or null, got ''"),
        ("freeze", [], "freeze: expected"),
        ("freeze", [True], "freeze: expected"),
        ("rect", True, "rect: expected False, got True; RT-DETR resizes every image"),
        ("augment", True, "augment: expected False, got True; RT-DETR has no test-time augmentation"),
        ("rect", None, "rect: expected True or False, got None"),
        ("task", "segment", "task: expected one of 'detect'"),
        ("batch", 0, ">= 1 or -1, got 0"),
        ("batch", -2, ">= 1 or -1"),
        ("loggers", "tensorbord", "'clearml' or null, got 'tensorbord' (str); did you mean 'tensorboard'?"),
        ("loggers", ["comet"], "loggers: expected some of 'tensorboard', 'wandb', 'mlflow', 'clearml'"),
    ],
)
def test_errors_have_expected_and_actual_value(key, value, message):
    with pytest.raises(OptionError) as caught:
        get_cfg(overrides={key: value})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("name", "007", "007"),
        ("name", "true", "true"),
        ("name", "none", None),
        ("model", "12", "12"),
        ("lr0", ".5", 0.5),
        ("lr0", "1", 1.0),
        ("epochs", "3.5", 3.5),
        ("epochs", "true", True),
        ("epochs", "many", "many"),
        ("conf", "None", None),
        ("cache", "ram", "ram"),
        ("cache", "True", True),
        ("source", "0", 0),
        ("source", "a,b.jpg", "a,b.jpg"),
        ("device", "0,1", [0, 1]),
        ("device", "cpu", "cpu"),
        ("classes", "[0, 2]", [0, 2]),
        ("classes", "(0,2)", [0, 2]),
        ("classes", "[3]", [3]),
        ("classes", "3", 3),
        ("imgsz", "320,640", [320, 640]),
        ("imgsz", "[]", []),
        ("lr0", "__import__('os')", "__import__('os')"),
    ],
)
def test_text_is_parsed_by_the_type_of_its_option(key, text, value):
    read = parse_value(text, option_types()[key])
    assert read == value
    assert type(read) is type(value)
