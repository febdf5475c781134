"""Options: schema and defaults agree, values are checked, unknown and retired keys are answered."""

from __future__ import annotations

import dataclasses
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from ultralytics.cfg import DEFAULT_CFG_PATH, Options, get_cfg
from ultralytics.cfg.migrate import RENAMED, RETIRED
from ultralytics.cfg.options import check_key, default_values, option_types
from ultralytics.utils.errors import OptionError, UserError


def test_schema_and_defaults_have_the_same_keys_in_the_same_order_of_groups():
    assert set(default_values()) == set(option_types())
    assert len(default_values()) == len(dataclasses.fields(Options))


def test_every_default_is_valid_and_explained():
    assert get_cfg().to_dict() == dict(default_values())
    for line in DEFAULT_CFG_PATH.read_text(encoding="utf-8").splitlines():
        assert len(line) <= 120, line
        if line and not line.startswith(("#", " ")):
            assert re.match(r"\w+: \S+ +# \S", line), f"no explanation: {line}"


def test_the_papers_recipe_is_the_default():
    """Zhao et al. 2024 and the official configuration of RT-DETR-R50: https://arxiv.org/abs/2304.08069"""
    options = get_cfg()
    recipe = (options.optimizer, options.lr0, options.lrf, options.weight_decay, options.clip_grad, options.batch)
    assert recipe == ("AdamW", 1e-4, 1.0, 1e-4, 0.1, 16)
    assert (options.ema_decay, options.ema_warmup, options.warmup_iters, options.epochs) == (0.9999, 2000, 2000, 72)
    assert (options.loss_cls, options.loss_bbox, options.loss_giou) == (1.0, 5.0, 2.0)


def test_the_tutorials_arguments():
    options = get_cfg(
        overrides={
            "data": "dataset/data.yaml",
            "cache": False,
            "imgsz": 640,
            "epochs": 72,
            "batch": 4,
            "workers": 0,
            "device": "0",
            "project": "runs/RT-DETR-train",
            "name": "exp",
        }
    )
    assert (options.device, options.workers, options.project, options.name) == ("0", 0, "runs/RT-DETR-train", "exp")


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
def test_values_are_accepted_in_one_form(key, value, kept):
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
            "epochs: expected a whole number of at least 1; got '72' (str); write epochs=72 without quotes",
        ),
        ("epochs", True, "epochs: expected a whole number of at least 1; got True (bool)"),
        ("epochs", 0, "epochs: expected a whole number of at least 1; got 0 (int)"),
        ("epochs", 3.5, "got 3.5 (float)"),
        ("epochs", None, "got None (NoneType)"),
        ("lr0", 0, "lr0: expected a number above 0; got 0 (int)"),
        ("lr0", float("nan"), "got nan (float)"),
        ("lr0", float("inf"), "got inf (float)"),
        ("scale", 1.0, "scale: expected a number from 0 to below 1; got 1.0"),
        ("mosaic", 1.2, "mosaic: expected a number from 0 to 1; got 1.2"),
        ("conf", -0.1, "conf: expected a number from 0 to 1 or null; got -0.1"),
        ("plots", 1, "plots: expected True or False; got 1 (int)"),
        ("amp", "false", "write amp=false without quotes"),
        ("optimizer", "adamx", "one of 'AdamW', 'Adam', 'SGD', 'auto'; got 'adamx' (str); did you mean 'Adam'?"),
        ("cache", "rom", "True or False or one of 'ram', 'disk'; got 'rom' (str); did you mean 'ram'?"),
        ("split", 3, "expected one of 'train', 'val', 'test'; got 3"),
        ("device", "gpu", "device: expected 'cpu', 'mps', a GPU number such as 0"),
        ("device", -1, "device: expected"),
        ("device", "0,0", "a GPU is named twice"),
        ("imgsz", [320, 640, 3], "two such numbers [height, width]"),
        ("imgsz", 16, "of at least 32"),
        ("imgsz", [320, 16], "of at least 32"),
        ("name", "", "name: expected a text or null; got ''"),
        ("freeze", [], "freeze: expected"),
        ("freeze", [True], "freeze: expected"),
        ("rect", True, "rect: expected False; got True (bool); RT-DETR sees every image stretched to the square"),
        ("augment", True, "augment: expected False; got True (bool); RT-DETR has no test-time augmentation"),
        ("rect", None, "rect: expected False; got None"),
        ("task", "segment", "task: expected one of 'detect'"),
        ("batch", 0, "of at least 1, or -1 for as many as the memory of the GPU holds; got 0"),
        ("batch", -2, "of at least 1, or -1 for as many"),
        ("loggers", "tensorbord", "'clearml', or null; got 'tensorbord' (str); did you mean 'tensorboard'?"),
        ("loggers", ["comet"], "loggers: expected one or several of 'tensorboard', 'wandb', 'mlflow', 'clearml'"),
    ],
)
def test_bad_values_say_what_was_expected_and_what_came(key, value, message):
    with pytest.raises(OptionError) as caught:
        get_cfg(overrides={key: value})
    assert message in str(caught.value)


