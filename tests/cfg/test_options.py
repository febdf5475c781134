"""Options: defaults, resolution, unknown and unsupported names, and the table for the docs page."""

import dataclasses
import pickle
import re

import pytest
import yaml

from ultralytics.cfg.family import Family, default_values
from ultralytics.cfg.migrate import DEPRECATED, RENAMED, RETIRED
from ultralytics.cfg.options import (
    DEFAULT_CFG_PATH,
    Options,
    check_key,
    get_cfg,
    merge_file,
    resolve_options,
    unread_options,
)
from ultralytics.utils.errors import OptionError, UserError

NAMES = [field.name for field in dataclasses.fields(Options)]
A, B = Family("RT-DETR", {}), Family("YOLO", {"no NMS": "iou agnostic_nms", "no queries": "queries"})
YAML = DEFAULT_CFG_PATH.read_text(encoding="utf-8")


def test_defaults_are_valid_and_complete():
    assert set(default_values()) == set(NAMES)
    assert get_cfg().to_dict() == dict(default_values())


def test_default_yaml_refers_to_options():
    assert max(map(len, YAML.splitlines())) <= 120
    for name in re.findall(r"\b([a-z_0-9]+)=", YAML.replace("model=rtdetr", "")):
        assert name in NAMES or name == "cfg", f"default.yaml refers to the unknown option {name}"


def test_defaults_are_the_recipe_of_the_paper():
    """RT-DETR-R50 of Zhao et al. 2024, https://arxiv.org/abs/2304.08069, and its official configuration."""
    o = get_cfg()
    assert (o.optimizer, o.lr0, o.lrf, o.weight_decay, o.clip_grad, o.batch) == ("AdamW", 1e-4, 1.0, 1e-4, 0.1, 16)
    assert (o.ema_decay, o.ema_warmup, o.warmup_iters, o.epochs) == (0.9999, 2000, 2000, 72)
    assert (o.loss_cls, o.loss_bbox, o.loss_giou) == (1.0, 5.0, 2.0)


def test_rectangular_images_are_for_prediction_and_export():
    assert get_cfg(overrides={"imgsz": [320, 640], "mode": "predict"}).imgsz == [320, 640]
    for mode in ("train", "val"):
        assert get_cfg(overrides={"imgsz": [320, 640], "mode": mode}).imgsz == 640


def test_a_file_of_the_published_package_has_options_that_are_off(tmp_path, caplog):
    file = tmp_path / "args.yaml"
    off = "multi_scale: 0.0\nprofile: false\niou: 0.7\nagnostic_nms: false\ndnn: false\nnms: null\nsave_dir: a/b\n"
    file.write_text(f"epochs: 3\n{off}")
    options = get_cfg(file)
    assert (options.epochs, options.multi_scale) == (3, False)
    assert f"{file}: not used here, and off or at their defaults: profile, dnn" in caplog.text
    assert get_cfg(file, family=B).iou == 0.7  # at its default
    given = get_cfg(overrides={"profile": False, "overlap_mask": True, "hide_labels": True, "line_thickness": 3})
    assert (given.show_labels, given.line_width) == (False, 3) and "hide_labels: an earlier name" in caplog.text
    file.write_text("iou: 0.5\n")
    with pytest.raises(OptionError, match=r"args.yaml:1: option 'iou' is not supported by YOLO: no NMS"):
        get_cfg(file, family=B)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("epoch", "unknown option 'epoch'; did you mean 'epochs'?"),
        ("qqqq", "unknown option 'qqqq'; see `yolo cfg` for all options"),
        ("weights", "unknown option 'weights'; use 'model'"),
        ("keras", "option 'keras' is not supported: export has"),
        ("bgr", "option 'bgr' is not supported: use hsv_*"),
    ],
)
def test_unknown_options_are_errors_with_an_alternative(key, message):
    with pytest.raises(OptionError) as caught:
        get_cfg(overrides={key: 0.5})
    assert str(caught.value).startswith(message)


def test_published_options_that_are_not_read_for_boxes_are_left_out_with_a_warning(caplog):
    given = {"copy_paste": 0.3, "auto_augment": "augmix", "erasing": 0.1, "kobj": 2.0, "label_smoothing": 0.1}
    assert get_cfg(overrides={**given, "epochs": 3}).epochs == 3
    assert all(f"{key}={value} has no effect: " in caplog.text for key, value in given.items())


def test_empty_texts_are_off_and_numbers_are_names(caplog):
    given = {"device": "", "resume": "", "pretrained": None, "name": 5, "mode": "train", "imgsz": [64, 96]}
    options = get_cfg(overrides=given)
    assert (options.device, options.resume, options.pretrained, options.name) == (None, False, False, "5")
    assert options.imgsz == 96 and "imgsz=[64, 96]: train needs square images; using imgsz=96" in caplog.text


def test_defaults_of_a_family_and_options_it_refuses(tmp_path):
    assert (get_cfg(family=A).epochs, get_cfg(family=B).epochs, get_cfg().epochs) == (72, 100, 72)
    options = get_cfg({"epochs": {"YOLO": 7}}, family=B)
    assert (options.epochs, get_cfg({"epochs": {"YOLO": 7}}, family=A).epochs) == (7, 72)
    assert get_cfg(options, {"batch": 2}).epochs == 7
    copied = tmp_path / "default_copy.yaml"
    copied.write_text(YAML)
    for family in (A, B):
        assert get_cfg(copied, family=family).to_dict() == default_values(family)
    for name, value in (("iou", 0.5), ("agnostic_nms", True), ("queries", 30)):
        assert getattr(get_cfg(overrides={name: value}, family=A), name) == value
        with pytest.raises(OptionError, match=f"option '{name}' is not supported by YOLO: no"):
            get_cfg(overrides={name: value}, family=B)
    with pytest.raises(OptionError, match="epochs: expected an integer >= 1, got 0"):
        get_cfg({"epochs": {"YOLO": 0}}, family=A)


