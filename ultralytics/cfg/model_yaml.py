"""Model files: finding them, reading them with line numbers, and checking their form."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ultralytics.utils import PACKAGE_ROOT
from ultralytics.utils.errors import ModelConfigError, UserError, did_you_mean
from ultralytics.utils.files import parse_yaml

MODELS_DIR = PACKAGE_ROOT / "cfg" / "models"
SETTINGS = ("num_queries", "num_denoising")  # keys that change the decoder
KEYS = (
    "nc",
    "names",
    "scales",
    "scale",
    "depth_multiple",
    "width_multiple",
    "max_channels",
    "activation",
    "ch",
    "task",
    "modules",
)
SECTIONS = ("backbone", "head")
YAML_HINTS = {  # what to do about an error of the YAML reader, by a part of its message
    "\\t": "; indent with spaces, not tabs",
    "<block end>": "; all rows of a section start with `- ` in the same column",
    "',' or ']'": "; a comma or a closing bracket is missing, here or in the line before",
    "':'": "; a row starts with `- `, a key ends with `:`",
}
PYRAMID = r"P[1-9]"  # names of the backbone's maps by stride: P3 is 8, P4 is 16, ...


@dataclass(frozen=True)
class Row:
    """One layer of a model file.

    Attributes:
        sources: the layers it reads: numbers, of which negative ones count back from this row; names of rows; `P2` to
            `P5` for the last map of the backbone at stride 4 to 32.
        takes_list: whether they are written as a list, so that the module gets a list, even of one.
        repeats: second column.
        module: name of the module.
        args: arguments as written, with 'None', 'True', numbers in quotes turned into values.
        section: `backbone` or `head`.
        where: file and line, for messages.
        name: fifth column, by which later rows may read this one; None where it has none.
    """

    sources: tuple[int | str, ...]
    takes_list: bool
    repeats: int
    module: str
    args: tuple[Any, ...]
    section: str
    where: str
    name: str | None = None


@dataclass(frozen=True)
class ModelSpec:
    """A model file that has been read and checked.

    Attributes:
        rows: the layers in order.
        nc: number of classes, or None where the file leaves it to the data set.
        depth, width, max_channels: the scale in force.
        activation: name of the default activation of `Conv`, or None.
        settings: decoder settings given as top-level keys.
        source: the content as plain data, from which the model can be built again.
        name: file name, for messages.
        ch: channels of the images.
        names: class names by index, where the file has them.
        modules: folders with module files, beside those that are always searched.
        from_checkpoint: whether it is what a built model has recorded, whose weights are loaded next.
    """

    rows: tuple[Row, ...]
    nc: int | None
    depth: float
    width: float
    max_channels: float
    activation: str | None
    settings: Mapping[str, Any]
    source: Mapping[str, Any]
    name: str
    ch: int = 3
    names: Mapping[int, str] | None = None
    modules: tuple[str, ...] = ()
    from_checkpoint: bool = False


def find_model_yaml(name: str | Path) -> tuple[Path, str | None]:
    """Path of a model file and the scale that its name asks for.

    `name` is a path, or a name among the package's own files; `NAMEs.yaml` is scale `s` of `NAME.yaml`.

    Raises:
        ModelConfigError: there is no such file.
    """
    path = Path(name)
    if path.is_dir():
        raise ModelConfigError(f"model {path}: is a folder, expected a .yaml file")
    if path.is_file():
        return path, None
    known = {p.name: p for p in MODELS_DIR.rglob("*.yaml")}
    if path.name == str(name) and path.name in known:
        return known[path.name], None
    base = f"{path.stem[:-1]}{path.suffix}"  # the last letter may be a scale
    for candidate in (path.with_name(base), known.get(base)):
        if candidate is not None and candidate.is_file():
            return candidate, path.stem[-1]
    raise ModelConfigError(
        f"model {str(name)!r}: no such file here, nor among the package's model files{did_you_mean(path.name, known)}"
    )


def load_model_yaml(model: str | Path | Mapping[str, Any]) -> ModelSpec:
    """Read a model file, or its content as plain data.

    Raises:
        ModelConfigError: the file cannot be found or read, or its form is wrong.
    """
    if isinstance(model, Mapping):
        data, lines, name, scale = dict(model), {}, str(model.get("yaml_file", "model")), None
        data.pop("yaml_file", None)
    else:
        path, scale = find_model_yaml(model)
        data, lines = _read(path)
        name = path.name
        if "modules" in data:
            data["modules"] = _folders(data["modules"], path.parent, name)
    if scale is not None:
        data["scale"] = scale
    words = _words(data)
    _check_keys(data, name, words)
    depth, width, cap = _scale(data, name)
    rows = [
        _row(_filled_in(row, words), section, f"{name}:{lines[section][i]}" if lines else f"{name} {section} row {i}")
        for section in SECTIONS
        for i, row in enumerate(data[section])
    ]
    _check_names(rows)
    names = data.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if names is not None and not isinstance(names, Mapping):
        raise ModelConfigError(f"{name}: names must be a list, or a mapping of numbers to names; got {names!r}")
    nc, ch = data.get("nc"), data.get("ch", 3)
    for key, value in (("nc", nc), ("ch", ch)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ModelConfigError(f"{name}: {key} must be a whole number from 1, got {value!r}")
    return ModelSpec(
        tuple(rows), nc, depth, width, cap, data.get("activation"),
        {key: data[key] for key in SETTINGS if data.get(key) is not None},
        {**data, "yaml_file": name}, name, ch, names, tuple(data.get("modules") or ()),
        from_checkpoint=isinstance(model, Mapping) and "yaml_file" in model,
    )  # fmt: skip


def _read(path: Path) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """Content of a YAML file, and the line of each row of its sections."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        data = parse_yaml(text, path.name)
    except UnicodeDecodeError as error:
        raise ModelConfigError(f"{path.name}: not a UTF-8 text file: {error}") from error
    except UserError as error:
        hint = next((hint for sign, hint in YAML_HINTS.items() if sign in str(error)), "")
        raise ModelConfigError(f"{error}{hint}") from error
    if not isinstance(data, dict):
        found = "an empty file" if data is None else f"a {type(data).__name__}"
        raise ModelConfigError(f"{path.name}: expected keys such as `nc`, `backbone`, `head`; got {found}")
    lines = {
        key.value: [row.start_mark.line + 1 for row in value.value]
        for key, value in yaml.compose(text, Loader=yaml.SafeLoader).value
        if key.value in SECTIONS and isinstance(value, yaml.SequenceNode)
    }
    return data, lines