@pytest.mark.parametrize("mode", ["train", "val"])
def test_a_pair_of_sizes_is_for_prediction(mode):
    assert get_cfg(overrides={"imgsz": [320, 640], "mode": "predict"}).imgsz == [320, 640]
    with pytest.raises(OptionError, match="write imgsz=640"):
        get_cfg(overrides={"imgsz": [320, 640], "mode": mode})


def test_unknown_keys_name_the_nearest():
    with pytest.raises(OptionError, match="unknown option 'epoch'; did you mean 'epochs'"):
        get_cfg(overrides={"epoch": 3})
    with pytest.raises(OptionError, match="`yolo cfg` lists all"):
        get_cfg(overrides={"qqqq": 3})


@pytest.mark.parametrize("key", ["iou", "agnostic_nms", "profile", "dnn", "tracker", "keras", "box", "dfl", "dropout"])
def test_retired_keys_are_refused_with_a_reason(key):
    with pytest.raises(OptionError, match=f"^{key}: not an option here: .{{20,}}"):
        get_cfg(overrides={key: 0.5})


def test_tables_of_former_names_are_sound():
    assert not set(RETIRED) & set(option_types())
    assert not set(RENAMED) & (set(option_types()) | set(RETIRED))
    for name in RENAMED.values():
        check_key(name)
    with pytest.raises(OptionError, match="weights: this option is called 'model' here"):
        get_cfg(overrides={"weights": "best.pt"})


def test_overrides_go_before_the_file_and_the_file_before_the_defaults(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("epochs: 5\nlr0: 1e-3\n", encoding="utf-8")
    options = get_cfg(file, {"epochs": 7})
    assert (options.epochs, options.lr0, options.batch) == (7, 1e-3, 16)
    assert get_cfg(overrides={"cfg": str(file), "epochs": 7}) == options
    assert get_cfg({"epochs": 5, "lr0": 1e-3}, {"epochs": 7}) == options


@pytest.mark.parametrize(
    ("text", "message"), [("epoch: 3", "unknown option 'epoch'"), ("epochs: x", "epochs: expected")]
)
def test_errors_in_a_file_name_the_file(tmp_path, text, message):
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(OptionError) as caught:
        get_cfg(file)
    assert str(caught.value).startswith(f"{file}: {message}")


def test_a_file_that_is_not_there_and_a_cfg_of_the_wrong_type():
    with pytest.raises(UserError, match=r"nope\.yaml: no such file"):
        get_cfg("nope.yaml")
    with pytest.raises(OptionError, match="cfg: expected the path of a YAML file or a mapping of options, got int"):
        get_cfg(3)


def test_options_are_frozen_and_a_changed_copy_is_checked():
    options = get_cfg()
    with pytest.raises(dataclasses.FrozenInstanceError, match=r"write args = args.replace\(epochs=3\)"):
        options.epochs = 3
    options.warmup_bias_lr = 0.0  # as it is here anyway
    with pytest.raises(dataclasses.FrozenInstanceError, match="warmup_bias_lr: options do not change"):
        options.warmup_bias_lr = 0.1
    assert options.replace(epochs=3).epochs == 3
    assert options.epochs == 72
    with pytest.raises(OptionError, match="did you mean 'epochs'"):
        options.replace(epoch=3)
    with pytest.raises(OptionError, match="epochs: expected"):
        options.replace(epochs="3")


def test_options_survive_pickling_and_their_own_dict():
    options = get_cfg(overrides={"classes": [0, 2], "device": "0,1", "mode": "train"})
    assert pickle.loads(pickle.dumps(options)) == options
    assert get_cfg(options.to_dict()) == options
    options.to_dict()["classes"].append(9)
    assert options.classes == [0, 2]


def test_tables_in_the_defaults_name_real_options():
    """A comment that sends the reader to an option must not send them to one that is gone."""
    text = DEFAULT_CFG_PATH.read_text(encoding="utf-8")
    for name in re.findall(r"\b([a-z_0-9]+)=", text.replace("model=rtdetr", "")):
        assert name in option_types() or name == "cfg", name
