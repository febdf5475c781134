"""Read any weights file: tensors by name, with the class names and the model YAML if the file has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ultralytics.nn.formats.metadata import Metadata
from ultralytics.nn.weights.names import coco_names
from ultralytics.nn.weights.unpickle import Placeholder, read_objects
from ultralytics.utils.checks import require
from ultralytics.utils.errors import WeightsError
from ultralytics.utils.files import PickledClassesError, read_plain

# Keys of files that hold a state_dict. The averaged weights (EMA, DINO's teacher) come first.
WRAPPERS = ("ema", "model_ema", "teacher", "model", "student", "state_dict", "module", "params", "net", "weights")
MAX_WRAPPERS = 4  # nested
MAX_MODULES = 100_000


@dataclass(frozen=True)
class Weights:
    """Content of a weights file.

    Attributes:
        tensors: tensors by their names in the file.
        origin: the file, for messages.
        names: class names by index, if the file has them.
        model_yaml: content of the model YAML, if the file has it.
    """

    tensors: Mapping[str, Tensor]
    origin: str
    names: Mapping[int, str] | None = None
    model_yaml: Mapping[str, Any] | None = None


def read_state_dict(file: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file by name: `read_weights(file).tensors`."""
    return dict(read_weights(file).tensors)


def read_weights(file: str | Path) -> Weights:
    """Read a checkpoint of this package, a state_dict, or a published `.pt` that pickles a whole model.

    `.safetensors`, and `.pt` or `.pth` of any version of torch. The tensors are at the top level or under one of
    WRAPPERS. Code in the file is not run.

    Raises:
        WeightsError: the file is missing, damaged, of another kind, or has no tensors by name.
        MissingPackageError: the package safetensors is not installed and the file needs it.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"model": torch.nn.Linear(3, 2).state_dict(), "epoch": 5}, f"{folder}/w.pt")
        ...     weights = read_weights(f"{folder}/w.pt")
        >>> {name: tuple(tensor.shape) for name, tensor in weights.tensors.items()}
        {'weight': (2, 3), 'bias': (2,)}
    """
    if Path(file).suffix.lower() == ".safetensors":
        return _read_safetensors(Path(file))
    try:
        content: Any = read_plain(file)
    except PickledClassesError:
        content = read_objects(file)
    try:
        tensors, attributes = _find_tensors(content)
    except (TypeError, AttributeError, ValueError) as error:  # attributes that no module has
        raise WeightsError(f"{file}: damaged or not a weights file ({error}).") from error
    if not tensors:
        raise WeightsError(f"{file}: no tensors by name at the top level or under {', '.join(WRAPPERS)}")
    tensors = {str(name).removeprefix("module."): value for name, value in tensors.items()}
    top = content if isinstance(content, Mapping) else {}
    names = _class_names(attributes.get("names", top.get("names"))) or coco_names(tensors)
    model_yaml = attributes.get("yaml", top.get("model_yaml"))
    return Weights(tensors, str(file), names, model_yaml if isinstance(model_yaml, Mapping) else None)


def _read_safetensors(file: Path) -> Weights:
    library = require("safetensors", "safetensors", f"{file}: reading it")
    if not file.is_file():
        raise WeightsError(f"{file}: {'is a folder' if file.is_dir() else 'no such weights file'}.")
    try:
        with library.safe_open(str(file), "pt") as opened:
            tensors = {name.removeprefix("module."): opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            header = opened.metadata() or {}
    except library.SafetensorError as error:
        raise WeightsError(f"{file}: damaged or no safetensors file ({error}).") from error
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read ({error.strerror or error}).") from error
    if not tensors:
        raise WeightsError(f"{file}: has no tensors.")
    if "model_yaml" not in header:
        return Weights(tensors, str(file))
    metadata = Metadata.from_text(header, file)
    return Weights(tensors, str(file), known_names(metadata.names), metadata.model_yaml)


def _find_tensors(content: Any) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Return the innermost tensors by name, and the attributes of the pickled module that holds them."""
    for _ in range(MAX_WRAPPERS):
        if isinstance(content, Mapping):
            content = next((content[key] for key in WRAPPERS if _has_content(content.get(key))), content)
    if isinstance(content, Placeholder):
        return _module_tensors(content), content.state
    entries = content.items() if isinstance(content, Mapping) else ()
    return {str(name): value for name, value in entries if isinstance(value, Tensor)}, {}


def _has_content(value: Any) -> bool:
    return bool(value.state) if isinstance(value, Placeholder) else isinstance(value, Mapping) and bool(value)


def _module_tensors(root: Placeholder) -> dict[str, Tensor]:
    """Return the `state_dict()` of a pickled torch.nn.Module: its parameters and buffers, then those of its children.

    Raises:
        ValueError: it has too many modules, for example because one contains itself.
    """
    found: dict[str, Tensor] = {}
    stack, count = [("", root)], 0
    while stack:
        prefix, module = stack.pop()
        count += 1
        if count > MAX_MODULES:
            raise ValueError(f"{root.origin} has more than {MAX_MODULES} modules, or one that contains itself")
        temporary = module.state.get("_non_persistent_buffers_set") or ()
        values = {**(module.state.get("_parameters") or {}), **(module.state.get("_buffers") or {})}
        for name, value in values.items():
            if isinstance(value, Tensor) and name not in temporary:
                found[f"{prefix}{name}"] = value
        children = dict(module.state.get("_modules") or {}).items()
        stack += [(f"{prefix}{name}.", child) for name, child in reversed(children) if isinstance(child, Placeholder)]
    return found


def _class_names(value: Any) -> dict[int, str] | None:
    """Return class names by index from a mapping or a list, None if they are missing or just the default indices."""
    names = dict(enumerate(value)) if isinstance(value, list | tuple) else value
    if not isinstance(names, Mapping) or not all(isinstance(k, int) and isinstance(v, str) for k, v in names.items()):
        return None
    return known_names(names)


def known_names(names: Mapping[int, str] | None) -> dict[int, str] | None:
    """Return the class names, or None if they are just the default indices '0', '1', ..."""
    if not names or all(str(name) == str(index) for index, name in names.items()):
        return None
    return dict(names)
