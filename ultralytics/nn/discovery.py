"""Finding the module files that extend the package: whatever lies in `nn/Addmodules` is imported when first needed."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path

from ultralytics.utils import PACKAGE_ROOT
from ultralytics.utils.errors import ModelConfigError

ADDMODULES = PACKAGE_ROOT / "nn" / "Addmodules"


@cache
def import_addmodules() -> dict[Path, str]:
    """Import every file of the folder once, so that its modules register themselves.

    Returns:
        Files that could not be imported, with the reason. They disturb nothing: the reason is shown when a model
        asks for a module that is not known.
    """
    failures = {}
    for file in sorted(ADDMODULES.glob("*.py")):
        if file.stem == "__init__":
            continue
        try:
            importlib.import_module(f"ultralytics.nn.Addmodules.{file.stem}")
        except ModelConfigError:
            raise  # two modules of one name: its message says which files
        except Exception as error:  # a user's file may fail in any way; it is reported, not hidden
            failures[file] = f"{type(error).__name__}: {error}"
    return failures
