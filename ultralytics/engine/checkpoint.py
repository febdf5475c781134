"""Checkpoints: plain data, written whole or not at all, read without running code from the file.

A checkpoint is a dict with these keys; the ones marked * make it usable as weights, the others resume a training run:

    format_version*   int, `FORMAT_VERSION`
    model_yaml*       dict, the model YAML with all overrides applied
    names*, nc*       dict[int, str], int
    model*, ema*      state_dict of the network, and of its moving average (or None)
    ema_updates       int
    optimizer, scheduler, scaler    state of each (scaler None without float16)
    batches_done, loss_sum          where in an epoch it was taken; random numbers are a function of this place
    epoch             int, last completed epoch counting from 0
    best_fitness      float or None
    options           dict, the options of the run
    metrics           dict[str, float] of the last validation
    date              str, ISO 8601
"""

from __future__ import annotations

from pathlib import Path

import torch

from ultralytics.cfg.model_yaml import KEYS, SECTIONS, SETTINGS
from ultralytics.nn.weights import read_weights
from ultralytics.utils.atomic import atomic_write
from ultralytics.utils.errors import UserError, WeightsError
from ultralytics.utils.torch_files import PickledClassesError, read_plain

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
