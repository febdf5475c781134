"""Devices, seeds, mixed precision, the average of the weights (EMA), and folding of BatchNorm."""

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ContextDecorator, contextmanager, nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.utils.deterministic
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ultralytics.utils import LOGGER
from ultralytics.utils.checks import normalize_device
from ultralytics.utils.dist import local_rank, started_by_torchrun
from ultralytics.utils.errors import DeviceError, WeightsError
from ultralytics.utils.flops import get_flops, model_info  # noqa: F401 - public import path
from ultralytics.utils.ops import make_divisible  # noqa: F401 - public import path
from ultralytics.utils.public import public_names

__getattr__ = public_names(__name__)

Device = str | int | Sequence[int] | torch.device | None


def select_device(device: Device = None, batch: int = 0, newline: bool = False, verbose: bool = False) -> torch.device:
    """Return the torch device for 'cpu', 'mps', 0, '0', 'cuda:0', [0] or a torch device; None is the first GPU or CPU.

    In distributed training, each process gets its own device: '0,1' by local rank, None the GPU of the local rank.
    `verbose` logs its name, `newline` with an empty line; `batch` is checked to be a multiple of the number of devices.
    Raises DeviceError if the device does not exist, or if several are given outside of training.

    Examples:
        >>> select_device("cpu")
        device(type='cpu')
    """
    name = _device_name(device)
    if batch > 0 and batch % count_devices(device):
        raise DeviceError(f"batch={batch}: expected a multiple of the {count_devices(device)} devices in {device!r}.")
    if "," in name and started_by_torchrun():
        names = name.split(",")
        if local_rank() >= len(names):
            count, process = len(names), local_rank() + 1
            raise DeviceError(f"device={name!r}: {count} devices for process {process}; give one for each.")
        name = names[local_rank()]
    name = name or (str(local_rank()) if torch.cuda.is_available() else "cpu")
    check_devices(name)
    if "," in name:
        raise DeviceError(f"device={device!r}: only training supports several devices; use one, such as device='0'.")
    chosen = torch.device(name) if name in ("cpu", "mps") else torch.device("cuda", int(name))
    if verbose:
        LOGGER.info(describe_device(chosen) + "\n" * newline)
    return chosen


def check_devices(device: Device) -> None:
    """Raise DeviceError if one of the devices does not exist."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = _device_name(device).split(",")
    if "mps" in names and not torch.backends.mps.is_available():
        raise DeviceError(f"device={device!r}: no Apple GPU is available to torch; use device='cpu'.")
    if any(name.isdecimal() and int(name) >= count for name in names):
        found = f"{count} CUDA device(s), from 0, are" if count else "no CUDA device is"
        raise DeviceError(f"device={device!r}: {found} available to torch {torch.__version__}; use device='cpu'.")


def count_devices(device: Device) -> int:
    """Return the number of devices: 2 for '0,1'."""
    return _device_name(device).count(",") + 1


def _device_name(device: Device) -> str:
    """Return the name of `normalize_device`, or '' for automatic selection."""
    try:
        return "" if device in (None, "") else normalize_device(device)
    except ValueError as error:
        raise DeviceError(f"device={device!r}: expected 'cpu', 'mps' or a GPU index such as '0'{error}.") from None


def describe_device(device: torch.device) -> str:
    """Return a name for the log, such as `CPU (2 threads)` or `CUDA 0 (NVIDIA A100, 40 GB)`."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"CUDA {device.index or 0} ({properties.name}, {properties.total_memory / 2**30:.0f} GB)"
    return f"CPU ({torch.get_num_threads()} threads)" if device.type == "cpu" else device.type.upper()


