"""Parameter groups, optimizer, learning rate schedule and frozen layers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn

from ultralytics.utils.errors import OptionError, did_you_mean

NORM_TYPES = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm)


def param_groups(
    model: nn.Module, *, lr: float, weight_decay: float, backbone_lr_ratio: float, biases: bool = False
) -> list[dict]:
    """Return up to four groups, backbone/rest by decay/no decay, each with `name`, `params`, `lr`, `weight_decay`.

    With `biases` these are groups of their own, and the backbone is separate only if its rate differs.

    As in the official RT-DETR configuration: norms, biases and other vectors (also tables of attention biases) have no
    weight decay, embeddings have; the backbone, the layers in `model.backbone_layers`, learns at `backbone_lr_ratio`
    of the rate. Frozen parameters are included: they have no gradient until a callback unfreezes them.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise OptionError("freeze: every parameter of the model is frozen, nothing is left to train.")
    norms = {id(p) for m in model.modules() if isinstance(m, NORM_TYPES) for p in m.parameters(recurse=False)}
    backbone = {id(p) for index in model.backbone_layers for p in model.model[index].parameters()}
    groups: dict[str, dict] = {}
    for name, parameter in model.named_parameters():
        in_backbone = id(parameter) in backbone
        is_vector = parameter.ndim < 2 or id(parameter) in norms or name.endswith(("bias", "biases"))
        kind = "bias" if biases and name.endswith("bias") else "no decay" if is_vector else "decay"
        label = kind if biases and backbone_lr_ratio == 1 else f"{'backbone' if in_backbone else 'rest'}/{kind}"
        rate, decay = lr * (backbone_lr_ratio if in_backbone else 1.0), 0.0 if is_vector else weight_decay
        group = groups.setdefault(label, {"name": label, "params": [], "lr": rate, "weight_decay": decay})
        group["params"].append(parameter)
    order = [f"{part}{kind}" for part in ("", "backbone/", "rest/") for kind in ("decay", "no decay", "bias")]
    return [groups[label] for label in order if label in groups]


def build_optimizer(name: str, groups: list[dict], *, momentum: float) -> torch.optim.Optimizer:
    """Build an optimizer of torch by its name, or 'auto', which is AdamW: DETR-family detectors hardly learn with SGD.

    `momentum` is the momentum of SGD (Nesterov) and RMSProp, and the first beta of the others.
    """
    if name == "SGD":
        return torch.optim.SGD(groups, momentum=momentum, nesterov=momentum > 0, fused=True)
    if name == "RMSProp":
        return torch.optim.RMSprop(groups, momentum=momentum)
    fused = {} if name in ("Adamax", "NAdam", "RAdam") else {"fused": True}
    return getattr(torch.optim, name.replace("auto", "AdamW"))(groups, betas=(momentum, 0.999), **fused)


@dataclass(frozen=True)
class Schedule:
    """Learning rate schedule: linear warm-up, then a decay to `lrf` (1 in the paper) along a line or half a cosine."""

    total: int  # optimizer steps of the run
    warmup: int  # of these
    lrf: float = 1.0  # final factor
    cosine: bool = False
    accumulate: int = 1  # batches of an optimizer step
    unit = "update"  # in which the warm-up is counted

    def __str__(self) -> str:
        return f"steps: {self.total}, {self.warmup} of them warm-up"

    def factor(self, update: int) -> float:
        """Return the factor on the initial learning rate for an optimizer step, counting from 0."""
        if update < self.warmup:
            return (update + 1) / self.warmup
        return self.decay(min((update - self.warmup) / max(self.total - self.warmup, 1), 1.0))

    def decay(self, done: float) -> float:
        """Return the factor after a part `done`, 0..1, of the decay."""
        if self.cosine:
            done = (1 - math.cos(math.pi * done)) / 2
        return 1.0 + (self.lrf - 1.0) * done

    def batches(self, batch: int) -> int:
        """Return the number of batches of the step that contains a batch, counted from the start of the run."""
        return self.accumulate

    def set_rates(self, groups: list[dict], *, update: int, batch: int, scale: float = 1.0) -> None:
        """Set the learning rate of the parameter groups for a step, `scale` times as large, before its last batch."""
        for group in groups:
            group["lr"] = group["initial_lr"] * self.factor(update) * scale


