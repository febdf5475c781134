"""Parameter groups, optimizer, learning rate schedule and frozen layers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

import torch
from torch import nn

from ultralytics.utils.errors import OptionError, did_you_mean

__all__ = ["build_optimizer", "freeze_layers", "learning_rate_factor", "param_groups", "set_learning_rate"]


def param_groups(model: nn.Module, *, lr: float, weight_decay: float, backbone_lr_ratio: float) -> list[dict]:
    """Up to four groups, backbone/rest by decay/no decay, each with `name`, `params`, `lr`, `weight_decay`.

    Norms, biases and other vectors (also tables of attention biases) do not decay; embeddings do, as in the official
    RT-DETR configuration, whose backbone learns at `backbone_lr_ratio` of the rate. The backbone is
    `model.backbone_layers`, a set of indices into `model.model`. Frozen parameters are in their groups, too: they have
    no gradient, so that optimisers leave them alone, until a callback thaws them.
    """
    norms = {id(p) for m in model.modules() if isinstance(m, NORM_TYPES) for p in m.parameters(recurse=False)}
    backbone = {id(p) for index in model.backbone_layers for p in model.model[index].parameters()}
    groups: dict[str, dict] = {}
    for name, parameter in model.named_parameters():
        in_backbone = id(parameter) in backbone
        vector = parameter.ndim < 2 or id(parameter) in norms or name.endswith(("bias", "biases"))
        label = f"{'backbone' if in_backbone else 'rest'}/{'no decay' if vector else 'decay'}"
        group = groups.setdefault(
            label,
            {
                "name": label,
                "params": [],
                "lr": lr * (backbone_lr_ratio if in_backbone else 1.0),
                "weight_decay": 0.0 if vector else weight_decay,
            },
        )
        group["params"].append(parameter)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise OptionError("freeze: every parameter of the model is frozen, nothing is left to train.")
    return [groups[label] for label in sorted(groups)]


def build_optimizer(name: str, groups: list[dict], *, momentum: float) -> torch.optim.Optimizer:
    """'AdamW', 'Adam', 'SGD' (Nesterov), or 'auto', which is AdamW: DETR-family detectors hardly learn with SGD.

    `momentum` is SGD's momentum and Adam's first beta. Every group keeps its rate as `initial_lr` for the schedule.
    """
    device = groups[0]["params"][0].device
    fused = device.type in ("cpu", "cuda")  # one pass over all parameters instead of a loop, on the CPU too
    match name.lower():
        case "adamw" | "auto":
            optimizer = torch.optim.AdamW(groups, betas=(momentum, 0.999), fused=fused)
        case "adam":
            optimizer = torch.optim.Adam(groups, betas=(momentum, 0.999), fused=fused)
        case "sgd":
            optimizer = torch.optim.SGD(groups, momentum=momentum, nesterov=momentum > 0, fused=fused)
        case _:
            raise OptionError(f"optimizer={name!r}: expected AdamW, Adam, SGD or auto.")
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def learning_rate_factor(update: int, *, warmup: int, total: int, lrf: float, cosine: bool) -> float:
    """Factor on the learning rate of the `update`-th optimiser step, counting from 0.

    Rises linearly to 1 over `warmup` steps, then falls to `lrf` at step `total`: along a line, or half a cosine wave.
    With `lrf=1` it stays at 1, as in the RT-DETR paper.
    """
    if update < warmup:
        return (update + 1) / warmup
    done = min((update - warmup) / max(total - warmup, 1), 1.0)
    if cosine:
        done = (1 - math.cos(math.pi * done)) / 2
    return 1.0 + (lrf - 1.0) * done


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group to `factor` times its initial rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


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
