"""Trainers, validators and predictors that a script makes by itself: `RTDETRTrainer(overrides={...})`."""

from __future__ import annotations

import math
import os
import re
import types
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, fields
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Protocol, Union, get_args, get_origin, get_type_hints

from ultralytics.cfg.migrate import HOLDS_ANYWAY, RENAMED, RETIRED
from ultralytics.utils import PACKAGE_ROOT, setup_logging
from ultralytics.utils.errors import OptionError, did_you_mean
from ultralytics.utils.files import read_yaml


class Rule(Protocol):
    """A condition beyond the type. `str(rule)` reads on after `expected a number`; see `Range`."""

    def accept(self, value: object) -> object:
        """The value in its canonical form; ValueError where it does not hold."""


@dataclass(frozen=True)
class Range:
    """Bounds of a number, or of each number in a list. Texts, booleans and None pass."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"above {self.low}" if self.open_low else f"of at least {self.low}"
        start = f"above {self.low}" if self.open_low else f"from {self.low}"
        return f"{start} to below {self.high}" if self.open_high else f"{start} to {self.high}"

    def accept(self, value: object) -> object:
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, (int, float)) and not isinstance(number, bool) and not self._holds(number):
                raise ValueError
        return value

    def _holds(self, number: float) -> bool:
        above = number > self.low if self.open_low else number >= self.low
        below = number < self.high if self.open_high else number <= self.high
        return above and below


@dataclass(frozen=True)
class RangeOr(Range):
    """A range, and one more number that has a meaning of its own."""

    other: int = -1
    meaning: str = ""

    def __str__(self) -> str:
        return f"{super().__str__()}, or {self.other} for {self.meaning}"

    def accept(self, value: object) -> object:
        return value if value == self.other else super().accept(value)


class OneOf:
    """A text out of a few, compared without case and returned as written here. Other types pass."""

    def __init__(self, *choices: str):
        self.choices = choices

    def __str__(self) -> str:
        return "one of " + ", ".join(repr(choice) for choice in self.choices)

    def accept(self, value: object) -> object:
        if not isinstance(value, str):
            return value
        by_lower = {choice.lower(): choice for choice in self.choices}
        if value.lower() not in by_lower:
            raise ValueError(did_you_mean(value, self.choices))
        return by_lower[value.lower()]


class SomeOf(OneOf):
    """One or several texts out of a few, as a list or as 'a,b'; the canonical form is a list without repetitions."""

    def __str__(self) -> str:
        return f"one or several of {', '.join(repr(choice) for choice in self.choices)}"

    def accept(self, value: object) -> object:
        if value is None:
            return None
        words = value.strip("[]()").split(",") if isinstance(value, str) else value
        return list(dict.fromkeys(super(SomeOf, self).accept(word.strip(" '\"")) for word in words))


class DeviceName:
    """A device in one spelling: 'cpu', 'mps', or GPU numbers as '0' or '0,1'. Whether it exists is not asked here.

    'cpu,cpu' is two processes on the CPU: a rehearsal for several GPUs.
    """

    def __str__(self) -> str:
        return "'cpu', 'mps', a GPU number such as 0, or several such as '0,1'"

    def accept(self, value: object) -> object:
        if value is None:
            return None
        numbers = value if isinstance(value, list) else [value]
        text = ",".join(str(number) for number in numbers).lower().replace(" ", "")
        text = "0" if text == "cuda" else text.removeprefix("cuda:")
        if text != "mps" and not re.fullmatch(r"\d+(,\d+)*|cpu(,cpu)*", text):
            raise ValueError
        if len(set(text.split(","))) < len(text.split(",")) and "cpu" not in text:
            raise ValueError("; a GPU is named twice")
        return text


class PairOf:
    """A list of exactly two, [height, width]; other types pass."""

    def accept(self, value: object) -> object:
        if isinstance(value, list) and len(value) != 2:
            raise ValueError
        return value


class Off:
    """A switch that cannot be on here, and why. Saying `False` is allowed, since scripts in use say it."""

    def __init__(self, reason: str):
        self.reason = reason

    def __str__(self) -> str:
        return "False"

    def accept(self, value: object) -> object:
        if value:
            raise ValueError(f"; {self.reason}")
        return value


_NO_MATCH = object()
_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "a text",
    dict: "a mapping",
    list[int]: "a list of whole numbers",
    list[str]: "a list of texts",
    type(None): "null",
}


def alternatives(annotation: object) -> tuple[object, ...]:
    """The types an annotation admits: `Annotated[int | None, ...]` gives (int, NoneType)."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def rules_of(annotation: object) -> tuple[Rule, ...]:
    """The rules attached to an annotation."""
    return get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()


