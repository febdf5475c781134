"""Placeholders for names that a module file imports or computes and that do not exist here.

While its file is imported, a placeholder allows what such files do on their top level: inherit from it, decorate with
it, call it, compare it, annotate with it. Afterwards each use raises MissingPackageError with the file, the line, the
name and the remedy.
"""

import inspect
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from torch import nn
from torch.utils._pytree import tree_leaves

from ultralytics.utils.errors import MissingPackageError

PIP_NAMES = {  # where the name of the package on PyPI differs from the name that is imported
    "cv2": "opencv-python", "skimage": "scikit-image", "sklearn": "scikit-learn", "pywt": "PyWavelets",
    "mamba_ssm": "mamba-ssm", "causal_conv1d": "causal-conv1d", "flash_attn": "flash-attn", "PIL": "pillow",
    "pytorch_wavelets": "pytorch-wavelets",
}  # fmt: skip
# Operators without a package on PyPI: each is compiled from the repository that the module comes from.
COMPILED = re.compile(r"dcn|selective_scan|cuda|_ext$|^ops|_ops$")
_STATE = threading.local()


@contextmanager
def importing() -> Iterator[None]:
    """Allow the use of placeholders in this thread, while a module file is executed."""
    _STATE.depth = getattr(_STATE, "depth", 0) + 1
    try:
        yield
    finally:
        _STATE.depth -= 1


def is_importing() -> bool:
    """Check whether this thread executes the top level of a module file."""
    return getattr(_STATE, "depth", 0) > 0


def package_remedy(name: str) -> str:
    """Return what to do about a package that is not installed.

    Examples:
        >>> package_remedy("einops.layers.torch")
        "it needs the package 'einops' (pip install einops)"
        >>> package_remedy("selective_scan_cuda_core")
        "it needs the compiled operator 'selective_scan_cuda_core'; build it from the repository of the module"
    """
    top = name.partition(".")[0]
    if COMPILED.search(top.lower()):
        return f"it needs the compiled operator {top!r}; build it from the repository of the module"
    return f"it needs the package {top!r} (pip install {PIP_NAMES.get(top, top)})"


class Placeholder:
    """Stand-in for a name that an import statement did not find, or whose statement failed.

    Args:
        reason: message of its error.
        name: the name.
        late: a module that was being executed itself, and may have the name afterwards.
    """

    def __init__(self, reason: str, name: str = "", late: ModuleType | None = None) -> None:
        self.reason, self.name, self.late = reason, name, late

    def _use(self, *_: Any) -> "Placeholder":
        if is_importing():
            return self
        raise MissingPackageError(self.reason)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return a decorated class or function unchanged, and the placeholder for other calls."""
        if self.late is not None and hasattr(self.late, self.name):
            return getattr(self.late, self.name)(*args, **kwargs)
        self._use()
        decorates = len(args) == 1 and not kwargs and (inspect.isclass(args[0]) or inspect.isfunction(args[0]))
        return args[0] if decorates else self

    def __getattr__(self, name: str) -> "Placeholder":
        if name.startswith("__") and name != "__version__":  # protocols of Python, such as copying, are not a use
            raise AttributeError(name)
        return self._use()

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        """Return the base class of a class that inherits from the placeholder."""
        reason = self.reason
        is_module = any(inspect.isclass(base) and issubclass(base, nn.Module) for base in bases)

        class Missing(object if is_module else nn.Module):
            def __new__(cls, *args: Any, **kwargs: Any) -> Any:
                raise MissingPackageError(f"{cls.__name__} inherits from a missing name: {reason}")

        return (Missing,)

    def __bool__(self) -> bool:
        return False

    def __instancecheck__(self, instance: object) -> bool:
        return False

    def __subclasscheck__(self, subclass: type) -> bool:
        return False

    def __iter__(self) -> Iterator[Any]:
        self._use()
        return iter(())

    def __len__(self) -> int:
        self._use()
        return 0

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> "Placeholder":
        return next(arg for arg in tree_leaves((args, kwargs)) if type(arg) is cls)._use()

    def __ge__(self, other: object) -> bool:  # a version that is not known counts as recent
        self._use()
        return True

    def __lt__(self, other: object) -> bool:
        self._use()
        return False

    __gt__, __le__ = __ge__, __lt__
    __getitem__ = __or__ = __ror__ = __add__ = __radd__ = __mul__ = __rmul__ = __matmul__ = __neg__ = _use
