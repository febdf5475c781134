"""What the tools share: models, folders for results, and names of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ultralytics.utils.errors import ModelConfigError, OptionError, UserError
from ultralytics.utils.files import run_dir

if TYPE_CHECKING:
    from ultralytics.models.rtdetr.model import RTDETR
    from ultralytics.nn.autobackend import AutoBackend
    from ultralytics.nn.tasks import DetectionModel


def tool_dir(tool: str, project: str | None, name: str | None, default: str) -> Path:
    """Create and return the folder `project`/`name`: by default `runs/<tool>/<default>`, numbered when taken."""
    return run_dir(project or Path("runs") / tool, name or default)


def open_detector(model: str, modules: str | None = None, *, exported: bool = False) -> RTDETR:
    """Open a model YAML, weights (.pt) or, with `exported`, an exported model.

    Raises:
        ModelConfigError, WeightsError: it cannot be found or read.
        UserError: it is an exported model, and `exported` is False.
    """
    from ultralytics.models.rtdetr.model import RTDETR

    detector = RTDETR(model)
    if detector.is_exported and not exported:
        raise UserError(f"{model}: an exported model has no layers; use the weights (.pt) it was made from")
    detector.modules = [modules] if modules else None
    return detector


def load_network(
    model: str, nc: int | None = None, modules: str | None = None, *, exported: bool = False, meta: bool = False
) -> DetectionModel | AutoBackend:
    """Load the network of a model YAML (random weights), of weights (.pt), or of an exported model.

    Args:
        model: the file.
        nc: number of classes in place of the model YAML's.
        modules: a folder with module files.
        exported: accept an exported model.
        meta: build the network of a model YAML without data, if its modules allow that.

    Raises:
        ModelConfigError: the model YAML cannot be found or built.
        WeightsError: the weights cannot be read.
        UserError: nc is given for weights, or it is an exported model, and `exported` is False.
    """
    import torch

    detector = open_detector(model, modules, exported=exported)
    if detector.checkpoint is not None or detector.is_exported:
        if nc is not None:
            raise UserError(f"nc={nc}: {model} has weights for a fixed number of classes; leave nc= out")
        return detector.model
    overrides = {"modules": detector.modules}
    if meta:
        try:
            with torch.device("meta"):
                return detector.network_class(model, nc=nc, overrides=overrides)
        except ModelConfigError:
            pass  # a constructor may read values of tensors, which "meta" lacks; other errors occur again below
    return detector.network_class(model, nc=nc, overrides=overrides)


def run_names(runs: Sequence[str | Path], folders: Sequence[Path], names: Sequence[str] | str | None) -> list[str]:
    """Return a name for each run: those given, else the shortest ends of the folders' paths that differ.

    Raises:
        OptionError: there are not as many names as runs, or a name occurs twice.
    """
    names = names.split(",") if isinstance(names, str) else names
    if names is not None and len(names) != len(runs):
        raise OptionError(f"names: expected {len(runs)}, one for each run, got {len(names)}: {', '.join(names)}")
    if names is None:
        parts, depth = [folder.resolve().parts for folder in folders], 1
        while len({p[-depth:] for p in parts}) < len(set(parts)):
            depth += 1
        names = ["/".join(p[-depth:]) for p in parts]
    return list(names)
