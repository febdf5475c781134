"""What is trained and how fast: parameter groups, optimisers, and the learning-rate schedule."""

from __future__ import annotations

import math

import torch
from torch import nn

from ultralytics.engine.freezing import NORM_TYPES, freeze_layers
from ultralytics.utils.ema import ModelEMA
from ultralytics.utils.errors import OptionError

__all__ = ["ModelEMA", "build_optimizer", "freeze_layers", "learning_rate_factor", "param_groups", "set_learning_rate"]


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
