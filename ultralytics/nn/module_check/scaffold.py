"""`yolo new`: write a commented module file to start from, and model files that use it and train at once."""

import builtins
import keyword
import os
from pathlib import Path
from string import Template
from typing import Annotated

from ultralytics.cfg.plain_data import parse_yaml
from ultralytics.cfg.values import OneOf
from ultralytics.nn.registry import ADDMODULES, forget_folders, module_folders, resolve_module
from ultralytics.utils.errors import ModelConfigError, UserError, typed
from ultralytics.utils.files import real_path, write_text

TEMPLATES = Path(__file__).parents[1] / "templates"
RESERVED = {*dir(builtins), "nn", "torch", "Tensor", "plans", "register"}  # used in the templates
KINDS = {
    "backbone": "{} as its backbone",
    "conv": "EfficientViT-M0, with {} instead of Conv for downsampling",
    "attention": "EfficientViT-M0 and {} on the coarsest map before the head",
    "fusion": "EfficientViT-M0, with {} instead of Concat",
}


def command(module: str, kind: Annotated[str, OneOf(*KINDS)], folder: str | None = None) -> None:
    """Write `MODULE.py`, and a model file for each kind of detector into the working folder; print the next commands.

    Args:
        module: name of the new class, such as MyNet.
        kind: what it is a starting point for.
        folder: where the module file goes, created if missing; None for the package's own folder.
    """
    target = ADDMODULES if folder is None else real_path(folder)
    file, suffix = target / f"{module}.py", ".yaml.txt"
    templates = sorted(TEMPLATES.glob(f"*{suffix}"))
    models = {Path(f"{t.name.removesuffix(suffix)}-{module.lower()}.yaml"): t for t in templates}
    if not module.isidentifier() or keyword.iskeyword(module) or not module.isascii() or module.startswith("_"):
        raise UserError(f"module={module}: not a valid class name; use letters, digits and '_', such as MyNet")
    if module in RESERVED or parse_yaml(module, "module") != module:
        raise UserError(f"module={module}: this name has another meaning in Python or YAML; choose another")
    if os.path.exists(target) and not target.is_dir():
        raise UserError(f"folder={folder}: expected a folder, got a file")
    try:
        found = resolve_module(module, folders=module_folders([target] if os.path.isdir(target) else []))
    except ModelConfigError:  # the name is free
        pass
    else:
        raise UserError(f"module={module}: {found.origin} defines a module of this name; choose another")
    for path in (file, *models):
        if os.path.exists(path):
            raise UserError(f"{path}: exists already; choose another module= or remove it first")
    values = {
        "name": module,
        "plan": f"{module.lower()}_row",
        "what": KINDS[kind].format(module),
        "modules": f"modules: {os.path.relpath(target)!r} # folder of {file.name}\n" if folder else "",
        "backbone": module if kind == "backbone" else "EfficientViT_M0",
        "fuse": f"{module}, [256]" if kind == "fusion" else "Concat, [1]",
        "down": module if kind == "conv" else "Conv",
        "attention": f"  - [-1, 1, {module}, [16], a5]\n" if kind == "attention" else "",
        "last": "a5" if kind == "attention" else "f5",
    }
    for path, template in {file: TEMPLATES / f"{kind}.py.txt", **models}.items():
        write_text(path, Template(template.read_text(encoding="utf-8")).substitute(values))
    forget_folders()  # it has a new file
    where = f" {typed(modules=folder)}" if folder else ""
    print(
        f"{file} written: the module, a starting point for yours\n"
        f"{', '.join(map(str, models))} written: models that use it\n"
        f"next:\n"
        f"  yolo check module={module}{where}"
    )
    for model in models:
        print(f"  yolo inspect {typed(model=model)}\n  yolo train {typed(model=model)} data=shapes.yaml epochs=1")
