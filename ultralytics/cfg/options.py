"""The options of a run: one frozen, checked object made from default.yaml and what the user overrides.

Types and ranges are stated here, default values and explanations in default.yaml; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, fields
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, get_type_hints

from ultralytics.cfg.retired import HOLDS_ANYWAY, RENAMED, RETIRED
from ultralytics.cfg.rules import DeviceName, Off, OneOf, PairOf, Range, RangeOr, SomeOf, check_value
from ultralytics.utils import PACKAGE_ROOT
from ultralytics.utils.errors import OptionError, did_you_mean
from ultralytics.utils.files import read_yaml

DEFAULT_CFG_PATH = PACKAGE_ROOT / "cfg" / "default.yaml"
MODES = ("train", "val", "predict", "export")
FORMATS = ("onnx", "openvino", "torchscript", "engine", "safetensors")

Count = Annotated[int, Range(0)]
Positive = Annotated[int, Range(1)]
Probability = Annotated[float, Range(0, 1)]
Gain = Annotated[float, Range(0)]
Decay = Annotated[float, Range(0, 1, open_high=True)]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Every option, checked: attributes hold plain Python values (paths and devices as text). Made by `get_cfg`."""

    # What to run
    task: Annotated[str, OneOf("detect")]
    mode: Annotated[str | None, OneOf(*MODES)]
    model: str | None
    data: str | dict | None
    modules: str | list[str] | None
    # Shared by training, validation and prediction
    imgsz: Annotated[int | list[int], Range(32), PairOf()]
    batch: Annotated[int, RangeOr(1, other=-1, meaning="as many as the memory of the GPU holds")]
    device: Annotated[int | str | list[int] | None, DeviceName()]
    workers: Count
    half: bool
    compile: bool
    classes: Annotated[int | list[int] | None, Range(0)]
    single_cls: bool
    max_det: Positive
    verbose: bool
    # Where results go
    project: str | None
    name: str | None
    exist_ok: bool
    save: bool
    plots: bool
    loggers: Annotated[str | list[str] | None, SomeOf("tensorboard", "wandb", "mlflow", "clearml")]
    # Training
    epochs: Positive
    time: Annotated[float | None, Range(0, open_low=True)]
    patience: Count
    save_period: Annotated[int, Range(-1)]
    save_minutes: Annotated[float, Range(0)]
    cache: Annotated[bool | str, OneOf("ram", "disk")]
    pretrained: bool | str
    backbone_weights: str | None
    resume: bool | str
    seed: Count
    deterministic: bool
    amp: bool
    fraction: Annotated[float, Range(0, 1, open_low=True)]
    freeze: Annotated[int | str | list[int] | list[str] | None, Range(0)]
    multi_scale: bool
    sync_bn: bool
    rect: Annotated[bool, Off("RT-DETR sees every image stretched to the square imgsz, in validation as in training")]
    val: bool
    # The decoder
    queries: Annotated[int | None, Range(1)]
    denoising: Annotated[int | None, Range(0)]
    # Optimisation
    optimizer: Annotated[str, OneOf("AdamW", "Adam", "SGD", "auto")]
    lr0: Annotated[float, Range(0, open_low=True)]
    lrf: Annotated[float, Range(0, 1)]
    cos_lr: bool
    momentum: Decay
    weight_decay: Gain
    warmup_iters: Count
    backbone_lr_ratio: Annotated[float | None, Range(0, 10, open_low=True)]
    clip_grad: Gain
    ema_decay: Decay
    ema_warmup: Positive
    nbs: Positive
    # Loss
    loss_cls: Gain
    loss_bbox: Gain
    loss_giou: Gain
    loss_class: Annotated[str, OneOf("vfl", "mal", "focal")]
    one_to_many: Gain
    # Augmentation
    augmentation: Annotated[str, OneOf("mosaic", "official", "none")]
    dense: Probability
    hsv_h: Probability
    hsv_s: Probability
    hsv_v: Probability
    degrees: Annotated[float, Range(0, 180)]
    translate: Probability
    scale: Decay
    shear: Annotated[float, Range(0, 80)]
    perspective: Annotated[float, Range(0, 0.01)]
    flipud: Probability
    fliplr: Probability
    mosaic: Probability
    mixup: Probability
    close_mosaic: Count
    # Validation
    split: Annotated[str, OneOf("train", "val", "test")]
    conf: Annotated[float | None, Range(0, 1)]
    save_json: bool
    coco_eval: bool
    # Prediction
    source: str | int | list[str] | None
    vid_stride: Positive
    stream_buffer: bool
    augment: Annotated[bool, Off("RT-DETR has no test-time augmentation")]
    visualize: bool
    embed: Annotated[int | list[int] | None, Range(0)]
    show: bool
    save_txt: bool
    save_conf: bool
    save_crop: bool
    save_labels: Annotated[str | list[str] | None, SomeOf("coco", "yolo", "voc", "label_studio", "cvat")]
    show_labels: bool
    show_conf: bool
    show_boxes: bool
    line_width: Annotated[int | None, Range(1)]
    # Export
    format: Annotated[str, OneOf(*FORMATS)]
    dynamic: bool
    int8: bool
    opset: Annotated[int | None, Range(1)]
    simplify: bool
    workspace: Annotated[float | None, Range(0, open_low=True)]

    def __post_init__(self):
        for key, annotation in option_types().items():
            object.__setattr__(self, key, check_value(key, getattr(self, key), annotation))
        for key in ("classes", "embed"):  # one number is a list of one
            if isinstance(getattr(self, key), int):
                object.__setattr__(self, key, [getattr(self, key)])
        if isinstance(self.modules, str):
            object.__setattr__(self, "modules", [self.modules])
        if isinstance(self.imgsz, list):
            self._settle_image_size()
        if self.batch == -1 and self.mode in ("val", "predict", "export"):
            raise OptionError(
                f"batch=-1: the batch is chosen from memory in training only; for {self.mode} give a number"
            )

    def _settle_image_size(self) -> None:
        height, width = self.imgsz
        if height == width:
            object.__setattr__(self, "imgsz", height)
        elif self.mode in ("train", "val"):
            raise OptionError(
                f"imgsz: expected one whole number for {self.mode}, got {self.imgsz}; RT-DETR is trained and validated "
                f"on squares, so write imgsz={max(height, width)}"
            )

    def replace(self, **changes: object) -> Options:
        """A copy with some options changed, checked like the original."""
        return get_cfg(self, changes)

    def to_dict(self) -> dict[str, object]:
        """Plain data for args.yaml, checkpoints and `get_cfg`; lists and mappings are copies."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {key: value.copy() if isinstance(value, (list, dict)) else value for key, value in values.items()}


def _set_attribute(self: Options, key: str, value: object) -> None:
    """Options do not change in place; a script that sets what holds here anyway is let be."""
    if key not in HOLDS_ANYWAY or value != HOLDS_ANYWAY[key]:
        raise FrozenInstanceError(f"{key}: options do not change in place; write args = args.replace({key}={value!r})")


Options.__setattr__ = _set_attribute  # with the way on, which the message of dataclasses does not say


@cache
def option_types() -> Mapping[str, object]:
    """The annotation of every option, rules included, in the order of the class."""
    return MappingProxyType(get_type_hints(Options, include_extras=True))


@cache
def default_values() -> Mapping[str, object]:
    """The values in default.yaml."""
    return MappingProxyType(read_yaml(DEFAULT_CFG_PATH))


def check_key(key: str) -> None:
    """OptionError for a key that is no option: what it is called here, why it is gone, or the nearest name."""
    if key in option_types():
        return
    if key in RENAMED:
        raise OptionError(f"{key}: this option is called {RENAMED[key]!r} here")
    if key in RETIRED:
        raise OptionError(f"{key}: not an option here: {RETIRED[key]}")
    near = did_you_mean(key, option_types())
    raise OptionError(f"unknown option {key!r}{near or '; `yolo cfg` lists all of them'}")


def check_options(given: Mapping[str, object], where: str = "") -> dict[str, object]:
    """The given options with every key and value checked; `where` (a file's name) starts the message of an error."""
    checked = {}
    for key, value in given.items():
        try:
            check_key(str(key))
            checked[key] = check_value(key, value, option_types()[key])
        except OptionError as error:
            raise OptionError(f"{where}: {error}" if where else str(error)) from None
    return checked


def get_cfg(
    cfg: str | Path | Mapping[str, object] | Options | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Options:
    """Options from default.yaml, then `cfg` (a YAML file, a mapping or Options), then `overrides`.

    `overrides` may name a file itself as `cfg=`, as users write it: `train(cfg='my.yaml', epochs=3)`.
    Raises OptionError for unknown keys and for values of the wrong type or range.
    """
    given = dict(overrides or {})
    base = given.pop("cfg", None) or cfg
    if isinstance(base, Options):
        values = base.to_dict()
    else:
        values = {**default_values(), **options_in(base)}
    return Options(**{**values, **check_options(given)})


def options_in(base: str | Path | Mapping[str, object] | None) -> dict[str, object]:
    """The options given by a YAML file or a mapping, checked, without the defaults."""
    if base is None:
        return {}
    if isinstance(base, Mapping):
        return check_options(base)
    if isinstance(base, (str, Path)):
        return check_options(read_yaml(base), where=str(base))
    raise OptionError(f"cfg: expected the path of a YAML file or a mapping of options, got {type(base).__name__}")
