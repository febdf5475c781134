"""A weights file into a model, and a classifier's weights into its backbone."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn.weights.names import (
    COCO_NOTE,
    Dialect,
    Renamed,
    backbone_dialects,
    coco_names,
    from_official,
    is_official,
    match_epsilon,
)
from ultralytics.nn.weights.read import Weights, known_names, read_weights
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import WeightsError

# Tensors with one row a class: the heads' scores and the embedding of the denoising queries.
CLASS_ROWS = re.compile(
    r"(^|\.)(denoising_class_embed|\w*score_head(\.\d+)?|one_to_many\.score\.layers\.1)\.(weight|bias)$"
)
CROPPED = "cropped to its middle"  # the one change that loses something, about which the report warns


class Misfit(Exception):
    """Why a tensor cannot be brought to the model's shape."""


@dataclass(frozen=True)
class ClassMap:
    """Which class of the file is which of the model, by name.

    Attributes:
        pairs: (class in the file, class in the model).
        source_count, target_count: how many classes each has.
    """

    pairs: tuple[tuple[int, int], ...]
    source_count: int
    target_count: int

    @classmethod
    def by_names(cls, source: Mapping[int, str], target: Mapping[int, str]) -> ClassMap:
        """Pair classes of one name, whatever their case, with `_`, `-` and space alike."""
        numbers = {_plain(name): index for index, name in reversed(source.items())}
        pairs = tuple((numbers[_plain(n)], index) for index, n in target.items() if _plain(n) in numbers)
        return cls(pairs, len(source), len(target))

    @property
    def is_identity(self) -> bool:
        """Whether it moves nothing: the same classes in the same order."""
        whole = len(self.pairs) == self.source_count == self.target_count
        return whole and all(here == there for here, there in self.pairs)

    def apply(self, value: Tensor, target: Tensor) -> tuple[Tensor, str]:
        """The model's tensor with the rows of the classes that both have. Raises Misfit where there is none."""
        if len(value) != self.source_count or len(target) != self.target_count or value.shape[1:] != target.shape[1:]:
            raise Misfit(shapes(value, target))
        if not self.pairs:
            raise Misfit("the model has none of the file's classes")
        moved = target.detach().clone().to(value.dtype)
        here, there = map(list, zip(*self.pairs, strict=True))
        moved[there] = value[here]
        return moved, f"{len(here)} of {self.target_count} classes by name"


def fit(name: str, value: Tensor, target: Tensor, classes: ClassMap | None = None) -> tuple[Tensor, str]:
    """The tensor in the model's shape, and what was done to it ('' for nothing).

    Raises:
        Misfit: there is no meaningful way.
    """
    if classes is not None and not classes.is_identity and CLASS_ROWS.search(name):
        return classes.apply(value, target)
    if value.shape == target.shape:
        return value, ""
    if name.endswith("attention_biases"):
        return _resize_biases(value, target)
    if value.ndim == target.ndim == 4 and value.shape[:2] == target.shape[:2] and target.shape[1] == 1:
        return _resize_kernel(value, target)
    raise Misfit(shapes(value, target))


def shapes(value: Tensor, target: Tensor) -> str:
    """Both shapes, as the report tells them."""
    return f"shape {tuple(value.shape)}, the model has {tuple(target.shape)}"


def _resize_biases(value: Tensor, target: Tensor) -> tuple[Tensor, str]:
    """Attention biases by |dy|, |dx|, (heads, side * side), of a window of another side.

    The ends are aligned: the published classifiers' last windows are smaller at a coarser stride, and their ends span
    the same pixels as those of the larger window.
    """
    sides = [math.isqrt(tensor.shape[-1]) for tensor in (value, target)]
    square = all(t.ndim == 2 and t.shape[1] == s * s for t, s in zip((value, target), sides, strict=True))
    if not square or value.shape[0] != target.shape[0]:
        raise Misfit(shapes(value, target))
    old, new = sides
    table = value.float().view(1, -1, old, old)
    table = F.interpolate(table, (new, new), mode="bilinear", align_corners=True)  # (1, heads, new, new)
    return table.flatten(2)[0].to(value.dtype), f"window {old}x{old} interpolated to {new}x{new}"


