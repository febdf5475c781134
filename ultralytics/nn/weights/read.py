"""Tensors by name from a weights file of any kind, and the class names and model YAML where the file has them."""

from __future__ import annotations

import pickle
import pickletools
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ultralytics.nn.formats.metadata import Metadata
from ultralytics.nn.weights.names import coco_names
from ultralytics.utils.errors import MissingPackageError, WeightsError
from ultralytics.utils.files import PickledClassesError, check_torch_file, first_line, read_plain

STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}  # fmt: skip
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in STORAGES.values()}
OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # names of Python 2, which protocol 2 writes
# Classes beside the model in the same file, which stay placeholders: of training arguments, metrics and dates.
DATA_CLASSES = {
    "argparse": ("Namespace",),
    "types": ("SimpleNamespace",),
    "pathlib": ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"),
    "pathlib._local": ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"),
    "datetime": ("datetime", "date", "time", "timedelta", "timezone"),
    "_codecs": ("encode",),  # how protocol 2 writes the bytes of a numpy number
    "functools": ("partial",),
    "builtins": (
        "bool", "bytearray", "bytes", "complex", "dict", "float", "int", "list", "long", "object", "range", "slice",
        "str", "tuple", "unicode",
    ),
    "torch": ("Size", "device", "Generator"),
    "numpy": ("dtype", "ndarray"),
    "numpy.core.multiarray": ("scalar", "_reconstruct"),
    "numpy._core.multiarray": ("scalar", "_reconstruct"),
}  # fmt: skip
TORCH_CLASSES = ("torch.nn.", "torch.ao.nn.", "torch.optim.", "torch.amp.", "torch.cuda.amp.", "torch._C._nn.")
# The instructions that torch.save writes, in any protocol. Others, such as looking up extension codes, are refused.
INSTRUCTIONS = {
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "DUP", "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT",
    "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "SHORT_BINSTRING", "BINSTRING",
    "SHORT_BINBYTES", "BINBYTES", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "EMPTY_LIST",
    "EMPTY_TUPLE", "EMPTY_DICT", "EMPTY_SET", "LIST", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "DICT", "FROZENSET",
    "APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET",
    "BINGET", "LONG_BINGET", "GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "BUILD", "BINPERSID",
}  # fmt: skip
READ_ERRORS = (
    pickle.UnpicklingError, EOFError, AttributeError, TypeError, ValueError, LookupError, ImportError, RuntimeError,
    RecursionError, ArithmeticError, MemoryError,
)  # fmt: skip


class RefusedError(Exception):
    """A pickle asks for something that a weights file has no use for."""


class _PlaceholderClass(type):
    """A class of placeholders. Calling one is what runs code in a real pickle; only data classes may be called."""

    def __call__(cls, *args: Any) -> Placeholder:
        if not cls.is_data:
            raise RefusedError(f"to call {cls.origin}")
        return cls.__new__(cls, *args)


class Placeholder(metaclass=_PlaceholderClass):
    """Stands for an object of a class that is not imported.

    Attributes:
        origin: the full name of its class.
        args: what it would have been constructed with.
        state: its attributes.
        items: what was put into it, of a class derived from dict.
    """

    origin = ""
    is_data = False

    def __new__(cls, *args: Any, **_: Any) -> Placeholder:
        made = object.__new__(cls)
        made.args, made.state, made.items = args, {}, {}
        return made

    def __setstate__(self, state: Any) -> None:
        parts = state if isinstance(state, tuple) else (state,)  # (attributes, slots) of a class with slots
        for part in parts:
            if isinstance(part, Mapping):
                self.state.update(part)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, value: Any) -> None:
        """As a list does."""
        self.items[len(self.items)] = value


class _Sealed:
    """What the pickle may hold but not change."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise RefusedError(f"to change the inside of a {type(self).__name__.strip('_')}")


@dataclass(frozen=True)
class _Storage(_Sealed):
    archive: _Archive
    key: str
    dtype: torch.dtype


@dataclass(frozen=True)
class TensorRecord(_Sealed):
    """Where the numbers of a tensor lie in the file; `load` reads them."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def load(self) -> Tensor:
        """The tensor. Raises WeightsError where the file does not hold it."""
        numbers = self.storage.archive.numbers(self.storage.key)
        try:
            return numbers.view(self.dtype).as_strided(self.size, self.stride, self.offset).clone()
        except (RuntimeError, TypeError, ValueError) as error:
            raise WeightsError(f"{self.storage.archive.path}: damaged ({first_line(error)}).") from error


@dataclass(frozen=True)
class _Rebuild(_Sealed):
    """A function of this file that the pickle may call."""

    function: Callable[..., Any]

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *rest: Any) -> TensorRecord:
    dtype = rest[2] if len(rest) > 2 and isinstance(rest[2], torch.dtype) else None
    if not isinstance(storage, _Storage):
        raise RefusedError("to build a tensor from something else than numbers")
    numbers = [offset, *_ints(size), *_ints(stride)]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError(f"a tensor's size, stride or offset is {numbers}")
    return TensorRecord(storage, offset, _ints(size), _ints(stride), dtype or storage.dtype)


def _ints(value: Any) -> tuple[int, ...]:
    return tuple(value.args[0]) if isinstance(value, Placeholder) else tuple(value)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _rebuilt_from_type(function: Any, _: Any, args: tuple, __: Any) -> Any:
    if not isinstance(function, _Rebuild):
        raise RefusedError("to build a tensor by a function of its own")
    return function(*args)


