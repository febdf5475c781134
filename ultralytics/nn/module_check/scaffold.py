"""`yolo new`: write a commented module file to start from, and a model file that uses it and trains at once."""

from __future__ import annotations

import ast
import builtins
import keyword
import os
import shlex
from pathlib import Path
from string import Template
from typing import Annotated

from ultralytics.cfg.values import OneOf
from ultralytics.nn.registry import ADDMODULES, defined_names, import_folder, module_folders, resolve_module
from ultralytics.utils.errors import ModelConfigError, UserError
from ultralytics.utils.files import parse_yaml, write_text

TEMPLATES = Path(__file__).parents[1] / "templates"
KINDS = {
    "backbone": "$name as its backbone",
    "conv": "EfficientViT-M0, with $name instead of Conv for downsampling",
    "attention": "EfficientViT-M0 and $name on the coarsest map before the decoder",
    "fusion": "EfficientViT-M0, with $name instead of Concat",
}


def command(module: str, kind: Annotated[str, OneOf(*KINDS)], folder: str | None = None) -> None:
    """Write `MODULE.py`, and `rtdetr-MODULE.yaml` into the working folder, and print the next commands.

    Args:
        module: name of the new class, such as MyNet.
        kind: what it is a starting point for.
        folder: where the module file goes, created if missing; None for the package's own folder.

    Raises:
        UserError: the name is invalid or taken, or one of the files exists. Then nothing is written.
    """
    target = ADDMODULES if folder is None else Path(folder).expanduser()
    file, model = target / f"{module}.py", Path(f"rtdetr-{module.lower()}.yaml")
    _check_name(module, kind, target)
    for path in (file, model):
        if path.exists():
            raise UserError(f"{path}: exists already; choose another module= or remove it first")
    if target.exists() and not target.is_dir():
        raise UserError(f"{target}: is a file; folder= names the folder for {module}.py")
    write_text(file, module_text(module, kind))
    write_text(model, model_text(module, kind, None if folder is None else _relative(target)))
    import_folder.cache_clear()  # it has a new file
    where = "" if folder is None else f" {shlex.quote(f'modules={folder}')}"
    print(f"{file} written: the module, a starting point for yours")
    print(f"{model} written: a model that uses it")
    print("next:")
    print(f"  yolo inspect model={model}")
    print(f"  yolo check module={module}{where}")
    print(f"  yolo train model={model} data=shapes.yaml epochs=1")


def module_text(name: str, kind: str) -> str:
    """Return the source of a module to start from."""
    return _template(f"{kind}.py.txt").substitute(name=name, plan=f"{name.lower()}_row")


def model_text(name: str, kind: str, folder: str | None = None) -> str:
    """Return a model file that uses the module in `folder`, relative to the file; None for the package's own."""
    return _template("model.yaml.txt").substitute(
        what=Template(KINDS[kind]).substitute(name=name),
        modules="" if folder is None else f"modules: {folder!r} # folder of {name}.py, relative to this file\n",
        backbone=name if kind == "backbone" else "EfficientViT_M0",
        fuse=f"{name}, [256]" if kind == "fusion" else "Concat, [1]",
        down=name if kind == "conv" else "Conv",
        attention=f"  - [-1, 1, {name}, [16], a5]\n" if kind == "attention" else "",
        last="a5" if kind == "attention" else "f5",
    )


def _template(name: str) -> Template:
    return Template((TEMPLATES / name).read_text(encoding="utf-8"))


def _check_name(module: str, kind: str, folder: Path) -> None:
    if not module.isidentifier() or keyword.iskeyword(module) or not module.isascii() or module.startswith("_"):
        raise UserError(f"module={module}: is no name for a Python class; use letters, digits and '_', such as MyNet")
    folders = module_folders([folder] if folder.is_dir() else [])
    try:
        found = resolve_module(module, folders=folders)
    except ModelConfigError:
        if module in defined_names(folders):
            raise  # several files define it
    else:
        raise UserError(f"module={module}: {found.origin} defines a module of this name; choose another")
    nodes = list(ast.walk(ast.parse(module_text("_", kind))))
    used = {getattr(node, "id", getattr(node, "arg", None)) for node in nodes}  # names and arguments of the template
    if hasattr(builtins, module) or module in used:
        raise UserError(f"module={module}: the file itself uses this name for something else; choose another")
    if parse_yaml(module, "module") != module:
        raise UserError(f"module={module}: a model file reads this word as a value, not as a name; choose another")


def _relative(folder: Path) -> str:
    """Return the folder relative to the working folder, in which the model file is written."""
    try:
        return Path(os.path.relpath(folder)).as_posix()
    except ValueError:  # on another drive
        return folder.resolve().as_posix()
