"""Distributed data parallel (DDP) training, one process per device: by torchrun, or by `device=0,1` with its launcher.

Every rank computes its share of each batch, and the gradients are averaged. Rank 0 writes the files.
"""

from __future__ import annotations

import logging
import pickle
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ultralytics.cfg.options import Options
from ultralytics.engine.autobatch import trial_step
from ultralytics.engine.train_state import TrainingInterrupted
from ultralytics.utils import LOGGER, dist, setup_logging
from ultralytics.utils.errors import OptionError, UserError, counted, typed
from ultralytics.utils.files import first_line, resumed_weights
from ultralytics.utils.torch_utils import check_devices, count_devices

if TYPE_CHECKING:
    from ultralytics.metrics.detection import DetMetrics


def batch_per_rank(batch: int) -> int:
    """Return the images per rank of a batch. Raises OptionError if it is not a multiple of the world size."""
    world = dist.world_size()
    if batch % world:
        raise OptionError(f"batch={batch}: expected a multiple of {world}: the batch of all {world} processes together")
    return batch // world


def wrap_ddp(model: nn.Module, batch: dict, device: torch.device) -> DistributedDataParallel:
    """Wrap the model for DDP; parameters that get no gradient from `batch` are named in a warning."""
    twin = trial_step(model, device, None, batch)
    unused = [name for name, p in twin.named_parameters() if p.requires_grad and p.grad is None]
    unused = sorted(set().union(*dist.gather(unused)))
    if unused:
        LOGGER.warning(
            f"{counted(len(unused), 'parameter')} without effect on the loss: {', '.join(unused[:8])}. DDP searches "
            "for these at every step, which costs time; remove their modules, or freeze them (freeze=)."
        )
    network = DistributedDataParallel(
        model,
        device_ids=[device.index] if device.type == "cuda" else None,
        find_unused_parameters=bool(unused),
        gradient_as_bucket_view=True,
    )
    network.frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    return network


def check_ddp_params(network: nn.Module) -> None:
    """Raise OptionError for parameters unfrozen after `wrap_ddp`: DDP would not average their gradients."""
    frozen = network.frozen if isinstance(network, DistributedDataParallel) else ()
    if unfrozen := [name for name in frozen if network.module.get_parameter(name).requires_grad]:
        raise OptionError(
            f"{counted(len(unfrozen), 'parameter')} such as {unfrozen[0]} had been frozen when the run began, so DDP "
            "does not average their gradients. Unfreeze them on one device, or freeze by a callback from epoch 0 on."
        )


def launch(
    options: Options, trainer_class: Callable[..., Any], callbacks: Any, network: Callable | None, overrides: dict
) -> tuple[DetMetrics, Path]:
    """Train in one new process per device, with torchrun's launcher. Return the final metrics and the run folder.

    `network` builds the model to continue from, if there is one.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    arguments = (options, trainer_class, callbacks, network, overrides)
    processes = count_devices(options.device)
    check_devices(options.device)
    before = resumed_weights(True, options.project)
    try:
        pickle.dumps(arguments)
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        raise OptionError(
            f"device={options.device}: a callback or class cannot be sent to a process: {first_line(error)}. "
            f"Define it at the top level of a module, or use `torchrun --nproc-per-node {processes} SCRIPT.py`."
        ) from error
    with tempfile.TemporaryDirectory(prefix="ultralytics-run-") as logs:
        config = LaunchConfig(
            run_id="ultralytics", min_nodes=1, max_nodes=1, nproc_per_node=processes,
            rdzv_backend="c10d", rdzv_endpoint="localhost:0",
            max_restarts=0, monitor_interval=0.5, start_method="spawn", logs_specs=DefaultLogsSpecs(log_dir=logs),
        )  # fmt: skip
        logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # tracebacks of the launcher itself
        try:
            result = elastic_launch(config, _train_rank)(*arguments)[0]
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            reason = failure.message["message"] if isinstance(failure.message, dict) else failure.message
            newest = resumed_weights(True, options.project)
            followed = " trust=True" if options.trust or options.modules else ""
            advice = (
                f" To resume: yolo train {typed(resume=newest)}{followed}" if options.resume or newest != before else ""
            )
            raise UserError(f"Process {rank} of the run failed and ended the others: {reason}.{advice}") from None
    if isinstance(result, TrainingInterrupted):
        raise result
    return result


def _train_rank(
    options: Options, trainer_class: Callable[..., Any], callbacks: Any, network: Callable | None, overrides: dict
) -> tuple[DetMetrics, Path] | TrainingInterrupted:
    """Train in a process of the launcher, which ends the other ranks when this one fails."""
    setup_logging(options.verbose)
    try:
        trainer = trainer_class(options, overrides, callbacks)
        trainer.model = network and network()
        return trainer.train(), trainer.save_dir
    except TrainingInterrupted as interruption:
        return interruption  # all ranks are interrupted; if one raised, the launcher would wait for its result forever
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except UserError:
        raise  # its message is shown by `launch`
    except Exception:
        time.sleep(5)  # often the consequence of a lost rank, which the launcher has to notice first
        traceback.print_exc()
        raise


def find_free_network_port() -> int:
    """Return a port of this machine that no program uses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def generate_ddp_file(trainer: Any) -> str:
    """Write a script that trains with the class and the options of a trainer, for torchrun; return its path."""
    kind, options = type(trainer), trainer.args.to_dict()
    text = f"import sys\n\nsys.path = {sys.path!r}\nfrom {kind.__module__} import {kind.__name__}\n\n"
    with tempfile.NamedTemporaryFile("w", suffix=f"{id(trainer)}.py", delete=False) as file:
        file.write(f'{text}if __name__ == "__main__":\n    {kind.__name__}(overrides={options!r}).train()\n')
    return file.name


def generate_ddp_command(trainer: Any) -> tuple[list[str], str]:
    """Return the command that trains in a process for each device of a trainer, and the script in it."""
    file, processes = generate_ddp_file(trainer), count_devices(trainer.args.device)
    given = f"-m torch.distributed.run --nproc_per_node {processes} --master_port {find_free_network_port()}"
    return [sys.executable, *given.split(), file], file


def ddp_cleanup(trainer: Any, file: str) -> None:
    """Delete the script of a trainer."""
    if file.endswith(f"{id(trainer)}.py"):
        Path(file).unlink()
