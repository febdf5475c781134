"""Conversion, checking and parsing of option values."""

from pathlib import Path

import numpy as np
import pytest
import torch

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
        ("cache", "RAM", "ram"),
        ("optimizer", "adamw", "AdamW"),
        ("model", Path("a") / "b.yaml", str(Path("a") / "b.yaml")),
        ("device", "cuda", "0"),
        ("device", [0, 1], "0,1"),
        ("device", "0, 1", "0,1"),
        ("device", "CPU", "cpu"),
        ("device", torch.device("cuda:1"), "1"),
        ("classes", 2, [2]),
        ("classes", (0, 2), [0, 2]),
        ("save_period", -1, -1),
        ("resume", "last.pt", "last.pt"),
        ("batch", -1, -1),
        ("loggers", "TensorBoard, mlflow", ["tensorboard", "mlflow"]),
        ("loggers", "[wandb,clearml]", ["wandb", "clearml"]),
    ],
)
def test_values_are_converted_to_one_form(key, value, kept):
    option = getattr(get_cfg(overrides={key: value}), key)
    assert option == kept
    assert type(option) is type(kept)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("epochs", "72", "epochs: expected an integer >= 1, got '72' (str); write epochs=72 without quotes"),
        ("epochs", True, "epochs: expected an integer >= 1, got True (bool)"),
        ("epochs", 0, "epochs: expected an integer >= 1, got 0 (int)"),
        ("epochs", 3.5, "got 3.5 (float)"),
        ("lr0", 0, "lr0: expected a number > 0, got 0 (int)"),
        ("lr0", float("nan"), "got nan (float)"),
        ("scale", 1.0, "scale: expected a number in [0, 1), got 1.0"),
        ("conf", -0.1, "conf: expected a number in [0, 1] or null, got -0.1"),
        ("save", 2, "save: expected True or False, got 2 (int)"),
        ("amp", "false", "write amp=false without quotes"),
        ("optimizer", "adamx", "'RMSProp', 'SGD', 'auto', got 'adamx' (str); did you mean 'Adamax'?"),
        ("cache", "rom", "True or False or one of 'ram', 'disk', got 'rom' (str); did you mean 'ram'?"),
        ("device", "gpu", "device: expected 'cpu', 'mps', a GPU index such as 0"),
        ("device", -1, "device: expected"),
        ("device", "0,0", "a GPU is listed twice"),
        ("imgsz", [320, 640, 64], "imgsz: expected an integer or [height, width], got [320, 640, 64]"),
        ("imgsz", [320, 16], ">= 32"),
        ("format", "", "format: expected a string, got ''"),
        ("freeze", [], "freeze: expected"),
        ("task", "segment", "task: expected one of 'detect'"),
        ("batch", 0, "batch=0: expected a number >= 1, or -1 (automatic) in training"),
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
        ("name", "none", None),
        ("model", "12", "12"),
        ("lr0", "1", 1.0),
        ("epochs", "3.5", 3.5),
        ("epochs", "many", "many"),
        ("conf", "None", None),
        ("cache", "ram", "ram"),
        ("source", "0", 0),
        ("source", "a,b.jpg", "a,b.jpg"),
        ("device", "0,1", [0, 1]),
        ("classes", "[0, 2]", [0, 2]),
        ("classes", "(0,2)", [0, 2]),
        ("classes", "[3]", [3]),
        ("imgsz", "320,640", [320, 640]),
        ("imgsz", "[]", []),
        ("lr0", "__import__('os')", "__import__('os')"),
    ],
)
def test_text_is_parsed_by_the_type_of_its_option(key, text, value):
    read = parse_value(text, option_types()[key])
    assert read == value
    assert type(read) is type(value)