def _reconstructed(kind: Any, *_: Any) -> Placeholder:
    if not isinstance(kind, _PlaceholderClass):
        raise RefusedError(f"to construct {kind!r}")
    return kind.__new__(kind)


ALLOWED: Mapping[tuple[str, str], Any] = {
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): _Rebuild(lambda *_: {}),
    ("copyreg", "_reconstructor"): _Rebuild(_reconstructed),
    ("torch._utils", "_rebuild_tensor_v2"): _Rebuild(_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): _Rebuild(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Rebuild(_parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): _Rebuild(_parameter),
    ("torch._tensor", "_rebuild_from_type_v2"): _Rebuild(_rebuilt_from_type),
}


class _Reader(pickle.Unpickler):
    """Gives placeholders for classes and records for tensors."""

    def __init__(self, archive: _Archive):
        program = archive.read("data.pkl")
        _check_program(program)
        super().__init__(BytesIO(program))
        self.archive = archive
        self.classes: dict[str, type[Placeholder]] = {}

    def find_class(self, module: str, name: str) -> Any:
        module = OLD_MODULES.get(module, module)
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        if module in ("torch", "torch.storage"):
            if name in STORAGES:
                return STORAGES[name]
            if name in DTYPES:
                return DTYPES[name]
        return self._placeholder(module, name)

    def _placeholder(self, module: str, name: str) -> type[Placeholder]:
        origin = f"{module}.{name}"
        is_data = name in DATA_CLASSES.get(module, ()) or module == "numpy.dtypes"
        package = module.partition(".")[0]
        if not is_data and (package in sys.stdlib_module_names and package != "__main__"):
            raise RefusedError(f"for {origin}")
        if not is_data and package == "torch" and not origin.startswith(TORCH_CLASSES):
            raise RefusedError(f"for {origin}")
        if origin not in self.classes:
            attributes = {"origin": origin, "is_data": is_data}
            self.classes[origin] = _PlaceholderClass(name.rpartition(".")[2], (Placeholder,), attributes)
        return self.classes[origin]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, *_ = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise ValueError(f"unknown kind of storage {kind!r}")
        return _Storage(self.archive, str(key), dtype)


def _check_program(program: bytes) -> None:
    """Look at every instruction before the first is carried out.

    Raises:
        RefusedError: there is an unusual one, or one that would take memory out of proportion.
        ValueError: one is cut off.
    """
    for instruction, argument, _ in pickletools.genops(program):
        if instruction.name not in INSTRUCTIONS:
            raise RefusedError(f"for the instruction {instruction.name}")
        if instruction.name in ("PUT", "LONG_BINPUT") and not 0 <= int(argument) <= len(program):
            raise RefusedError(f"for a table of {argument} objects")


class _Archive:
    """A zip archive of `torch.save`: `data.pkl`, and the numbers of each storage as `data/KEY`."""

    def __init__(self, path: Path):
        self.path = path
        self._zip = zipfile.ZipFile(path)  # closed with the last record that reads from it
        entries = self._zip.namelist()
        self._folder = next(name for name in entries if name.endswith("data.pkl")).removesuffix("data.pkl")
        self._numbers: dict[str, Tensor] = {}
        if f"{self._folder}byteorder" in entries and self.read("byteorder").decode("ascii", "replace") != sys.byteorder:
            raise WeightsError(f"{path}: its numbers are not {sys.byteorder}-endian, as this machine's are.")

    def read(self, name: str) -> bytes:
        """The content of an entry. Raises WeightsError where it is not there or damaged."""
        try:
            entry = self._zip.getinfo(self._folder + name)
            if entry.file_size > self.path.stat().st_size:  # torch does not compress
                raise WeightsError(f"{self.path}: its entry {name} says it is larger than the file.")
            return self._zip.read(entry)
        except (OSError, zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError, EOFError) as error:
            raise WeightsError(f"{self.path}: damaged, {name} cannot be read ({first_line(error)}).") from error

    def numbers(self, key: str) -> Tensor:
        """The bytes of a storage."""
        if key not in self._numbers:
            content = bytearray(self.read(f"data/{key}"))
            empty = torch.empty(0, dtype=torch.uint8)
            self._numbers[key] = torch.frombuffer(content, dtype=torch.uint8) if content else empty
        return self._numbers[key]


def read_objects(path: str | Path) -> Any:
    """What a file of `torch.save` holds, with placeholders for objects and records for tensors.

    Raises:
        WeightsError: it cannot be read, or asks for something that a weights file has no use for.
    """
    path = Path(path)
    check_torch_file(path)
    if not zipfile.is_zipfile(path):
        raise WeightsError(
            f"{path}: holds pickled Python classes in the format that torch wrote before 1.6, which is not read; "
            "save its state_dict in the environment that it comes from."
        )
    try:
        return _Reader(_Archive(path)).load()
    except RefusedError as error:
        raise WeightsError(
            f"{path}: refused. It asks {error}, for which a weights file has no use; nothing of it was run. Get the "
            "file from a source you trust, or save its state_dict in the environment that it comes from."
        ) from error
    except WeightsError:
        raise
    except READ_ERRORS as error:
        raise WeightsError(f"{path}: damaged or not a weights file ({first_line(error)}).") from error


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
