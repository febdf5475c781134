"""Checkpoints: saving and loading weights, and resuming a run."""

import ast
import copy
import hashlib
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from reprlib import repr as short
from typing import Any

import torch
from torch import nn

from ultralytics.cfg.family import Family, default_values, of_family
from ultralytics.cfg.model_yaml import model_keys
from ultralytics.cfg.options import Options, check_options, get_cfg, option_types
from ultralytics.engine.trust import build_recorded, recorded_data
from ultralytics.nn.exported_model import ExportedModel
from ultralytics.nn.formats import find_format
from ultralytics.nn.tasks import DetectionModel
from ultralytics.nn.weights import Weights, load_weights, read_weights
from ultralytics.nn.weights.torch_files import PickledClassesError, check_torch_file, read_plain
from ultralytics.utils import LOGGER, PACKAGE_ROOT, __version__
from ultralytics.utils.downloads import find_released, released
from ultralytics.utils.errors import OptionError, UserError, WeightsError
from ultralytics.utils.files import atomic_write, git, resumed_weights, runs_folder
from ultralytics.utils.torch_utils import check_weights, describe_device

FORMAT_VERSION = 1
TENSORS = ("model", "ema", "optimizer", "scheduler", "scaler")  # the keys that take memory

# Options that may change on resume: the length of the run, where it runs, what it logs, `batch` if memory ran out
MAY_CHANGE = (
    "epochs", "time", "patience", "device", "workers", "data", "cache", "save_period", "save_minutes",
    "plots", "plot_titles", "verbose", "modules", "loggers", "batch", "save_optimizer", "resume_changed",
)  # fmt: skip
MAX_EXPANDED = 1 << 26  # bytes of a tensor that repeats its numbers (stride 0), beyond those in the file
EXTENDING = ("epochs", "patience", "time")  # options that let a finished run continue
CONTENT = {
    "model_yaml": dict, "nc": int, "names": dict, "model": dict, "ema": dict | None, "options": dict | None,
}  # fmt: skip
PROGRESS = {  # further content of a checkpoint to resume from
    "epoch": int, "batches_done": int, "ema_updates": int, "seconds": int | float, "best_fitness": int | float | None,
    "best_epoch": int, "metrics": dict, "scheduler": dict, "optimizer": dict | None, "scaler": dict | None,
    "loss_sum": torch.Tensor, "environment": dict | None,
}  # fmt: skip
RUN_FOLDER = ("project", "name", "exist_ok")
NOT_COMPARED = ("resume", "model", "mode", "task", "trust", *RUN_FOLDER)  # they only select the run


# Save and load --------------------------------------------------------------------------------------------------------


def save_checkpoint(path: str | Path, state: dict) -> None:
    """Write `state` to `path` atomically, with versions, date and published names; UserError if that fails.

    As published, the file of a finished run has the epoch -1; `load_checkpoint` returns the last one.
    """
    state = {"format_version": FORMAT_VERSION, "version": __version__, "date": datetime.now().isoformat(), **state}
    state["train_args"] = state.get("options")
    if state.get("finished"):
        state |= {"last_epoch": state["epoch"], "epoch": -1}
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
    if "last_epoch" in state:
        state["epoch"] = state.pop("last_epoch")
    return check_content(state, path)


def check_content(state: dict, where: str | Path) -> dict:
    """Return `state`. Raise WeightsError if a network cannot be built from it, or a weight is NaN or infinite."""
    nc, names = state.get("nc"), state.get("names")
    _check_kinds(state, CONTENT, where)
    if len(names) != nc or set(names) != set(range(nc)) or not all(isinstance(name, str) for name in names.values()):
        raise WeightsError(f"{where}: names is {short(names)}, but nc is {nc}; expected a text for each class from 0.")
    for part in ("model", "ema"):
        for name, value in (state.get(part) or {}).items():
            if not isinstance(name, str) or not isinstance(value, torch.Tensor) or value.layout != torch.strided:
                raise WeightsError(f"{where}: damaged: {part} has {short(name)}, expected tensors by name.")
            if value.is_meta or value.nbytes > value.untyped_storage().nbytes() + MAX_EXPANDED:
                raise WeightsError(f"{where}: damaged: {part}, {name} has more numbers than the file.")
        check_weights(state.get(part) or {}, f"{where}: {part}")
    return state