def clock(device: torch.device) -> float:
    """Return the time in seconds after all work queued on `device` has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Profile(ContextDecorator):
    """Add up, in `t`, the seconds of a block or function with the work queued on a device; `dt` is the last of them."""

    def __init__(self, t: float = 0.0, device: torch.device | str | None = None) -> None:
        self.t, self.dt, self.device = t, 0.0, torch.device(device or "cpu")

    def __enter__(self) -> "Profile":
        self.start = clock(self.device)
        return self

    def __exit__(self, *error: object) -> None:
        self.dt = clock(self.device) - self.start
        self.t += self.dt


class Stopwatch:
    """Seconds of each stage of prediction or validation: `with watch("inference"): ...` adds to a stage."""

    def __init__(self, device: torch.device, *more: str) -> None:
        self.stages = {stage: Profile(device=device) for stage in ("preprocess", "inference", *more, "postprocess")}

    def __call__(self, stage: str) -> Profile:
        return self.stages[stage]

    @property
    def seconds(self) -> dict[str, float]:
        return {stage: profile.t for stage, profile in self.stages.items()}

    def per_image(self, images: int) -> dict[str, float]:
        """Return milliseconds per image by stage."""
        return {stage: 1000 * seconds / max(images, 1) for stage, seconds in self.seconds.items()}


def time_sync() -> float:
    """Return the time in seconds after all work queued on the current GPU has finished."""
    return clock(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def init_seeds(*seed: int, deterministic: bool = False) -> None:
    """Seed Python, NumPy and torch; several numbers (seed, rank, epoch) are mixed into one seed.

    `deterministic`, also as the last position, selects deterministic algorithms for the rest of the process.
    """
    if seed and isinstance(seed[-1], bool):
        *seed, deterministic = seed
    seed = seed or (0,)
    if deterministic:
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    mixed = seed[0] if len(seed) == 1 else int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1)
    random.seed(mixed)
    np.random.seed(mixed % 2**32)
    torch.manual_seed(mixed % 2**63)


@contextmanager
def deterministic_algorithms(enabled: bool) -> Iterator[None]:
    """Use deterministic algorithms inside the block, and restore the settings of torch afterwards.

    On CPU, equal seeds then give bit-identical results. On CUDA, the backward pass of `grid_sample` (deformable
    attention) has no deterministic algorithm; torch warns.
    """
    mode = torch.get_deterministic_debug_mode()  # 0: off, 1: warn, 2: error
    cudnn, deterministic = torch.backends.cudnn, torch.utils.deterministic
    before = deterministic.fill_uninitialized_memory, cudnn.deterministic, cudnn.benchmark
    torch.set_deterministic_debug_mode("warn" if enabled else "default")
    deterministic.fill_uninitialized_memory = False  # slow, and useful only for debugging
    cudnn.deterministic, cudnn.benchmark = enabled, not enabled
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        deterministic.fill_uninitialized_memory, cudnn.deterministic, cudnn.benchmark = before


def autocast(
    on: torch.device | bool = True, dtype: Any = None, *, enabled: bool | None = None, device: str | None = None
) -> AbstractContextManager:
    """Return the context of mixed precision on a device, in `dtype`; None disables it.

    Or, as published, `autocast(enabled, device="cuda")`, in the type of `half_dtype`.
    """
    if isinstance(on, bool):
        on, enabled, dtype = torch.device(device or dtype or "cuda"), on if enabled is None else enabled, None
        dtype = (half_dtype(on) or torch.bfloat16) if enabled else None
    return torch.autocast(on.type, dtype=dtype, enabled=dtype is not None)


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Return a context that switches mixed precision off if it is on."""
    enabled = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if enabled else nullcontext()


def half_dtype(device: torch.device) -> torch.dtype | None:
    """Return the 16-bit type for mixed precision: bfloat16 if the GPU supports it, else float16; None without CUDA."""
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def compiled(network: nn.Module) -> Callable[..., Any]:
    """Return `network` wrapped in torch.compile; exported models, which have no parameters, are returned unchanged.

    Compilation takes a minute or more at the first call, and again for other image sizes. If it fails, torch logs why
    and continues in eager mode.
    """
    if next(network.parameters(), None) is None:
        LOGGER.warning("compile=True has no effect on an exported model")
        return network
    import torch._dynamo

    torch._dynamo.config.suppress_errors = True
    # By default, compiled code has its own random numbers, and a seed would not reproduce an eager run.
    return torch.compile(network, options={"fallback_random": True})


