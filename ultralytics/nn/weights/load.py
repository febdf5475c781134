"""Load a weights file into a model, or a classifier's weights into its backbone, with a report."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.weights.names import (
    COCO_NOTE,
    MappedState,
    NamingScheme,
    backbone_schemes,
    coco_names,
    from_official,
    is_official,
    match_epsilon,
)
from ultralytics.nn.weights.read import Weights, known_names, read_weights
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import WeightsError

# Tensors with one row per class: class scores of the heads, and the embedding of the denoising queries.
CLASS_ROWS = re.compile(
    r"(^|\.)(denoising_class_embed|\w*score_head(\.\d+)?|one_to_many\.score\.layers\.1)\.(weight|bias)$"
)
CROPPED = "cropped to its center"  # the only change that loses something; it is warned about
LISTED = 8  # names of each kind in the log
DEPTH = 4  # words of a prefix of names, such as `model.backbone.0.body.`
AVERAGES = ("ema", "teacher")  # prefixes of the better of two sets of weights in a file


class ShapeMismatch(Exception):
    """A tensor cannot be changed to the shape of the model."""


class NothingFitsError(WeightsError):
    """None of the tensors of a file fits the model."""


@dataclass(frozen=True)
class ClassMap:
    """Classes of the file and of the model with the same name.

    Attributes:
        pairs: (class in the file, class in the model).
        source_count, target_count: number of classes of each.
    """

    pairs: tuple[tuple[int, int], ...]
    source_count: int
    target_count: int

    @classmethod
    def by_names(cls, source: Mapping[int, str], target: Mapping[int, str]) -> ClassMap:
        """Pair classes with the same name. Case, `_`, `-` and spaces make no difference."""

        def plain(name: str) -> str:
            return re.sub(r"[\s_-]+", " ", str(name)).strip().casefold()

        indices = {plain(name): index for index, name in reversed(source.items())}
        pairs = tuple((indices[plain(name)], index) for index, name in target.items() if plain(name) in indices)
        return cls(pairs, len(source), len(target))

    @property
    def is_identity(self) -> bool:
        """Identity: both have the same classes in the same order."""
        complete = len(self.pairs) == self.source_count == self.target_count
        return complete and all(ours == theirs for ours, theirs in self.pairs)

    def apply(self, value: Tensor, target: Tensor) -> tuple[Tensor, str]:
        """Copy the rows of common classes into the model's tensor. Raise ShapeMismatch if there are none."""
        if len(value) != self.source_count or len(target) != self.target_count or value.shape[1:] != target.shape[1:]:
            raise _mismatch(value, target)
        if not self.pairs:
            raise ShapeMismatch("the model has none of the file's classes")
        result = target.detach().clone().to(value.dtype)
        theirs, ours = map(list, zip(*self.pairs, strict=True))
        result[ours] = value[theirs]
        return result, f"{len(ours)} of {self.target_count} classes by name"


def fit(name: str, value: Tensor, target: Tensor, classes: ClassMap | None = None) -> tuple[Tensor, str]:
    """Return the tensor in the shape of `target`, and the change in words ('' for none).

    Raises:
        ShapeMismatch: no meaningful change is known.
    """
    if classes is not None and not classes.is_identity and CLASS_ROWS.search(name):
        return classes.apply(value, target)
    if value.shape == target.shape:
        return value, ""
    if name.endswith("attention_biases"):
        return _resize_biases(value, target)
    if value.ndim == target.ndim == 4 and value.shape[:2] == target.shape[:2] and target.shape[1] == 1:
        return _resize_kernel(value, target)
    raise _mismatch(value, target)


def _mismatch(value: Tensor, target: Tensor) -> ShapeMismatch:
    return ShapeMismatch(f"shape {tuple(value.shape)}, the model has {tuple(target.shape)}")


