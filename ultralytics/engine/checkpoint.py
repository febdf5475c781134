"""Checkpoints: the run folder, saving and loading weights, and resuming a run."""

import csv
import errno
import io
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from reprlib import repr as short
from typing import IO, Any

import torch
from torch import nn

from ultralytics.cfg.model_yaml import KEYS, SECTIONS, SETTINGS
from ultralytics.cfg.options import Options, default_values, get_cfg
from ultralytics.engine.trust import build_recorded, recorded_data
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.formats import find_format
from ultralytics.nn.tasks import DetectionModel
from ultralytics.nn.weights import read_weights
from ultralytics.nn.weights.torch_files import PickledClassesError, read_plain
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import OptionError, UserError, WeightsError
from ultralytics.utils.files import (
    RUNS_FOLDER,
    UNFINISHED,
    atomic_write,
    first_line,
    increment_path,
    resumed_weights,
)
from ultralytics.utils.tables import read_csv

FORMAT_VERSION = 1
RESUME_KEYS = ("optimizer", "scheduler", "scaler", "loss_sum")  # needed only to resume
TENSORS = ("model", "ema", "optimizer", "scheduler", "scaler")  # the keys that take memory
MODEL_KEYS = {*KEYS, *SECTIONS, *SETTINGS, "yaml_file"} - {"modules"}  # `modules`: code on the machine of training

# Options that may change on resume: the length of the run, where it runs, what it logs, `batch` if memory ran out
MAY_CHANGE = (
    "epochs", "time", "patience", "device", "workers", "data", "cache", "save_period", "save_minutes",
    "plots", "plot_titles", "verbose", "modules", "loggers", "batch",
)  # fmt: skip
MAX_EXPANDED = 1 << 26  # bytes of a tensor that repeats its numbers (stride 0), beyond those in the file
CONTENT = {
    "model_yaml": dict, "nc": int, "names": dict, "model": dict, "ema": dict | None, "options": dict | None,
}  # fmt: skip
RUN_FOLDER = ("project", "name", "exist_ok")
NOT_COMPARED = ("resume", "model", "mode", "task", "trust", *RUN_FOLDER)  # they only select the run


class RunDir:
    """Paths in a run folder, and functions that write its files atomically."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.weights = folder / "weights"
        self.last = self.weights / "last.pt"
        self.best = self.weights / "best.pt"
        self.results = folder / "results.csv"
        self._lock: IO[str] | None = None

    def lock(self) -> None:
        """Exclude other processes from this run until `unlock` or the end of the process, however it ends.

        Raises UserError if another process trains in the folder, or if nothing can be written there.
        """
        name = self.folder / ".lock"
        try:
            self.weights.mkdir(parents=True, exist_ok=True)
            file = open(name, "a+")  # noqa: SIM115 - open as long as the run
            if not lock_file(file):
                file.seek(0)
                raise UserError(
                    f"{self.folder}: another process trains in this run folder ({file.read()}). Wait until it has "
                    "finished or end it; for a second run choose another name=."
                )
            if not name.exists() or not os.path.samestat(os.fstat(file.fileno()), name.stat()):
                return self.lock()  # `unlock` of another process has just removed the file
            self._lock = file
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}")
            file.flush()
            for folder in (self.folder, self.weights):
                for left in folder.glob(f".*{UNFINISHED}"):  # by a process that was killed while it wrote
                    left.unlink()
        except OSError as error:
            raise UserError(f"{self.folder}: cannot write into the run folder ({error.strerror})") from error

    def unlock(self) -> None:
        """Let other processes use the run folder."""
        if self._lock:
            with suppress(OSError):
                os.unlink(self._lock.name)
            self._lock.close()
            self._lock = None

    def save(self, state: dict, *, best: bool, numbered: bool) -> None:
        """Write last.pt and, if asked for, best.pt and epochN.pt (N from 1) with the same content."""
        if best:
            save_checkpoint(self.best, state)
        if numbered:
            save_checkpoint(self.weights / f"epoch{state['epoch'] + 1}.pt", state)
        save_checkpoint(self.last, state)  # at the end: a process killed before resumes from the previous one

    def strip_best(self) -> None:
        """Reduce best.pt to the averaged weights, a quarter of the size."""
        state = load_checkpoint(self.best)
        save_checkpoint(self.best, {**state, "model": state["ema"], **dict.fromkeys(RESUME_KEYS)})

    def save_batch(self, batch: Mapping[str, Any], rank: int) -> Path:
        """Save a batch that led to a non-finite value, as the network received it, with its file names."""
        file = self.folder / f"non_finite{f'_{rank}' if rank else ''}.pt"
        kept = {key: batch[key] for key in ("img", "cls", "bboxes", "batch_idx", "im_file") if key in batch}
        with atomic_write(file) as stream:
            torch.save(kept, stream)
        return file

    def _read_results(self) -> list[dict[str, str]]:
        """Return the rows of results.csv, also as rewritten by a spreadsheet; move one that cannot be read aside."""
        try:
            rows = read_csv(self.results) if self.results.exists() else []
            for row in rows:
                row["epoch"] = f"{float(row['epoch']):g}"  # a spreadsheet may write 1.0
                for value in filter(None, row.values()):
                    float(value)  # `plot_results` needs numbers
            return rows
        except (UserError, KeyError, ValueError, csv.Error) as error:
            kept = increment_path(self.folder / "results_damaged.csv")
            os.replace(self.results, kept)
            LOGGER.warning(f"{self.results}: cannot be read ({first_line(error)}); moved to {kept.name}")
            return []

    def append_results(self, row: Mapping[str, float]) -> None:
        """Append an epoch to results.csv; rows from this epoch on, left by a run before its resume, are dropped."""
        rows = [old for old in self._read_results() if float(old["epoch"]) < row["epoch"]]
        rows.append({key: f"{value:.6g}" if isinstance(value, float) else str(value) for key, value in row.items()})
        columns = dict.fromkeys(key for old in reversed(rows) for key in old)  # a new one is empty in the rows before
        text = io.StringIO()
        writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        with atomic_write(self.results) as stream:
            stream.write(text.getvalue().encode())


def lock_file(file: IO[str]) -> bool:
    """Lock a file without waiting; return False if another process has locked it. Child processes do not inherit it."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(1 << 20)  # a byte behind the content, which others may read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            return False
        LOGGER.warning(f"{file.name}: no lock ({error.strerror}): do not train twice in this run folder at once")
    return True