def is_parallel(model: nn.Module) -> bool:
    """Return whether the model is wrapped in DataParallel or DistributedDataParallel."""
    return isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel)


def get_num_params(model: nn.Module, trained: bool = False) -> int:
    """Return the number of parameters, or only of those with gradients."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trained)


def get_num_gradients(model: nn.Module) -> int:
    """Return the number of parameters with gradients."""
    return get_num_params(model, trained=True)


def checksum(model: nn.Module) -> float:
    """Return a number that changes with the parameters."""
    return sum(float(p.detach().cpu().double().sum()) for p in model.parameters())


def is_edited(model: nn.Module | None, before: float) -> bool:
    """Return whether the checksum of a network is not that of before; False without one, and for a fused one."""
    return model is not None and not getattr(model, "fused", False) and checksum(model) != before


def copy_attr(a: object, b: object, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
    """Copy public attributes of `b` to `a`, only those in `include` if it is not empty, and none in `exclude`."""
    for key, value in vars(b).items():
        if not key.startswith("_") and key not in exclude and (not include or key in include):
            setattr(a, key, value)


def intersect_dicts(
    da: Mapping[str, Tensor], db: Mapping[str, Tensor], exclude: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Return the entries of `da` that `db` has with the same shape, and whose key contains none of `exclude`."""
    same = {key: value for key, value in da.items() if key in db and value.shape == db[key].shape}
    return {key: value for key, value in same.items() if not any(part in key for part in exclude)}


def smart_inference_mode() -> AbstractContextManager:
    """Return a decorator that runs a function in inference mode."""
    return torch.inference_mode()


def one_cycle(y1: float = 0.0, y2: float = 1.0, steps: int = 100) -> Callable[[float], float]:
    """Return a function that goes from y1 to y2 over `steps` along half a cosine."""
    return lambda x: y1 + (y2 - y1) * (1 - math.cos(x * math.pi / steps)) / 2


def de_parallel(model: nn.Module) -> nn.Module:
    """Return the model inside DataParallel or DistributedDataParallel."""
    return model.module if is_parallel(model) else model


def unwrap_model(model: nn.Module) -> nn.Module:
    """Return the model inside DistributedDataParallel and torch.compile."""
    while (inner := getattr(de_parallel(model), "_orig_mod", de_parallel(model))) is not model:
        model = inner
    return model


def initialize_weights(model: nn.Module, *, keep_outputs: bool = False) -> None:
    """Set BatchNorm to eps 1e-3 and momentum 0.03, as in published models. Weights are not changed.

    With `keep_outputs`, for trained networks, the running variance is shifted so that variance + eps stays the same.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            if keep_outputs and module.track_running_stats:
                module.running_var += module.eps - 1e-3
            module.eps, module.momentum = 1e-3, 0.03


def accept_batches_of_one(model: nn.Module) -> int:
    """Make the batch norms of `model` trainable on batches of one image; return their number.

    torch fails twice there. One value per channel (after global pooling, or P5 at 32 px) has no variance, so torch
    refuses it; here the running statistics normalize it. And on the CPU, a gradient with another memory layout than the
    map (after tokens) gives silently wrong gradients in torch 2.14.1; here it is copied into the map's layout.

    Layers without running statistics are left alone, and so is SyncBatchNorm, which counts the values of all processes.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    norms = [norm for norm in norms if not isinstance(norm, nn.SyncBatchNorm)]
    for norm in norms:
        if _use_running_statistics not in norm._forward_pre_hooks.values():
            norm.register_forward_pre_hook(_use_running_statistics)
            norm.register_forward_hook(_train_again, always_call=True)
    return len(norms)


def _use_running_statistics(norm: _BatchNorm, inputs: tuple[Tensor, ...]) -> None:
    """Put a layer that gets (1, C), (1, C, 1) or (1, C, 1, 1) in training into eval mode for this forward."""
    if norm.training and inputs[0].numel() == norm.num_features:
        norm.training = False
        norm._single_value = True


