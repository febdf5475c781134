"""Find the module that a row names: registered modules, and the files of module folders.

A folder becomes a package below `ultralytics.nn` when a model is built, so that its files may import each other
(`from .conv import Conv`) and this package (`from ..modules.conv import autopad`), as they do in forks.
"""

import ast
import builtins
import importlib
import inspect
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

from torch import nn

from ultralytics.nn.forks.module_folders import ADDMODULES, expand_fork, is_core, make_package, names_in, public_names
from ultralytics.nn.plans import PlanFunction
from ultralytics.utils import LOGGER
from ultralytics.utils.errors import ModelConfigError, did_you_mean
from ultralytics.utils.files import list_files, real_path
from ultralytics.utils.public import PLACED

VARIABLE = "ULTRALYTICS_MODULES"  # environment variable with further module folders, separated as in PATH
IMPORTING = Lock()  # of threads: an import replaces standard output and `sys.modules` of the process
# Names that forks import from the published package: a row that uses one means ours, not the folder's.
PUBLISHED = frozenset({
    "AIFI", "C1", "C2", "C2f", "C3", "C3Ghost", "C3TR", "C3x", "Bottleneck", "BottleneckCSP", "Concat", "Conv",
    "Conv2", "ConvTranspose", "DWConv", "DWConvTranspose2d", "Detect", "Focus", "GhostBottleneck", "GhostConv",
    "HGBlock", "HGStem", "RTDETRDecoder", "RepC3", "RepConv", "ResNetLayer", "SPP", "SPPF",
})  # fmt: skip

# Task of the published heads that are not built here; newer ones end with 26.
OTHER_TASKS = {
    "Classify": "classify", "Depth": "depth", "OBB": "obb", "Pose": "pose", "Segment": "segment",
    "SemanticSegment": "semantic", "WorldDetect": "open vocabulary", "YOLOEDetect": "open vocabulary",
    "YOLOESegment": "segment",
}  # fmt: skip
OTHER_HEAD = re.compile(rf"({'|'.join(OTHER_TASKS)})(?:26)?|(Segment|Pose|OBB)_\w+")  # the latter are names in forks


@dataclass(frozen=True)
class RegisteredModule:
    """A class or factory function that a row may name."""

    name: str
    build: Callable[..., nn.Module]
    plan: (
        PlanFunction | None
    )  # how its rows are read; None if it is not registered and `nn/forks/signatures.py` infers it
    origin: str  # file that defines it
    overridable: bool = False  # whether a user's file that defines the same name replaces it


class Registry(dict[str, RegisteredModule]):
    """Registered modules by name; `local` gets those of a user's folder, which hold for the models that name it."""

    local: dict[str, RegisteredModule] | None = None

    def add(self, module: RegisteredModule) -> None:
        """Register a module; raise ModelConfigError if another file has registered its name.

        Importing the same file again replaces it.
        """
        target = self if self.local is None else self.local
        for present in (self.get(module.name), target.get(module.name)):
            if present and present.origin != module.origin and not present.overridable:
                if module.overridable:
                    return
                raise _defined_twice(module.name, present, module)
        target[module.name] = module


REGISTRY = Registry()


