"""Distributed data parallel (DDP) training, one process per device: by torchrun, or by `device=0,1` with its launcher.

Every rank computes its share of each batch, and the gradients are averaged. Rank 0 writes the files.
"""

from __future__ import annotations

import logging
import pickle
import signal
import tempfile
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ultralytics.cfg.options import Options
from ultralytics.engine.autobatch import trial_step
from ultralytics.engine.checkpoint import newest_run
from ultralytics.engine.train_state import TrainingInterrupted
from ultralytics.utils import LOGGER, dist, setup_logging
from ultralytics.utils.errors import OptionError, UserError
from ultralytics.utils.files import first_line
from ultralytics.utils.torch_utils import count_devices

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    from ultralytics.metrics.detection import DetMetrics

# Messages of torch when another rank is gone: NCCL raises DistBackendError, gloo a plain RuntimeError.
LOST_PEER = ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL")


class ProcessLostError(UserError):
    """Another process of the run has ended unexpectedly."""


def batch_per_rank(batch: int) -> int:
    """Return the images per rank of a batch. Raises OptionError if it is not a multiple of the world size."""
    world = dist.world_size()
    if batch % world:
        below = max(batch // world, 1) * world
        raise OptionError(
            f"batch={batch}: expected a multiple of {world}, as it is the batch of all {world} processes together; "
            f"write batch={below} or batch={below + world}."
        )
    return batch // world


def sync_batchnorm(model: nn.Module, device: torch.device) -> nn.Module:
    """Convert BatchNorm to SyncBatchNorm (option `sync_bn`). Raises OptionError unless on a CUDA device."""
    if device.type != "cuda":
        raise OptionError("sync_bn=True: torch synchronizes BatchNorm on CUDA devices only; leave it out.")
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)


def wrap_ddp(model: nn.Module, batch: dict, device: torch.device) -> DistributedDataParallel:
    """Wrap the model for DDP; parameters that get no gradient from `batch` are named in a warning."""
    unused = sorted(set().union(*dist.gather(unused_parameters(model, batch, device))))
    if unused:
        more = f" and {len(unused) - 8} more" if len(unused) > 8 else ""
        LOGGER.warning(
            f"{len(unused)} parameters take no part in the loss: {', '.join(unused[:8])}{more}. DDP searches for them "
            "at every step, which costs time; remove their modules, or freeze them (freeze=)."
        )
    network = DistributedDataParallel(
        model,
        device_ids=[device.index] if device.type == "cuda" else None,
        find_unused_parameters=bool(unused),
        gradient_as_bucket_view=True,
    )
    network.trained = frozenset(name for name, p in model.named_parameters() if p.requires_grad)
    return network


def unused_parameters(model: nn.Module, batch: dict, device: torch.device) -> list[str]:
    """Return the trainable parameters that get no gradient from the loss of a batch. The model is not changed."""
    twin = trial_step(model, device, None, batch)
    return [name for name, p in twin.named_parameters() if p.requires_grad and p.grad is None]


def check_ddp_params(network: nn.Module) -> None:
    """Raise OptionError for parameters unfrozen after `wrap_ddp`: DDP would not average their gradients."""
    if not isinstance(network, DistributedDataParallel):
        return
    names = [name for name, p in network.module.named_parameters() if p.requires_grad]
    if unfrozen := [name for name in names if name not in network.trained]:
        raise OptionError(
            f"{unfrozen[0]} and {len(unfrozen) - 1} more parameters were frozen when the run began, so DDP does not "
            "average their gradients. Unfreeze them on one device, or freeze by a callback from epoch 0 on."
        )


def explain_lost_process(error: RuntimeError, last: Path | None) -> ProcessLostError | None:
    """Turn the RuntimeError of a lost rank into a readable error; None for any other error."""
    is_lost = isinstance(error, torch.distributed.DistError) or any(text in str(error) for text in LOST_PEER)
    if dist.world_size() == 1 or not is_lost:
        return None
    if last is not None and last.exists():
        advice = f"To resume from the last checkpoint: yolo train resume={last}"
    else:
        advice = "Nothing was saved yet; start again."
    return ProcessLostError(f"Another process of this run has ended ({first_line(error)}), see above. {advice}")


def train_process(
    trainer_class: Callable[..., Any], options: Options, callbacks: Any, network: Callable | None, overrides: dict
) -> tuple[DetMetrics, Path]:
    """Train in one of the processes of `launch`. Return the final metrics and the run folder.

    `network` builds the model to continue from, if there is one.
    """
    setup_logging(options.verbose)
    trainer = trainer_class(options, overrides, callbacks)
    trainer.set_model(network and network())
    return trainer.train(), trainer.save_dir


def launch(options: Options, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in one new process per device, with torchrun's launcher. Return the result of rank 0.

    Raises:
        UserError: a process failed; the others are ended, too.
        OptionError: function or arguments cannot be pickled.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    processes = count_devices(options.device)
    try:
        pickle.dumps(arguments)
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        raise OptionError(
            f"device={options.device}: the arguments cannot be sent to {processes} processes: {first_line(error)}. "
            "Define callbacks and trainer classes at the top level of a module; or start the script itself with "
            f"`torchrun --nproc-per-node {processes} SCRIPT.py`."
        ) from error
    with tempfile.TemporaryDirectory(prefix="ultralytics-run-") as logs:
        config = LaunchConfig(
            run_id="ultralytics", min_nodes=1, max_nodes=1, nproc_per_node=processes,
            rdzv_backend="c10d", rdzv_endpoint="localhost:0",
            max_restarts=0, monitor_interval=0.5, start_method="spawn", logs_specs=DefaultLogsSpecs(log_dir=logs),
        )  # fmt: skip
        logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # tracebacks of the launcher itself
        try:
            result = elastic_launch(config, _run_rank)(Path(logs), function, *arguments)[0]
        except ChildFailedError as error:
            raise UserError(
                f"{_describe_failure(error)} To resume: yolo train resume=...; {newest_run(options)}."
            ) from None
    if isinstance(result, TrainingInterrupted):
        raise result
    return result


def _run_rank(folder: Path, function: Callable[..., Any], *arguments: Any) -> Any:
    """Run the function; log a UserError as one line, and exit with a code so that the launcher ends the other ranks."""
    try:
        return function(*arguments)
    except TrainingInterrupted as interruption:
        return interruption  # all ranks are interrupted; if one raised, the launcher would wait for its result forever
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except UserError as error:
        # usually all ranks raise the same error: the one that creates the file logs it
        with suppress(FileExistsError), open(folder / f"{zlib.crc32(str(error).encode())}", "x"):
            LOGGER.error(str(error))
        if isinstance(error, ProcessLostError):
            time.sleep(5)  # until the launcher has noticed which rank ended first
        raise SystemExit(1) from None


def _describe_failure(error: ChildFailedError) -> str:
    rank, failure = error.get_first_failure()
    if failure.exitcode >= 0:
        return f"Process {rank} of the run ended with exit code {failure.exitcode}; see its messages above."
    name = signal.Signals(-failure.exitcode).name
    hint = " (out of host memory?)" if name == "SIGKILL" else ""
    return f"Process {rank} of the run was ended by {name}{hint}; the others were ended with it."
