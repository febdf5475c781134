"""Shared by the tools: models, result folders, files and names of runs, class names, and messages."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ultralytics.data.dataset_yaml import label_file, list_images
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import DataError, ModelConfigError, OptionError, UserError
from ultralytics.utils.files import read_text, run_dir

if TYPE_CHECKING:
    from ultralytics.models import Model
    from ultralytics.nn.exported_model import ExportedModel
    from ultralytics.nn.tasks import DetectionModel


def tool_dir(tool: str, project: str | None, name: str | None, default: str) -> Path:
    """Create and return the folder `project`/`name`: by default `runs/<tool>/<default>`, numbered when taken."""
    return run_dir(project or Path("runs", tool), name or default)


def open_detector(model: str, modules: str | None = None, *, exported: bool = False, trust: bool = False) -> Model:
    """Open a model YAML, weights (.pt) or, with `exported`, an exported model. Raise UserError if that fails."""
    from ultralytics.models import Model

    detector = Model(model, modules=modules, trust=trust)
    if detector.is_exported and not exported:
        raise UserError(f"{model}: an exported model has no layers; use the weights (.pt) it was made from")
    return detector


def load_network(
    model: str, nc: int | None = None, modules: str | None = None, *, exported: bool = False, meta: bool = False,
    trust: bool = False,
) -> DetectionModel | ExportedModel:  # fmt: skip
    """Load the network of a model YAML (random weights), of weights (.pt), or of an exported model.

    Args:
        model: the file.
        nc: number of classes in place of the model YAML's.
        modules: a folder with module files.
        exported: accept an exported model.
        meta: build the network of a model YAML without data, if its modules allow that.
        trust: import the module folders that the weights record.

    Raises:
        UserError: the model cannot be read or built, or nc is given for weights.
    """
    detector = open_detector(model, modules, exported=exported, trust=trust)
    if detector.checkpoint is not None or detector.is_exported:
        if nc is not None:
            raise UserError(f"nc={nc}: {model} has weights for a fixed number of classes; leave nc= out")
        return detector.model
    build = partial(detector.network_class, model, nc=nc, overrides={"modules": detector.folders})
    return build_on_meta(build) if meta else build()


def build_on_meta(build: Callable[[], DetectionModel]) -> DetectionModel:
    """Return the network of `build` without data, if its modules allow that; raise ModelConfigError if it fails."""
    import torch

    with suppress(ModelConfigError), torch.device("meta"):
        return build()
    return build()  # a constructor may read values of tensors, which "meta" lacks; other errors occur again


def find_runs(
    runs: Sequence[str | Path], names: Sequence[str] | str | None, file: str, expected: str
) -> dict[str, Path]:
    """Return the `file` of each run by the run's name: a given one, else the shortest end of its path that differs.

    Raises:
        DataError: a run is neither such a file nor a folder that has it; `expected` describes the folder.
        OptionError: two runs have one name, or there are not as many names as runs.
    """
    files = [Path(run) if os.path.isfile(run) else Path(run) / file for run in runs]
    for run, path in zip(runs, files, strict=True):
        if not os.path.isfile(path):
            raise DataError(f"{run}: no {file} in it; expected {expected}")
    if names is None:
        parts, depth = [path.parent.resolve().parts for path in files], 1
        while len({p[-depth:] for p in parts}) < len(set(parts)):
            depth += 1
        names = ["/".join(p[-depth:]) for p in parts]
    names = names.split(",") if isinstance(names, str) else names
    if len(names) != len(runs):
        raise OptionError(f"names: expected {len(runs)}, one for each run, got {len(names)}: {', '.join(names)}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise OptionError(f"runs: {twice[0]!r} is given twice; give different ones, or names=a,b")
    return dict(zip(names, files, strict=True))


def read_classes(classes: str | None) -> dict[int, str]:
    """Read class names by index from a text file with one name per line, or from `cat,dog`."""
    if classes is None:
        raise OptionError("classes= is missing; give a text file with one name per line, or the names: classes=cat,dog")
    names = classes.split(",")
    if classes.endswith(".txt"):
        names = read_text(classes, DataError, guess=True).rstrip().splitlines()  # an empty line would shift the indices
    names = [" ".join(name.split()) for name in names]
    if not names or "" in names or len(set(names)) < len(names):
        raise DataError(f"classes={classes!r}: expected names that differ and are not empty, got {', '.join(names)}")
    return dict(enumerate(names))


def list_labeled(images: Path, labels: str | None) -> list[tuple[Path, Path]]:
    """List the images of a folder, each with the path of its label file: below `labels`, or images/... -> labels/..."""
    if labels and not os.path.isdir(labels):
        raise DataError(f"labels={labels!r}: no such folder")
    found = list_images([images], images)
    return [(i, Path(labels, i.relative_to(images)).with_suffix(".txt") if labels else label_file(i)) for i in found]


def check_empty(save: str) -> Path:
    """Return the folder `save`. Raise DataError if it exists and is not empty."""
    target = Path(save)
    if os.path.exists(target) and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"save={save!r}: already exists and is not empty; nothing is overwritten, use another folder")
    return target


def check_new(file: str | Path, *suffixes: str) -> None:
    """Raise DataError if a file has none of the suffixes that are given, it exists, or its folder is read-only."""
    if suffixes and Path(file).suffix.lower() not in suffixes:
        raise DataError(f"save={str(file)!r}: expected a file name that ends with {' or '.join(suffixes)}")
    if os.path.exists(file):
        raise DataError(f"save={str(file)!r}: already exists; nothing is overwritten, choose another name")
    folder = next(folder for folder in Path(file).absolute().parents if os.path.exists(folder))
    if not (os.path.isdir(folder) and os.access(folder, os.W_OK)):
        raise DataError(f"save={str(file)!r}: {folder} is no folder that can be written; choose another one")


def log_problems(messages: Sequence[str]) -> None:
    """Log the first ten messages as warnings, and the number of the others."""
    for message in messages[:10]:
        LOGGER.warning(message)
    if len(messages) > 10:
        LOGGER.warning(f"... and {len(messages) - 10} more")
