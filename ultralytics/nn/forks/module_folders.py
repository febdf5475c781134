"""Module folders as packages: their files import each other, this package, and their fork.

A folder becomes a package below `ultralytics.nn`. Its files, and no others, are executed with an import function of
their own: a name that does not exist here is taken from the fork's file of that name, or becomes a placeholder.
"""

import ast
import builtins
import hashlib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from symtable import symtable
from textwrap import shorten
from traceback import walk_tb
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any

from ultralytics.nn.forks.placeholders import Placeholder, importing, is_importing, package_remedy
from ultralytics.utils import PACKAGE_ROOT
from ultralytics.utils.errors import MissingPackageError, ModelConfigError
from ultralytics.utils.files import first_line, list_files

ADDMODULES = PACKAGE_ROOT / "nn" / "Addmodules"
PARENT = __name__.rsplit(".", 2)[0]  # package below which module folders are imported
ROOT = PARENT.partition(".")[0]
CORE = "modules"  # folder of a fork with its changed files of the published package
SHOWN = 40  # characters of a failed statement in messages
CATCHES = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


def expand_fork(path: Path) -> list[Path]:
    """Return the module folders of a fork, the changed files of the published package last; else the folder itself."""
    roots = [path / ROOT / "nn", path / "nn", *sorted(path.glob(f"*/{ROOT}/nn"))]
    if path.name == "nn" and (path / CORE).is_dir():
        roots.insert(0, path)
    root = next((folder for folder in roots if folder.is_dir()), None)
    if root is None or root == PACKAGE_ROOT / "nn":
        return [path]
    below = sorted(folder for folder in [*root.iterdir(), *(root / CORE).glob("*")] if folder.is_dir())
    folders = [folder for folder in below if folder.name != CORE and list_files(folder, (".py",))]
    return [*folders, root / CORE] if (root / CORE).is_dir() else folders


def is_core(path: Path) -> bool:
    """Check whether a folder has a fork's changed files of the published package, `nn/modules`."""
    return path.name == CORE and path.parent.name == "nn"


@cache
def make_package(path: Path) -> ModuleType:
    """Create an empty package for a folder. Its `__init__.py` is not run, since it may import files that fail."""
    if _FolderFinder not in sys.meta_path:
        sys.meta_path.insert(0, _FolderFinder)
    name = f"{PARENT}.{path.name}"
    package = sys.modules.get(name) if path == ADDMODULES else None
    if package is None:
        is_name = path.name.isidentifier()
        present = importlib.util.find_spec(name) if is_name and path != ADDMODULES else None
        if not is_name or (present and list(present.submodule_search_locations or ()) != [str(path)]):
            digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
            name = f"{PARENT}.{re.sub(r'[^a-zA-Z0-9]', '_', path.name)}_{digest}"
        for old in [module for module in sys.modules if f"{module}.".startswith(f"{name}.")]:
            del sys.modules[old]  # imported before a file was added
        init = path / "__init__.py"
        spec = importlib.util.spec_from_file_location(name, init, submodule_search_locations=[str(path)])
        package = sys.modules[name] = importlib.util.module_from_spec(spec)
        setattr(sys.modules[PARENT], name.rpartition(".")[2], package)
    package.missing_reasons = {}  # reasons by (file, name)
    return package


