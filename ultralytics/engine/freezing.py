"""Which parameters stay as they are, said by count, number, name or pattern."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from torch import nn

from ultralytics.utils.errors import OptionError, did_you_mean

NORM_TYPES = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm)
Entry = int | str


def freeze_layers(model: nn.Module, freeze: Entry | Sequence[Entry] | None) -> list[nn.Module]:
    """Stop the training of what `freeze` names.

    Args:
        model: with its rows in `model.model` and the positions of the backbone's in `model.backbone_layers`.
        freeze: a whole number n for the first n rows, or a text or a list of texts and numbers, each of which is a row
            by its position (0) or its name in the model file; `backbone`; the beginning of parameter names up to a dot
            (`model.0.blocks1`); or a pattern of parameter names with `*`, `?` or `[...]` (`*.attn.*`).

    Returns:
        The normalisations of which everything is frozen. The trainer keeps them in eval mode, so that their running
        statistics stay, too.

    Raises:
        OptionError: there is no such row, or a text fits nothing.
    """
    if freeze is None:
        return []
    freeze = _words(freeze) if isinstance(freeze, str) else freeze
    entries: Iterable[Entry] = range(freeze) if isinstance(freeze, int) else freeze
    frozen = {name for entry in entries for name in _selected(model, entry, freeze)}
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    return [m for name, m in model.named_modules() if isinstance(m, NORM_TYPES) and _whole(name, m, frozen)]


def _words(text: str) -> list[str]:
    """The entries of a text: one, or several with commas between them, as they come from the command line."""
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    return [word.strip().strip("'\"") for word in text.split(",")]


def _selected(model: nn.Module, entry: Entry, freeze: object) -> list[str]:
    """Names of the parameters and buffers that an entry means."""
    names = [*dict(model.named_parameters()), *dict(model.named_buffers())]
    if isinstance(entry, int) or entry.isdigit():
        return _below(names, _row(model, int(entry), freeze))
    row_names = {
        layer.row_name: f"model.{i}" for i, layer in enumerate(model.model) if getattr(layer, "row_name", None)
    }
    if entry in row_names:
        return _below(names, row_names[entry])
    if entry == "backbone":
        return [name for index in sorted(model.backbone_layers) for name in _below(names, f"model.{index}")]
    if any(sign in entry for sign in "*?["):
        found = [name for name in names if fnmatchcase(name, entry)]
        known: Iterable[str] = {word for name in names for word in name.split(".")}
    else:
        found = _below(names, entry.rstrip("."))
        known = [*row_names, "backbone", *(name for name, _ in model.named_modules() if name), *names]
    if not found:
        raise OptionError(
            f"freeze={freeze!r}: {entry!r} fits no parameter; expected a row's position or name, `backbone`, the "
            f"beginning of parameter names (model.0.), or a pattern (*.attn.*){did_you_mean(entry.strip('*.'), known)}"
        )
    return found


def _row(model: nn.Module, index: int, freeze: object) -> str:
    count = len(model.model)
    if not 0 <= index < count:
        raise OptionError(f"freeze={freeze!r}: no layer {index}; the model has the layers 0 to {count - 1}.")
    return f"model.{index}"


def _below(names: Iterable[str], module: str) -> list[str]:
    """The names of a module's own tensors and of its parts, or of the one tensor."""
    return [name for name in names if name == module or name.startswith(f"{module}.")]


def _whole(path: str, norm: nn.Module, frozen: set[str]) -> bool:
    """Whether every parameter of a normalisation is frozen; of one without parameters, every statistic."""
    tensors = _own(norm.named_parameters(recurse=False)) or _own(norm.named_buffers(recurse=False))
    return bool(tensors) and all(f"{path}.{name}" in frozen for name in tensors)


def _own(named: Iterator[tuple[str, object]]) -> list[str]:
    return [name for name, _ in named]
