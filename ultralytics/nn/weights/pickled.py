"""Files of `torch.save` that pickle whole objects, read as data: nothing of theirs is imported or run.

A pickle is a small program: it looks names up (`GLOBAL`) and calls what it found (`REDUCE`). Here a name never becomes
the thing it names. Tensors become records of where their numbers lie, a few containers become their own kind, every
other class becomes a placeholder that keeps the state it is given. What a placeholder may stand for is limited, too:
names of the standard library, of torch outside `torch.nn`, and every call of a function are refused, for a weights
file has no use for them and an attack has no other way.
"""

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

from ultralytics.utils.errors import WeightsError
from ultralytics.utils.torch_files import check_torch_file, first_line

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
