"""Tensors by name from a weights file of any kind, and the class names and model YAML where the file has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ultralytics.nn.backends.metadata import Metadata
from ultralytics.nn.weights.pickled import Placeholder, TensorRecord, read_objects
from ultralytics.nn.weights.renaming import coco_names
from ultralytics.utils.errors import MissingPackageError, WeightsError
from ultralytics.utils.torch_files import PickledClassesError, read_plain

# Keys under which files keep their state_dict. The average of the weights (of DINO the teacher) is the better one.
WRAPPERS = ("ema", "model_ema", "teacher", "model", "student", "state_dict", "module", "params", "net", "weights")
MOST_WRAPPERS = 4  # one in the other
MOST_MODULES = 100_000


@dataclass(frozen=True)
class Weights:
    """What a weights file says.

    Attributes:
        tensors: by name, as the file names them.
        origin: the file, for messages.
        names: class names by index, where the file has them.
        model_yaml: content of the model YAML, where the file has it.
    """

    tensors: Mapping[str, Tensor]
    origin: str
    names: Mapping[int, str] | None = None
    model_yaml: Mapping[str, Any] | None = None


def read_state_dict(file: str | Path) -> dict[str, Tensor]:
    """Tensors by name from a weights file: `read_weights(file).tensors`."""
    return dict(read_weights(file).tensors)


def read_weights(file: str | Path) -> Weights:
    """Read a checkpoint of this package, a state_dict, or a published `.pt` that pickles a whole model.

    `.safetensors`, `.pt` and `.pth` of any version of torch. The tensors stand at the top level or under one of
    WRAPPERS; only data is read, code in the file is not run.

    Raises:
        WeightsError: the file is missing, damaged, of another kind, or holds no tensors by name.
        MissingPackageError: a `.safetensors` file, and the package that reads them is not installed.
    """
    if Path(file).suffix.lower() == ".safetensors":
        return _read_safetensors(Path(file))
    try:
        content: Any = read_plain(file)
    except PickledClassesError:
        content = read_objects(file)
    try:
        tensors, model = _find_tensors(content)
    except WeightsError:
        raise
    except (TypeError, AttributeError, ValueError) as error:  # of state that no module has
        raise WeightsError(f"{file}: damaged or not a weights file ({error}).") from error
    if not tensors:
        raise WeightsError(f"{file}: no tensors by name at the top level or under {', '.join(WRAPPERS)}")
    tensors = {str(name).removeprefix("module."): value for name, value in tensors.items()}
    top = content if isinstance(content, Mapping) else {}
    state = model.state if model is not None else {}
    names = _class_names(state.get("names", top.get("names"))) or coco_names(tensors)
    return Weights(tensors, str(file), names, _mapping(state.get("yaml", top.get("model_yaml"))))


def _read_safetensors(file: Path) -> Weights:
    """The tensors, and from the header of an exported file its names and model YAML."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise MissingPackageError(f"{file}: reading it needs safetensors: pip install safetensors") from error
    if not file.is_file():
        raise WeightsError(f"{file}: {'is a folder' if file.is_dir() else 'no such weights file'}.")
    try:
        with safe_open(str(file), "pt") as opened:
            tensors = {name.removeprefix("module."): opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            header = opened.metadata() or {}
    except SafetensorError as error:
        raise WeightsError(f"{file}: damaged or no safetensors file ({error}).") from error
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read ({error.strerror or error}).") from error
    if not tensors:
        raise WeightsError(f"{file}: holds no tensors.")
    if "model_yaml" not in header:
        return Weights(tensors, str(file))
    said = Metadata.from_text(header, file)
    return Weights(tensors, str(file), known_names(said.names), said.model_yaml)


def _find_tensors(content: Any) -> tuple[dict[str, Tensor], Placeholder | None]:
    """The innermost tensors by name, and the pickled module that they were part of."""
    for _ in range(MOST_WRAPPERS):
        if isinstance(content, Placeholder) or not isinstance(content, Mapping):
            break
        content = next((content[key] for key in WRAPPERS if _has_content(content.get(key))), content)
    if isinstance(content, Placeholder):
        return _module_tensors(content), content
    if not isinstance(content, Mapping):
        return {}, None
    return {str(name): loaded for name, value in content.items() if (loaded := _loaded(value)) is not None}, None


def _has_content(value: Any) -> bool:
    return bool(value.state) if isinstance(value, Placeholder) else isinstance(value, Mapping) and bool(value)


def _loaded(value: Any) -> Tensor | None:
    return value if isinstance(value, Tensor) else value.load() if isinstance(value, TensorRecord) else None


def _module_tensors(root: Placeholder) -> dict[str, Tensor]:
    """What `state_dict()` would give for a pickled torch.nn.Module: its parameters, its buffers, then its children.

    Raises:
        ValueError: it has too many parts, as one that contains itself.
    """
    found: dict[str, Tensor] = {}
    ahead, seen = [("", root)], 0
    while ahead:
        prefix, module = ahead.pop()
        seen += 1
        if seen > MOST_MODULES:
            raise ValueError(f"{root.origin} has more than {MOST_MODULES} modules, or one that contains itself")
        passing = module.state.get("_non_persistent_buffers_set") or ()
        for kind in ("_parameters", "_buffers"):
            for name, value in (_mapping(module.state.get(kind)) or {}).items():
                tensor = None if name in passing else _loaded(value)
                if tensor is not None:
                    found[f"{prefix}{name}"] = tensor
        children = (_mapping(module.state.get("_modules")) or {}).items()
        ahead += [(f"{prefix}{name}.", child) for name, child in reversed(children) if isinstance(child, Placeholder)]
    return found


def _mapping(value: Any) -> Mapping[str, Any] | None:
    return value if isinstance(value, Mapping) else None


def _class_names(value: Any) -> dict[int, str] | None:
    """Class names by index from a mapping or a list; None where they say nothing, as '0', '1', ... do."""
    names = dict(enumerate(value)) if isinstance(value, list | tuple) else value
    if not isinstance(names, Mapping) or not names:
        return None
    if not all(isinstance(k, int) and isinstance(v, str) for k, v in names.items()):
        return None
    return known_names(names)


def known_names(names: Mapping[int, str] | None) -> dict[int, str] | None:
    """The names, or None where they only repeat the numbers, which a model has that nobody told its classes."""
    if not names or all(str(name) == str(index) for index, name in names.items()):
        return None
    return dict(names)
