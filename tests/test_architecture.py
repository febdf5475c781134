"""Rules of the code base: layers, sizes, names and prose."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "ultralytics"
# Supplied modules; others in this folder are those of users, to which no rule applies.
ADDMODULES = {
    *("CARAFE.py", "CoordinateAttention.py", "EfficientViT.py", "LargeKernel.py", "MultiScaleAttention.py"),
    *("PartialConv.py", "SqueezeExcite.py", "StarBlock.py", "WeightedFusion.py", "__init__.py"),
}
FILES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted(PACKAGE.rglob("*.py"))
    if "Addmodules" not in path.parts or path.name in ADDMODULES
}
MODULES = {name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): name for name in FILES}

# A module may import modules of its own and of lower layers.
ORDER = ("utils cli_text", "cfg data losses metrics", "nn trackers", "engine", "models", "ablation published tools cli")
LAYERS = {room: layer for layer, rooms in enumerate(ORDER) for room in rooms.split()}
# Public import paths that only re-export or refuse; the package imports the defining modules.
PUBLIC_PATHS = {"ultralytics", "ultralytics.cfg", "ultralytics.models.yolo"} | {
    module for module, name in MODULES.items() if FILES[name].startswith(('"""Public import path', '"""Not built'))
}
# Where a family may be named: its layers and their substitutes, public names, and what files of other packages contain.
FAMILY_LAYERS = ("ultralytics/nn/modules/", "ultralytics/nn/accelerate/", "ultralytics/nn/Addmodules/")
FAMILY_FILES = {
    "ultralytics/data/augment.py": "a format of boxes",
    "ultralytics/nn/tasks.py": "the public class RTDETRDetectionModel",
    "ultralytics/nn/registry.py": "names of published modules and heads",
    "ultralytics/nn/formats/metadata.py": "heads in the metadata of published files",
    "ultralytics/nn/weights/names.py": "names in published weights",
    "ultralytics/utils/downloads.py": "names of released weights",
    "ultralytics/utils/loss.py": "a public import path",
    "ultralytics/utils/overrides.py": "public names that a script replaces",
    "ultralytics/utils/public.py": "public import paths",
}
LABEL_FORMAT = ("read_yolo_file", "_yolo_rows", "coco2yolo", "YOLODataset")  # YOLO text is also a label format
FAMILY_NAMES = {(name, text) for name in FILES for text in LABEL_FORMAT}
SHORT_FILES = ("nn/Addmodules/", "nn/formats/", "data/formats/")  # one registry entry a file
MAX_FILES, MAX_LINES, MAX_SIBLINGS, MIN_FILE, MAX_FILE = 202, 27_244, 15, 40, 420

# First words of docstrings that describe a value; functions do something: Return, Compute, Build ...
NOUN_START = re.compile(
    r"(The|A|An|Whether|What|How|Where|Its|One|All|True|False|Several|Every|Each|Which|Of|In|To|As|For|Like|With|Without|"
    r"Names?|Numbers?|Files?|Boxes|Images?|Positions?|Values?)\b"
)
BRITISH = re.compile(
    r"(colour|behaviour|neighbour|favour|centre\b|grey\b|licence|"
    r"(optim|normal|initial|serial|recogn|summar|synchron|penal|general|local|minim|maxim|quant)is(e|es|ed|ing|ation)\b)",
    re.IGNORECASE,
)
PERSONIFIED = re.compile(
    r"\b(says?|said|(?<!\.)tells?|told|wants?|stands?|stood|lies|anew|dealt|(?<![`\"])judge[ds]?|mend(ed|s)?|"
    r"go(es)? on|going on|puts? back|somebody|nobody)\b"
)


def module_of(name: str) -> str | None:
    """Return the longest prefix of a dotted name that is a module of the package."""
    parts = name.split(".")
    return next((m for n in range(len(parts), 0, -1) if (m := ".".join(parts[:n])) in MODULES), None)


def imported_names(tree: ast.AST) -> list[tuple[str, int]]:
    """Return (dotted name, line) of every import, at any depth, and of every string that names a module."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
        elif isinstance(node, ast.Constant) and re.fullmatch(r"ultralytics(\.\w+)+(:\w+)?", str(node.value)):
            found.append((node.value.replace(":", "."), node.lineno))
    return found


@cache
def trees() -> dict[str, ast.Module]:
    """Return the syntax tree of every file."""
    return {name: ast.parse(text) for name, text in FILES.items()}


@cache
def arrows() -> dict[str, dict[str, str]]:
    """Return for every module the modules that it imports, with the place of the import."""
    graph = {}
    for module, file in MODULES.items():
        targets = ((module_of(name), line) for name, line in imported_names(trees()[file]))
        graph[module] = {target: f"{file}:{line}" for target, line in targets if target not in (None, module)}
    return graph