def test_migration_tables_are_consistent():
    assert not set(RETIRED) & set(NAMES)
    assert not set(RENAMED) & {*NAMES, *RETIRED}


def test_the_published_quantize_is_int8_or_half():
    for value, options in ((8, (True, False)), ("FP16", (False, True)), (32, (False, False)), (None, (False, False))):
        given = get_cfg(overrides={"quantize": value})
        assert (given.int8, given.half) == options
    with pytest.raises(OptionError, match=r"'quantize' is not supported: write 8 \(int8\), 16 \(half\) or 32"):
        get_cfg(overrides={"quantize": "x4"})
    for name in (*RENAMED.values(), *(name for name, _ in DEPRECATED.values())):
        check_key(name)


def test_overrides_have_priority_over_the_file_and_the_file_over_defaults(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("epochs: 5\nlr0: 1e-3\n", encoding="utf-8")
    options = get_cfg(file, {"epochs": 7})
    assert (options.epochs, options.lr0, options.batch) == (7, 1e-3, 16)
    assert get_cfg(overrides={"cfg": str(file), "epochs": 7}) == options
    assert get_cfg({"epochs": 5, "lr0": 1e-3}, {"epochs": 7}) == options


def test_errors_in_cfg_name_the_file(tmp_path):
    file = tmp_path / "mine.yaml"
    for text, message in (("epoch: 3", "unknown option 'epoch'"), ("epochs: x", "epochs: expected")):
        file.write_text(f"seed: 1\n{text}", encoding="utf-8")
        with pytest.raises(OptionError, match=re.escape(f"{file}:2: {message}")):
            get_cfg(file)
    with pytest.raises(UserError, match=r"nope\.yaml: no such file"):
        get_cfg("nope.yaml")
    with pytest.raises(OptionError, match="cfg: expected a YAML file or a mapping of options, got int"):
        get_cfg(3)


def test_options_are_set_with_checks_until_a_run_takes_them():
    options = get_cfg()
    options.epochs = 5
    with pytest.raises(OptionError, match="epochs"):
        options.epochs = 0
    assert options.epochs == 5 and resolve_options(options, None, "train") is options
    for later in (options, options.replace(imgsz=64)):
        with pytest.raises(dataclasses.FrozenInstanceError, match="epochs: options are read-only"):
            later.epochs = 6


def test_options_are_read_only_and_replace_checks_its_changes():
    options = resolve_options(get_cfg(), None, "train")
    with pytest.raises(dataclasses.FrozenInstanceError, match=r"write args = args.replace\(epochs=3\)"):
        options.epochs = 3
    options.warmup_bias_lr = 0.0  # published trainers assign this; it is what happens here
    with pytest.raises(dataclasses.FrozenInstanceError, match="warmup_bias_lr: options are read-only"):
        options.warmup_bias_lr = 0.1
    assert (options.replace(epochs=3).epochs, options.epochs) == (3, 72)
    with pytest.raises(OptionError, match="did you mean 'epochs'"):
        options.replace(epoch=3)


def test_options_survive_pickling_and_their_own_dict():
    options = resolve_options(get_cfg(overrides={"classes": [0, 2], "device": "0,1", "mode": "train"}), None, "train")
    copy = pickle.loads(pickle.dumps(options))
    assert copy == options == get_cfg(options.to_dict())
    with pytest.raises(dataclasses.FrozenInstanceError):
        copy.epochs = 3
    options.to_dict()["classes"].append(9)
    assert options.classes == [0, 2]


@pytest.mark.parametrize(
    ("mode", "given", "listed"),
    [
        ("train", {"split": "test", "conf": 0.9, "save_txt": True, "dynamic": True}, "split, save_txt, dynamic"),
        ("train", {"half": True, "save_json": True, "project": "runs", "show": False}, None),
        ("train", {"augmentation": "none", "mosaic": 0.5, "mixup": 0}, "mosaic (augmentation=none)"),
        ("train", {"augmentation": "official", "fliplr": 0.1, "scale": 0.1}, "scale (augmentation=official)"),
        ("val", {"queries": 10, "lr0": 0.1, "batch": 2}, "queries, lr0"),
        ("predict", {"epochs": 3, "data": "a.yaml", "conf": 0.1}, "data, epochs"),
        ("export", {"workers": 0, "accelerate": False, "format": "torchscript"}, "workers"),
    ],
)
def test_given_options_that_a_mode_does_not_read_are_listed(tmp_path, mode, given, listed):
    expected = f"{mode}: without effect: {listed} (see `yolo help {mode}`)" if listed else ""
    options = get_cfg(overrides={**given, "mode": mode})
    assert unread_options(options, given) == expected
    (file := tmp_path / "my.yaml").write_text(yaml.safe_dump({**default_values(), **given}))
    assert unread_options(options, merge_file({"cfg": file})) == expected