class _FolderFinder:
    """Find the files of module folders; all other modules are left to Python."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if _folder_of(name) is None:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _FolderLoader(name, spec.origin)
        return spec


class _FolderLoader(SourceFileLoader):
    """Execute a file of a module folder with names of its own for what Python has built in.

    After a statement on its top level that fails, the following ones are executed; names it binds are placeholders.
    """

    code: CodeType | None = None  # of a single statement

    def get_code(self, fullname: str) -> CodeType | None:
        return self.code or super().get_code(fullname)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = names = _Builtins(Path(self.path), _folder_of(self.name))
        with importing():
            try:
                super().exec_module(module)
            except (Exception, SystemExit) as error:  # a file of the fork may fail in any way
                line = next((n for frame, n in walk_tb(error.__traceback__) if frame.f_globals is vars(module)), None)
                if isinstance(error, ModelConfigError) or line is None:  # two modules of one name, or it does not parse
                    raise
                self._execute_rest(module, names, line, error)

    def _execute_rest(self, module: ModuleType, names: "_Builtins", line: int, error: BaseException | None) -> None:
        tree = ast.parse(self.get_data(self.path))
        future = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
        for node in tree.body:
            if node.end_lineno < line:
                continue
            try:
                if error is not None:  # of the first of them
                    raise error
                self.code = compile(ast.Module([*future, node], []), self.path, "exec")
                super().exec_module(module)
            except (Exception, SystemExit) as failure:
                if isinstance(failure, ModelConfigError):
                    raise
                vars(module).update(names.failed_statement(node, failure))
            error = None


class _Builtins(dict):
    """Built-in names of a module file: its import function, and placeholders for what star imports do not give."""

    def __init__(self, file: Path, package: ModuleType) -> None:
        super().__init__(vars(builtins), __import__=self.import_module)
        self.file, self.package = file, package
        self.stars: list[str] = []  # why star imports may lack names

    def __missing__(self, name: str) -> Placeholder:
        if not self.stars or name.startswith("__"):
            raise KeyError(name)  # Python raises NameError
        return self._placeholder(name, f"{self.file.name}: {name!r} is defined nowhere; {self.stars[-1]}")

    def _placeholder(self, name: str, reason: str, late: ModuleType | None = None) -> Placeholder:
        if not is_importing():
            raise MissingPackageError(reason)
        if late is None:
            self.package.missing_reasons[self.file, name] = reason
        return Placeholder(reason, name, late)

    def failed_statement(self, node: ast.stmt, error: BaseException) -> dict[str, Placeholder]:
        """Return placeholders for the names that a failed statement binds."""
        text = ast.unparse(node)
        symbols = symtable(text, str(self.file), "exec").get_symbols()
        bound = [symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()]
        where, reason = f"{self.file.name}, line {node.lineno}", f"{type(error).__name__}: {first_line(error)}"
        shown = bound or [shorten(text, SHOWN, placeholder=" ...")]
        found = {name: self._placeholder(name, f"{where}: {name!r}: {reason}") for name in shown}
        return found if bound else {}

    def import_module(
        self, name: str, scope: Mapping[str, Any] | None = None, _: Any = None, names: Any = (), level: int = 0
    ) -> Any:
        """Import for a statement of the file, as `__import__` does, with placeholders for what is missing."""
        line = sys._getframe(1).f_lineno
        where, falls_back = f"{self.file.name}, line {line}", line in _guarded_lines(self.file)
        names = tuple(names or ())
        target = _target(name, (scope or {}).get("__package__") or "", level, self.package)
        try:
            module, reason = self._adapted(_find(target, names, self.package)), None
        except ModelConfigError:
            raise  # two modules of one name: the message names the files
        except (Exception, SystemExit) as error:  # a file of the fork may fail in any way
            if falls_back:
                raise
            module, reason = ModuleType(target), _reason(error, target)
        if not names:
            return self._placeholder(target, f"{where}: {reason}") if reason else module
        if names == ("*",):
            fork = _fork_module(target, self.package) if _exists(target) else None
            if reason or target.startswith(f"{PARENT}."):
                self.stars.append(f"line {line} imports all names of {target}" + (f": {reason}" if reason else ""))
            view = ModuleType(module.__name__)
            found = {**(public_names(fork) if fork else {}), **public_names(module)}
            vars(view).update((key, self._adapted(value)) for key, value in found.items())
            return view
        view = ModuleType(module.__name__)
        for wanted in names:
            why = reason
            try:
                value = self._adapted(getattr(module, wanted, view))
            except ImportError as error:  # of a public path, which names what to use in its place
                value, why = view, str(error)
            if value is view and (value := _from_fork(target, wanted, self.package)) is None:
                if falls_back:
                    return module  # Python raises ImportError, for which the file has its own fallback
                why = f"{where}: {wanted!r}: {why or _advice(target)}"
                is_partial = getattr(module.__spec__, "_initializing", False)
                value = self._placeholder(wanted, why, late=module if is_partial else None)
            setattr(view, wanted, value)
        return view

    def _adapted(self, value: Any) -> Any:
        """Return `importlib` with the import of this file, and a class in its form for module files, if it has one."""
        if value is importlib:
            return SimpleNamespace(**vars(importlib) | {"import_module": self._import_by_name})
        return vars(value).get("in_module_files", value) if isinstance(value, type) else value

    def _import_by_name(self, name: str, package: str | None = None) -> Any:
        level = len(name) - len(name.lstrip("."))
        return _find(_target(name[level:], package or "", level, self.package), ("__name__",), self.package)


def _folder_of(name: str) -> ModuleType | None:
    """Return the package of a module folder that a module is below, or None."""
    parts = name.split(".")
    package = sys.modules.get(".".join(parts[:3])) if len(parts) > 3 else None
    return package if "missing_reasons" in getattr(package, "__dict__", ()) else None


def _target(name: str, package_name: str, level: int, package: ModuleType) -> str:
    """Return the absolute name that an import statement means in the fork."""
    if not level:
        return re.sub(rf"^{ROOT}\.yolo\.", f"{ROOT}.", name)  # layout of the first releases
    parts = f"{_fork_name(package)}{package_name.removeprefix(package.__name__)}".split(".")
    return ".".join([*parts[: len(parts) - level + 1], *filter(None, [name])])


def _fork_name(package: ModuleType) -> str:
    """Return the name of a folder's package in its fork: `ultralytics.nn.extra_modules`."""
    folder = Path(package.__path__[0])
    for depth, parent in enumerate(folder.parents):
        if parent.name == "nn" and parent.parent.name == ROOT and not folder.is_relative_to(PACKAGE_ROOT):
            return ".".join([PARENT, *folder.parts[len(folder.parts) - depth - 1 :]])
    return f"{PARENT}.{folder.name.replace('.', '_')}"