def register(plan: PlanFunction, name: str | None = None, overridable: bool = False) -> Callable[[Any], Any]:
    """Register a module class or factory function, so that model files may name it.

    Args:
        plan: how a row is read, such as `plans.conv`; see `ultralytics/nn/plans.py`.
        name: name in model files; the class's own by default.
        overridable: let a user's file that defines the same name replace it.

    Examples:
        >>> from ultralytics.nn import plans
        >>> @register(plans.channel_preserving)
        ... class Scale(nn.Module):
        ...     def __init__(self, channels, factor=2.0):
        ...         super().__init__()
        ...         self.factor = factor
        ...     def forward(self, x):
        ...         return x * self.factor
        >>> from ultralytics.nn.parser import build_module
        >>> build_module("Scale", args=[0.5]).arguments  # a row [-1, 1, Scale, [0.5]]
        'channels=64, factor=0.5'
    """

    def decorate(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        if inspect.isfunction(build):
            origin = build.__code__.co_filename
        else:  # a class of a notebook has no file
            origin = getattr(sys.modules.get(build.__module__), "__file__", None) or build.__module__
        REGISTRY.add(RegisteredModule(name or build.__name__, build, plan, origin, overridable))
        return build

    return decorate


def layer_of_script(name: str) -> type[nn.Module] | None:
    """Return the class that a script has assigned to a name: `ultralytics.nn.tasks.Mine = Mine`."""
    own = __name__.partition(".")[0]
    places = [vars(sys.modules[place]) for place in sorted(PLACED) if place.startswith(f"{own}.nn.")]
    layers = (place.get(name) for place in (*places, vars(builtins)))
    return next((x for x in layers if is_layer(x) and x.__module__.partition(".")[0] != own), None)


def is_layer(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, nn.Module)


def resolve_module(name: str, folders: Sequence[Path] | None = None) -> RegisteredModule:
    """Return the module that a row names: `Class`, `file.Class`, or `nn.Class` for a layer of torch.

    Folders are searched in their order. Registered modules come before unregistered ones, except that a folder's own
    class replaces ours if the folder's `__init__.py` imports it and the published package has no such name. A fork's
    files of the published package are searched after ours. Raise ModelConfigError if no module has this name, or
    several files define it.
    """
    library = name.rpartition(".")[0].removeprefix("torch.")
    if library in ("nn", "torchvision.ops"):
        source = nn if library == "nn" else importlib.import_module(library)
        layer = getattr(source, name.rpartition(".")[2], None)
        if not is_layer(layer):
            near = did_you_mean(name.rpartition(".")[2], dir(source))
            raise ModelConfigError(f"{source.__name__} has no layer {name!r}{near}")
        return RegisteredModule(name, layer, None, source.__name__)
    if other := OTHER_HEAD.fullmatch(name):
        task = OTHER_TASKS[other[1] or other[2]]
        raise ModelConfigError(f"{name} is a head of the task {task!r}; this package detects objects, with Detect")
    if layer := layer_of_script(name):
        known = REGISTRY.get(name)
        return RegisteredModule(name, layer, known and known.plan, layer.__module__)
    folders = module_folders() if folders is None else folders
    with IMPORTING:
        imported = [import_folder(path) for path in folders]
    registered = next((f.registered[name] for f in imported if name in f.registered), REGISTRY.get(name))
    if registered is not None and not registered.overridable:
        found = (_replacement(registered, import_folder(path)) for path in folders if not is_core(path))
    else:
        found = (_definition(name, folder, below) for below in (False, True) for folder in imported)
    if module := next(filter(None, found), registered):
        return module
    places = ", ".join(map(str, folders))
    searched = f"; looked in {places}. Name its folder by modules=FOLDER or `modules:` in the YAML"
    known = [*REGISTRY, *(known for folder in imported for known in (*folder.registered, *folder.definitions))]
    hint = why_missing(name, folders) or did_you_mean(name, known) or searched
    raise ModelConfigError(f"no module {name!r}{hint}")


def find_class(name: str, folders: Sequence[str | Path] = ()) -> type[nn.Module] | None:
    """Return the class that a row means, of ours without a look into the folders; None if it means a function."""
    found = REGISTRY.get(name) or resolve_module(name, module_folders(folders))
    return found.build if inspect.isclass(found.build) else None


@dataclass
class Folder:
    """An imported module folder."""

    package: ModuleType  # the package of its files; has the names that its `__init__.py` imports, and `missing_reasons`
    registered: dict[str, RegisteredModule] = field(default_factory=dict)  # those of `nn/Addmodules` are in REGISTRY
    definitions: dict[str, list[RegisteredModule]] = field(default_factory=dict)  # by name, one for each file
    failures: dict[Path, str] = field(default_factory=dict)  # files that could not be imported, with the reason
    gathered: set[Path] = field(default_factory=set)  # files from which `__init__.py` imports
    below: dict[str, list[Path]] | None = None  # files in folders of the folder, by the names they define

    def import_below(self, name: str) -> None:
        """Import the files in folders of the folder that define a name. The others there are not run."""
        if self.below is None:
            root, self.below = Path(self.package.__path__[0]), {}
            for file in list_files(root, (".py",)):
                parts = file.relative_to(root).with_suffix("").parts
                if len(parts) > 1 and all(map(str.isidentifier, parts)) and file.stem != "setup":
                    for defined in names_in(file):
                        self.below.setdefault(defined, []).append(file)
        if name in self.below and name not in self.definitions:
            with IMPORTING:
                REGISTRY.local = self.registered
                try:
                    _add_definitions(self, _import_all(self, self.below.pop(name)))
                finally:
                    REGISTRY.local = None


def module_folders(extra: Sequence[str | Path] = ()) -> tuple[Path, ...]:
    """Return the folders to search: `extra`, those of the environment variable, and `nn/Addmodules`."""
    named = [*extra, *filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))]
    folders = [real_path(folder) for folder in named]
    for path in folders:
        if not os.path.isdir(path):
            raise ModelConfigError(f"{path} is not a folder; check modules=, `modules:` of the model and ${VARIABLE}")
    return tuple(dict.fromkeys([*(inner for folder in folders for inner in expand_fork(folder)), ADDMODULES]))


