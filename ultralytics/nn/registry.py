"""Finding module files: everything in `nn/Addmodules`, and in folders that the user names, is imported when needed.

A folder is imported as a package of its own below `ultralytics.nn`, so that its files may import each other
(`from .conv import Conv`) and this package (`from ..modules.conv import autopad`) as they do in forks of it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from ultralytics.nn.plans import PlanFunction
from ultralytics.utils import LOGGER, PACKAGE_ROOT
from ultralytics.utils.errors import ModelConfigError


@dataclass(frozen=True)
class RegisteredModule:
    """A constructor and where it was defined.

    Attributes:
        plan: None for a module that did not register itself; `infer.py` works its arguments out.
        overridable: whether a user file that defines the same name replaces it.
        note: what the layer table says beside it.
    """

    name: str
    build: Callable[..., nn.Module]
    plan: PlanFunction | None
    origin: str
    overridable: bool = False
    note: str = ""


class Registry:
    """Entries by name. A second registration of a name is an error that names both files."""

    def __init__(self) -> None:
        self._entries: dict[str, RegisteredModule] = {}
        self._collected: dict[str, RegisteredModule] | None = None

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[RegisteredModule]:
        return iter(self._entries.values())

    def get(self, name: str) -> RegisteredModule | None:
        """The entry of that name, or None."""
        return self._entries.get(name)

    def __getitem__(self, name: str) -> RegisteredModule:
        return self._entries[name]

    @contextmanager
    def collect(self) -> Iterator[dict[str, RegisteredModule]]:
        """Gather what is registered within the block apart: the modules of a folder that one model names, not all."""
        self._collected = {}
        try:
            yield self._collected
        finally:
            self._collected = None

    def add(self, entry: RegisteredModule) -> None:
        """Register an entry; importing the same definition again replaces it.

        Raises:
            ModelConfigError: another file has registered this name.
        """
        target = self._entries if self._collected is None else self._collected
        for present in (self._entries.get(entry.name), target.get(entry.name)):
            if present and present.origin != entry.origin and not present.overridable:
                if entry.overridable:
                    return
                raise ModelConfigError(
                    f"module {entry.name!r} is defined twice: {present.origin} and {entry.origin}; rename one"
                )
        target[entry.name] = entry


REGISTRY = Registry()


def register(
    plan: PlanFunction, name: str | None = None, overridable: bool = False
) -> Callable[[Callable[..., nn.Module]], Any]:
    """Decorator for a module class or factory function: make it known to model YAMLs under its own name, or `name`.

    `overridable` lets a file of the user's that defines the same name take its place.
    """

    def decorate(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        REGISTRY.add(RegisteredModule(name or build.__name__, build, plan, _origin(build), overridable))
        return build

    return decorate


def _origin(build: Callable[..., nn.Module]) -> str:
    """File that defines a class or function; in a notebook, which is no file, the name of its module."""
    if inspect.isfunction(build):
        return build.__code__.co_filename
    return getattr(sys.modules.get(build.__module__), "__file__", None) or build.__module__


ADDMODULES = PACKAGE_ROOT / "nn" / "Addmodules"
# Names that forks import from the published package after their own; other names of a folder stand before ours.
PUBLISHED = frozenset({
    "AIFI", "C1", "C2", "C2f", "C3", "C3Ghost", "C3TR", "C3x", "Bottleneck", "BottleneckCSP", "Concat", "Conv",
    "Conv2", "ConvTranspose", "DWConv", "DWConvTranspose2d", "Detect", "Focus", "GhostBottleneck", "GhostConv",
    "HGBlock", "HGStem", "RTDETRDecoder", "RepC3", "RepConv", "ResNetLayer", "SPP", "SPPF",
})  # fmt: skip
VARIABLE = "ULTRALYTICS_MODULES"  # folders beside Addmodules, separated as in PATH
PARENT = "ultralytics.nn"


@dataclass(frozen=True)
class Definition:
    """A class or factory function in a module file.

    Attributes:
        exported: whether the file's `__all__` names it, or it has the file's name.
        entry: what it registered itself as; None for most files that circulate.
    """

    name: str
    build: Callable[..., nn.Module]
    file: Path
    exported: bool
    entry: RegisteredModule | None

    def same_text(self, other: Definition) -> bool:
        """Whether both are copies of one text."""
        return inspect.getsource(self.build) == inspect.getsource(other.build)


@dataclass
class Folder:
    """What was found in a folder.

    Attributes:
        package: the package that its files were imported as.
        entries: modules that registered themselves; those of the package's own folder are in REGISTRY instead.
        definitions: classes and functions by name, from every file that has one of this name.
        failures: files that could not be imported, with the reason.
        origins: for each of them the file of the folder in which the error arose: itself, or one that it imports.
        gathered: files from which the folder's `__init__.py` imports.
    """

    package: ModuleType
    entries: dict[str, RegisteredModule] = field(default_factory=dict)
    definitions: dict[str, list[Definition]] = field(default_factory=dict)
    failures: dict[Path, str] = field(default_factory=dict)
    origins: dict[Path, Path] = field(default_factory=dict)
    gathered: set[Path] = field(default_factory=set)


def module_folders(extra: Sequence[str | Path] = ()) -> tuple[Path, ...]:
    """Folders that are searched: those given, those of the environment variable, and the package's own.

    Raises:
        ModelConfigError: one of them does not exist.
    """
    named = [(folder, "modules") for folder in extra]
    named += [(folder, f"${VARIABLE}") for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder]
    folders = []
    for folder, origin in named:
        path = Path(folder).expanduser().resolve()
        if not path.is_dir():
            raise ModelConfigError(f"{origin}: {folder} is not a folder; name the folder that holds the module files")
        folders.append(path)
    return tuple(dict.fromkeys([*folders, ADDMODULES]))


@cache
def import_folder(path: Path) -> Folder:
    """Import every file of a folder once.

    A file that cannot be imported disturbs nothing: it is reported once, and again where a model asks for a module
    that it would define. What files print is not shown.

    Raises:
        ModelConfigError: two files register a module of one name.
    """
    folder = Folder(_package(path))
    if path == ADDMODULES:
        _import_files(folder, path)
    else:
        import_folder(ADDMODULES)  # first, as what it registers is everybody's
        with REGISTRY.collect() as folder.entries:
            _import_files(folder, path)
    for file, reason in folder.failures.items():
        LOGGER.warning(f"{file}: not imported: {reason}")
    return folder


def _import_files(folder: Folder, path: Path) -> None:
    files = [file for file in sorted(path.glob("*.py")) if file.stem != "__init__"]
    modules = {file: _import(folder, file) for file in files}
    _import_past(folder, modules)
    if (path / "__init__.py").is_file():
        _gather(folder, path, modules)
        again = [file for file in files if folder.origins.get(file) == file]  # they may import what `__init__` gathers
        modules.update({file: _import(folder, file) for file in again})
    for file, module in modules.items():
        if module is not None:
            registered = {entry.build: entry for entry in (*REGISTRY, *folder.entries.values())}
            for definition in _definitions(module, file, registered):
                folder.definitions.setdefault(definition.name, []).append(definition)


def find_registered(name: str, folders: Sequence[Path]) -> RegisteredModule | None:
    """The module that registered itself under that name: in one of these folders, or in the package."""
    for path in folders:
        if (entry := import_folder(path).entries.get(name)) is not None:
            return entry
    return REGISTRY.get(name)


def find_definition(name: str, folders: Sequence[Path]) -> Definition | None:
    """The class or function of that name, or `file.name`, in the first folder that has one.

    Raises:
        ModelConfigError: several files of a folder have it, and nothing tells which is meant.
    """
    stem, _, bare = name.rpartition(".")
    for path in folders:
        folder = import_folder(path)
        found = [d for d in folder.definitions.get(bare, ()) if not stem or d.file.stem == stem]
        found = [d for d in found if d.entry is None or not d.entry.overridable] or found
        chosen = getattr(folder.package, bare, None)  # the last star import of `__init__` wins, as in Python
        for narrower in ([d for d in found if d.build is chosen], [d for d in found if d.exported]):
            found = narrower or found
        if found and not all(found[0].same_text(other) for other in found[1:]):
            files = " and ".join(str(d.file) for d in found)
            raise ModelConfigError(
                f"module {name!r} is defined twice: {files}; rename one, or write "
                f"{found[0].file.stem}.{bare} in the row"
            )
        if found:
            return found[0]
    return None


def find_stronger(entry: RegisteredModule, folders: Sequence[Path]) -> Definition | None:
    """The class or function of a folder that a row means although `entry` has its name, if there is one.

    Raises:
        ModelConfigError: a file is called after the class that it defines under this name; both would be meant. Or the
            file that the folder gathers it from could not be imported; `entry` would be another module in its place.
    """
    for path in folders:
        folder = import_folder(path)
        own = [d for d in folder.definitions.get(entry.name, ()) if d.entry is None]
        bound = getattr(folder.package, entry.name, None)
        chosen = next((d for d in own if d.build is bound), None)
        if chosen is not None and entry.name not in PUBLISHED:
            return chosen
        if chosen is None and (namesake := next((d for d in own if d.file.stem == entry.name), None)):
            raise ModelConfigError(
                f"module {entry.name!r} is defined twice: {entry.origin} and {namesake.file}; rename one, or write "
                f"{entry.name}.{entry.name} in the row"
            )
        if chosen is None and entry.name not in PUBLISHED:
            for file, reason in folder.failures.items():
                if file in folder.gathered and entry.name in _exports_in_text(file):
                    raise ModelConfigError(f"module {entry.name!r}: {file} defines it but was not imported: {reason}")
    return None


def defined_names(folders: Sequence[Path]) -> list[str]:
    """Names of all modules that a row may name: registered ones, and what the files of these folders define."""
    found = [import_folder(path) for path in folders]
    return [entry.name for entry in REGISTRY] + [name for f in found for name in (*f.entries, *f.definitions)]


def why_missing(name: str, folders: Sequence[Path]) -> str:
    """`; FILE defines it but ...` for a file that could not be imported and has a definition of that name, or ''."""
    for path in folders:
        for file, reason in import_folder(path).failures.items():
            if name.rpartition(".")[2] in _names_in_text(file):
                return f"; {file} defines it but was not imported: {reason}"
    return ""


def _package(path: Path) -> ModuleType:
    """The package that stands for a folder. Its `__init__.py` is not run yet: it may import files that fail."""
    name = f"{PARENT}.{path.name}"
    if path == ADDMODULES:
        if name in sys.modules:
            return sys.modules[name]
    elif not path.name.isidentifier() or _means_another(name, path):
        name = f"{name.replace('-', '_')}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    for old in [module for module in sys.modules if f"{module}.".startswith(f"{name}.")]:
        del sys.modules[old]  # imported before the folder had its new files
    spec = importlib.util.spec_from_file_location(name, path / "__init__.py", submodule_search_locations=[str(path)])
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    setattr(sys.modules[PARENT], name.rpartition(".")[2], package)
    return package


def _means_another(name: str, path: Path) -> bool:
    """Whether a package of that name is there that is not this folder."""
    if name in sys.modules:
        return list(getattr(sys.modules[name], "__path__", ())) != [str(path)]
    return importlib.util.find_spec(name) is not None


def _import(folder: Folder, file: Path) -> ModuleType | None:
    folder.failures.pop(file, None)
    folder.origins.pop(file, None)
    try:
        with _quiet():
            return importlib.import_module(f"{folder.package.__name__}.{file.stem}")
    except ModelConfigError:
        raise  # two modules of one name: its message says which files
    except (Exception, SystemExit) as error:  # a user's file may fail in any way; it is reported, not hidden
        folder.failures[file] = _reason(error, file, folder.package.__name__)
        folder.origins[file] = _error_file(error, file)
    return None


def _import_past(folder: Folder, modules: dict[Path, ModuleType | None]) -> None:
    """Import the files that failed because of another file of the folder, without what that one would give.

    Meanwhile `from .other import *` of a file that cannot be imported gives nothing. A backbone's file that gathers
    blocks from many files does not need the packages of all of them; a row that names a missing block is told why.
    """
    waiting: list[Path] = [file for file, origin in folder.origins.items() if origin != file]
    while waiting:
        first_reasons = dict(folder.failures)
        names = [f"{folder.package.__name__}.{file.stem}" for file, o in folder.origins.items() if o == file]
        empty = {name: ModuleType(name) for name in names}
        sys.modules.update(empty)
        try:
            modules.update({file: _import(folder, file) for file in waiting})
        finally:
            for name in empty:
                sys.modules.pop(name, None)
        folder.failures.update({file: first_reasons[file] for file in folder.failures if file in first_reasons})
        left = [file for file, origin in folder.origins.items() if origin != file]
        waiting = left if len(left) < len(waiting) else []


def _gather(folder: Folder, path: Path, modules: Mapping[Path, ModuleType | None]) -> None:
    """Give the package the names that its `__init__.py` imports from the folder's files.

    The file is read, not run: one import that fails would end it. The last import of a name counts, as in Python.
    """
    tree = ast.parse((path / "__init__.py").read_text(encoding="utf-8", errors="replace"))
    for node in tree.body:
        if not (isinstance(node, ast.ImportFrom) and node.level == 1 and node.module):
            continue
        folder.gathered.add(path / f"{node.module}.py")
        module = modules.get(path / f"{node.module}.py")
        if module is None:
            continue
        public = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
        for alias in node.names:
            names = (
                [(name, name) for name in public] if alias.name == "*" else [(alias.name, alias.asname or alias.name)]
            )
            for name, bound in names:
                if hasattr(module, name):
                    setattr(folder.package, bound, getattr(module, name))


@contextmanager
def _quiet() -> Iterator[None]:
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _reason(error: BaseException, file: Path, parent: str) -> str:
    """What went wrong in a file of the package `parent`: what it imports and is missing, or the error with its line."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        if error.name.startswith("ultralytics"):
            package, _, name = error.name.rpartition(".")
            return f"there is no {name}.py beside it" if package == parent else f"this package has no {error.name}"
        package = error.name.partition(".")[0]
        return f"it needs the package {package!r} (pip install {package})"
    line = error.lineno if isinstance(error, SyntaxError) else _line_in(error, file)
    text = error.msg if isinstance(error, SyntaxError) else error
    return f"{type(error).__name__}: {text}{f' (line {line})' if line else ''}"


