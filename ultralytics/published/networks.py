"""Networks and functions of tensors as custom training scripts of the published package use them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.cfg.model_yaml import load_model_yaml
from ultralytics.engine.checkpoint import load_model_weights, load_network
from ultralytics.engine.model import Model
from ultralytics.nn.exported_model import ExportedModel
from ultralytics.nn.formats import find_format
from ultralytics.nn.head_protocol import can_augment
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER
from ultralytics.utils.callbacks.base import EVENTS
from ultralytics.utils.callbacks.loggers import LOGGERS, LoggerCallback
from ultralytics.utils.checks import is_installed
from ultralytics.utils.errors import ModelConfigError, OptionError
from ultralytics.utils.flops import count_operations, get_flops
from ultralytics.utils.ops import box_iou, scale_boxes, xyxy2xywh
from ultralytics.utils.torch_utils import autocast, clock, get_num_params, half_dtype, select_device


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
    """Return the content of a weights file with a network as its `model`, and its path; no code in it is run."""
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


class AutoBackend(nn.Module):
    """Run weights, a network or an exported model: images (B, 3, H, W), RGB in 0..1, to raw predictions.

    Args:
        model: file, or network; `weights` is its earlier name.
        fp16: half precision, for weights on a GPU only; an exported model has that of its export.

    Attributes:
        pt: whether it is a network, and no exported model.
        names, stride, device, fp16, task: of the model.
    """

    task = "detect"

    def __init__(
        self, model: Any = "yolo11n.pt", device: torch.device | str = "cpu", dnn: bool = False, data: Any = None,
        fp16: bool = False, fuse: bool = True, verbose: bool = True, *, weights: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        given = model if weights is None else weights
        self.pt, self.device = isinstance(given, nn.Module) or find_format(str(given)) is None, torch.device(device)
        if dnn or (fp16 and not (self.pt and self.device.type == "cuda")):
            raise OptionError(f"AutoBackend: dnn={dnn}, fp16={fp16}: expected False; export with half=True instead")
        if isinstance(given, nn.Module):
            self.model = (given.fuse() if fuse else given).to(self.device).eval()
        else:
            load = partial(attempt_load_weights, fuse=fuse) if self.pt else ExportedModel
            self.model = load(given, self.device)
        self.model, self.fp16 = self.model.half() if fp16 else self.model, fp16
        self.names, self.stride = self.model.names, int(max(self.model.stride))

    def forward(self, im: Tensor, augment: bool = False, visualize: Any = False, embed: Any = None) -> Any:
        """Return what the network returns; of an exported model only its predictions."""
        im = im.half() if self.fp16 else im
        if augment and can_augment(self.model):
            return self.model(im, augment=True)
        found = self.model.predict(im, visualize=visualize or None, embed=embed)
        return found if self.pt else found[0]

    def warmup(self, imgsz: Sequence[int] = (1, 3, 640, 640)) -> None:
        """Run the model once, on zeros of the shape `imgsz`."""
        with torch.inference_mode():
            self(torch.zeros(*imgsz, device=self.device))


def get_default_callbacks() -> dict[str, list[Callable[[object], None]]]:
    """Return an empty list of functions for each event."""
    return {event: [] for event in EVENTS}


default_callbacks = get_default_callbacks()


def logger_callbacks(name: str) -> dict[str, Callable[[Any], None]]:
    """Return the functions of a tracker (option `loggers`, or `wb`) by event; the first called opens its run.

    Under `callbacks` there are all of them, or none if the package of the tracker is not installed.
    """
    kind = LOGGERS[name.replace("wb", "wandb")]

    def opened(trainer: Any) -> LoggerCallback:
        loggers = vars(trainer).setdefault("_loggers", {})
        if name not in loggers:
            loggers[name] = kind()
            loggers[name]._on_start(trainer)
        return loggers[name]

    def on_train_epoch_end(trainer: Any) -> None:
        opened(trainer).attempt(opened(trainer).log_metrics, {**trainer.losses, **trainer.lr}, trainer.epoch + 1)

    def on_fit_epoch_end(trainer: Any) -> None:
        opened(trainer)._on_epoch(trainer)

    def on_train_end(trainer: Any) -> None:
        opened(trainer)._on_end(trainer)
        opened(trainer).attempt(opened(trainer).close, "finished")

    functions = {function.__name__: function for function in (on_train_epoch_end, on_fit_epoch_end, on_train_end)}
    return {**functions, "callbacks": functions if is_installed(kind.name) else {}}


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


def check_amp(model: nn.Module) -> bool:
    """Check whether mixed precision is used on the device of a network: on CUDA."""
    return half_dtype(next(model.parameters()).device) is not None


def convert_optimizer_state_dict_to_fp16(state_dict: dict[str, Any]) -> dict[str, Any]:
    """Convert float32 in the state of an optimizer, not the moments of Adam, to half precision in place; return it."""
    for state in state_dict["state"].values():
        for name in state.keys() - {"step", "exp_avg", "exp_avg_sq", "square_avg"}:
            state[name] = state[name].half() if getattr(state[name], "dtype", 0) is torch.float32 else state[name]
    return state_dict


def model_info_for_loggers(trainer: Any) -> dict[str, float]:
    """Return parameters, GFLOPs, and the ms of inference for an image in the last validation."""
    size, flops = get_num_params(trainer.model), round(get_flops(trainer.model, trainer.args.imgsz), 3)
    speed = round(trainer.validator.speed["inference"], 3)
    return {"model/parameters": size, "model/GFLOPs": flops, "model/speed_PyTorch(ms)": speed}


def attempt_compile(
    model: nn.Module, device: torch.device, imgsz: int = 640, use_autocast: bool = False, warmup: bool = False,
    mode: bool | str = "default",
) -> nn.Module:  # fmt: skip
    """Return a network wrapped in torch.compile in a mode, after `warmup` compiled for `imgsz`; False: as it is."""
    model = torch.compile(model, mode="default" if mode is True else mode) if mode else model
    if mode and warmup:
        with torch.inference_mode(), autocast(use_autocast, device=device.type):
            model(torch.zeros(1, 3, imgsz, imgsz, device=device))
    return model


def unset_deterministic() -> None:
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False


class TorchNMS:
    """Return the indices of the boxes (n, 4) that are kept, by descending score."""

    @staticmethod
    def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
        """Suppress each box that overlaps a kept one."""
        return importlib.import_module("torchvision.ops").nms(boxes, scores, iou_threshold)

    @staticmethod
    def fast_nms(
        boxes: Tensor, scores: Tensor, iou_threshold: float, use_triu: bool = True, iou_func: Any = box_iou,
        exit_early: bool = True,
    ) -> Tensor:  # fmt: skip
        """Suppress each box that overlaps any of a higher score, at once (https://arxiv.org/abs/1904.02689)."""
        order = scores.argsort(descending=True)
        return order[~(iou_func(boxes[order], boxes[order]).triu(1) >= iou_threshold).any(0)]


class AGLU(nn.Module):
    """Compute exp(softplus(kappa * x - log(lambda)) / lambda), https://arxiv.org/abs/2402.01369."""

    def __init__(self, device: Any = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.lambd, self.kappa = (nn.Parameter(torch.rand(1, device=device, dtype=dtype)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the unit to each value."""
        lambd = self.lambd.clamp(min=0.0001)
        return torch.exp(F.softplus(self.kappa * x - lambd.log()) / lambd)


def output_to_target(output: Sequence[Tensor], max_det: int = 300) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return image index, class, box cx, cy, w, h and score of the detections (n, 6) of each image."""
    rows = [table[:max_det].cpu() for table in output]
    index, table = torch.cat([table.new_full((len(table),), i) for i, table in enumerate(rows)]), torch.cat(rows)
    return index, table[:, 5], xyxy2xywh(table[:, :4]), table[:, 4]


def convert_torch2numpy_batch(batch: Tensor) -> np.ndarray:
    """Convert images (B, 3, H, W) in 0..1 to (B, H, W, 3) uint8."""
    return (batch.permute(0, 2, 3, 1) * 255).clamp(0, 255).byte().cpu().numpy()


check_torchvision = partial(__import__, "torchvision")  # the import raises where it does not fit torch


def clip_coords(coords: Any, shape: Sequence[int]) -> Any:
    """Clip points x, y in place at the border of an image of `shape` (height, width)."""
    coords[..., 0], coords[..., 1] = coords[..., 0].clip(0, shape[1]), coords[..., 1].clip(0, shape[0])
    return coords


def segments2boxes(segments: Sequence[np.ndarray]) -> np.ndarray:
    """Return the upright box cx, cy, w, h around each outline (n, 2)."""
    return xyxy2xywh(np.array([[*points.min(0), *points.max(0)] for points in segments], np.float32).reshape(-1, 4))


def scale_coords(
    img1_shape: tuple[int, int], coords: Tensor, img0_shape: tuple[int, int], ratio_pad: Any = None,
    normalize: bool = False, padding: bool = True,
) -> Tensor:  # fmt: skip
    """Move points (..., 2) in place from the letterboxed image of shape `img1_shape` to that of `img0_shape`."""
    points = coords[..., :2].reshape(-1, 2)
    moved = scale_boxes(img1_shape, torch.cat((points, points), -1), img0_shape, ratio_pad, padding)[:, :2]
    moved /= moved.new_tensor([img0_shape[1], img0_shape[0]]) if normalize else 1
    coords[..., :2] = moved.view_as(coords[..., :2])
    return coords


torch_load, torch_save = torch.load, torch.save


def get_gpu_info(index: int) -> str:
    """Return the name and the memory of a GPU: "Tesla T4, 15095MiB"."""
    properties = torch.cuda.get_device_properties(index)
    return f"{properties.name}, {properties.total_memory / 2**20:.0f}MiB"


def profile_ops(
    input: Tensor | list[Tensor], ops: Any, n: int = 10, device: Any = None, max_num_obj: int = 0
) -> list[list[Any] | None]:
    """Return and log parameters, GFLOPs, GiB, ms of forward and backward, and shapes; None where a module fails."""
    device, rows = select_device(device), []
    for x in input if isinstance(input, list) else [input]:
        x = x.to(device).requires_grad_()
        for op in ops if isinstance(ops, list) else [ops]:
            try:
                op, times = op.to(device), []
                for _ in range(n):
                    start, y = clock(device), op(x)
                    middle = clock(device)
                    sum(part.sum() for part in (y if isinstance(y, (list, tuple)) else [y])).backward()
                    times.append((middle - start, clock(device) - middle))
                shapes = [tuple(t.shape) if isinstance(t, Tensor) else "list" for t in (x, y)]
                size = get_num_params(op), count_operations(deepcopy(op).eval(), x)[0]
                times = (1e3 * np.mean(times, 0)).tolist()
                rows.append([*size, torch.cuda.memory_reserved() / 2**30, *times, *shapes])
                LOGGER.info(rows[-1])
            except (RuntimeError, ValueError, TypeError, AttributeError) as error:
                LOGGER.info(error)
                rows.append(None)
    return rows