def _train_again(norm: _BatchNorm, inputs: tuple[Tensor, ...], output: Tensor | None) -> None:
    """Undo `_use_running_statistics`, also after a forward that raised, and align the gradient of a single map."""
    if norm.__dict__.pop("_single_value", False):
        norm.training = True
    if output is not None and output.shape[0] == 1 and output.requires_grad and output.device.type == "cpu":
        strides = output.stride()
        output.register_hook(lambda grad: torch.empty_strided(grad.shape, strides, dtype=grad.dtype).copy_(grad))


SINGLE_IMAGE_HOOKS = (_use_running_statistics, _train_again)


@torch.no_grad()
def fuse_conv_and_bn(conv: nn.Conv2d, bn: nn.BatchNorm2d) -> nn.Conv2d:
    """Fold `bn` in eval mode into a convolution, or a transposed one without groups, in place; return it.

    Computed in float64. The convolution no longer requires gradients.
    """
    in_float64 = (deepcopy(module).double().eval() for module in (conv, bn))
    fused = fuse_conv_bn_eval(*in_float64, isinstance(conv, nn.ConvTranspose2d)).to(conv.weight.dtype)
    conv.weight, conv.bias = fused.weight, fused.bias
    return conv.requires_grad_(False)


fuse_deconv_and_bn = fuse_conv_and_bn


def check_weights(tensors: Mapping[str, Tensor], where: str | Path) -> None:
    """Raise WeightsError, starting with `where`, if a tensor has values that are NaN or infinite."""
    for name, value in tensors.items():
        if value.is_floating_point() and not value.float().isfinite().all():
            raise WeightsError(
                f"{where}, {name} has values that are NaN or infinite. The training that wrote it has diverged; use an "
                "earlier checkpoint."
            )


class ModelEMA:
    """Exponential moving average of a model's weights, in float32; integer buffers (batch counters) are copied.

    The decay grows as `decay * (1 - exp(-updates / tau))`, so that the initial weights are forgotten early
    (official RT-DETR: decay 0.9999, tau 2000). Build it when the model is on its final device: the tensors are
    collected once, which makes an update two fused passes over the weights. Modules with `training_only = True` are
    removed from the average, and so from validation and saved weights.
    """

    enabled = True

    def __init__(self, model: nn.Module, decay: float = 0.9999, tau: float = 2000.0, updates: int = 0) -> None:
        self.ema = without_training_parts(deepcopy(model)).eval().float().requires_grad_(False)
        self.decay = decay
        self.tau = tau
        self.updates = updates
        self._model = model
        average = self.ema.state_dict()
        sources = {name: source for name, source in model.state_dict().items() if name in average}
        # weights shared by two modules have two names, but must be updated once
        pairs = {source.data_ptr() or name: (average[name], source) for name, source in sources.items()}.values()
        self._averaged = [average for average, source in pairs if source.is_floating_point()]
        self._sources = [source for _, source in pairs if source.is_floating_point()]
        self._copied = [(average, source) for average, source in pairs if not source.is_floating_point()]

    def update_attr(self, model: nn.Module, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        """Copy public attributes of the model to the average, see `copy_attr`; tensors and modules are not copied."""
        copy_attr(self.ema, model, include, (*exclude, "process_group", "reducer"))

    @torch.no_grad()
    def update(self, model: nn.Module | None = None) -> bool:
        """Average the model's current weights in. Return False, changing nothing, if some of them are not finite.

        `model` is accepted for scripts that pass it; it must be the one this average was made from.
        """
        if model is not None and model is not self._model:
            raise ValueError("ModelEMA.update: got another model than the one it was made from")
        if not torch.stack(torch._foreach_norm(self._sources)).isfinite().all():
            return False
        self.updates += 1
        decay = self.decay * (1 - math.exp(-self.updates / self.tau))
        torch._foreach_lerp_(self._averaged, [source.float() for source in self._sources], 1 - decay)
        for average, source in self._copied:
            average.copy_(source)
        return True


def without_training_parts(model: nn.Module) -> nn.Module:
    """Remove every module with `training_only = True` from the model in place, and return it."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if getattr(child, "training_only", False):
                delattr(module, name)
    return model