def _error_file(error: BaseException, file: Path) -> Path:
    """The file of the folder of `file` in which an error arose while it was imported."""
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).parent == file.parent:
        return Path(error.filename)  # no frame is in a file that cannot be parsed
    trace, origin = error.__traceback__, file
    while trace is not None:
        place = Path(trace.tb_frame.f_code.co_filename)
        origin = place if place.parent == file.parent else origin
        trace = trace.tb_next
    return origin


def _line_in(error: BaseException, file: Path) -> int | None:
    trace, line = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(file):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _definitions(module: ModuleType, file: Path, registered: Mapping[object, RegisteredModule]) -> Iterator[Definition]:
    exported = getattr(module, "__all__", None) or ()
    for name, value in vars(module).items():
        builds = inspect.isfunction(value) or (inspect.isclass(value) and issubclass(value, nn.Module))
        if builds and not name.startswith("_") and value.__module__ == module.__name__:
            yield Definition(name, value, file, name in exported or name == file.stem, registered.get(value))


def _exports_in_text(file: Path) -> set[str]:
    """What `from .file import *` seems to give of a file's own classes and functions."""
    text = file.read_text(encoding="utf-8", errors="replace")
    takes_list = re.search(r"^__all__\s*=\s*[\[(](.*?)[\])]", text, re.MULTILINE | re.DOTALL)
    names = _names_in_text(file)
    return names & set(re.findall(r"\w+", takes_list[1])) if takes_list else names


def _names_in_text(file: Path) -> set[str]:
    """Classes and functions that a file seems to define; it need not even parse."""
    text = file.read_text(encoding="utf-8", errors="replace")
    return set(re.findall(r"^(?:class|def)\s+(\w+)", text, re.MULTILINE))