def _check_kinds(state: Mapping[str, Any], kinds: Mapping[str, Any], where: str | Path) -> None:
    for key, kind in kinds.items():
        if not isinstance(value := state.get(key), kind) or value is True:
            expected = getattr(kind, "__name__", str(kind))
            raise WeightsError(f"{where}: damaged: {key} is {short(value)}, expected {expected}.")


def load_model_weights(path: str | Path) -> dict:
    """Load a checkpoint, a published `.pt` that pickles a whole model, or an exported `.safetensors`.

    The latter two contain no run to resume; of the options of a published training, those that exist here are read.
    Released weights are asked for by name, see `find_released`; those of the official RT-DETR get a model file here.
    WeightsError if the file cannot be read or has no model YAML.
    """
    release, path = released(path), find_released(path, check_torch_file)
    if release and release.model_file:
        return _load_official(read_weights(path), release.model_file)
    try:
        if Path(path).suffix.lower() != ".safetensors":
            return load_checkpoint(path)
        weights = read_weights(path)
    except PickledClassesError:
        weights = read_weights(path)
    architecture = model_keys(weights.model_yaml or {})
    nc = architecture.get("nc")
    if not isinstance(nc, int):
        raise WeightsError(
            f"{path}: contains {len(weights.tensors)} tensors, but no model YAML. Build the model from its YAML first "
            f"and load them into it: model.load({str(path)!r})."
        )
    names = {index: (weights.names or {}).get(index, str(index)) for index in range(nc)}
    tensors = {name: value.float() if value.is_floating_point() else value for name, value in weights.tensors.items()}
    options: dict[str, object] = {}
    for key, value in (weights.train_args or {}).items():
        with suppress(OptionError):  # a value of the published package, and not here
            options |= check_options({key: value} if key in option_types() else {})
    state = {"model_yaml": architecture, "names": names, "nc": nc, "model": tensors, "ema": None}
    return check_content({**state, "options": options or None}, path)


def _load_official(weights: Weights, model_file: str) -> dict:
    network = DetectionModel(model_file, nc=len(weights.names or ()) or None)
    load_weights(network, weights)
    state = {"model_yaml": network.yaml, "names": dict(weights.names or network.names), "nc": network.nc}
    return {**state, "model": network.state_dict(), "ema": None, "options": None}


def load_network(
    checkpoint: Mapping[str, Any], network_class: type[DetectionModel], modules: Sequence[str] | None = None,
    origin: str | Path = "model", *, trust: bool = False,
) -> DetectionModel:  # fmt: skip
    """Build the network of a checkpoint in eval mode, with the averaged weights (EMA) where the file has them.

    `origin` is the file, for messages. The folders of code that it records are imported with `trust`; see `trust.py`.
    Raises WeightsError if the weights do not fit the model YAML of the checkpoint.
    """

    def build(architecture: dict[str, Any]) -> DetectionModel:
        return network_class(architecture, nc=checkpoint["nc"], **_with_folders(modules))

    network = build_recorded(build, checkpoint, origin, modules, trust=trust)
    try:
        network.load_state_dict(checkpoint.get("ema") or checkpoint["model"])
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(f"{origin}: its weights do not fit its model YAML: {reason}") from error
    network.names = dict(checkpoint["names"])
    return network.eval()


def _with_folders(modules: Sequence[str] | None) -> dict[str, Any]:
    """Return arguments of a network for folders of modules; none without, as a script's class may not have them."""
    return {"overrides": {"modules": modules}} if modules else {}


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
        return ExportedModel(model)
    if Path(model).suffix.lower() in (".yaml", ".yml"):
        return network_class(str(model), **_with_folders(modules))
    return load_network(load_model_weights(model), network_class, modules, model, trust=trust)


