"""What the tools share: networks with data, and folders for results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ultralytics.utils.errors import UserError
from ultralytics.utils.files import run_dir

if TYPE_CHECKING:
    from ultralytics.nn.tasks import DetectionModel


@dataclass(frozen=True)
class _Folder:
    """What names the folder of a run; see `run_dir`."""

    project: str
    name: str | None
    exist_ok: bool = False


def tool_dir(tool: str, project: str | None, name: str | None, default: str) -> Path:
    """Create and return the folder `project`/`name` of a tool: `runs/<tool>/<default>`, numbered when taken."""
    return run_dir(_Folder(project or str(Path("runs") / tool), name), default)


def load_network(model: str, nc: int | None = None, modules: str | None = None) -> DetectionModel:
    """The network of a model file, with random weights, or of weights (.pt).

    Args:
        model: the file.
        nc: number of classes in place of the model file's.
        modules: a folder of module files, beside those that are always searched.

    Raises:
        ModelConfigError: the model file cannot be found or built.
        WeightsError: the weights cannot be read.
        UserError: nc is given for weights.
    """
    from ultralytics import RTDETR

    detector = RTDETR(model)
    detector.modules = [modules] if modules else None
    if detector.checkpoint is None:
        return RTDETR.network_class(model, nc=nc, overrides={"modules": detector.modules})
    if nc is not None:
        raise UserError(f"nc={nc}: {model} holds weights, whose number of classes is fixed; leave nc= out")
    return detector.model
