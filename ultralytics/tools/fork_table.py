"""`yolo fork path/to/fork`: which model files of another code base build and run here, and what the others need."""

import os
import re
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from ultralytics.cfg.values import Range
from ultralytics.tools.common import build_on_meta, check_empty, tool_dir
from ultralytics.utils import LOGGER, progress, quiet
from ultralytics.utils.errors import DataError, ModelConfigError, OptionError, UserError, counted
from ultralytics.utils.files import list_files, read_text, write_text
from ultralytics.utils.tables import Column, Table

COLUMNS = (Column("Model"), Column("Parameters", ",d"), Column("Builds"), Column("Forward"), Column("Reason"))
SHOWN = 6  # files of a reason that the log names
CAUSES = (  # what a message has in common for all files with one remedy
    r"it needs the (?:package|compiled operator) '[^']*'(?: \([^)]*\)|; build it)?",
    r"'\w+': ultralytics[\w.]* has no such name",
    r"there is no ultralytics[\w.]* here",
    r"no module '[\w.]+'",
    r"is a head of the task '[\w ]+'",
    r"the output is what the constructor states, since .*",
    r"\w+Error: [^\[(;\d]*",
)


@dataclass(frozen=True)
class ForkModel:
    """A model file of a fork."""

    file: Path
    parameters: int | None  # of the network; None if it does not build
    runs: bool  # whether its forward runs here, on the meta device or the CPU
    reason: str  # why it does not build or run; '' if it does

    @property
    def cause(self) -> str:
        """Return the part of the reason that files with one remedy have in common."""
        found = (re.search(pattern, self.reason) for pattern in CAUSES)
        return next((match[0].strip() for match in found if match), self.reason[:100])


def command(
    fork: list[str], write: str | None = None, imgsz: Annotated[int, Range(32)] = 640, project: str | None = None,
    name: str | None = None,
) -> None:  # fmt: skip
    """Build and run every model file of a fork, whose module folders are imported for it.

    Args:
        fork: folder of the repository, or of its modules and model files.
        write: new folder for copies of the files that build, with a line `modules:` that names the fork.
        imgsz: side of the image.
    """
    if len(fork) != 1:
        raise OptionError(f"yolo fork: expected one folder, got {', '.join(fork)}")
    root = Path(fork[0])
    models = check_fork(root, imgsz=imgsz)
    rows = [(str(m.file), m.parameters, _mark(m.parameters is not None), _mark(m.runs), m.reason) for m in models]
    table = Table(COLUMNS, rows)
    LOGGER.info(Table(COLUMNS[:-1], [row[:-1] for row in rows]).text())
    for cause, files in group_by_cause(models).items():
        more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
        names = ", ".join(file.name for file in files[:SHOWN])
        LOGGER.warning(f"{counted(len(files), 'file')}: {cause}: {names}{more}")
    target = tool_dir("fork", project, name, root.resolve().name)
    table.write(target, "models", f"Model files of {root}.")
    built, run = (sum(map(bool, found)) for found in zip(*((m.parameters, m.runs) for m in models), strict=True))
    files = counted(len(models), "model file")
    LOGGER.info(f"{files}: {built} build, {run} run; all reasons in {target / 'models.csv'}")
    if write:
        LOGGER.info(f"{write}: {counted(len(write_models(models, root, write)), 'model file')} written")


def check_fork(root: str | Path, *, imgsz: int = 640) -> list[ForkModel]:
    """Build and run each model file below a folder with its module folders, and return what happened.

    Raises DataError if the folder has no model files: YAML files with the keys `backbone` and `head`.
    """
    from ultralytics.nn.registry import import_folder, module_folders

    if not os.path.isdir(root):
        raise DataError(f"{root}: no such folder; expected the repository, or a folder of modules and model files")
    files = [file for file in list_files(root, (".yaml", ".yml")) if _is_model(file)]
    if not files:
        raise DataError(f"{root}: no model files; expected YAML files with the keys `backbone` and `head`")
    for folder in module_folders([root]):
        import_folder(folder)  # what it lacks is logged once
    models = []
    for file in progress(files, "model files", len(files)):
        with quiet():  # the scale that a file is built at, keys without an effect
            models.append(_check(file, Path(root), imgsz))
    return models


def group_by_cause(models: list[ForkModel]) -> dict[str, list[Path]]:
    """Return the files that do not build or run by their cause, the most frequent first."""
    groups: dict[str, list[Path]] = {}
    for model in models:
        if model.reason:
            groups.setdefault(model.cause, []).append(model.file)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


def write_models(models: list[ForkModel], root: str | Path, folder: str) -> list[Path]:
    """Copy the model files that build to a new folder, with a line that names the fork, and return the copies."""
    target = check_empty(folder)
    built = [model.file for model in models if model.parameters is not None]
    common = os.path.commonpath([file.parent for file in built]) if built else root
    copies = []
    for file in built:
        copy = target / file.relative_to(common)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if re.search(r"^modules:", text := read_text(file, ModelConfigError, guess=True), re.MULTILINE):
            shutil.copyfile(file, copy)
        else:
            write_text(copy, f"modules: {os.path.realpath(root)}\n{text}")
        copies.append(copy)
    return copies


def _is_model(file: Path) -> bool:
    """Check for the two sections of a model file."""
    try:
        text = read_text(file, ModelConfigError, guess=True)
    except ModelConfigError:  # not a text
        return False
    return all(re.search(rf"^{section}:", text, re.MULTILINE) for section in ("backbone", "head"))


def _check(file: Path, root: Path, imgsz: int) -> ForkModel:
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics.utils.flops import run_copy

    try:
        network = build_on_meta(partial(DetectionModel, file, overrides={"modules": [str(root)]}))
    except UserError as error:
        return ForkModel(file, None, False, " ".join(str(error).split()))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    for layer in network.model:
        if reason := getattr(layer, "not_run", ""):
            return ForkModel(file, parameters, False, f"{layer.where}: layer {layer.i} {layer.row_module}: {reason}")
    try:
        run_copy(network, imgsz, lambda twin, image: twin(image))
    except ModelConfigError as error:
        return ForkModel(file, parameters, False, " ".join(str(error).split()))
    return ForkModel(file, parameters, True, "")


def _mark(holds: bool) -> str:
    return "yes" if holds else "no"
