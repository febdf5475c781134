"""Read any weights file: tensors by name, with the class names and the model YAML if the file has them."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ultralytics.cfg.plain_data import check_plain, read_yaml
from ultralytics.nn.formats.metadata import Metadata
from ultralytics.nn.weights.names import OFFICIAL_SIGNS
from ultralytics.nn.weights.torch_files import PickledClassesError, check_tensors, check_torch_file, read_plain
from ultralytics.nn.weights.unpickle import Placeholder, read_objects
from ultralytics.utils import LOGGER, PACKAGE_ROOT
from ultralytics.utils.checks import require
from ultralytics.utils.downloads import find_released
from ultralytics.utils.errors import MissingFileError, WeightsError

# Keys of files that hold a state_dict. The averaged weights (EMA, DINO's teacher) come first.
WRAPPERS = ("ema", "model_ema", "teacher", "model", "student", "state_dict", "module", "params", "net", "weights")
MAX_WRAPPERS = 4  # nested
MAX_MODULES = 100_000
MODULE_STATE = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")
LIGHT = re.compile(r"\.cv3\.0\.0\.0\.conv\.weight$")  # depthwise class branch of `Detect`
EMBEDDING = "decoder.denoising_class_embed.weight"  # of the official RT-DETR


@dataclass(frozen=True)
class Weights:
    """Content of a weights file; `origin` is the file, for messages, and `names` are the classes.

    `train_args` are the options of the training that published files record, as they are.
    """

    tensors: Mapping[str, Tensor]
    origin: str
    names: Mapping[int, str] | None = None
    model_yaml: Mapping[str, Any] | None = None
    train_args: Mapping[str, Any] | None = None


def read_state_dict(file: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file by name: `read_weights(file).tensors`."""
    return dict(read_weights(file).tensors)


def as_weights(source: Any) -> Weights:
    """Return weights of a file, as `read_weights` does, of its content, or of a network; others as they are."""
    if isinstance(source, nn.Module):
        return Weights(source.state_dict(), type(source).__name__, known_names(source.names))
    if isinstance(source, Mapping):
        return Weights(source.get("model", source), "the given weights", known_names(source.get("names")))
    return source if isinstance(source, Weights) else read_weights(source)


def read_weights(file: str | Path) -> Weights:
    """Read a checkpoint of this package, a state_dict, or a published `.pt` that pickles a whole model.

    `.safetensors`, and `.pt` or `.pth` of any version of torch. The tensors are at the top level or under one of
    WRAPPERS. Code in the file is not run. The name of a released file is found or fetched, see `find_released`.

    Raises:
        WeightsError: the file is missing, damaged, of another kind, or has no tensors by name.
        MissingPackageError: the package safetensors is not installed and the file needs it.

    Examples:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"model": torch.nn.Linear(3, 2).state_dict(), "epoch": 5}, f"{folder}/w.pt")
        ...     weights = read_weights(f"{folder}/w.pt")
        >>> {name: tuple(tensor.shape) for name, tensor in weights.tensors.items()}
        {'weight': (2, 3), 'bias': (2,)}
    """
    file = find_released(file, check_torch_file)
    read = _read_safetensors if Path(file).suffix.lower() == ".safetensors" else _read_torch
    weights = read(Path(file))
    if not weights.tensors:
        raise WeightsError(f"{file}: no tensors by name at the top level or under {', '.join(WRAPPERS)}")
    tensors = {name.removeprefix("module."): value for name, value in weights.tensors.items()}
    weights = replace(weights, tensors=tensors)
    return complete_official(weights) if any(OFFICIAL_SIGNS.match(name) for name in tensors) else weights


