"""Training in several processes, one a device: started by torchrun, or by `device=0,1` through torchrun's own launcher.

Every process computes its share of each batch; the gradients are averaged. Process 0 writes the files.
"""

from __future__ import annotations

import copy
import logging
import pickle
import signal
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ultralytics.cfg.options import Options
from ultralytics.engine.checkpoint import newest_run
from ultralytics.engine.train_state import TrainingInterrupted
from ultralytics.utils import LOGGER, dist, setup_logging
from ultralytics.utils.errors import OptionError, UserError
from ultralytics.utils.torch_utils import count_devices

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    from ultralytics.engine.trainer import BaseTrainer
    from ultralytics.metrics.detection import DetMetrics


SHOWN = 8  # names of unused parameters in a message
# What torch says when another process has gone: NCCL raises DistBackendError, gloo a plain RuntimeError.
GONE = ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL")
SEEN = 5.0  # seconds after which the launcher has surely seen which process ended first


class ProcessLostError(UserError):
    """Another process of the run has ended before its time."""


def share_of_batch(batch: int) -> int:
    """Images a process computes of each batch. Raises OptionError when they cannot be dealt out evenly."""
    world = dist.world_size()
    if batch % world:
        below = max(batch // world, 1) * world
        raise OptionError(
            f"batch={batch}: is the batch of all {world} processes together, and must be a multiple of {world}; "
            f"write batch={below} or batch={below + world}."
        )
    return batch // world


def synchronise_norms(model: nn.Module, device: torch.device) -> nn.Module:
    """`sync_bn`: batch normalisation over the batches of all processes. Raises OptionError on the CPU."""
    if device.type != "cuda":
        raise OptionError("sync_bn=True: torch synchronises batch normalisation on CUDA devices only; leave it out.")
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)


def distribute(trainer: BaseTrainer) -> DistributedDataParallel:
    """The trainer's model, wrapped; parameters that its loss does not reach are found once, and named."""
    batch = trainer.preprocess_batch(next(iter(trainer.train_loader)))
    unused = sorted(set().union(*dist.gather(unused_parameters(trainer.model, batch))))
    if unused:
        more = f" and {len(unused) - SHOWN} more" if len(unused) > SHOWN else ""
        LOGGER.warning(
            f"{len(unused)} parameters take no part in the loss: {', '.join(unused[:SHOWN])}{more}. The processes look "
            "for them at every step, which costs time; remove their modules, or freeze them (freeze=)."
        )
    cuda = trainer.device.type == "cuda"
    network = DistributedDataParallel(
        trainer.model,
        device_ids=[trainer.device.index] if cuda else None,
        find_unused_parameters=bool(unused),
        gradient_as_bucket_view=True,
    )
    network.exchanged = frozenset(name for name, p in trainer.model.named_parameters() if p.requires_grad)
    return network


def require_exchanged(network: nn.Module) -> None:
    """OptionError for parameters thawed since `distribute`: every process would train its own copy of them."""
    if not isinstance(network, DistributedDataParallel):
        return
    names = [name for name, p in network.module.named_parameters() if p.requires_grad]
    if thawed := [name for name in names if name not in network.exchanged]:
        raise OptionError(
            f"{thawed[0]} and {len(thawed) - 1} more parameters were frozen when the run began and train now; several "
            "devices do not exchange their gradients. Thaw them on one device, or freeze by a callback from epoch 0 on."
        )


def unused_parameters(model: nn.Module, batch: dict) -> list[str]:
    """Names of the trainable parameters that get no gradient from the loss of a batch. The model is not changed."""
    twin = copy.deepcopy(model).train()
    loss, _ = twin(batch)
    loss.backward()
    return [name for name, p in twin.named_parameters() if p.requires_grad and p.grad is None]