def layer(module: str) -> int:
    """Return the layer of a module; public import paths are on top."""
    return 6 if module in PUBLIC_PATHS else LAYERS.get(module.split(".")[1], 6)


def test_imports_point_downwards():
    """TYPE_CHECKING blocks, imports inside functions and lazy strings count; nothing imports a public path."""
    upward = [
        f"{place} imports {target}"
        for module, targets in arrows().items()
        for target, place in targets.items()
        if module not in PUBLIC_PATHS and layer(target) > layer(module)
    ]
    assert not upward, "\n".join(upward)


def test_imports_have_no_circle():
    graph = {module: set(targets) - PUBLIC_PATHS for module, targets in arrows().items() if module not in PUBLIC_PATHS}
    while leaves := [module for module, targets in graph.items() if not targets & graph.keys()]:
        for module in leaves:
            del graph[module]
    while roots := graph.keys() - set(chain(*graph.values())):  # import a circle, but are in none
        for module in roots:
            del graph[module]
    circles = [f"{m} -> {', '.join(sorted(targets & graph.keys()))}" for m, targets in sorted(graph.items())]
    assert not circles, "\n".join(circles)


def names_in(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield (text, line) of every identifier, and of every string that is one word, docstrings apart."""
    documented = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}
    for node in ast.walk(tree):
        for field in ("id", "attr", "name", "arg", "module"):
            if isinstance(text := getattr(node, field, None), str):
                yield text, getattr(node, "lineno", 0)
        if isinstance(node, ast.Constant) and id(node) not in documented and re.fullmatch(r"[\w.-]+", str(node.value)):
            yield str(node.value), node.lineno


def test_families_are_named_in_their_folders_only():
    """Engine, data, options and tools learn what they need from `Family` and from the head's protocol."""
    family = re.compile(r"rt-?detr|yolo(?!2coco)", re.IGNORECASE)
    rooms = ("engine", "data", "metrics", "utils", "cfg", "tools", "nn")
    checked = [name for name in FILES if name.split("/")[1] in rooms and not name.startswith(FAMILY_LAYERS)]
    found = [
        f"{name}:{line} {text}"
        for name in checked
        for text, line in names_in(trees()[name])
        if family.search(text) and (name, text) not in FAMILY_NAMES and name not in FAMILY_FILES
    ]
    assert not found, "\n".join(found)


def test_package_stays_in_budget():
    assert len(FILES) - len(PUBLIC_PATHS) <= MAX_FILES
    assert sum(bool(line.strip()) for text in FILES.values() for line in text.splitlines()) <= MAX_LINES


def test_folders_are_small():
    public = {MODULES[module] for module in PUBLIC_PATHS}  # as published, wherever that is
    assert all(len(FILES[name].splitlines()) <= MIN_FILE for name in public)
    files = {Path(name) for name in FILES if name not in public}
    shown = {file for file in files if file.name != "__init__.py"} | {file.parent for file in files}
    folders = Counter(path.parent.as_posix() for path in shown)
    assert not {name: count for name, count in folders.items() if count > MAX_SIBLINGS}


def test_files_have_a_name_of_their_own_and_a_reasonable_length():
    public = {MODULES[module] for module in PUBLIC_PATHS}
    named = [name for name in FILES if name not in public and not name.endswith("__init__.py")]
    names = Counter(name.rsplit("/", 1)[1] for name in named)
    assert not [name for name, count in names.items() if count > 1 and name != "model.py"]
    lengths = {name: len(FILES[name].splitlines()) for name in named}
    assert not {name: n for name, n in lengths.items() if n > MAX_FILE}
    assert not {n: k for n, k in lengths.items() if k < MIN_FILE and not any(folder in n for folder in SHORT_FILES)}


def functions() -> list[tuple[str, ast.FunctionDef]]:
    """Return (place, node) of every function."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [(f"{name}:{n.lineno}", n) for name, tree in trees().items() for n in ast.walk(tree) if isinstance(n, kinds)]


def test_docstrings_of_functions_start_with_a_verb():
    documented = [(place, ast.get_docstring(node)) for place, node in functions() if ast.get_docstring(node)]
    assert not [f"{place} {found[0]}" for place, text in documented if (found := NOUN_START.match(text))]


@pytest.mark.parametrize("pattern", [BRITISH, PERSONIFIED], ids=["us_spelling", "no_personification"])
def test_prose(pattern):
    lines = ((name, n, line) for name, text in FILES.items() for n, line in enumerate(text.splitlines(), 1))
    assert not [f"{name}:{n} {found[0]}" for name, n, line in lines if (found := pattern.search(line))]