@cache
def import_folder(path: Path) -> Folder:
    """Import every file of a folder once, without what it prints; log and skip files that cannot be imported."""
    folder = Folder(make_package(path))
    if path != ADDMODULES:
        import_folder(ADDMODULES)  # first: its modules are registered for all models
        REGISTRY.local = folder.registered
    try:
        _import_files(folder, path)
    finally:
        REGISTRY.local = None
    for file, reason in folder.failures.items():
        LOGGER.warning(f"{file}: not imported: {reason}")
    if folder.package.missing_reasons:
        names = ", ".join(dict.fromkeys(name for _, name in folder.package.missing_reasons))
        LOGGER.warning(f"{path}: its files use what is missing here; what needs one of these fails: {names}")
    return folder


def forget_folders() -> None:
    """Import module folders again when they are used next, after a file was added or changed."""
    import_folder.cache_clear()
    make_package.cache_clear()


def missing_names() -> list[str]:
    """Return file, line, name and remedy of each name that imported module files lack."""
    found = (getattr(module, "__dict__", {}).get("missing_reasons", {}) for module in [*sys.modules.values()])
    return [reason for reasons in found for reason in reasons.values()]


def why_missing(name: str, folders: Sequence[Path]) -> str:
    """Return which file defines a name but was not imported, or imports it in vain, with the reason; or ''."""
    bare = name.rpartition(".")[2]
    for folder in map(import_folder, folders):
        for file, reason in folder.failures.items():
            if bare in names_in(file):
                return f"; {file} defines it but was not imported: {reason}"
        for (_, missing), reason in folder.package.missing_reasons.items():
            if missing == bare:
                return f"; {reason}"
    return ""


def _definition(name: str, folder: Folder, below: bool = False) -> RegisteredModule | None:
    """Return the class or function of a folder by its name or `file.name`; with `below` also of the folders in it.

    Raise ModelConfigError if several files define it, and neither `__init__.py` nor `__all__` decides.
    """
    stem, _, bare = name.rpartition(".")
    if below:
        folder.import_below(bare)
    found = [d for d in folder.definitions.get(bare, ()) if stem in ("", Path(d.origin).stem)]
    found = [d for d in found if not d.overridable] or found
    imported = [d for d in found if d.build is getattr(folder.package, bare, None)]  # by `__init__.py`
    listed = {d.origin: getattr(sys.modules[d.build.__module__], "__all__", ()) for d in found}
    found = imported or [d for d in found if bare in (Path(d.origin).stem, *listed[d.origin])] or found
    if len({inspect.getsource(d.build) for d in found}) > 1:
        raise _defined_twice(name, *found)
    return found[0] if found else None


