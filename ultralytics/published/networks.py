"""Networks, losses and timing as custom training scripts of the published package use them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.cfg.model_yaml import load_model_yaml
from ultralytics.engine import train_state
from ultralytics.engine.autobatch import choose_batch, random_batch, step_memory
from ultralytics.engine.checkpoint import load_model_weights, load_network
from ultralytics.engine.model import Model
from ultralytics.losses.yolo import DetectionLoss, DualAssignmentLoss
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.callbacks.base import EVENTS, Callbacks
from ultralytics.utils.callbacks.loggers import LOGGERS
from ultralytics.utils.errors import MissingPackageError, ModelConfigError
from ultralytics.utils.torch_utils import half_dtype


class EarlyStopping(train_state.EarlyStopping):
    """Stop a run whose fitness has not improved for `patience` epochs: `stop = stopper(epoch, fitness)`."""

    def __init__(self, patience: int = 50) -> None:
        super().__init__(patience)
        self.possible_stop = False

    def __call__(self, epoch: int, fitness: float | None) -> bool:
        """Record the fitness of an epoch; return whether to stop. None, of an epoch without validation, never stops."""
        if fitness is None:
            return False
        self.update(epoch, fitness)
        self.possible_stop = bool(self.patience) and epoch - self.best_epoch >= self.patience - 1
        return bool(self.reason(epoch))


def guess_model_task(model: Any) -> str:
    """Return "detect" for a network, a `Model`, weights, or a model file or its content; raise UserError for others."""
    if isinstance(model, DetectionModel | nn.Sequential | Model):
        return "detect"
    if isinstance(model, Mapping) or str(model).endswith((".yaml", ".yml")):
        load_model_yaml(model)
    elif isinstance(model, nn.Module):
        raise ModelConfigError(f"guess_model_task: got {type(model).__name__}, expected a detector")
    else:
        load_model_weights(model)
    return "detect"


def torch_safe_load(weight: str | Path, safe_only: bool = True) -> tuple[dict[str, Any], str]:
    """Return the content of a weights file with a network as its `model`, as published files have, and its path.

    Code in the file is never run, whatever `safe_only`.
    """
    content = load_model_weights(weight)
    return {**content, "model": load_network(content, DetectionModel, origin=weight), "ema": None}, str(weight)


def load_checkpoint(
    weight: str | Path, device: torch.device | str | None = None, inplace: bool = True, fuse: bool = False
) -> tuple[DetectionModel, dict[str, Any]]:
    """Return the network of a weights file, in float32 and eval mode, and the content of the file."""
    content, _ = torch_safe_load(weight)
    network = content["model"].to(device or "cpu").float().eval()
    return (network.fuse() if fuse else network), content


def attempt_load_weights(
    weights: str | Path, device: torch.device | str | None = None, inplace: bool = True, fuse: bool = False
) -> DetectionModel:
    """Return the network of a weights file, in float32 and eval mode. Several files, an ensemble, are not supported."""
    if isinstance(weights, (list, tuple)):
        if len(weights) != 1:
            raise ModelConfigError(f"attempt_load_weights: got {len(weights)} files, expected one: no ensembles")
        (weights,) = weights
    return load_checkpoint(weights, device, fuse=fuse)[0]


class v8DetectionLoss(DetectionLoss):
    """Loss of YOLO for `criterion = v8DetectionLoss(model)`: the terms times the number of images, and the items.

    `tal_topk` and `tal_topk2` are the predictions per box, before and after conflicts are resolved.
    """

    def __init__(self, model: nn.Module, tal_topk: int = 10, tal_topk2: int | None = None) -> None:
        head, options = model.model[-1], getattr(model, "args", None)
        gains = {name: getattr(options, name) for name in ("box", "cls", "dfl") if hasattr(options, name)}
        super().__init__(head.nc, head.reg_max, head.stride.tolist(), **gains, topk=tal_topk, topk2=tal_topk2)

    def forward(self, preds: Any, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Compute the terms of raw predictions, or of the output in eval mode: (3,) and (3,), the latter detached."""
        preds = preds[1] if isinstance(preds, tuple) else preds
        terms = self.terms(preds.get("one2many", preds) if isinstance(preds, Mapping) else preds, batch)
        return torch.stack([*terms.values()]) * len(batch["img"]), self.loss_items(terms)

    terms = DetectionLoss.forward


class E2ELoss(nn.Module):
    """Loss of a YOLO with two branches, for `criterion = E2ELoss(model)`; returns what `v8DetectionLoss` returns."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.both = DualAssignmentLoss.from_options(getattr(model, "args", None), model.model[-1])

    def forward(self, preds: Any, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Compute the weighted terms of both branches, and the items of the one-to-one branch."""
        terms = self.both(preds[1] if isinstance(preds, tuple) else preds, batch)
        return torch.stack([*terms.values()]) * len(batch["img"]), self.both.loss_items(terms)


def autobatch(
    model: nn.Module, imgsz: int = 640, fraction: float = 0.6, batch_size: int = 16, max_num_obj: int = 1
) -> int:
    """Return the largest batch whose training step needs a `fraction` of the free GPU memory; `batch_size` on a CPU."""
    device = next(model.parameters()).device
    if device.type != "cuda":
        return batch_size

    def measure(images: int) -> int:
        batch = random_batch(images, imgsz, max_num_obj, model.nc, device)
        return step_memory(model, device, half_dtype(device), batch)

    free, _ = torch.cuda.mem_get_info(device)
    return choose_batch(measure, budget=int(free * fraction), images=1024)


def check_train_batch_size(
    model: nn.Module, imgsz: int = 640, amp: bool = True, batch: float = -1, max_num_obj: int = 1
) -> int:
    """Call `autobatch` with a `batch` between 0 and 1 as the fraction of the memory."""
    return autobatch(model, imgsz, batch if 0 < batch < 1 else 0.6, max_num_obj=max_num_obj)


def get_default_callbacks() -> dict[str, list[Callable[[object], None]]]:
    """Return an empty list of functions for each event."""
    return {event: [] for event in EVENTS}


default_callbacks = get_default_callbacks()


def logger_callbacks(name: str) -> dict[str, Callable[[object], None]]:
    """Return the functions of a tracker (option `loggers`) by event; none if its package is not installed."""
    attached = Callbacks()
    try:
        LOGGERS[name]().attach(attached)
    except MissingPackageError:
        return {}
    return {event: functions[0] for event, functions in attached.items() if functions}


def add_integration_callbacks(instance: Any) -> None:
    """Attach nothing: a training run attaches the trackers that are on in `settings`, or named by `loggers`, itself."""


def benchmark(
    model: str | Path, data: str | None = None, imgsz: int = 160, half: bool = False, int8: bool = False,
    device: Any = "cpu", verbose: bool | float = False, eps: float = 1e-3, format: str = "",
) -> None:  # fmt: skip
    """Export weights in every format, or one, in the precision of `half` or `int8`; log and save speed and accuracy.

    `verbose`, a lowest mAP, and `eps`, a part of a number of the published table, are not used.
    """
    from ultralytics.models.benchmark import run_benchmark

    formats = {"formats": ["pytorch", format]} if format else {}
    run_benchmark(Model, str(model), data, precisions="int8" if int8 else "float16" if half else "float32",
                  imgsz=imgsz, device=device, **formats)  # fmt: skip
