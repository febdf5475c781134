"""Checkpoints: the run folder, saving and loading weights, and resuming a run."""

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

FORMAT_VERSION = 1
WEIGHT_KEYS = ("model_yaml", "names", "nc", "model", "ema")  # present in every checkpoint
RESUME_KEYS = ("optimizer", "scheduler", "scaler", "loss_sum")  # needed only to resume
TENSORS = ("model", "ema", "optimizer", "scheduler", "scaler")  # the keys that take memory
MODEL_KEYS = {*KEYS, *SECTIONS, *SETTINGS, "yaml_file"} - {"modules"}  # `modules`: code on the machine of training

# Options that may change on resume: the length of the run, where it runs, what it logs. `batch` is for the case that
# memory ran out.
MAY_CHANGE = (
    "epochs", "time", "patience", "device", "workers", "data", "cache", "save_period", "save_minutes",
    "plots", "verbose", "modules", "loggers", "batch",
)  # fmt: skip
NOT_COMPARED = ("resume", "model", "mode", "task", "project", "name", "exist_ok")  # they only select the run


class RunDir:
    """Paths in a run folder, and functions that write its files atomically."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.weights = folder / "weights"
        self.last = self.weights / "last.pt"
        self.best = self.weights / "best.pt"
        self.results = folder / "results.csv"

    def create(self, options: Mapping[str, object]) -> None:
        """Create the folders and write args.yaml."""
        self.weights.mkdir(parents=True, exist_ok=True)
        write_yaml(self.folder / "args.yaml", options)

    def save(self, state: dict, *, best: bool, numbered: bool) -> None:
        """Write last.pt and, as links to the same content, best.pt and epochN.pt (N from 1) if asked for.

        last.pt is replaced at the end: a process killed in between resumes from the previous checkpoint.
        """
        targets = {self.best: best, self.weights / f"epoch{state['epoch'] + 1}.pt": numbered, self.last: True}
        first, *others = (path for path, is_written in targets.items() if is_written)
        save_checkpoint(first, state)
        for path in others:
            link(first, path)

    def strip_best(self) -> None:
        """Reduce best.pt to the averaged weights, a quarter of the size. last.pt keeps everything."""
        state = load_checkpoint(self.best)
        save_checkpoint(self.best, {**state, "model": state["ema"], **dict.fromkeys(RESUME_KEYS)})

    def save_batch(self, batch: Mapping[str, Any], rank: int) -> Path:
        """Save a batch that led to a non-finite value, as the network received it, with its file names."""
        file = self.folder / f"non_finite{f'_{rank}' if rank else ''}.pt"
        kept = {key: batch[key] for key in ("img", "cls", "bboxes", "batch_idx", "im_file") if key in batch}
        with atomic_write(file) as stream:
            torch.save(kept, stream)
        return file

    def append_results(self, row: Mapping[str, float]) -> None:
        """Append an epoch to results.csv. A new column (validation began later) is empty in the rows before it."""
        short = {key: f"{value:.6g}" if isinstance(value, float) else str(value) for key, value in row.items()}
        self._write_results([*self.read_results(), short])

    def keep_results(self, epochs: int) -> None:
        """Keep the first `epochs` rows of results.csv; a resumed run repeats the others."""
        if self.results.exists():
            self._write_results([row for row in self.read_results() if int(row["epoch"]) <= epochs])

    def read_results(self) -> list[dict[str, str]]:
        """Return the rows of results.csv; none if the file does not exist."""
        if not self.results.exists():
            return []
        with open(self.results, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def _write_results(self, rows: list[dict[str, str]]) -> None:
        columns = list(dict.fromkeys(key for row in reversed(rows) for key in row))  # the newest row has all of them
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        try:
            write_text(self.results, text.getvalue())
        except OSError as error:
            raise UserError(
                f"{self.results}: cannot write ({error.strerror}); the previous rows are intact."
            ) from error


def link(source: Path, target: Path) -> None:
    """Make `target` a hard link of `source`, or a copy. Safe, as checkpoints are never changed in place."""
    temporary = target.with_name(target.name + ".tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:  # no hard links on this file system (FAT, some network drives)
        shutil.copyfile(source, temporary)
    os.replace(temporary, target)


# Save and load --------------------------------------------------------------------------------------------------------


def save_checkpoint(path: str | Path, state: dict) -> None:
    """Write `state` to `path` atomically, with the format version.

    Raises:
        UserError: the file cannot be written; an existing file stays as it is.
        TypeError: `state` contains a type that `load_checkpoint` would reject.
    """
    state = {"format_version": FORMAT_VERSION, **state}
    _check_plain(state, "checkpoint")
    path = Path(path)
    before = "the previous file is intact" if path.exists() else "nothing was written"
    try:
        with atomic_write(path) as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:  # torch may wrap the OSError of a failed write
        cause: BaseException = error
        while not isinstance(cause, OSError) and (inner := cause.__cause__ or cause.__context__):
            cause = inner
        reason = getattr(cause, "strerror", None) or str(error).splitlines()[0]
        raise UserError(
            f"{path}: cannot save the checkpoint ({reason}); {before}. "
            "Free some space or check the permissions of the folder, then resume."
        ) from error


def _check_plain(value: object, where: str) -> None:
    """Raise TypeError unless `value` is plain data: fail when saving, not when loading."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_plain(key, f"a key of {where}")
            _check_plain(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            _check_plain(item, f"{where}[{index}]")
    elif value is not None and type(value) not in (bool, int, float, str, torch.Tensor):
        kind = type(value).__name__
        raise TypeError(f"{where} is a {kind}; checkpoints contain tensors, numbers, strings, lists, dicts")


def load_checkpoint(path: str | Path) -> dict:
    """Read a checkpoint of this package onto the CPU.

    Raises:
        WeightsError: the file is something else (named in the message), damaged or missing.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "tiny.pt"
    >>> save_checkpoint(path, {"model_yaml": {}, "names": {0: "cat"}, "nc": 1, "model": {}, "ema": None})
    >>> load_checkpoint(path)["names"]
    {0: 'cat'}
    >>> shutil.rmtree(path.parent)
    """
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
        raise WeightsError(f"{path}: incomplete checkpoint, {', '.join(missing)} missing.")
    return state


def _describe(state: object) -> str:
    if not isinstance(state, dict):
        return f"a {type(state).__name__}"
    if state and all(isinstance(value, torch.Tensor) for value in state.values()):
        return f"a plain state_dict of {len(state)} tensors"
    return f"a dict with the keys {', '.join(map(str, list(state)[:8])) or '(none)'}"


def load_model_weights(path: str | Path) -> dict:
    """Load a checkpoint, a published `.pt` that pickles a whole model, or an exported `.safetensors`.

    The latter two return the WEIGHT_KEYS only: enough to use or train the model, not to resume its run.

    Raises:
        WeightsError: the file cannot be read, or does not contain its model YAML.
    """
    try:
        if Path(path).suffix.lower() != ".safetensors":
            return load_checkpoint(path)
        weights = read_weights(path)
    except PickledClassesError:
        weights = read_weights(path)
    architecture = {key: value for key, value in (weights.model_yaml or {}).items() if key in MODEL_KEYS}
    nc = architecture.get("nc")
    if not isinstance(nc, int):
        raise WeightsError(
            f"{path}: contains {len(weights.tensors)} tensors, but no model YAML. Build the model first and load them "
            f"into it: RTDETR('rtdetr-l.yaml').load({str(path)!r})."
        )
    names = {index: (weights.names or {}).get(index, str(index)) for index in range(nc)}
    tensors = {name: value.float() if value.is_floating_point() else value for name, value in weights.tensors.items()}
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


# Resume ---------------------------------------------------------------------------------------------------------------


def resume_path(options: Options) -> Path:
    """Return the checkpoint to resume from: `resume=<file or run folder>`, else the weights given as `model`.

    Raises:
        OptionError: neither is a weights file; the message names the newest last.pt of the project.
    """
    if isinstance(options.resume, str):
        return Path(resumed_weights(options.resume))
    if options.model and options.model.endswith(".pt"):
        return Path(options.model)
    raise OptionError(
        f"resume=True: which run? Give its checkpoint, resume=.../weights/last.pt; {newest_run(options)}."
    )


def newest_run(options: Options) -> str:
    """Return a phrase that names the newest last.pt of the project."""
    project = Path(options.project or RUNS_FOLDER)
    runs = sorted(project.glob("*/weights/last.pt"), key=lambda file: file.stat().st_mtime)
    return f"the newest here is resume={runs[-1]}" if runs else f"there is none in {project}"


def find_checkpoint(path: Path) -> tuple[Path, dict]:
    """Load the checkpoint at `path`; if it cannot be read, fall back to the newest readable one of its run.

    Raises:
        WeightsError: of `path`, if none can be read.
    """
    try:
        return path, load_checkpoint(path)
    except WeightsError as error:
        others = path.parent.glob("*.pt") if path.parent.name == "weights" else ()
        for other in sorted(others, key=lambda file: file.stat().st_mtime, reverse=True):
            try:
                state = load_checkpoint(other)
            except WeightsError:
                continue
            if state.get("optimizer") is not None:
                LOGGER.warning(f"{error} Resuming from {other}, epoch {state['epoch'] + 1}.")
                return other, state
        raise


def resume_device(options: Options) -> str | None:
    """Return the option `device`; if it is not given, a resumed run continues on the devices it was started on."""
    if options.device is not None or not options.resume:
        return options.device
    _, checkpoint = find_checkpoint(resume_path(options))
    return (checkpoint.get("options") or {}).get("device")


def resume_options(checkpoint: Mapping[str, Any], path: Path, given: Mapping[str, object]) -> Options:
    """Return the options of the run in `checkpoint`, updated by those of `given` (by the user) that may change.

    Raises:
        OptionError: a given option differs and may not change, or the file has weights only.
    """
    saved = checkpoint.get("options")
    if not saved or checkpoint.get("optimizer") is None:
        raise OptionError(f"{path}: contains weights only, no run to resume; use it as model= to start a new run.")
    before = get_cfg(saved)
    options = before.replace(**{key: value for key, value in given.items() if key not in NOT_COMPARED})
    if options.batch == -1:  # it was chosen when the run began
        options = options.replace(batch=before.batch)
    for key, value in options.to_dict().items():
        if key not in MAY_CHANGE and value != getattr(before, key):
            raise OptionError(
                f"{key}={value!r}: a resumed run keeps its {key}={getattr(before, key)!r}. These may change on resume: "
                f"{', '.join(MAY_CHANGE)}; for a different recipe start a new run from model={path}."
            )
    return options.replace(resume=str(path))


def non_default_options(options: Options) -> dict[str, object]:
    """Return the options that differ from the defaults: those that the user must have set."""
    default = get_cfg().to_dict()
    return {key: value for key, value in options.to_dict().items() if value != default[key]}