def check_value(key: str, value: object, annotation: object) -> object:
    """The value as plain data of one of the annotation's types; OptionError says what was expected and what came.

    Numbers of other libraries (numpy) become Python's, an int serves as a float, a path becomes text, a tuple a list.
    Text is never read as a number here: that is the command line's job, once.
    """
    readings = (_as_kind(value, kind) for kind in alternatives(annotation))
    plain = next((reading for reading in readings if reading is not _NO_MATCH), _NO_MATCH)
    if plain is _NO_MATCH:
        raise OptionError(f"{key}: expected {_expected(annotation)}; got {_shown(value)}{_quoting_hint(key, value)}")
    for rule in rules_of(annotation):
        try:
            plain = rule.accept(plain)
        except ValueError as error:
            raise OptionError(f"{key}: expected {_expected(annotation)}; got {_shown(value)}{error}") from None
    return plain


def _as_kind(value: object, kind: object) -> object:
    """The value as one type, or `_NO_MATCH`. Only bool takes booleans, although Python counts them as ints."""
    if kind is type(None):
        return None if value is None else _NO_MATCH
    if kind is bool:
        return value if isinstance(value, bool) else _NO_MATCH
    if kind is dict:
        return dict(value) if isinstance(value, Mapping) else _NO_MATCH
    if kind is str:
        is_device = (type(value).__module__, type(value).__name__) == ("torch", "device")  # without importing torch
        text = str(value) if is_device else os.fspath(value) if isinstance(value, os.PathLike) else value
        return text if isinstance(text, str) and text.strip() else _NO_MATCH
    if kind is int:
        return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else _NO_MATCH
    if kind is float:
        real = isinstance(value, Real) and not isinstance(value, bool)
        return float(value) if real and math.isfinite(value) else _NO_MATCH
    if get_origin(kind) is list:
        items = [_as_kind(item, get_args(kind)[0]) for item in value] if isinstance(value, (list, tuple)) else []
        return items if items and _NO_MATCH not in items else _NO_MATCH
    raise TypeError(f"no rule reads the type {kind!r}")


def _expected(annotation: object) -> str:
    rules = rules_of(annotation)
    if any(isinstance(rule, DeviceName) for rule in rules):
        return f"{rules[0]}, or null for the best there is"
    if any(isinstance(rule, Off) for rule in rules):
        return "False"
    if any(isinstance(rule, SomeOf) for rule in rules):
        return f"{rules[0]}, or null"
    words = []
    for kind in alternatives(annotation):
        choice = next((str(rule) for rule in rules if isinstance(rule, OneOf) and kind is str), None)
        bounds = [str(rule) for rule in rules if isinstance(rule, Range) and kind in (int, float)]
        if kind == list[int] and any(isinstance(rule, PairOf) for rule in rules):
            words.append("two such numbers [height, width]")
        else:
            words.append(choice or " ".join([_WORDS[kind], *bounds]))
    return " or ".join(words)


def _shown(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"


def _quoting_hint(key: str, value: object) -> str:
    """For text that would be a number or a boolean without its quotes."""
    if isinstance(value, str) and re.fullmatch(
        r"[-+]?\d*\.?\d+(e[-+]?\d+)?|true|false|none|null", value, re.IGNORECASE
    ):
        return f"; write {key}={value} without quotes"
    return ""


DEFAULT_CFG_PATH = PACKAGE_ROOT / "cfg" / "default.yaml"
MODES = ("train", "val", "predict", "export")

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
    accelerate: bool
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
    loss_class: str  # a key of losses.classification.CLASS_LOSSES
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
    show_labels: bool
    show_conf: bool
    show_boxes: bool
    line_width: Annotated[int | None, Range(1)]
    # Export
    format: str  # checked when the export starts, see nn/formats
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


Given = str | Path | Mapping[str, object] | Options | None


def given_options(cfg: Given, overrides: Mapping[str, object] | None, mode: str) -> Options:
    """Options from a YAML file or mapping `cfg`, or the defaults, and from `overrides`.

    Options are complete and are taken as they are; `overrides` then only tell which of them the user wrote.
    """
    if isinstance(cfg, Options):
        return cfg
    options = get_cfg(cfg, {**(overrides or {}), "mode": mode})
    setup_logging(options.verbose)  # as the entry points do, of which this is one
    return options