def _resize_kernel(value: Tensor, target: Tensor) -> tuple[Tensor, str]:
    """A depthwise kernel (C, 1, k, k) of another size, around its middle.

    In the middle of zeros it computes the same, as long as the padding grows with it. Cropped it does not.
    """
    (h, w), (height, width) = value.shape[2:], target.shape[2:]
    if (height - h) % 2 or (width - w) % 2:
        raise Misfit(f"kernel {h}x{w} has no middle in common with the model's {height}x{width}")
    margins = ((width - w) // 2,) * 2 + ((height - h) // 2,) * 2  # negative ones take away
    if min(margins) < 0:
        return F.pad(value, margins), f"kernel {h}x{w} {CROPPED} {height}x{width}"
    return F.pad(value, margins), f"kernel {h}x{w} in {height}x{width} of zeros"


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", str(name)).strip().casefold()


SHOWN = 8  # names that the report lists of each kind


class NothingFitsError(WeightsError):
    """None of a file's tensors has a place in the model."""


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor.

    Attributes:
        matched: names loaded as they are.
        resized: names loaded after a change, and what was done.
        left: names in the file that were not loaded, with the reason.
        missing: names of the model that keep the values they had.
        notes: what else is worth knowing, a sentence each.
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
        lines += _listed("resized", [f"{name} ({how})" if how else name for name, how in self.resized.items()])
        lines += _listed("left", [f"{name} ({why})" for name, why in self.left.items()])
        lines += _listed("not in the file", self.missing)
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


def _listed(title: str, names: Iterable[str]) -> list[str]:
    names = list(names)
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"  {title}: {', '.join(names[:SHOWN])}{more}"] if names else []


def load_matching(
    model: nn.Module,
    source: Mapping[str, Tensor],
    *,
    resized: Iterable[str] | Mapping[str, str] = (),
    origin: str = "weights",
    classes: ClassMap | None = None,
    within: Iterable[str] | None = None,
    left: Mapping[str, str] | None = None,
    named: Mapping[str, str] | None = None,
    notes: Iterable[str] = (),
) -> LoadReport:
    """Load every tensor that has a place in the model, and log a report of the rest.

    Where the shape differs, attention biases are interpolated, depthwise kernels are grown with zeros (or cropped,
    with a warning), and rows of classes are matched by name (see `reshaping.fit`); anything else is left.

    Args:
        model: the module to fill.
        source: tensors by name.
        resized: names in `source` whose shape was changed already, for the report; with what was done, or without.
        origin: where the tensors come from, for messages.
        classes: which class of the file is which of the model, where both name theirs.
        within: names of the model's tensors that are to be filled; None for all.
        left: tensors of the file that are not in `source`, with the reason, for the report.
        named: what the file calls the tensors of `source`, where it differs, for the report.
        notes: further lines of the report.

    Raises:
        WeightsError: nothing fits, or what fits is not finite. The model is then unchanged.
    """
    target = model.state_dict()
    names = target if within is None else {name: target[name] for name in within}
    changed = dict(resized) if isinstance(resized, Mapping) else dict.fromkeys(resized, "")
    fitting, unfit = _sorted_out(source, names, classes, changed)
    left = {**(left or {}), **{(named or {}).get(name, name): why for name, why in unfit.items()}}
    _require_something(model, fitting, left, origin, len(target))
    model.load_state_dict(fitting, strict=False)
    report = LoadReport(
        matched=tuple(n for n in fitting if n not in changed),
        resized={n: how for n, how in changed.items() if n in fitting},
        left=left,
        missing=tuple(n for n, t in names.items() if n not in fitting and t.is_floating_point()),  # others are counts
        notes=tuple(notes),
    )
    LOGGER.info(f"{origin}: {report}")
    if cropped := [name for name, how in report.resized.items() if CROPPED in how]:
        LOGGER.warning(
            f"{origin}: {len(cropped)} kernels are larger than the model's and were cropped, which changes what they "
            f"compute, for example {cropped[0]} ({report.resized[cropped[0]]})"
        )
    return report


