"""Formats of exported models, one file each, with both directions: export and inference.

A format is a module of this folder that defines `FORMAT = ExportFormat(...)`; there is no other list.
"""

import importlib
import os
import pkgutil
from functools import cache
from pathlib import Path

from ultralytics.nn.formats.export_spec import ExportFormat, ExportSpec, RuntimeModel
from ultralytics.nn.formats.metadata import Metadata
from ultralytics.utils.errors import MissingFileError, OptionError, WeightsError, did_you_mean


@cache
def export_formats() -> dict[str, ExportFormat]:
    """Return the formats of the modules of this folder by name."""
    modules = [importlib.import_module(f"{__name__}.{entry.name}") for entry in pkgutil.iter_modules(__path__)]
    return {module.FORMAT.name: module.FORMAT for module in modules if hasattr(module, "FORMAT")}


def get_format(name: str) -> ExportFormat:
    """Return the format for a value of the option `format`, in any case. Raise OptionError if there is none."""
    formats = export_formats()
    if name.lower() not in formats:
        raise OptionError(f"format={name!r}: expected one of {', '.join(formats)}{did_you_mean(name, formats)}")
    return formats[name.lower()]


def find_format(path: str | Path) -> ExportFormat | None:
    """Return the format that runs `path`, by the end of its name; None if it is not an exported model."""
    name = Path(path).name.lower()
    return next((f for f in export_formats().values() if f.load is not None and name.endswith(f.suffixes)), None)


def open_exported(path: str | Path, *, device: str = "cpu", threads: int = 1) -> RuntimeModel:
    """Load an exported model, a file or OpenVINO's folder, into its runtime on "cpu" or "cuda:N".

    Raises:
        WeightsError: the file is missing, damaged, or of another kind of model.
    """
    exported = find_format(path)
    if exported is None:
        raise WeightsError(f"{path}: expected an exported model; formats: {', '.join(export_formats())}.")
    if not os.path.exists(path):
        raise MissingFileError(f"{path}: no such file.")
    return exported.load(Path(path), device, threads)