def with_branch(model: nn.Module, end2end: bool | None, max_det: int = 0, augment: bool = False) -> nn.Module:
    """Return the network, or a copy that predicts by the other branch of its head, or selects up to `max_det` there.

    With `augment`, the branch is by default that of test-time augmentation.
    """
    if augment and end2end is None and getattr(model, "augmentable", False):
        end2end = False
    if end2end not in (None, getattr(model, "end2end", False)):
        if isinstance(model, ExportedModel):
            raise OptionError(f"end2end={end2end}: an exported model has one branch; export it with end2end={end2end}")
        model = copy.deepcopy(model)
        model.end2end = end2end
    if max_det > (getattr(model, "max_det", None) or max_det):
        model = copy.deepcopy(model)
        model.max_det = max_det
    return model


def resume_path(options: Options) -> Path:
    """Return the checkpoint to resume from: that of `resume=FILE or FOLDER`, `model`, or the newest run."""
    given = options.model if options.resume is True and (options.model or "").endswith(".pt") else None
    if found := given or resumed_weights(options.resume, options.project):
        path = Path(found)
        return path if path.parent.name else path.absolute()  # the name of its folder decides where the run continues
    project = options.project or runs_folder()
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
    """Return the other checkpoint of the run of `path` that has the most epochs, to resume from; None if there is none.

    File times may be those of a copy, so epoch12.pt is tried before epoch3.pt, and compared with best.pt.
    """
    is_run = path.absolute().parent.name == "weights"
    others = [file for file in path.parent.glob("*.pt") if file != path] if is_run else ()
    found: list[tuple[Path, dict]] = []
    for other in sorted(others, key=lambda file: int("0" + re.sub(r"\D", "", file.stem)), reverse=True):
        with suppress(WeightsError):
            state = load_checkpoint(other) if not found or other.stem == "best" else {}
            if state.get("optimizer") is not None or state.get("finished"):
                found.append((other, state))
    return max(found, key=lambda pair: (pair[1].get("epoch", 0), pair[1].get("batches_done", 0)), default=None)


def resume_device(options: Options) -> str | None:
    """Return the option `device`; if it is not given, a resumed run continues on the devices it was started on."""
    if options.device is not None or not options.resume:
        return options.device
    _, checkpoint = find_checkpoint(resume_path(options), quiet=True)
    return (checkpoint.get("options") or {}).get("device")


def resume_options(
    checkpoint: Mapping[str, Any], path: Path, given: Mapping[str, object], family: Family | None = None
) -> Options:
    """Return the options of the run in `checkpoint`, updated by those of `given` (by the user) that may change."""
    saved = checkpoint.get("options")
    if not saved or (checkpoint.get("optimizer") is None and not checkpoint.get("finished")):
        raise OptionError(f"{path}: contains weights only, no run to resume; use it as model= to start a new run.")
    _check_kinds(checkpoint, PROGRESS, path)
    _check_kinds(checkpoint["scheduler"], {"updates": int, "rate_scale": int | float}, path)
    moments = (checkpoint["optimizer"] or {"state": {}}).get("state")
    if not isinstance(moments, dict) or not all(isinstance(values, dict) for values in moments.values()):
        raise WeightsError(f"{path}: damaged: the state of the optimizer is not a table of tensors by parameter.")
    before = get_cfg(check_options({**saved, "resume_changed": False}, f"{path}: "), family=family)
    changes = {key: of_family(key, value, family) for key, value in given.items() if key not in NOT_COMPARED}
    options = before.replace(**changes)
    options = options.replace(trust=bool(given.get("trust")))
    if not options.trust:
        changes = {"modules": given.get("modules")}
        if "data" not in given and before.data is not None:
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