@contextmanager
def processes_of(trainer: BaseTrainer) -> Iterator[None]:
    """Say it in a sentence when another process of the run has gone."""
    try:
        yield
    except RuntimeError as error:
        if dist.world_size() == 1 or not _is_lost(error):
            raise
        raise ProcessLostError(
            f"Another process of this run has ended ({_first_line(error)}). {_way_on(trainer)}"
        ) from error


def _is_lost(error: RuntimeError) -> bool:
    return isinstance(error, torch.distributed.DistError) or any(word in str(error) for word in GONE)


def _way_on(trainer: BaseTrainer) -> str:
    last = getattr(trainer, "last", None)
    if last is None or not last.exists():
        return "Nothing had been saved yet; look at its messages above, and start again."
    return f"Its messages stand above. The last good state is intact; to go on: yolo train resume={last}"


def train_process(trainer_class: type[BaseTrainer], options: Options, *rest: Any) -> tuple[DetMetrics, Path]:
    """Train, in one of the processes of `launch`. Returns the final metrics and the folder of the run."""
    callbacks, network, overrides = rest
    setup_logging(options.verbose)
    trainer = trainer_class(options, overrides, callbacks)
    trainer.take(network and network())
    return trainer.train(), trainer.save_dir


def launch(options: Options, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process for each device, by torchrun's launcher; returns what process 0 returns.

    Function and arguments are pickled, so callbacks have to be functions of a module.

    Raises:
        UserError: a process raised one, or ended; the others are ended, too.
        OptionError: something cannot be sent to another process.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    processes = count_devices(options.device)
    try:
        pickle.dumps(arguments)
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        raise OptionError(
            f"device={options.device}: several devices mean several processes, to which this cannot be sent: "
            f"{_first_line(error)}. Callbacks and trainer classes must stand at the top level of a module; or start "
            f"the script itself, with `torchrun --nproc-per-node {processes} SCRIPT.py`."
        ) from error
    with tempfile.TemporaryDirectory(prefix="ultralytics-run-") as logs:
        config = LaunchConfig(
            run_id="ultralytics", min_nodes=1, max_nodes=1, nproc_per_node=processes,
            rdzv_backend="c10d", rdzv_endpoint="localhost:0",
            max_restarts=0, monitor_interval=0.5, start_method="spawn", logs_specs=DefaultLogsSpecs(log_dir=logs),
        )  # fmt: skip
        # Its warnings and tracebacks say less than the sentence below.
        logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
        try:
            result = elastic_launch(config, _guarded)(Path(logs), function, *arguments)[0]
        except ChildFailedError as error:
            raise UserError(f"{_describe(error)} To go on: yolo train resume=...; {newest_run(options)}.") from None
    if isinstance(result, TrainingInterrupted):
        raise result
    return result


def _guarded(folder: Path, function: Callable[..., Any], *arguments: Any) -> Any:
    """Run the function; what is wrong is told in a sentence, and the exit code makes the launcher end the others.

    An interruption reaches all processes, and is returned: the launcher would wait for a value forever.
    """
    try:
        return function(*arguments)
    except TrainingInterrupted as interruption:
        return interruption
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except UserError as error:
        # Most often it is wrong in every process; one tells it.
        with suppress(FileExistsError), open(folder / f"{zlib.crc32(str(error).encode())}", "x"):
            LOGGER.error(str(error))
        if isinstance(error, ProcessLostError):
            time.sleep(SEEN)  # the launcher ends this one before, and names the other
        raise SystemExit(1) from None


def _describe(error: ChildFailedError) -> str:
    """Which process ended how, from torchrun's error."""
    rank, failure = error.get_first_failure()
    if failure.exitcode >= 0:
        return f"Process {rank} of the run ended with exit code {failure.exitcode}; its messages stand above."
    name = signal.Signals(-failure.exitcode).name
    hint = " (has the machine's memory run out?)" if name == "SIGKILL" else ""
    return f"Process {rank} of the run was ended by {name}{hint}; the others were ended with it."


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
