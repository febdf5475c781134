"""Filling a model with the tensors whose names and shapes fit, and telling what became of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ultralytics.nn.weights.reshaping import CROPPED, ClassMap, Misfit, fit
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import WeightsError

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