@dataclass(frozen=True, kw_only=True)
class EpochSchedule(Schedule):
    """Schedule of the published YOLO recipe: the rate decays from epoch to epoch, and the warm-up counts batches.

    In the warm-up the rate of biases falls from `bias_rate` and all others rise from 0, the momentum of SGD rises, and
    gradients are accumulated over more and more batches. Numbers measured in release 8.4.190 are in the test.
    """

    epochs: int
    per_epoch: int  # batches
    bias_rate: float
    momentum: tuple[float, float]  # at the start and from the end of the warm-up
    unit = "batch"

    def __str__(self) -> str:
        return f"epochs: {self.epochs}, warm-up in the first {self.warmup} batches"

    def warmed(self, batch: int) -> float:
        """Return the part 0..1 of the warm-up that is done."""
        return min(batch / self.warmup, 1.0) if self.warmup else 1.0

    def batches(self, batch: int) -> int:
        """Return the number of batches of a step: 1 at the start, `accumulate` from the end of the warm-up."""
        return max(round(1 + (self.accumulate - 1) * self.warmed(batch)), 1)

    def set_rates(self, groups: list[dict], *, update: int, batch: int, scale: float = 1.0) -> None:
        """Set learning rate and momentum of the parameter groups."""
        factor, warmed = self.decay(batch // self.per_epoch / self.epochs), self.warmed(batch)
        for group in groups:
            start = self.bias_rate if group.get("name", "").endswith("bias") else 0.0
            group["lr"] = scale * (start + (group["initial_lr"] * factor - start) * warmed)
            if "momentum" in group:
                group["momentum"] = self.momentum[0] + (self.momentum[1] - self.momentum[0]) * warmed


def freeze_layers(model: nn.Module, freeze: int | str | Sequence[int | str] | None) -> list[nn.Module]:
    """Freeze the parameters selected by the option `freeze`. Raise OptionError if a part of it matches nothing.

    Args:
        model: has its layers in `model.model` and the indices of the backbone in `model.backbone_layers`.
        freeze: a number n for the first n layers, or one or several (comma-separated text, or list) of: a layer by its
            index (0) or its name in the model YAML; `backbone`; a prefix of parameter names (`model.0.blocks1`); a
            pattern of parameter names (`*.attn.*`).

    Returns:
        The normalization layers that are frozen entirely; keep them in eval mode to freeze their statistics, too.
    """
    if freeze is None:
        return []
    if isinstance(freeze, str):
        freeze = [word.strip().strip("'\"") for word in freeze.strip().strip("[]").split(",")]
    if isinstance(freeze, int) and freeze > len(model.model):
        raise OptionError(f"freeze={freeze}: expected at most {len(model.model)}, the number of the model's layers")
    entries = range(freeze) if isinstance(freeze, int) else freeze
    frozen = {name for entry in entries for name in _select(model, str(entry))}
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    frozen_norms = []
    for path, norm in model.named_modules():
        if isinstance(norm, NORM_TYPES):
            own = dict(norm.named_parameters()) or dict(norm.named_buffers())  # without affine=True only statistics
            if {f"{path}.{name}" for name in own} <= frozen:
                frozen_norms.append(norm)
    return frozen_norms


def _select(model: nn.Module, entry: str) -> list[str]:
    """Return the names of the parameters and buffers that an entry of `freeze` selects."""
    layers = {str(index): f"model.{index}" for index in range(len(model.model))}
    layers |= {layer.row_name: f"model.{i}" for i, layer in enumerate(model.model) if getattr(layer, "row_name", None)}
    names = list(model.state_dict())
    prefixes = [layers.get(entry, entry.rstrip("."))]
    if entry == "backbone":
        prefixes = [f"model.{index}" for index in model.backbone_layers]
    found = [name for name in names if f"{name}.".startswith(tuple(f"{prefix}." for prefix in prefixes))]
    found = found or [name for name in names if fnmatchcase(name, entry)]
    if found or entry in layers:  # a layer may have no parameters
        return found
    known = {*layers, "backbone", *(path for path, _ in model.named_modules()), *names, *".".join(names).split(".")}
    raise OptionError(
        f"freeze: {entry!r} matches no parameter; expected the index (below {len(model.model)}) or name of a layer, "
        "`backbone`, a prefix (model.0.) or a pattern (*.attn.*) of parameter names"
        f"{'' if entry.isdecimal() else did_you_mean(entry.strip('*.'), known)}"
    )