def _read_safetensors(file: Path) -> Weights:
    library = require("safetensors", "safetensors", f"{file}: reading it")
    if not os.path.isfile(file):
        raise MissingFileError(f"{file}: no such weights file.")
    try:
        with library.safe_open(str(file), "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            header = opened.metadata() or {}
    except Exception as error:  # those of the library, and whatever its reader of the header may raise
        raise WeightsError(f"{file}: damaged or no safetensors file ({error}).") from error
    if "model_yaml" not in header:
        return Weights(tensors, str(file))
    metadata = Metadata.from_text(header, file)
    return Weights(tensors, str(file), known_names(metadata.names), metadata.model_yaml)


def _read_torch(file: Path) -> Weights:
    try:
        content: Any = read_plain(file)
    except PickledClassesError:
        content = read_objects(file)
    top = content if isinstance(content, Mapping) else {}
    names, model_yaml, args = top.get("names"), top.get("model_yaml"), top.get("train_args")
    for _ in range(MAX_WRAPPERS):
        if isinstance(content, Mapping):
            content = next((content[key] for key in WRAPPERS if _has_content(content.get(key))), content)
    if isinstance(content, Placeholder):
        names, model_yaml = content.state.get("names"), content.state.get("yaml")
        try:
            content = _module_tensors(content)
        except (TypeError, AttributeError, ValueError) as error:  # attributes that no module has
            raise WeightsError(f"{file}: damaged or not a weights file ({error}).") from error
    entries = content.items() if isinstance(content, Mapping) else ()
    tensors = {name: value for name, value in entries if isinstance(name, str) and isinstance(value, Tensor)}
    check_tensors(tensors.values(), file)
    check_plain((names, model_yaml, args), f"{file}: its names, model YAML or train_args", WeightsError)
    model_yaml, args = (value if isinstance(value, Mapping) else None for value in (model_yaml, args))
    if model_yaml is not None and any(map(LIGHT.search, tensors)):
        model_yaml = {**model_yaml, "legacy": False}  # 8.3.0 built it also for YOLOv8 and v9
    return Weights(tensors, str(file), _class_names(names), model_yaml, args)


def _has_content(value: Any) -> bool:
    return bool(value.state) if isinstance(value, Placeholder) else isinstance(value, Mapping) and bool(value)


def _module_tensors(root: Placeholder) -> dict[str, Tensor]:
    """Return the `state_dict()` of a pickled torch.nn.Module."""
    found: dict[str, Tensor] = {}
    stack = [("", root)]
    for _ in range(MAX_MODULES):
        if not stack:
            return found
        prefix, module = stack.pop()
        parameters, buffers, children, temporary = (module.state.get(key) or {} for key in MODULE_STATE)
        values = {**parameters, **{name: value for name, value in buffers.items() if name not in temporary}}
        found.update((f"{prefix}{name}", value) for name, value in values.items() if isinstance(value, Tensor))
        children = [(f"{prefix}{name}.", child) for name, child in children.items() if isinstance(child, Placeholder)]
        stack += reversed(children)
    raise ValueError(f"{root.origin} has more than {MAX_MODULES} modules, or one that contains itself")


def _class_names(value: Any) -> dict[int, str] | None:
    """Return class names by index from a mapping or a list, else None."""
    names = dict(enumerate(value)) if isinstance(value, list | tuple) else value
    if not isinstance(names, Mapping) or not all(type(k) is int and isinstance(v, str) for k, v in names.items()):
        return None
    return known_names(names)


def known_names(names: Mapping[int, str] | None) -> dict[int, str] | None:
    """Return the class names, or None if they are just the default indices '0', '1', ..."""
    if not names or all(str(name) == str(index) for index, name in names.items()):
        return None
    return dict(names)


def complete_official(weights: Weights) -> Weights:
    """Add the names of COCO to an official RT-DETR, and remove 'no object', the last row of its denoising embedding."""
    tensors = dict(weights.tensors)
    classes = next((len(value) for name, value in tensors.items() if name.endswith("enc_score_head.bias")), 0)
    if EMBEDDING in tensors and classes:
        tensors[EMBEDDING] = tensors[EMBEDDING][:classes]
    if weights.names or classes != 80:
        return replace(weights, tensors=tensors)
    LOGGER.info(f"{weights.origin}: has 80 classes without names, which are taken for those of COCO")
    names = read_yaml(PACKAGE_ROOT / "cfg" / "datasets" / "coco.yaml")["names"]
    return replace(weights, tensors=tensors, names=dict(enumerate(names)))
