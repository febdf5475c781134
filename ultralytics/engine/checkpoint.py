"""Going on with an interrupted run: which checkpoint, and which options may differ from it."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ultralytics.cfg.model_yaml import KEYS, SECTIONS, SETTINGS
from ultralytics.cfg.options import Options, get_cfg
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.formats import find_format
from ultralytics.nn.tasks import DetectionModel
from ultralytics.nn.weights import read_weights
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import OptionError, UserError, WeightsError
from ultralytics.utils.files import (
    RUNS_FOLDER,
    PickledClassesError,
    atomic_write,
    read_plain,
    resumed_weights,
    write_text,
    write_yaml,
)

TRAINING_STATE = ("optimizer", "scheduler", "scaler", "loss_sum")  # of a checkpoint, only to resume from


class RunFiles:
    """Paths below the run folder and the ways to write them, each whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.weights = folder / "weights"
        self.last = self.weights / "last.pt"
        self.best = self.weights / "best.pt"
        self.results = folder / "results.csv"

    def create(self, options: Mapping[str, object]) -> None:
        """Make the folders and write args.yaml."""
        self.weights.mkdir(parents=True, exist_ok=True)
        write_yaml(self.folder / "args.yaml", options)

    def save(self, state: dict, *, best: bool, numbered: bool) -> None:
        """Write last.pt; `best` and `numbered` (epochN.pt, N from 1) are other names for the same content.

        last.pt changes at the end: a process killed in between resumes from the epoch before, and gets here again.
        """
        wanted = {self.best: best, self.weights / f"epoch{state['epoch'] + 1}.pt": numbered, self.last: True}
        first, *others = (path for path, write in wanted.items() if write)
        save_checkpoint(first, state)
        for path in others:
            _link(first, path)

    def slim_best(self) -> None:
        """Leave the averaged weights alone in best.pt, a quarter of the size. last.pt keeps everything."""
        state = load_checkpoint(self.best)
        weights = state["ema"]
        save_checkpoint(self.best, {**state, "model": weights, **dict.fromkeys(TRAINING_STATE)})

    def save_batch(self, batch: dict, rank: int) -> Path:
        """Keep a batch that led to numbers which are not finite: tensors as the network got them, and file names."""
        file = self.folder / f"non_finite{f'_{rank}' if rank else ''}.pt"
        kept = {key: batch[key] for key in ("img", "cls", "bboxes", "batch_idx", "im_file") if key in batch}
        with atomic_write(file) as stream:
            torch.save(kept, stream)
        return file

    def append_results(self, row: Mapping[str, float]) -> None:
        """Add one epoch to results.csv. A new column (validation began later) is empty in the rows before it."""
        self._write_results([*self.read_results(), {key: _short(value) for key, value in row.items()}])

    def keep_results(self, epochs: int) -> None:
        """Drop the rows of epochs after the first `epochs`, which a resumed run does again."""
        if self.results.exists():
            self._write_results([row for row in self.read_results() if int(row["epoch"]) <= epochs])

    def read_results(self) -> list[dict[str, str]]:
        """Rows of results.csv, none when there is no such file."""
        if not self.results.exists():
            return []
        with open(self.results, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def _write_results(self, rows: list[dict[str, str]]) -> None:
        columns = list(dict.fromkeys(key for row in reversed(rows) for key in row))  # the newest row has them all
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        try:
            write_text(self.results, text.getvalue())
        except OSError as error:
            raise UserError(
                f"{self.results}: cannot be written ({error.strerror}); the rows so far are intact."
            ) from error


def _short(value: float | str) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _link(source: Path, target: Path) -> None:
    """Make `target` the file `source` is now. Checkpoints are replaced, never changed in place, so sharing is safe."""
    unfinished = target.with_name(target.name + ".tmp")
    unfinished.unlink(missing_ok=True)
    try:
        os.link(source, unfinished)
    except OSError:  # no hard links on this file system (FAT, some network drives)
        shutil.copyfile(source, unfinished)
    os.replace(unfinished, target)


FORMAT_VERSION = 1
WEIGHT_KEYS = ("model_yaml", "names", "nc", "model", "ema")
TENSORS = ("model", "ema", "optimizer", "scheduler", "scaler")  # what takes memory
MODEL_KEYS = {*KEYS, *SECTIONS, *SETTINGS, "yaml_file"} - {"modules"}  # a folder of code on this machine
_PLAIN = (type(None), bool, int, float, str, torch.Tensor)


def save_checkpoint(path: str | Path, state: dict) -> None:
    """Write `state` to `path`, adding the format version.

    Raises UserError when the file cannot be written (the file that was there stays), TypeError when `state` holds
    something that `load_checkpoint` would refuse.
    """
    state = {"format_version": FORMAT_VERSION, **state}
    _require_plain(state, "checkpoint")
    path = Path(path)
    before = "the previous file is intact" if path.exists() else "nothing was written"
    try:
        with atomic_write(path) as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:  # torch reports a failed write as either
        reason = getattr(_root_cause(error), "strerror", None) or str(error).splitlines()[0]
        raise UserError(
            f"{path}: cannot save the checkpoint ({reason}); {before}. "
            "Free some space or check the permissions of the folder, then resume."
        ) from error


def load_checkpoint(path: str | Path) -> dict:
    """Read a checkpoint of this package onto the CPU. Raises WeightsError that says what the file is instead."""
    path = Path(path)
    state = read_plain(path)
    if not isinstance(state, dict) or "format_version" not in state:
        raise WeightsError(
            f"{path}: expected a checkpoint written by this package, got {_describe(state)}. "
            "Build the model from its YAML first and load these weights into it."
        )
    version = state["format_version"]
    if version != FORMAT_VERSION:
        raise WeightsError(f"{path}: checkpoint format {version}, expected {FORMAT_VERSION}; update the package.")
    if missing := [key for key in WEIGHT_KEYS if key not in state]:
        raise WeightsError(f"{path}: not a complete checkpoint, it lacks {', '.join(missing)}.")
    return state


def load_model_weights(path: str | Path) -> dict:
    """A checkpoint, a published `.pt` that pickles a whole model, or an exported `.safetensors`, as a checkpoint.

    Of the latter two come the WEIGHT_KEYS only: it is a model to use or to train further, not a run to go on with.

    Raises:
        WeightsError: the file cannot be read, or does not say which model its weights are of.
    """
    try:
        if Path(path).suffix.lower() != ".safetensors":
            return load_checkpoint(path)
        read = read_weights(path)
    except PickledClassesError:
        read = read_weights(path)
    architecture = {key: value for key, value in (read.model_yaml or {}).items() if key in MODEL_KEYS}
    nc = architecture.get("nc")
    if not isinstance(nc, int):
        raise WeightsError(
            f"{path}: holds {len(read.tensors)} tensors, but not the model file that they belong to. Build the model "
            f"first and load them into it: RTDETR('rtdetr-l.yaml').load({str(path)!r})."
        )
    names = {index: (read.names or {}).get(index, str(index)) for index in range(nc)}
    tensors = {name: value.float() if value.is_floating_point() else value for name, value in read.tensors.items()}
    return {"model_yaml": architecture, "names": names, "nc": nc, "model": tensors, "ema": None}


def load_network(
    checkpoint: Mapping[str, Any], network_class: type[DetectionModel], modules: Sequence[str] | None = None
) -> DetectionModel:
    """Build the network of a checkpoint in eval mode, with the averaged weights (EMA) where the file has them.

    `modules` are folders of module files, in addition to those that the checkpoint names.
    """
    network = network_class(checkpoint["model_yaml"], nc=checkpoint["nc"], overrides={"modules": modules})
    network.load_state_dict(checkpoint["ema"] or checkpoint["model"])
    network.names = dict(checkpoint["names"])
    return network.eval()


def resolve_network(model: Any, network_class: type[DetectionModel], modules: Sequence[str] | None = None) -> nn.Module:
    """Return a network as it is, that of a `Model`, or the network of a model file, weights or an exported model.

    Raises OptionError for anything else.
    """
    if not isinstance(model, (nn.Module, str, Path)):
        model = getattr(model, "model", model)  # a `Model` holds its network
    if isinstance(model, nn.Module):
        return model
    if not isinstance(model, (str, Path)):
        raise OptionError(f"model: got {model!r}, expected a network or a file; pass model= or set the option model")
    if find_format(model) is not None:
        return AutoBackend(model)
    if Path(model).suffix.lower() in (".yaml", ".yml"):
        return network_class(str(model), overrides={"modules": modules})
    return load_network(load_model_weights(model), network_class, modules)


def _describe(state: object) -> str:
    if not isinstance(state, dict):
        return f"a {type(state).__name__}"
    if state and all(isinstance(value, torch.Tensor) for value in state.values()):
        return f"a plain state_dict of {len(state)} tensors"
    return f"a dict with the keys {', '.join(map(str, list(state)[:8])) or '(none)'}"


def _require_plain(value: object, where: str) -> None:
    """Fail while the run can still be mended, not when somebody wants to load the file."""
    if isinstance(value, dict):
        for key, item in value.items():
            _require_plain(key, f"a key of {where}")
            _require_plain(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            _require_plain(item, f"{where}[{index}]")
    elif type(value) not in _PLAIN:
        raise TypeError(
            f"{where} is a {type(value).__name__}; checkpoints hold tensors, numbers, strings, lists, dicts"
        )


def _root_cause(error: BaseException) -> BaseException:
    """The OSError below a RuntimeError raised while it was handled."""
    while not isinstance(error, OSError) and (inner := error.__cause__ or error.__context__):
        error = inner
    return error


# Where and how long a run goes on. Everything else is part of what the run is.
MAY_CHANGE = (
    "epochs", "time", "patience", "device", "workers", "data", "cache", "save_period", "save_minutes",
    "plots", "verbose", "modules", "loggers",
)  # fmt: skip
# How the user points at the run, which is not an option of the run itself.
NOT_COMPARED = ("resume", "model", "mode", "task", "project", "name", "exist_ok")


def resume_path(options: Options) -> Path:
    """The checkpoint `options` ask to go on with: `resume=<file or run folder>`, else the weights given as `model`.

    Raises OptionError, which names the newest last.pt of the project, when neither is a weights file.
    """
    if isinstance(options.resume, str):
        return Path(resumed_weights(options.resume))
    if options.model and options.model.endswith(".pt"):
        return Path(options.model)
    raise OptionError(
        f"resume=True: which run? Give its checkpoint, resume=.../weights/last.pt; {newest_run(options)}."
    )


def newest_run(options: Options) -> str:
    """A phrase that names the newest last.pt of the project."""
    project = Path(options.project or RUNS_FOLDER)
    runs = sorted(project.glob("*/weights/last.pt"), key=lambda file: file.stat().st_mtime)
    return f"the newest here is resume={runs[-1]}" if runs else f"there is none in {project}"


def find_checkpoint(path: Path) -> tuple[Path, dict]:
    """The checkpoint at `path`, or where that cannot be read the newest of its run that can, with a warning.

    Raises WeightsError of `path` when none can.
    """
    try:
        return path, load_checkpoint(path)
    except WeightsError as error:
        others = sorted(path.parent.glob("*.pt"), key=lambda file: file.stat().st_mtime, reverse=True)
        for other in others if path.parent.name == "weights" else ():
            if (state := _readable(other)) is not None and other != path:
                LOGGER.warning(f"{error} Going on from {other}, epoch {state['epoch'] + 1}.")
                return other, state
        raise


def device_of(options: Options) -> str | None:
    """The devices of a run: those written now, else those that a resumed run was started on."""
    if options.device is not None or not options.resume:
        return options.device
    _, checkpoint = find_checkpoint(resume_path(options))
    return (checkpoint.get("options") or {}).get("device")


def _readable(path: Path) -> dict | None:
    """A checkpoint that a run can go on from, or None."""
    try:
        state = load_checkpoint(path)
    except WeightsError:
        return None
    return state if state.get("optimizer") is not None else None


def resume_options(checkpoint: Mapping[str, object], path: Path, given: Mapping[str, object]) -> Options:
    """The options of the run in `checkpoint`, with those of `given` (what the user wrote now) that may change.

    Raises OptionError for a given option that differs and may not.
    """
    saved = checkpoint.get("options")
    if not saved or checkpoint.get("optimizer") is None:
        raise OptionError(f"{path}: holds weights only, no training to resume; use it as model= to start a new run.")
    before = get_cfg(saved)
    asked = before.replace(**{key: value for key, value in given.items() if key not in NOT_COMPARED})
    if asked.batch == -1:  # it was chosen when the run began
        asked = asked.replace(batch=before.batch)
    for key, value in asked.to_dict().items():
        if key not in MAY_CHANGE and value != getattr(before, key):
            raise OptionError(
                f"{key}={value!r}: a resumed run keeps its {key}={getattr(before, key)!r}. These may change on resume: "
                f"{', '.join(MAY_CHANGE)}; for a different recipe start a new run from model={path}."
            )
    return asked.replace(resume=str(path))


def options_unlike_default(options: Options) -> dict[str, object]:
    """What somebody must have set, where the options are all that is known of what the user wrote."""
    default = get_cfg().to_dict()
    return {key: value for key, value in options.to_dict().items() if value != default[key]}
