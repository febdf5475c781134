"""Options: names, types, allowed values and defaults, and how they are resolved from files and arguments.

An option is a field of `Options`; its annotation has the allowed values, `default.yaml` its default and description.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import FrozenInstanceError, asdict, dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, NamedTuple, get_type_hints

from ultralytics.cfg.family import DEFAULT_CFG_PATH, Family, default_values, default_yaml, is_by_family, of_family
from ultralytics.cfg.migrate import (
    DEPRECATED,
    PRECISIONS,
    RENAMED,
    RETIRED,
    WITHOUT_EFFECT,
    has_no_effect,
    published_hyp,
)
from ultralytics.cfg.plain_data import key_at, read_yaml
from ultralytics.cfg.values import Device, OneOf, Range, SomeOf, check_value
from ultralytics.utils import LOGGER, setup_logging
from ultralytics.utils.errors import OptionError, nearest

MODES = ("train", "val", "predict", "export")
GENERAL = ("task", "mode", "model", "verbose", "project", "name")  # may be given in every mode
AUGMENTED = {"official": ("dense", "close_mosaic", "fliplr"), "none": ("dense",)}  # options that these pipelines read

Count = Annotated[int, Range(0)]
Positive = Annotated[int, Range(1)]
Probability = Annotated[float, Range(0, 1)]
Gain = Annotated[float, Range(0)]
Decay = Annotated[float, Range(0, 1, open_high=True)]


@dataclass(kw_only=True)
class Options:
    """Checked options as plain Python values (paths and devices are strings). Build them with `get_cfg`.

    They can be set, checked, until a trainer, validator, predictor or exporter has taken them.
    """

    # Task, data and device
    task: Annotated[str, OneOf("detect")]
    mode: Annotated[str | None, OneOf(*MODES, "track")]
    model: str | None
    data: str | dict | None
    modules: str | list[str] | None
    trust: bool
    # Common
    imgsz: Annotated[int | list[int], Range(32)]
    batch: Annotated[int, Range(-1)]  # -1: as many as fit into the memory
    device: Device
    workers: Count
    half: bool
    compile: bool
    accelerate: bool
    classes: Annotated[int | list[int] | None, Range(0)]
    single_cls: bool
    max_det: Positive
    verbose: bool
    # Output
    project: str | None
    name: str | None
    exist_ok: bool
    save: bool
    plots: Annotated[bool | str, OneOf("pdf", "svg")]
    plot_titles: bool
    loggers: Annotated[str | list[str] | None, SomeOf("tensorboard", "wandb", "mlflow", "clearml")]
    # Training
    epochs: Positive
    time: Annotated[float | None, Range(0, open_low=True)]
    patience: Count
    save_period: Annotated[int, Range(-1)]
    save_minutes: Gain
    save_optimizer: bool
    cache: Annotated[bool | str, OneOf("ram", "disk")]
    pretrained: bool | str
    backbone_weights: str | None
    resume: bool | str
    resume_changed: bool
    seed: Count
    deterministic: bool
    amp: bool
    fraction: Annotated[float, Range(0, 1, open_low=True)]
    freeze: Annotated[int | str | list[int] | list[str] | None, Range(0)]
    multi_scale: Annotated[bool | float, Range(0, 1, open_high=True)]
    sync_bn: bool
    rect: bool | None
    val: bool
    # Decoder
    queries: Annotated[int | None, Range(1)]
    denoising: Annotated[int | None, Range(0)]
    # Optimization
    optimizer: Annotated[str, OneOf("AdamW", "Adam", "Adamax", "NAdam", "RAdam", "RMSProp", "SGD", "auto")]
    lr0: Annotated[float, Range(0, open_low=True)]
    lrf: Annotated[float, Range(0, 1)]
    cos_lr: bool
    momentum: Decay
    weight_decay: Gain
    warmup_iters: Count
    warmup_epochs: Gain
    warmup_momentum: Decay
    warmup_bias_lr: Gain
    backbone_lr_ratio: Annotated[float | None, Range(0, 10, open_low=True)]
    clip_grad: Gain
    ema_decay: Decay
    ema_warmup: Positive
    nbs: Positive
    # Loss
    box: Gain
    cls: Gain
    cls_pw: Probability
    dfl: Gain
    loss_cls: Gain
    loss_bbox: Gain
    loss_giou: Gain
    loss_class: str  # a key of losses.classification.CLASS_LOSSES
    loss_iou: str | None  # a key of losses.iou.IOU_LOSSES
    inner: Annotated[float | None, Range(0, open_low=True)]
    focaler: Annotated[list[float] | None, Range(0, 1)]
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
    cutmix: Probability
    augmentations: list[dict] | None
    close_mosaic: Count
    # Validation
    split: Annotated[str, OneOf("train", "val", "test")]
    conf: Annotated[float | None, Range(0, 1)]
    one_class_per_query: bool | None
    iou: Probability
    agnostic_nms: bool
    end2end: bool | None
    save_json: bool
    coco_eval: bool
    protocol: Annotated[str | None, OneOf("ultralytics", "coco", "aitod", "visdrone", "voc", "voc07")]
    # Prediction
    source: int | str | list[str] | None
    tracker: str
    vid_stride: Positive
    stream_buffer: bool
    augment: bool
    visualize: bool
    embed: Annotated[int | list[int] | None, Range(0)]
    show: bool
    save_frames: bool
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
    opset: Annotated[int | None, Range(11, 22)]
    simplify: bool
    nms: bool | None  # null of published files: off
    workspace: Annotated[float | None, Range(0, open_low=True)]

    def __post_init__(self) -> None:
        for key, annotation in option_types().items():
            setattr(self, key, check_value(key, getattr(self, key), annotation))
        for key in ("classes", "embed", "modules"):
            if isinstance(getattr(self, key), int | str):
                setattr(self, key, [getattr(self, key)])
        if isinstance(sides := self.imgsz, list):
            if len(sides) > 2:
                raise OptionError(f"imgsz: expected an integer or [height, width], got {sides}")
            if sides[0] == sides[-1]:
                self.imgsz = sides[0]
            elif self.mode in ("train", "val"):
                self.imgsz = max(sides)
                LOGGER.warning(f"imgsz={sides}: {self.mode} needs square images; using imgsz={self.imgsz}")
        if self.batch == 0 or (self.batch == -1 and self.mode in ("val", "predict", "export")):
            raise OptionError(f"batch={self.batch}: expected a number >= 1, or -1 (automatic) in training")
        self.__dict__["_frozen"] = False

    def __setattr__(self, key: str, value: object) -> None:
        """Set an option, checked, before a run has begun with these options."""
        if "_frozen" not in self.__dict__:
            super().__setattr__(key, value)
        elif not self.__dict__["_frozen"]:
            super().__setattr__(key, getattr(self.replace(**{key: value}), key))
        elif value != getattr(self, key, ...):  # published trainers assign what is so already
            raise FrozenInstanceError(f"{key}: options are read-only; write args = args.replace({key}={value!r})")

    def __getattr__(self, key: str) -> object:
        """Return an option of the published package without an effect here, as scripts read it: off or its default."""
        if key in (published := vars(published_hyp({}))):
            return published[key]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {key!r}")

    @property
    def figure_style(self) -> dict[str, object]:
        """Return the arguments of `save_figure`: a format beside PNG, and whether there are titles."""
        return {"also": self.plots if isinstance(self.plots, str) else None, "titles": self.plot_titles}

    def replace(self, **changes: object) -> Options:
        """Return a copy with some options changed; the changes are checked."""
        changed = get_cfg(self, changes)
        changed.__dict__["_frozen"] = self.__dict__["_frozen"]
        return changed

    def __getitem__(self, key: str) -> object:
        return self.to_dict()[key]

    def __contains__(self, key: object) -> bool:
        return key in self.to_dict()

    def get(self, key: str, default: object = None) -> object:
        """Return an option, or the default if there is none of this name."""
        return self.to_dict().get(key, default)

    def keys(self) -> Iterable[str]:
        return self.to_dict()

    def to_dict(self) -> dict[str, object]:
        """Return plain data for args.yaml, checkpoints and `get_cfg`; lists and mappings are copies."""
        return asdict(self)


@cache
def option_types() -> Mapping[str, object]:
    """Return the annotation of every option, including its rules."""
    return get_type_hints(Options, include_extras=True)


ConfigLike = str | Path | Mapping[str, object] | SimpleNamespace | Options | None


def get_cfg(
    cfg: ConfigLike = None, overrides: Mapping[str, object] | None = None, *, family: Family | None = None
) -> Options:
    """Resolve options from default.yaml, then `cfg` (a YAML file, mapping or Options), then `overrides`.

    `overrides` may contain a file as `cfg`. Raises OptionError for an unknown option, a wrong type or range, or one
    that the family refuses.

    Examples:
        >>> options = get_cfg(overrides={"epochs": 12, "device": [0, 1]})
        >>> options.epochs, options.device, options.optimizer
        (12, '0,1', 'AdamW')
        >>> get_cfg(overrides={"epoch": 12})
        Traceback (most recent call last):
        ultralytics.utils.errors.OptionError: unknown option 'epoch'; did you mean 'epochs'?
    """
    given = dict(overrides or {})
    base = given.pop("cfg", None) or cfg
    before = base.to_dict() if isinstance(base, Options) else read_options(base)
    values = {**default_values(family), **before, **check_options(given)}
    values = {key: of_family(key, value, family) for key, value in values.items()}
    if family:
        family.check(values, base if isinstance(base, (str, Path)) else None)
    return Options(**values)


def resolve_options(
    cfg: ConfigLike, overrides: Mapping[str, object] | None, mode: str, family: Family | None = None
) -> Options:
    """Resolve the arguments of a trainer, validator, predictor or exporter. `Options` are returned unchanged."""
    if isinstance(cfg, Options):
        cfg.__dict__["_frozen"] = True
        return cfg
    options = get_cfg(cfg, {**(overrides or {}), "mode": mode}, family=family)
    options.__dict__["_frozen"] = True
    setup_logging(options.verbose)
    return options


class OptionRow(NamedTuple):
    """Description of an option in default.yaml: section, value as text, modes that read it, and meaning."""

    section: str
    name: str
    default: str
    modes: tuple[str, ...]
    meaning: str


def describe_options() -> Iterator[OptionRow]:
    """Yield the description of every option, in the order of default.yaml."""
    modes = rf"\(((?:{'|'.join(MODES)})(?:, \w+)*)\)"
    title, shared = "", ""
    text = re.sub(r"\n {10,}# ", " ", DEFAULT_CFG_PATH.read_text(encoding="utf-8"))  # join continuation lines
    for line in text.splitlines():
        if section := re.fullmatch(rf"# (.+) {modes} -+", line):
            title, shared = section.groups()
        elif option := re.fullmatch(rf"(\w+): (\{{.*?\}}|\S+) +# (?:{modes} )?(.+)", line):
            name, default, own, meaning = option.groups()
            yield OptionRow(title, name, default, tuple((own or shared).split(", ")), meaning)


def unread_options(options: Options, given: Mapping[str, object], family: Family | None = None) -> str:
    """Return what to log about the given options that the mode does not read; or ''.

    Options at their default are not listed, nor are augmentations that are off.
    """
    changed = {name: value for name in given if name in option_types() and name not in GENERAL
               and (value := getattr(options, name)) != default_values(family)[name]}  # fmt: skip
    rows = [row for row in describe_options() if row.name in changed]
    ignored = family.unread if family else ()
    parts = [row.name for row in rows if options.mode not in row.modes or row.name in ignored]
    if options.mode == "train" and options.augmentation in AUGMENTED:
        read = ("augmentation", *AUGMENTED[options.augmentation])
        unread = (row.name for row in rows if row.section == "Augmentation" and row.name not in read)
        parts += [f"{name} (augmentation={options.augmentation})" for name in unread if changed[name]]
    return f"{options.mode}: without effect: {', '.join(parts)} (see `yolo help {options.mode}`)" if parts else ""


def read_options(source: str | Path | Mapping[str, object] | SimpleNamespace | None) -> dict[str, object]:
    """Return the checked options of a YAML file or mapping, without defaults.

    A file of a run of the published package also has its folder and its environment, which are not read.
    """
    if isinstance(source, (str, Path)):
        content = {key: value for key, value in read_yaml(source).items() if key not in ("save_dir", "environment")}
        return check_options(content, file=source)
    if isinstance(source, SimpleNamespace):  # DEFAULT_CFG: what was changed in it
        source = {key: value for key, value in vars(source).items() if value != default_values().get(key, ...)}
    if source is None or isinstance(source, Mapping):
        return check_options(source or {})
    raise OptionError(f"cfg: expected a YAML file or a mapping of options, got {type(source).__name__}")


def merge_file(given: Mapping[str, object]) -> dict[str, object]:
    """Return `given` with the options of its file `cfg`, if any, in place of that name; others have priority.

    A null, or the defaults of all families, is copied by `yolo copy-cfg`, not a choice of the user.
    """
    given = dict(given)
    from_file = read_options(given.pop("cfg", None)).items()
    chosen = {k: v for k, v in from_file if v is not None and not (is_by_family(k, v) and v == default_yaml()[k])}
    return {**chosen, **given}


def check_options(given: Mapping[str, object], where: str = "", file: str | Path | None = None) -> dict[str, object]:
    """Return `given` with all keys and values checked; messages start with `where`, or with file and line.

    Options of the published package that do not exist here are left out if they are off or at their default.
    """
    checked: dict[str, object] = {}
    if unused := [key for key, value in given.items() if key not in option_types() and has_no_effect(key, value)]:
        LOGGER.info(f"{file or where}: not used here, and off or at their defaults: {', '.join(unused)}".lstrip(": "))
    for key, value in given.items():
        if key in unused:
            continue
        if key in WITHOUT_EFFECT:
            LOGGER.warning(f"{where}{key}={value} has no effect: {RETIRED[key]}")
            continue
        if key in DEPRECATED:
            LOGGER.warning(f"{where}{key}: an earlier name; write {DEPRECATED[key][0]}")
            key, inverted = DEPRECATED[key]
            value = not value if inverted else value
        if key == "quantize" and str(value).lower() in PRECISIONS:
            key, value = PRECISIONS[str(value).lower()], True
        try:
            if key == "augmentations" and isinstance(value, (list, tuple)):  # objects of the package, as plain data
                value = [step.to_dict() if hasattr(step, "to_dict") else step for step in value]
            check_key(str(key))
            if is_by_family(key, value):
                checked[key] = {name: check_value(key, item, option_types()[key]) for name, item in value.items()}
            else:
                checked[key] = check_value(key, value, option_types()[key])
        except (OptionError, ValueError) as error:
            raise OptionError(f"{f'{key_at(file, key)}: ' if file else where}{error}") from None
    return checked


def check_key(key: str, aliases: Iterable[str] = ()) -> None:
    """Raise OptionError unless `key` is an option; suggest the new name, the alternative or the nearest name.

    `aliases` are further names of a script's command line.
    """
    if key in RENAMED:
        raise OptionError(f"unknown option {key!r}; use {RENAMED[key]!r}")
    if key in RETIRED:
        raise OptionError(f"option {key!r} is not supported: {RETIRED[key]}")
    if key not in option_types():
        near = nearest(key, [*option_types(), *RENAMED, *aliases])
        near = near if near in aliases else RENAMED.get(near, near)
        hint = f"; did you mean {near!r}?" if near else "; see `yolo cfg` for all options"
        raise OptionError(f"unknown option {key!r}{hint}")