def _replacement(ours: RegisteredModule, folder: Folder) -> RegisteredModule | None:
    """Return the unregistered class of a folder that a row means instead of `ours`, which has the same name.

    Raise ModelConfigError if a file is named after its class of this name, or the file that `__init__.py` imports it
    from failed: using `ours` would build another module than the user expects.
    """
    name = ours.name
    own = [d for d in folder.definitions.get(name, ()) if d.plan is None]
    imported = next((d for d in own if d.build is getattr(folder.package, name, None)), None)
    if imported is None and (namesake := next((d for d in own if Path(d.origin).stem == name), None)):
        raise _defined_twice(name, ours, namesake)
    if name in PUBLISHED:
        return None
    for file in folder.gathered if imported is None else ():
        reason = folder.failures.get(file) or folder.package.missing_reasons.get((file, name))
        if reason and name in names_in(file, exported=True):
            raise ModelConfigError(f"module {name!r}: {file} defines it but was not imported: {reason}")
    return imported


def _defined_twice(name: str, *found: RegisteredModule) -> ModelConfigError:
    files = " and ".join(module.origin for module in found)
    return ModelConfigError(f"module {name!r} is defined twice: {files}; rename one, or write FILE.{name} in the row")


def _import_files(folder: Folder, path: Path) -> None:
    files = [f for f in list_files(path, (".py",), recursive=False) if f.stem != "__init__" and f.is_file()]
    modules = _import_all(folder, files)
    if (path / "__init__.py").is_file():
        _bind_package_names(folder, path, modules)
    _add_definitions(folder, modules)


def _add_definitions(folder: Folder, modules: dict[Path, ModuleType]) -> None:
    registered = {module.build: module for module in (*REGISTRY.values(), *folder.registered.values())}
    for file, module in sorted(modules.items()):
        for name, value in vars(module).items():
            is_builder = inspect.isfunction(value) or is_layer(value)
            if is_builder and not name.startswith("_") and value.__module__ == module.__name__:
                found = registered.get(value) or RegisteredModule(name, value, None, str(file))
                folder.definitions.setdefault(name, []).append(found)


def _import_all(folder: Folder, files: Sequence[Path]) -> dict[Path, ModuleType]:
    """Import files, and return those that could be."""
    modules = {}
    for file in files:
        try:
            with redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                inner = file.relative_to(folder.package.__path__[0]).with_suffix("").parts
                inner = inner[:-1] if inner[-1] == "__init__" else inner
                modules[file] = importlib.import_module(".".join([folder.package.__name__, *inner]))
        except ModelConfigError:
            raise  # two modules of one name: the message names the files
        except Exception as error:  # it cannot be read or parsed; statements that fail are placeholders
            line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
            folder.failures[file] = f"{type(error).__name__}: {getattr(error, 'msg', error)} ({file.name}{line})"
    return modules


def _bind_package_names(folder: Folder, path: Path, modules: dict[Path, ModuleType]) -> None:
    """Give the package the names that its `__init__.py` imports from its files; the last import of a name counts."""
    for node in ast.parse((path / "__init__.py").read_text(encoding="utf-8-sig", errors="replace")).body:
        if not (isinstance(node, ast.ImportFrom) and node.level == 1 and node.module):
            continue
        file = path / f"{node.module}.py"
        folder.gathered.add(file)
        for alias in node.names if file in modules else ():
            values = public_names(modules[file]) if alias.name == "*" else vars(modules[file])
            for name in values if alias.name == "*" else {alias.name} & values.keys():
                setattr(folder.package, alias.asname or name, values[name])