def _fork_path(target: str, package: ModuleType) -> Path | None:
    """Return the file or folder that an absolute name means in the fork of a module folder; None if there is none."""
    folder = Path(package.__path__[0])
    root = next((parent for parent in folder.parents if parent.name == "nn"), None)
    if root is None or folder.is_relative_to(PACKAGE_ROOT) or not target.startswith(f"{PARENT}."):
        return None
    path = root.joinpath(*target.split(".")[2:])
    return next((p for p in (path.with_suffix(".py"), path) if p.exists()), None)


def _find(target: str, names: Sequence[str], package: ModuleType) -> Any:
    """Return the module of an absolute name: of the folder itself, of this package or an installed one, of the fork."""
    own = _fork_name(package)
    if f"{target}.".startswith(f"{own}."):
        target = package.__name__ + target.removeprefix(own)
    elif target.startswith(f"{PARENT}.") and not _exists(target):
        module = _fork_module(target, package)
        if module is None:
            raise ModuleNotFoundError(f"No module named {target!r}", name=target)
        target = module.__name__
    return importlib.__import__(target, fromlist=names)


@cache
def _exists(target: str) -> bool:
    """Check whether this package has a module of that name, other than those of module folders."""
    try:
        return _folder_of(f"{target}.x") is None and importlib.util.find_spec(target) is not None
    except ModuleNotFoundError:
        return False


def _fork_module(target: str, package: ModuleType) -> ModuleType | None:
    """Import and return the fork's file or folder of an absolute name; None if the fork has none."""
    path = _fork_path(target, package)
    if path is None:
        return None
    start = path.parent if path.suffix else path
    folder = next((p for p in (start, *start.parents) if p.parent.name == "nn" or is_core(p.parent)), None)
    if folder is None:
        return None
    inner = (path.parent / path.stem).relative_to(folder).parts if path.suffix else path.relative_to(folder).parts
    return importlib.import_module(".".join([make_package(folder).__name__, *inner]))


def _from_fork(target: str, name: str, package: ModuleType) -> Any:
    """Return a name that this package lacks from the fork's file of that module, or None."""
    own = _fork_name(package)
    path = Path(package.__path__[0]) if target == own else _fork_path(target, package)
    for file in () if path is None else [path] if path.suffix else list_files(path, (".py",), recursive=False):
        if name in names_in(file):
            with suppress(Exception):  # the file is reported where its folder is imported
                found = target if path.suffix else f"{target}.{file.stem}"
                return getattr(_find(found, (name,), package) if target == own else _fork_module(found, package), name)
    return None


def public_names(module: ModuleType) -> dict[str, Any]:
    """Return what a star import of a module gives."""
    values = vars(module)
    public = values.get("__all__") or [name for name in values if not name.startswith("_")]
    return {name: values[name] for name in public if name in values}


def _reason(error: BaseException, target: str) -> str:
    """Return why an import failed, and the remedy."""
    missing = getattr(error, "name", None)
    if isinstance(error, ModuleNotFoundError) and missing and missing.partition(".")[0] != ROOT:
        return package_remedy(missing)
    if isinstance(error, ModuleNotFoundError):
        return f"there is no {target} here, nor in the fork of the file; the fork that has it: modules=path/to/fork"
    return f"importing {target} failed: {type(error).__name__}: {error}"


def _advice(target: str) -> str:
    """Return what to do about a name that a module lacks."""
    if target.startswith(f"{PARENT}."):
        return f"{target} has no such name; the fork that defines it: modules=path/to/fork"
    top = target.partition(".")[0]
    return f"{target} has no such name" if top == ROOT else f"the installed {top} has no such name in {target}"


@cache
def _guarded_lines(file: Path) -> frozenset[int]:
    """Return the lines of a file in the body of a `try` that handles ImportError without raising another error."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8-sig", errors="replace"))):
        for handler in node.handlers if isinstance(node, ast.Try) else ():
            caught = {n.id for n in ast.walk(handler.type) if isinstance(n, ast.Name)} if handler.type else CATCHES
            if caught & CATCHES and not isinstance(handler.body[-1], ast.Raise):
                lines.update(range(node.body[0].lineno, node.body[-1].end_lineno + 1))
    return frozenset(lines)


def names_in(file: Path, exported: bool = False) -> set[str]:
    """Return the classes and functions a file appears to define, or to export by `__all__`; it need not parse."""
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    names = set(re.findall(r"^(?:class|def)\s+(\w+)", text, re.MULTILINE))
    listed = re.search(r"^__all__\s*=\s*[\[(](.*?)[\])]", text, re.MULTILINE | re.DOTALL)
    return names & set(re.findall(r"\w+", listed[1])) if exported and listed else names
