"""What the tools share: networks with data, and folders for results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ultralytics.utils.errors import UserError
from ultralytics.utils.files import run_dir

if TYPE_CHECKING:
    from ultralytics.models.rtdetr.model import RTDETR
    from ultralytics.nn.autobackend import AutoBackend
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


def open_detector(model: str, modules: str | None = None, *, exported: bool = False) -> RTDETR:
    """The detector of a model file or of weights; of an exported model only where the tool can do with its outputs.

    Raises:
        ModelConfigError, WeightsError: it cannot be found or read.
        UserError: it is an exported model, and the tool looks into the network.
    """
    from ultralytics.models.rtdetr.model import RTDETR

    detector = RTDETR(model)
    if detector.is_exported and not exported:
        raise UserError(f"{model}: an exported model does not show its layers; give the weights (.pt) it was made from")
    detector.modules = [modules] if modules else None
    return detector


def load_network(
    model: str, nc: int | None = None, modules: str | None = None, *, exported: bool = False
) -> DetectionModel | AutoBackend:
    """The network of a model file, with random weights, of weights (.pt), or of an exported model.

    Args:
        model: the file.
        nc: number of classes in place of the model file's.
        modules: a folder of module files, beside those that are always searched.
        exported: whether an exported model will do.

    Raises:
        ModelConfigError: the model file cannot be found or built.
        WeightsError: the weights cannot be read.
        UserError: nc is given for weights, or it is an exported model and must not be one.
    """
    detector = open_detector(model, modules, exported=exported)
    if nc is None:
        return detector.model
    if detector.checkpoint is not None or detector.is_exported:
        raise UserError(f"nc={nc}: {model} holds weights, whose number of classes is fixed; leave nc= out")
    return detector.network_class(model, nc=nc, overrides={"modules": detector.modules})