def _resize_biases(value: Tensor, target: Tensor) -> tuple[Tensor, str]:
    """Interpolate attention biases by |dy|, |dx|, (heads, side * side), to a window of another size.

    Ends are aligned: the last windows of the published classifiers are smaller at a coarser stride, and their ends span
    the same pixels as those of the larger window.
    """
    old, new = (math.isqrt(tensor.shape[-1]) for tensor in (value, target))
    if value.ndim != 2 or value.shape != (target.shape[0], old * old) or target.shape[1:] != (new * new,):
        raise _mismatch(value, target)
    table = value.float().view(1, -1, old, old)
    table = F.interpolate(table, (new, new), mode="bilinear", align_corners=True)  # (1, heads, new, new)
    return table.flatten(2)[0].to(value.dtype), f"window {old}x{old} interpolated to {new}x{new}"


def _resize_kernel(value: Tensor, target: Tensor) -> tuple[Tensor, str]:
    """Pad or crop a depthwise kernel (C, 1, h, w) around its center.

    A padded kernel computes the same if the padding of the convolution grows with it. A cropped kernel does not.
    """
    (h, w), (height, width) = value.shape[2:], target.shape[2:]
    if (height - h) % 2 or (width - w) % 2:
        raise ShapeMismatch(f"kernel {h}x{w} has no center in common with the model's {height}x{width}")
    margins = ((width - w) // 2,) * 2 + ((height - h) // 2,) * 2  # negative margins crop
    how = f"{CROPPED} {height}x{width}" if min(margins) < 0 else f"padded with zeros to {height}x{width}"
    return F.pad(value, margins), f"kernel {h}x{w} {how}"


@dataclass(frozen=True)
class LoadReport:
    """Result of loading weights.

    Attributes:
        matched: names of tensors that were loaded unchanged.
        resized: names of tensors that were loaded after a change, with the change.
        left: names in the file of tensors that were not loaded, with the reason.
        missing: names of tensors of the model that keep their values.
        notes: further information, a sentence each.
    """

    matched: tuple[str, ...]
    resized: Mapping[str, str]
    left: Mapping[str, str]
    missing: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        lines = [
            f"{len(self.matched)} tensors loaded as they are, {len(self.resized)} after a change of shape, "
            f"{len(self.left)} left in the file, {len(self.missing)} of the model not in the file"
        ]
        kinds = {
            "changed": [f"{name} ({how})" for name, how in self.resized.items()],
            "left": [f"{name} ({why})" for name, why in self.left.items()],
            "not in the file": list(self.missing),
        }
        for title, names in kinds.items():
            more = f", and {len(names) - LISTED} more" if len(names) > LISTED else ""
            lines += [f"  {title}: {', '.join(names[:LISTED])}{more}"] if names else []
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


def load_matching(
    model: nn.Module,
    source: Mapping[str, Tensor] | MappedState,
    *,
    origin: str = "weights",
    classes: ClassMap | None = None,
    within: Iterable[str] | None = None,
) -> LoadReport:
    """Load every tensor that fits a tensor of the model with the same name, and log a report.

    Attention biases of another shape are interpolated, depthwise kernels are padded with zeros (or cropped, with a
    warning), and rows of classes are matched by name, see `fit`. Anything else of another shape is left.

    Args:
        model: the module to load into.
        source: tensors by name in the model.
        origin: source of the tensors, for messages.
        classes: common classes of the file and the model, if both have class names.
        within: names of the model's tensors to load; None for all.

    Raises:
        WeightsError: nothing fits, or values are not finite. The model is then unchanged.
    """
    source = source if isinstance(source, MappedState) else MappedState(source)
    state = model.state_dict()
    target = state if within is None else {name: state[name] for name in within}
    fitting, changed, left = {}, dict(source.changed), dict(source.left)
    for name, value in source.tensors.items():
        try:
            if name not in target:
                raise ShapeMismatch("no such name in the model")
            fitting[name], how = fit(name, value, target[name], classes)
        except ShapeMismatch as mismatch:
            left[source.file_names.get(name, name)] = str(mismatch)
            continue
        if how:
            changed[name] = how
    _check_fitting(fitting, left, origin, f"{type(model).__name__}, which has {len(state)}")
    model.load_state_dict(fitting, strict=False)
    report = LoadReport(
        matched=tuple(n for n in fitting if n not in changed),
        resized={n: how for n, how in changed.items() if n in fitting},
        left=left,
        missing=tuple(n for n, t in target.items() if n not in fitting and t.is_floating_point()),  # others are counts
        notes=source.notes,
    )
    LOGGER.info(f"{origin}: {report}")
    if cropped := [name for name, how in report.resized.items() if CROPPED in how]:
        LOGGER.warning(
            f"{origin}: {len(cropped)} kernels are larger than the model's and were cropped, which changes their "
            f"output, for example {cropped[0]} ({report.resized[cropped[0]]})"
        )
    return report


def _check_fitting(fitting: Mapping[str, Tensor], left: Mapping[str, str], origin: str, model: str) -> None:
    """Raise WeightsError if no weight fits, or one that fits has NaN or infinite values."""
    weights = {name: value for name, value in fitting.items() if value.is_floating_point()}
    if not weights:
        name, reason = next(iter(left.items()), ("", "the file is empty"))
        raise NothingFitsError(
            f"{origin}: none of its {len(fitting) + len(left)} tensors fits {model}; for example {name!r}: {reason}. "
            "Is it a file of another model?"
        )
    broken = [name for name, value in weights.items() if not torch.isfinite(value).all()]
    if broken:
        raise WeightsError(
            f"{origin}: {len(broken)} of its tensors are not finite, the first is {broken[0]}. The training that wrote "
            "it has diverged; use an earlier checkpoint."
        )


def load_weights(
    model: nn.Module, weights: str | Path | Weights, *, names: Mapping[int, str] | None = None
) -> LoadReport:
    """Load whatever fits of a weights file into a detection model, and log a report.

    Reads checkpoints of this package, published ones, state_dicts, and checkpoints of the official RT-DETR. Rows of
    classes are matched by class names if the file and the model have names.

    Args:
        model: the network to load into.
        weights: a file, or the result of `read_weights`.
        names: class names of the model, by default its own.

    Raises:
        WeightsError: the file cannot be read, or nothing in it fits.

    Example:
        >>> from ultralytics.nn.tasks import RTDETRDetectionModel
        >>> source, target = (RTDETRDetectionModel("rtdetr-efficientvit-m0.yaml", nc=nc) for nc in (80, 3))
        >>> report = load_weights(target, Weights(source.state_dict(), "coco.pt"))
        >>> report.left["model.19.enc_score_head.bias"]
        'shape (80,), the model has (3,)'
    """
    weights = weights if isinstance(weights, Weights) else read_weights(weights)
    ours = known_names(model.names if names is None else names)
    classes = ClassMap.by_names(weights.names, ours) if weights.names and ours else None
    if is_official(weights.tensors):
        mapped = from_official(model, weights.tensors)
        if classes is not None and weights.names == coco_names(weights.tensors):
            mapped = replace(mapped, notes=(*mapped.notes, COCO_NOTE))
    else:  # the model's own names, up to a prefix
        scheme = NamingScheme("the model's own names", str, whole=False)
        match = _best_match(weights.tensors, model.state_dict(), [scheme], ["", "model."])
        mapped = match.map(weights.tensors) if match.score else MappedState(weights.tensors)
    try:
        report = load_matching(model, mapped, origin=weights.origin, classes=classes)
    except NothingFitsError as error:
        hint = f"For the weights of a classifier use backbone_weights={weights.origin}"
        raise NothingFitsError(f"{error} {hint}") from error
    _warn_if_few(report, weights.origin, "the model")
    return report


def load_backbone(model: nn.Module, weights: str | Path | Weights) -> LoadReport:
    """Load a classifier's weights into the backbone of a detection model, and log a report.

    The naming scheme of the file, and a prefix such as `module.` or `encoder.`, are those by which most tensors fit.
    Layers that got weights have the file as their attribute `pretrained`.

    Raises:
        WeightsError: the file cannot be read, the model has no backbone, or nothing in the file fits it.
    """
    weights = weights if isinstance(weights, Weights) else read_weights(weights)
    layers = {f"model.{index}." for index in model.backbone_layers}
    target = {name: value for name, value in model.state_dict().items() if name[: name.find(".", 6) + 1] in layers}
    if not target:
        raise WeightsError(f"{weights.origin}: the model file has no layer with weights under `backbone`.")
    schemes = backbone_schemes(model, weights.tensors)
    match = _best_match(weights.tensors, target, schemes, _common_prefixes(target, share=0.3))
    if not match.score:
        names, theirs = list(target), list(weights.tensors)
        raise WeightsError(
            f"{weights.origin}: none of its {len(theirs)} tensors fits the backbone, which has {len(names)}; a name in "
            f"the file is {theirs[0]!r}, in the model {names[0]!r}. Is it a file of another network?"
        )
    mapped, scheme = match.map(weights.tensors), match.scheme
    implied = {name: value for name, value in scheme.implied.items() if name not in mapped.tensors}
    tensors, note = match_epsilon(model, {**mapped.tensors, **implied}, scheme.norm_eps)
    changed = dict.fromkeys(implied, "set to the identity: the file's network has no layer here")
    notes = (scheme.title, *mapped.notes, *note)
    mapped = replace(mapped, tensors=tensors, changed=changed, notes=notes)
    report = load_matching(model, mapped, origin=weights.origin, within=target)
    _warn_if_few(report, weights.origin, "the backbone")
    for index in {int(name.split(".")[1]) for name in (*report.matched, *report.resized)}:
        model.model[index].pretrained = weights.origin  # the trainer lowers the rate of a pretrained backbone
    return report


def _warn_if_few(report: LoadReport, origin: str, what: str) -> None:
    """Log a warning if less than two thirds of the tensors got weights."""
    loaded = len(report.matched) + len(report.resized)
    if 2 * len(report.missing) > loaded:
        LOGGER.warning(
            f"{origin}: {len(report.missing)} tensors of {what} keep the values they had, {loaded} were loaded; "
            "is it a file of this network?"
        )


@dataclass(frozen=True)
class _Match:
    """A mapping of names: `prefix` + x in the file is `base` + scheme.rename(x) in the model.

    Attributes:
        score: number of tensors that fit.
    """

    scheme: NamingScheme
    prefix: str = ""
    base: str = ""
    score: int = 0

    @property
    def rank(self) -> tuple[int, bool, int]:
        """Sort key: most tensors, then averaged weights, then the shortest prefix."""
        return self.score, any(word in self.prefix for word in AVERAGES), -len(self.prefix)

    def map(self, tensors: Mapping[str, Tensor]) -> MappedState:
        """Return the tensors with the prefix, under the names of the model."""
        cut = len(self.prefix)
        names = {self.base + self.scheme.rename(n[cut:]): n for n in tensors if n.startswith(self.prefix)}
        note = (
            f"names in the file start with {self.prefix!r}, names in the model with {self.base!r}"
            if self.prefix != self.base
            else ""
        )
        return MappedState(
            {ours: tensors[theirs] for ours, theirs in names.items()},
            left={name: f"outside {self.prefix!r}" for name in tensors if not name.startswith(self.prefix)},
            file_names=names,
            notes=(note,) if note else (),
        )


def _best_match(
    tensors: Mapping[str, Tensor], target: Mapping[str, Tensor], schemes: Sequence[NamingScheme], bases: Iterable[str]
) -> _Match:
    """Return the mapping of names by which most tensors fit the target."""
    best, bases = _Match(schemes[0]), list(bases)
    for scheme in schemes:
        for prefix in _common_prefixes(tensors, share=0.15):
            mapped = _Match(scheme, prefix).map(tensors).tensors
            for base in [""] if scheme.whole else bases:
                score = sum(_fits(base + name, value, target) for name, value in mapped.items())
                best = max(best, _Match(scheme, prefix, base, score), key=lambda match: match.rank)  # first of equals
    return best


def _fits(name: str, value: Tensor, target: Mapping[str, Tensor]) -> bool:
    if name not in target or not value.is_floating_point():
        return False
    try:
        fit(name, value, target[name])
    except ShapeMismatch:
        return False
    return True


def _common_prefixes(names: Iterable[str], share: float) -> list[str]:
    """Return '' and the prefixes up to a dot, of at most DEPTH words, of at least this share of the names."""
    names = list(names)
    counts = Counter(
        ".".join(words[:depth]) + "."
        for words in (name.split(".") for name in names)
        for depth in range(1, min(DEPTH, len(words) - 1) + 1)
    )
    return ["", *(prefix for prefix, count in counts.items() if count >= share * len(names))]