def finished_run(checkpoint: Mapping[str, Any], options: Options) -> str:
    """Return a message if the run of a checkpoint has nothing left to do with these options of its resume, else ""."""
    before, done = checkpoint["options"], checkpoint["epoch"] + 1
    is_extended = done < options.epochs and any(getattr(options, key) != before.get(key) for key in EXTENDING)
    if not checkpoint.get("finished") or is_extended:
        return ""
    return (
        f"{options.resume}: this run has finished: nothing is left to do. Its weights are in best.pt; to train longer, "
        "set more epochs=."
    )


# Origin ---------------------------------------------------------------------------------------------------------------


def environment(device: torch.device) -> dict[str, Any]:
    """Return where a run is trained, for args.yaml and checkpoints: versions, commit, machine and command."""
    commit = git(PACKAGE_ROOT, "rev-parse", "HEAD")
    return {
        "ultralytics": __version__, "torch": str(torch.__version__), "python": platform.python_version(),
        "commit": commit, "uncommitted_changes": bool(git(PACKAGE_ROOT, "status", "--porcelain")) if commit else None,
        "machine": platform.node(), "system": platform.platform(), "device": describe_device(device),
        "command": shlex.join(sys.argv),
    }  # fmt: skip


def fingerprints(datasets: Mapping[str, Any], model: nn.Module) -> dict[str, str]:
    """Return hashes of the labels and images of each split, and of the source files of the network's modules."""
    found = {}
    for split, dataset in datasets.items():
        labels = getattr(getattr(dataset, "source", None), "labels", ())
        boxes = [array.tobytes() for item in labels for array in (item.cls, item.boxes, item.crowd)]
        with ThreadPoolExecutor(8) as threads:
            images = threads.map(_image_mark, [item.file for item in labels])
            found[f"{split} images"] = f"{len(labels)} {_hash(images)}"
        found[f"{split} labels"] = f"{sum(len(item.cls) for item in labels)} {_hash(boxes)}"
    files, waiting = {}, {type(module).__module__ for module in model.modules()} - {"__main__"}  # a script may change
    while waiting:
        module = sys.modules.get(waiting.pop())
        file = Path(getattr(module, "__file__", None) or ".")
        is_installed = "site-packages" in file.parts and PACKAGE_ROOT not in file.parents
        if file.suffix != ".py" or file in files or not file.is_file() or is_installed:
            continue
        content = file.read_bytes().replace(b"\r\n", b"\n")
        files[file] = _hash([content])
        with suppress(SyntaxError, ValueError):  # edited since it was imported
            for node in ast.walk(ast.parse(content)):
                if isinstance(node, ast.ImportFrom) and node.level == 1:  # from its own folder
                    names = [node.module] if node.module else [alias.name for alias in node.names]
                    waiting |= {f"{module.__package__}.{name}" for name in names}
    return found | {f"{file.parent.name}/{file.name}": content for file, content in sorted(files.items())}


def _image_mark(file: Path) -> bytes:
    """Return name, size and the last bytes of an image, which depend on all pixels in most formats."""
    try:
        with open(file, "rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(size - 4096, 0))
            return f"{file.name}|{size}|".encode(errors="surrogateescape") + stream.read()
    except OSError:
        return f"{file.name}|missing".encode(errors="surrogateescape")


def _hash(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


def check_unchanged(before: Mapping[str, str], now: Mapping[str, str], options: Options) -> None:
    """Raise OptionError if data or modules have changed since a checkpoint; a warning with `resume_changed`."""
    if not isinstance(before, dict):
        raise WeightsError(f"{options.resume}: damaged: fingerprints is {short(before)}, expected dict.")
    changed = [str(name) for name in {**before, **now} if before and before.get(name) != now.get(name)]
    if changed:
        text = f"{options.resume}: changed since the run was interrupted: {', '.join(changed)[:300]}"
        if not options.resume_changed:
            raise OptionError(f"{text}. Restore them, or accept the changes with resume_changed=True.")
        LOGGER.warning(f"{text}; the run continues with them (resume_changed=True)")