# Save and load --------------------------------------------------------------------------------------------------------


def save_checkpoint(path: str | Path, state: dict) -> None:
    """Write `state` to `path` atomically, with the format version; UserError if it cannot be written."""
    state = {"format_version": FORMAT_VERSION, **state}
    _check_plain(state, "checkpoint")
    check_content(state, path)
    try:
        with atomic_write(path) as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:  # torch hides the OSError of a failed write behind a RuntimeError
        if "DataLoader worker" in str(error):  # raised by a signal handler of torch, at any place
            raise
        raise UserError(
            f"{path}: cannot save the checkpoint ({error.__context__ or error}); an existing file is intact. Free some "
            "space or check the permissions of the folder, then resume."
        ) from error


def _check_plain(value: object, where: str) -> None:
    """Raise TypeError for what `load_checkpoint` would reject: fail when saving, not when loading."""
    if isinstance(value, (dict, list, tuple)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            _check_plain(item, f"{where}[{key!r}]")
    elif type(value) not in (type(None), bool, int, float, str, torch.Tensor):
        raise TypeError(f"{where} is a {type(value).__name__}; expected tensors, numbers, strings, lists, dicts")


def load_checkpoint(path: str | Path) -> dict:
    """Read a checkpoint of this package onto the CPU; WeightsError if it is something else, damaged or missing."""
    state = read_plain(path)
    if not isinstance(state, dict) or "format_version" not in state:
        keys = f" with {', '.join(map(str, list(state)[:4]))}" if isinstance(state, dict) else ""
        found = f"a {type(state).__name__}{keys}; to load its tensors, build the model from its YAML first"
        raise WeightsError(f"{path}: expected a checkpoint of this package, got {found}.")
    if (version := state["format_version"]) is not FORMAT_VERSION:
        raise WeightsError(f"{path}: format {short(version)}, expected {FORMAT_VERSION}; update the package.")
    return check_content(state, path)


def check_content(state: dict, where: str | Path) -> dict:
    """Return `state`. Raise WeightsError if a network cannot be built from it, or a weight is NaN or infinite."""
    nc, names = state.get("nc"), state.get("names")
    for key, kind in CONTENT.items():
        if not isinstance(value := state.get(key), kind) or value is True:
            expected = getattr(kind, "__name__", "dict or None")
            raise WeightsError(f"{where}: damaged: {key} is {short(value)}, expected {expected}.")
    if len(names) != nc or set(names) != set(range(nc)) or not all(isinstance(name, str) for name in names.values()):
        raise WeightsError(
            f"{where}: has {len(names)} names, {short(names)}, but nc is {nc}; expected a text for each class from 0."
        )
    for part in ("model", "ema"):
        for name, value in (state.get(part) or {}).items():
            if not isinstance(name, str) or not isinstance(value, torch.Tensor) or value.layout != torch.strided:
                raise WeightsError(f"{where}: damaged: {part} has {short(name)}, expected tensors by name.")
            if value.is_meta or value.nbytes > value.untyped_storage().nbytes() + MAX_EXPANDED:
                raise WeightsError(f"{where}: damaged: {part}, {name} has more numbers than the file.")
            if value.is_floating_point() and not value.float().isfinite().all():
                raise WeightsError(
                    f"{where}: {part}, {name} has values that are NaN or infinite. The training that wrote it has "
                    "diverged; use an earlier checkpoint."
                )
    return state


def load_model_weights(path: str | Path) -> dict:
    """Load a checkpoint, a published `.pt` that pickles a whole model, or an exported `.safetensors`.

    The latter two contain no run to resume. WeightsError if the file cannot be read or has no model YAML.
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
    state = {"model_yaml": architecture, "names": names, "nc": nc, "model": tensors, "ema": None}
    return check_content(state, path)


def load_network(
    checkpoint: Mapping[str, Any],
    network_class: type[DetectionModel],
    modules: Sequence[str] | None = None,
    origin: str | Path = "model",
    *,
    trust: bool = False,
) -> DetectionModel:
    """Build the network of a checkpoint in eval mode, with the averaged weights (EMA) where the file has them.

    `origin` is the file, for messages. The folders of code that it records are imported with `trust`; see `trust.py`.
    Raises WeightsError if the weights do not fit the model YAML of the checkpoint.
    """

    def build(architecture: dict[str, Any]) -> DetectionModel:
        return network_class(architecture, nc=checkpoint["nc"], overrides={"modules": modules})

    network = build_recorded(build, checkpoint, origin, modules, trust=trust)
    try:
        network.load_state_dict(checkpoint["ema"] or checkpoint["model"])
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(f"{origin}: its weights do not fit its model YAML: {reason}") from error
    network.names = dict(checkpoint["names"])
    return network.eval()


def resolve_network(
    model: Any, network_class: type[DetectionModel], modules: Sequence[str] | None = None, *, trust: bool = False
) -> nn.Module:
    """Return a network as it is, that of a `Model`, or the network of a model file, weights or an exported model."""
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
    return load_network(load_model_weights(model), network_class, modules, model, trust=trust)


def resume_path(options: Options) -> Path:
    """Return the checkpoint to resume from: that of `resume=FILE or FOLDER`, `model`, or the newest run."""
    if options.resume is True and options.model and options.model.endswith(".pt"):
        return Path(options.model)
    if path := resumed_weights(options.resume, options.project):
        return Path(path)
    project = options.project or RUNS_FOLDER
    raise OptionError(f"resume=True: {project} has no run; write resume=FOLDER, or project= of the run.")


def find_checkpoint(path: Path, *, quiet: bool = False) -> tuple[Path, dict]:
    """Load the checkpoint at `path`; if it cannot be read, fall back to the newest readable one of its run."""
    try:
        return path, load_checkpoint(path)
    except WeightsError as error:
        if not (found := older_checkpoint(path)):
            raise
        if not quiet:
            LOGGER.warning(f"{error} Resuming from {found[0]}, epoch {found[1]['epoch'] + 1}.")
        return found


def older_checkpoint(path: Path) -> tuple[Path, dict] | None:
    """Return the newest other checkpoint of the run of `path` to resume from; None if there is none."""
    others = [file for file in path.parent.glob("*.pt") if file != path] if path.parent.name == "weights" else ()
    for other in sorted(others, key=lambda file: file.stat().st_mtime, reverse=True):
        with suppress(WeightsError):
            state = load_checkpoint(other)
            if state.get("optimizer") is not None:
                return other, state
    return None


def resume_device(options: Options) -> str | None:
    """Return the option `device`; if it is not given, a resumed run continues on the devices it was started on."""
    if options.device is not None or not options.resume:
        return options.device
    _, checkpoint = find_checkpoint(resume_path(options), quiet=True)
    return checkpoint["options"]["device"] if checkpoint.get("options") else None


def resume_options(checkpoint: Mapping[str, Any], path: Path, given: Mapping[str, object]) -> Options:
    """Return the options of the run in `checkpoint`, updated by those of `given` (by the user) that may change."""
    saved = checkpoint.get("options")
    if not saved or checkpoint.get("optimizer") is None:
        raise OptionError(f"{path}: contains weights only, no run to resume; use it as model= to start a new run.")
    before = get_cfg(saved)
    options = before.replace(**{key: value for key, value in given.items() if key not in NOT_COMPARED})
    if not given.get("trust"):
        changes = {"trust": False, "modules": given.get("modules")}
        if "data" not in given:
            changes["data"] = recorded_data(before.data, ("train", "val"), path)
        if path.parent.name != "weights":  # a new run folder: of the user's choice
            changes |= {key: given.get(key, value) for key, value in default_values().items() if key in RUN_FOLDER}
        options = options.replace(**changes)
    if options.batch == -1:  # it was chosen when the run began
        options = options.replace(batch=before.batch)
    for key, value in options.to_dict().items():
        if key not in (*MAY_CHANGE, *NOT_COMPARED) and value != getattr(before, key):
            raise OptionError(
                f"{key}={value!r}: a resumed run keeps its {key}={getattr(before, key)!r}. These may change on resume: "
                f"{', '.join(MAY_CHANGE)}; for a different recipe start a new run from model={path}."
            )
    return options.replace(resume=str(path))