def _words(data: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of the file's own that stand for a module or an argument of its rows, such as `fusion_mode: bifpn`."""
    rows = [row for section in SECTIONS for row in data.get(section) or () if isinstance(row, list) and len(row) > 3]
    used = {
        word
        for row in rows
        for word in (row[2], *(row[3] if isinstance(row[3], list) else ()))
        if isinstance(word, str)
    }
    return {key: value for key, value in data.items() if key in used and key not in (*KEYS, *SECTIONS, *SETTINGS)}


def _filled_in(row: Any, words: Mapping[str, Any]) -> Any:
    """The row with the values of the file's own keys in place of their names."""
    if not (words and isinstance(row, list) and len(row) > 3 and isinstance(row[3], list)):
        return row
    module, *args = (words.get(word, word) if isinstance(word, str) else word for word in (row[2], *row[3]))
    return [*row[:2], module, args, *row[4:]]


def _check_keys(data: Mapping[str, Any], name: str, words: Mapping[str, Any]) -> None:
    known = (*KEYS, *SECTIONS, *SETTINGS)
    for key in data:
        if key not in known and key not in words:
            raise ModelConfigError(
                f"{name}: unknown key {key!r}{did_you_mean(key, known) or ';'} known: {', '.join(known)}"
            )
    for section in SECTIONS:
        if not isinstance(data.get(section), list) or not data[section]:
            raise ModelConfigError(f"{name}: `{section}` must be a list of rows [from, repeats, module, args]")


def _scale(data: dict[str, Any], name: str) -> tuple[float, float, float]:
    """Depth, width and channel cap. Without a named scale the first of `scales` holds."""
    scales = data.get("scales")
    if not scales:
        return data.get("depth_multiple", 1.0), data.get("width_multiple", 1.0), data.get("max_channels", float("inf"))
    scale = data["scale"] = data.get("scale") or next(iter(scales))  # published weights may hold an empty one
    if scale not in scales:
        raise ModelConfigError(f"{name}: unknown scale {scale!r}; the file has {', '.join(map(str, scales))}")
    values = scales[scale]
    if not isinstance(values, list) or len(values) != 3 or not all(isinstance(v, int | float) for v in values):
        raise ModelConfigError(f"{name}: scale {scale!r} must be [depth, width, max_channels], got {values!r}")
    return tuple(values)


def _row(row: Any, section: str, where: str) -> Row:
    """Check the form of one row."""
    if not isinstance(row, list) or len(row) not in (4, 5):
        hint = "; without arguments the fourth is []" if isinstance(row, list) and len(row) == 3 else ""
        raise ModelConfigError(
            f"{where}: a row is [from, repeats, module, args] or, named, one more{hint}; got {row!r}"
        )
    sources, repeats, module, args = row[:4]
    name = row[4] if len(row) == 5 else None
    if name is not None and not (isinstance(name, str) and name.isidentifier() and not re.fullmatch(PYRAMID, name)):
        raise ModelConfigError(f"{where}: a row's name is a word other than P1 to P9, got {name!r}")
    takes_list = isinstance(sources, list)
    sources = sources if takes_list else [sources]
    if not sources or not all(type(s) in (int, str) for s in sources):
        raise ModelConfigError(f"{where}: `from` must be a layer number, a name, or a list of these, got {row[0]!r}")
    if type(repeats) is not int or repeats < 1:
        raise ModelConfigError(f"{where}: repeats must be a whole number from 1, got {repeats!r}")
    if not isinstance(module, str):
        raise ModelConfigError(f"{where}: the third column is the module's name, got {module!r}")
    if not isinstance(args, list):
        raise ModelConfigError(f"{where}: the fourth column is the list of {module}'s arguments, got {args!r}")
    return Row(tuple(sources), takes_list, repeats, module, tuple(_literal(a) for a in args), section, where, name)


def _check_names(rows: list[Row]) -> None:
    seen: dict[str, str] = {}
    for row in rows:
        if row.name in seen:
            raise ModelConfigError(f"{row.where}: the name {row.name!r} is taken by {seen[row.name]}; choose another")
        if row.name is not None:
            seen[row.name] = row.where


def _folders(value: Any, base: Path, name: str) -> list[str]:
    """The folders of the key `modules` as absolute paths, which a checkpoint keeps; relative ones are the file's."""
    folders = value if isinstance(value, list) else [value]
    if not all(isinstance(folder, str) for folder in folders):
        raise ModelConfigError(f"{name}: modules must be a folder or a list of folders, got {value!r}")
    return [str((base / Path(folder).expanduser()).resolve()) for folder in folders]


def _literal(value: Any) -> Any:
    """'None', 'True' and numbers in quotes as what they mean; YAML's own null is `null`."""
    if isinstance(value, list):
        return [_literal(v) for v in value]
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
