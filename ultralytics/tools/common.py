"""Shared by the tools: models, result folders, names of runs, class names, and output folders for labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError, ModelConfigError, OptionError, UserError
from ultralytics.utils.files import read_text, run_dir

if TYPE_CHECKING:
    from ultralytics.models.rtdetr.model import RTDETR
    from ultralytics.nn.autobackend import AutoBackend
    from ultralytics.nn.tasks import DetectionModel


def tool_dir(tool: str, project: str | None, name: str | None, default: str) -> Path:
    """Create and return the folder `project`/`name`: by default `runs/<tool>/<default>`, numbered when taken."""
    return run_dir(project or Path("runs", tool), name or default)


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
    build = partial(detector.network_class, model, nc=nc, overrides={"modules": detector.modules})
    if not meta:
        return build()
    try:
        with torch.device("meta"):
            return build()
    except ModelConfigError:  # a constructor may read values of tensors, which "meta" lacks; other errors occur again
        return build()


def run_names(runs: Sequence[str | Path], folders: Sequence[Path], names: Sequence[str] | str | None) -> list[str]:
    """Return a name for each run: those given, else the shortest ends of the folders' paths that differ.

    Raises:
        OptionError: there are not as many names as runs.
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


def read_classes(classes: str | None) -> dict[int, str]:
    """Read class names by index from a text file with one name per line, or from `cat,dog`."""
    if classes is None:
        raise OptionError("classes= is missing; give a text file with one name per line, or the names: classes=cat,dog")
    file, names = Path(classes), classes.split(",")
    if file.suffix == ".txt":
        if not file.is_file():
            raise DataError(f"classes={classes!r}: no such file; expected a text file with one name per line")
        names = read_text(file, error=DataError).rstrip().splitlines()  # an empty line would shift the indices
    names = [name.strip() for name in names]
    if "" in names or not names:
        raise DataError(f"classes={classes!r}: name {names.index('') + 1 if names else 1} is empty")
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"classes={classes!r}: {twice[0]!r} is given twice")
    return dict(enumerate(names))


def check_empty(save: str) -> Path:
    """Return the folder `save`. Raise DataError if it exists and is not empty."""
    target = Path(save)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(
            f"save={save!r}: already exists and is not empty; nothing is overwritten, choose another folder"
        )
    return target


def check_folders(*folders: Path | None) -> None:
    """Raise DataError if a folder does not exist; None is skipped."""
    for folder in folders:
        if folder is not None and not folder.is_dir():
            raise DataError(f"{folder}: no such folder")


def log_problems(messages: Sequence[str], limit: int = 10) -> None:
    """Log the first messages as warnings, and the number of the others."""
    for message in messages[:limit]:
        LOGGER.warning(message)
    if len(messages) > limit:
        LOGGER.warning(f"... and {len(messages) - limit} more")
