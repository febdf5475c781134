"""Restricted unpickler for published `.pt` files, which pickle a whole model object.

They are read as data: classes become placeholders, and the only functions that run are those of this file.
`torch.load(weights_only=True)` refuses these files.
"""

import pickle
import re
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ultralytics.nn.weights.torch_files import RefusedError, check_torch_file, refused
from ultralytics.utils.errors import WeightsError
from ultralytics.utils.files import first_line

STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}  # fmt: skip
# Names that resolve to the object itself, which is immutable, or to the dtype of a storage.
PLAIN: Mapping[str, Any] = {
    "builtins.set": set, "builtins.frozenset": frozenset, "collections.OrderedDict": OrderedDict, "torch.Size": tuple,
    **{str(dtype): dtype for dtype in STORAGES.values()},
    **{f"{module}.{name}": dtype for module in ("torch", "torch.storage") for name, dtype in STORAGES.items()},
}  # fmt: skip
# Classes of training arguments, metrics and dates: calling them gives a placeholder.
DATA = re.compile(
    r"argparse\.Namespace|types\.SimpleNamespace|ultralytics(\.yolo)?\.utils\.IterableSimpleNamespace"
    r"|pathlib(\._local)?\.(Pure)?(Posix|Windows)?Path|_codecs\.encode"
    r"|datetime\.(datetime|date|time|timedelta|timezone)|functools\.partial|torch\.(device|Generator)"
    r"|numpy\.(dtype|ndarray|dtypes\.\w+)|numpy\._?core\.multiarray\.(scalar|_reconstruct)"
    r"|builtins\.(bool|bytearray|bytes|complex|dict|float|int|list|long|object|range|slice|str|tuple|unicode)"
)
# Names of torch that a model refers to. Other names of torch or the standard library are refused.
TORCH = re.compile(r"torch\.(nn|ao\.nn|optim|amp|cuda\.amp|_C\._nn)\..*")
PYTHON2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # names that protocol 2 writes
MAX_CLASSES = 10_000  # different names in a file


def _rebuild_tensor(storage: Any, offset: int, size: tuple, stride: tuple, *rest: Any) -> Tensor:
    if not isinstance(storage, Tensor):
        raise RefusedError(f"to build a tensor from {type(storage).__name__}")
    dtype = rest[2] if len(rest) > 2 and isinstance(rest[2], torch.dtype) else storage.dtype
    return storage.view(dtype).as_strided(size, stride, offset)  # a view: checked against the size of the storage


def _look_up(owner: Any, *_: Any) -> Any:
    """Return the placeholder of a class in place of its method, which heads of other tasks have as an attribute."""
    if not (isinstance(owner, type) and issubclass(owner, Placeholder)) or DATA.fullmatch(owner.origin):
        raise RefusedError("to look up an attribute")
    return owner


# The functions that a pickle may call, and what runs instead.
REBUILD: Mapping[str, Callable[..., Any]] = {
    "builtins.getattr": _look_up,
    "collections.defaultdict": lambda *_: {},
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
}


class Placeholder:
    """An object, or a call, of a name that is not imported: its full name, and the attributes of the object."""

    origin = ""

    def __new__(cls, *args: Any, **_: Any) -> Any:
        if cls.origin in REBUILD:
            return REBUILD[cls.origin](*args)
        placeholder = object.__new__(cls)
        placeholder.state = {}
        return placeholder

    def __init__(self, *_: Any) -> None:  # by a call, not when the unpickler creates an object
        if not DATA.fullmatch(self.origin):
            raise RefusedError(f"to call {self.origin}")

    def __setstate__(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) else (state,):  # (attributes, slots) of a class with slots
            self.state.update(part if isinstance(part, Mapping) else {})

    def __setitem__(self, key: Any, value: Any) -> None:
        """Ignore an item of a dict subclass."""

    def append(self, value: Any) -> None:
        """Ignore an item of a list subclass."""


class _DataUnpickler(pickle.Unpickler):
    """Read a zip archive of `torch.save`: `data.pkl`, and the numbers of each storage as `data/KEY`."""

    def __init__(self, archive: zipfile.ZipFile):
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("compressed")  # torch does not compress
        self.archive = archive
        self.folder = next(n for n in archive.namelist() if n.endswith("data.pkl")).removesuffix("data.pkl")
        self.classes: dict[str, type[Placeholder]] = {}
        self.storages: dict[str, Tensor] = {}
        program = archive.read(f"{self.folder}data.pkl")  # `check_torch_file` has checked its instructions
        super().__init__(BytesIO(program))

    def find_class(self, module: str, name: str) -> Any:
        origin = f"{PYTHON2.get(module, module)}.{name}"
        package = origin.partition(".")[0]
        if origin in PLAIN:
            return PLAIN[origin]
        allowed = origin in REBUILD or DATA.fullmatch(origin) or TORCH.fullmatch(origin) or package == "__main__"
        if not allowed and (package in sys.stdlib_module_names or package == "torch"):
            raise RefusedError(f"for {origin}")
        if origin not in self.classes:
            if len(self.classes) >= MAX_CLASSES:
                raise RefusedError(f"for more than {MAX_CLASSES} classes")
            self.classes[origin] = type(name.rpartition(".")[2], (Placeholder,), {"origin": origin})
        return self.classes[origin]

    def persistent_load(self, pid: Any) -> Tensor:
        kind, dtype, key, *_ = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise ValueError("unknown kind of storage")
        if key not in self.storages:
            content = bytearray(self.archive.read(f"{self.folder}data/{key}"))
            self.storages[key] = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
        return self.storages[key]


def read_objects(path: str | Path) -> Any:
    """Read a file of `torch.save` with placeholders for objects. Raise WeightsError if it is refused or damaged."""
    check_torch_file(Path(path))
    try:
        with zipfile.ZipFile(path) as archive:
            return _DataUnpickler(archive).load()
    except RefusedError as error:
        raise refused(path, error) from error
    except Exception as error:  # whatever an interpreter of damaged bytes may raise
        raise WeightsError(f"{path}: damaged or not a weights file ({first_line(error)}).") from error