def _sorted_out(
    source: Mapping[str, Tensor], target: Mapping[str, Tensor], classes: ClassMap | None, changed: dict[str, str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What fits, in the model's shapes, and what does not, with the reason; adds to `changed` what was done."""
    fitting, unfit = {}, {}
    for name, value in source.items():
        if name not in target:
            unfit[name] = "no such name in the model"
            continue
        try:
            fitting[name], how = fit(name, value, target[name], classes)
        except Misfit as misfit:
            unfit[name] = str(misfit)
            continue
        if how:
            changed[name] = how
    return fitting, unfit


def _require_something(
    model: nn.Module, fitting: Mapping[str, Tensor], left: Mapping[str, str], origin: str, count: int
) -> None:
    """Raise WeightsError where no weight fits, or one that fits holds NaN or infinity."""
    floating = {name: value for name, value in fitting.items() if value.is_floating_point()}
    if not floating:
        total = len(fitting) + len(left)
        example = next(iter(left.items()), ("", "the file is empty"))
        raise NothingFitsError(
            f"{origin}: none of its {total} tensors fits {type(model).__name__}, which has {count}; "
            f"for example {example[0]!r}: {example[1]}. Is it a file of another model?"
        )
    broken = [name for name, value in floating.items() if not torch.isfinite(value).all()]
    if broken:
        raise WeightsError(
            f"{origin}: {len(broken)} of its tensors hold values that are not finite, the first is {broken[0]}; "
            "expected numbers. The training that wrote it has diverged; use an earlier checkpoint."
        )


DEPTH = 4  # words of a prefix that may stand before the names, such as `model.backbone.0.body.`
AVERAGES = ("ema", "teacher")  # prefixes of the better of two sets of weights in a file


def load_weights(
    model: nn.Module, weights: str | Path | Weights, *, names: Mapping[int, str] | None = None
) -> LoadReport:
    """Load whatever fits of a weights file into a detection model, and log a report.

    Checkpoints of this package and published ones, plain state_dicts, and checkpoints of the official RT-DETR. Rows of
    classes go by the classes' names where the file and the model have names.

    Args:
        model: the network to fill.
        weights: a file, or what `read_weights` read of it.
        names: class names of the model, by default its own.

    Raises:
        WeightsError: the file cannot be read, or nothing in it fits.
    """
    weights = weights if isinstance(weights, Weights) else read_weights(weights)
    ours = known_names(model.names if names is None else names)
    classes = ClassMap.by_names(weights.names, ours) if weights.names and ours else None
    renamed = from_official(model, weights.tensors) if is_official(weights.tensors) else _own_names(model, weights)
    coco = (COCO_NOTE,) if classes is not None and weights.names == coco_names(weights.tensors) else ()
    try:
        report = load_matching(
            model, renamed.tensors, resized=renamed.changed, origin=weights.origin, classes=classes, left=renamed.left,
            named=renamed.named, notes=[*renamed.notes, *coco],
        )  # fmt: skip
    except NothingFitsError as error:
        hint = f"A classifier's weights go into the backbone: backbone_weights={weights.origin}"
        raise NothingFitsError(f"{error} {hint}") from error
    _warn_of_few(report, weights.origin, "the model")
    return report


def _warn_of_few(report: LoadReport, origin: str, what: str) -> None:
    """Warn where less than two thirds of what was to be filled got weights."""
    loaded = len(report.matched) + len(report.resized)
    if 2 * len(report.missing) > loaded:
        LOGGER.warning(
            f"{origin}: {len(report.missing)} tensors of {what} keep the values they had, {loaded} were loaded; "
            "is it a file of this network?"
        )


def _own_names(model: nn.Module, weights: Weights) -> Renamed:
    """Tensors that have the model's names, but for a prefix of the file or the model's `model.`."""
    own = Dialect("the model's own names", lambda name: name, whole=False)
    guess = _best_guess(weights.tensors, model.state_dict(), [own], ["", "model."])
    if not guess.score:  # for the error, the names as they are
        return Renamed(dict(weights.tensors))
    return guess.renamed(weights.tensors)


def load_backbone(model: nn.Module, weights: str | Path | Weights) -> LoadReport:
    """Load a classifier's weights into the backbone of a detection model, and log a report.

    The names that the file uses, and a prefix before them such as `module.` or `encoder.`, are guessed: whatever fits
    most tensors by name and shape. The rows that got weights have the file as their attribute `pretrained`.

    Raises:
        WeightsError: the file cannot be read, the model has no backbone, or nothing in the file fits it.
    """
    weights = weights if isinstance(weights, Weights) else read_weights(weights)
    state = model.state_dict()
    target = {name: state[name] for name in state if _in_backbone(model, name)}
    if not target:
        raise WeightsError(f"{weights.origin}: the model file lists no row with weights under `backbone`.")
    guess = _best_guess(
        weights.tensors, target, backbone_dialects(model, weights.tensors), _prefixes(target, share=0.3)
    )
    if not guess.score:
        names, theirs = list(target), list(weights.tensors)
        raise WeightsError(
            f"{weights.origin}: none of its {len(theirs)} tensors fits the backbone, which has {len(names)}; the file "
            f"names them as {theirs[0]!r}, the model as {names[0]!r}. Is it a file of another network?"
        )
    renamed, dialect = guess.renamed(weights.tensors), guess.dialect
    implied = {name: value for name, value in dialect.implied.items() if name not in renamed.tensors}
    tensors, note = match_epsilon(model, {**renamed.tensors, **implied}, dialect.norm_eps)
    changed = dict.fromkeys(implied, "set to do nothing: the file's network has no layer here")
    report = load_matching(
        model, tensors, resized=changed, origin=weights.origin, within=target, left=renamed.left, named=renamed.named,
        notes=[dialect.title, *renamed.notes, *note],
    )  # fmt: skip
    _warn_of_few(report, weights.origin, "the backbone")
    loaded = (*report.matched, *report.resized)
    for index in {int(name.split(".")[1]) for name in loaded}:
        model.model[index].pretrained = weights.origin  # the trainer's rate for the backbone depends on it
    return report


@dataclass(frozen=True)
class _Guess:
    """That names of the file are `prefix` + x where the model has `base` + the dialect's word for x."""

    dialect: Dialect
    prefix: str
    base: str
    score: int

    def renamed(self, tensors: Mapping[str, Tensor]) -> Renamed:
        """The tensors under the prefix, with the model's names."""
        cut = len(self.prefix)
        named = {self.base + self.dialect.rename(n[cut:]): n for n in tensors if n.startswith(self.prefix)}
        return Renamed(
            {ours: tensors[theirs] for ours, theirs in named.items()},
            left={name: f"outside {self.prefix!r}" for name in tensors if not name.startswith(self.prefix)},
            named=named,
            notes=self._notes(),
        )

    def _notes(self) -> tuple[str, ...]:
        if self.prefix == self.base or not (self.prefix or self.base):
            return ()
        if self.dialect.whole or not self.base:
            return (f"without the {self.prefix!r} before the file's names",)
        if not self.prefix:
            return (f"the file's names come after {self.base!r} in the model",)
        return (f"what starts with {self.prefix!r} in the file starts with {self.base!r} in the model",)


def _best_guess(
    tensors: Mapping[str, Tensor], target: Mapping[str, Tensor], dialects: Sequence[Dialect], bases: Iterable[str]
) -> _Guess:
    """The guess by which most tensors fit; of equals the one that needs the fewest changes."""
    best = _Guess(dialects[0], "", "", 0)
    bases = list(bases)
    for dialect in dialects:
        for prefix in _prefixes(tensors, share=0.15):
            renamed = _Guess(dialect, prefix, "", 0).renamed(tensors).tensors
            for base in [""] if dialect.whole else bases:
                score = sum(_fits(base + name, value, target) for name, value in renamed.items())
                if (score, _preference(prefix)) > (best.score, _preference(best.prefix)):
                    best = _Guess(dialect, prefix, base, score)
    return best


def _preference(prefix: str) -> tuple[bool, int]:
    return any(word in prefix for word in AVERAGES), -len(prefix)


def _fits(name: str, value: Tensor, target: Mapping[str, Tensor]) -> bool:
    if name not in target or not value.is_floating_point():
        return False
    try:
        fit(name, value, target[name])
    except Misfit:
        return False
    return True


def _prefixes(names: Iterable[str], share: float) -> Iterator[str]:
    """'' and the beginnings up to a dot, of at most DEPTH words, that at least this share of the names has."""
    names = list(names)
    counts = Counter(
        ".".join(words[:depth]) + "."
        for words in (name.split(".") for name in names)
        for depth in range(1, min(DEPTH, len(words) - 1) + 1)
    )
    return iter(["", *(prefix for prefix, count in counts.items() if count >= share * len(names))])


def _in_backbone(model: nn.Module, name: str) -> bool:
    words = name.split(".")
    return words[0] == "model" and words[1].isdigit() and int(words[1]) in model.backbone_layers
