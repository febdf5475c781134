"""A weights file into a model, and a classifier's weights into its backbone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from ultralytics.nn.weights.files import Weights, known_names, read_weights
from ultralytics.nn.weights.matching import LoadReport, NothingFitsError, load_matching
from ultralytics.nn.weights.renaming import (
    COCO_NOTE,
    Dialect,
    Renamed,
    backbone_dialects,
    coco_names,
    from_official,
    is_official,
    match_epsilon,
)
from ultralytics.nn.weights.reshaping import ClassMap, Misfit, fit
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import WeightsError

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
