"""Read model files: find them, parse them with line numbers, and check the form of their rows."""

import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ultralytics.cfg.plain_data import check_plain, parse_literal, parse_yaml
from ultralytics.utils import PACKAGE_ROOT
from ultralytics.utils.errors import MissingFileError, ModelConfigError, counted, did_you_mean
from ultralytics.utils.files import read_text, real_path

MODELS_DIR = PACKAGE_ROOT / "cfg" / "models"
SETTINGS = ("num_queries", "num_denoising", "reg_max", "end2end", "legacy")  # keys that configure the head
COUNTS = {  # lowest and highest number of a key
    "nc": (1, 100_000), "ch": (3, 3), "num_queries": (1, 100_000), "num_denoising": (0, 100_000),
    "reg_max": (1, 256),
}  # fmt: skip
FACTORS = {"depth_multiple": 1.0, "width_multiple": 1.0, "max_channels": math.inf}  # of a file without `scales`
MAX_FACTOR = 100  # of depth and width
MAX_ARGUMENT = 1_000_000  # in a row; larger numbers would fill the memory before torch reports them
MAX_LITERAL = 200  # characters of a value in quotes
KEYS = (
    "nc", "names", "scales", "scale", "depth_multiple", "width_multiple", "max_channels", "activation", "ch", "task",
    "modules",
)  # fmt: skip
SECTIONS = ("backbone", "head")
KNOWN = (*KEYS, *SECTIONS, *SETTINGS)
YAML_HINTS = {  # remedy by a part of the YAML parser's message
    "\\t": "; indent with spaces, not tabs",
    "<block end>": "; all rows of a section start with `- ` in the same column",
    "',' or ']'": "; a comma or a closing bracket is missing, here or in the line before",
    "':'": "; a row starts with `- `, a key ends with `:`",
}
SCALED = r"(\D*\d+)([a-z])([-_].*)?"  # a file name such as `yolo26s-p6`: version, scale, rest
PYRAMID = r"P[1-9]"  # names of the backbone's maps by stride: P3 is 8, P4 is 16, ...


@dataclass(frozen=True)
class Row:
    """One layer of a model file."""

    sources: tuple[int | str, ...]  # layers it reads: numbers (negative ones count back), names of rows, or P2 to P5
    takes_list: bool  # whether they are written as a list; the module then gets a list, even of one map
    repeats: int
    module: str
    args: tuple[Any, ...]  # 'None', 'True' and numbers in quotes are converted to values
    section: str  # `backbone` or `head`
    where: str  # file and line, for messages
    name: str | None = None  # fifth column, which later rows may use as a source


@dataclass(frozen=True)
class ModelSpec:
    """A parsed and checked model file."""

    rows: tuple[Row, ...]
    nc: int | None  # number of classes; None leaves it to the data set
    depth: float  # of the selected scale, as the next two
    width: float
    max_channels: float
    activation: str | None  # default of `Conv`, such as `nn.ReLU()`
    settings: Mapping[str, Any]  # settings of the head given as top-level keys
    source: Mapping[str, Any]  # the content as plain data, from which the same model can be built
    name: str  # file name, for messages
    ch: int = 3  # channels of the images
    names: Mapping[int, str] | None = None  # class names by index
    modules: tuple[str, ...] = ()  # additional folders with module files
    from_checkpoint: bool = False  # whether a checkpoint recorded it, whose weights are loaded next
    note: str = ""  # a warning about the scale, when the network is built


def find_model_yaml(name: str | Path) -> tuple[Path, str | None]:
    """Return the path of a model file and the scale in its name. Raises ModelConfigError if there is no such file.

    Args:
        name: a path, or one of the package's files by its name or the end of its path (`ultralytics/cfg/models/...`);
            `NAMEs.yaml` is scale `s` of `NAME.yaml`, and `yolo26s-p6.yaml` scale `s` of `yolo26-p6.yaml`.
    """
    if not isinstance(name, (str, Path)) or not Path(name).name:
        raise ModelConfigError(f"model: got a {type(name).__name__}, expected a model file or its content as a mapping")
    path = Path(name)
    known = {p.name: p for p in MODELS_DIR.rglob("*.yaml")}
    base = path.with_name(f"{path.stem[:-1] or path.stem}{path.suffix}")  # the last letter may be a scale
    choices = [(path, None), (base, path.stem[-1:])]
    if version := re.fullmatch(SCALED, path.stem):  # or the one after the version
        choices.insert(1, (path.with_name(f"{version[1]}{version[3] or ''}{path.suffix}"), version[2]))
    for file, scale in choices:
        if os.path.exists(file):  # False for names that no file can have
            return file, scale
        if file.name in known and known[file.name].match(str(file)):
            return known[file.name], scale
    near = {*known}
    if scale := re.match(r"\D*\d+([nslmx])", path.stem):  # suggest names with this scale, too
        near |= {re.sub(r"^(yolov?(?!3)\d+)(?=[-.])", rf"\g<1>{scale[1]}", file) for file in known}
    task = "; this package detects objects" if re.search("-(seg|pose|obb|cls)$", path.stem) else ""
    hint = f"{task}{did_you_mean(path.name, near)}"
    raise MissingFileError(f"model {str(name)!r}: no such file here, nor among the package's model files{hint}")


def load_model_yaml(model: str | Path | Mapping[str, Any]) -> ModelSpec:
    """Read a model file, or its content as plain data. Raises ModelConfigError if its form is wrong."""
    if is_data := isinstance(model, Mapping):
        data, lines = dict(check_plain(model, "model", ModelConfigError)), None
        name = str(data.pop("yaml_file", "model"))
    else:
        path, scale = find_model_yaml(model)
        data, lines = _read(path)
        name = path.name
        if scale is not None:
            if not data.get("scales"):  # another file, not a scale of this one
                raise ModelConfigError(f"model {str(model)!r}: no such file; {name} has no scale {scale!r}")
            data["scale"] = scale
    folders = data.get("modules") or ()
    folders = [folders] if isinstance(folders, str) else folders
    if not isinstance(folders, (list, tuple)) or not all(isinstance(folder, str) for folder in folders):
        raise ModelConfigError(f"{name}: modules must be a folder or a list of folders, got {folders!r}")
    if folders and not is_data:  # relative to the file
        data["modules"] = folders = [str(real_path(path.parent / os.path.expanduser(folder))) for folder in folders]
    if data.get("task") not in (None, "detect"):
        raise ModelConfigError(f"{name}: task must be detect, got {data['task']!r}; this package detects objects")
    for key in ("end2end", "legacy"):
        if type(data.get(key)) not in (bool, type(None)):
            raise ModelConfigError(f"{name}: {key} must be True or False, got {data[key]!r}")
    for key, (low, high) in COUNTS.items():
        value = data.get(key)
        if value is not None and (type(value) is not int or not low <= value <= high):
            expected = f"a whole number from {low} to {high}" if low < high else f"{low}, as images are read in color"
            raise ModelConfigError(f"{name}: {key} must be {expected}; got {value!r}")
    rows = _rows(data, name, lines)
    chosen = data.get("scale") or _named_scale(data, name)
    depth, width, max_channels = _select_scale(data, name)
    scales, note = [*map(str, data.get("scales") or ())], ""
    if len(scales) > 1 and not chosen:
        other = Path(name).stem[-1] if Path(name).stem[-1] in scales[1:] else scales[1]
        note = f"{name}: chooses none of its scales {', '.join(scales)}; built at scale {scales[0]}, the first. "
        note += f"To build another, write it into the file, such as `scale: {other}`"
    if kept := [str(key) for key in data if key not in (*model_keys(data), "modules") and lines]:
        note = "; ".join(filter(None, (note, f"{name}: has keys that have no effect here: {', '.join(kept)}")))
    return ModelSpec(
        rows, data.get("nc"), depth, width, max_channels, data.get("activation"),
        {key: data[key] for key in SETTINGS if data.get(key) is not None},
        {**data, "yaml_file": name if is_data else Path(model).name}, name, data.get("ch") or 3, _names(data, name),
        tuple(folders),
        from_checkpoint=is_data and "yaml_file" in model, note=note,
    )  # fmt: skip


def model_keys(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a model file that other weights recorded and that build it, without its module folders.

    These are the known keys, and those that rows use as a module or an argument.
    """
    cells = repr([data.get(section) for section in SECTIONS])
    used = {key: value for key, value in data.items() if key in (*KNOWN, "yaml_file") or repr(key) in cells}
    return {key: value for key, value in used.items() if key != "modules"}  # code on the machine of training


def _names(data: Mapping[str, Any], name: str) -> dict[int, str] | None:
    """Return the class names by index; None if the file has none."""
    names = data.get("names")
    if names is None:
        return None
    names = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(names, Mapping):
        raise ModelConfigError(f"{name}: names must be a list, or a mapping of numbers to names; got {names!r}")
    if len(names) != (nc := data.get("nc") or len(names)):
        raise ModelConfigError(f"{name}: names has {counted(len(names), 'entry')}, but nc is {nc}; correct one of them")
    if not names or set(names) != set(range(nc)) or not all(type(text) in (str, int, float) for text in names.values()):
        raise ModelConfigError(f"{name}: names must be texts, numbered from 0 without gaps; got {names!r}")
    return {index: str(names[index]) for index in range(nc)}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """Return the content of a YAML file, the line of each row by section, and that of each other key."""
    try:
        text = read_text(path, ModelConfigError, guess=True)
        data = parse_yaml(text, path.name, ModelConfigError)
    except ModelConfigError as error:
        hint = next((hint for sign, hint in YAML_HINTS.items() if sign in str(error)), "")
        raise ModelConfigError(f"{error}{hint}") from error
    if not isinstance(data, dict):
        raise ModelConfigError(f"{path.name}: expected keys such as `nc`, `backbone`, `head`; got {data!r}")
    lines = {
        str(key.value): [row.start_mark.line + 1 for row in (value.value if is_list else [key])]
        for key, value in yaml.compose(text, Loader=yaml.SafeLoader).value
        if (is_list := key.value in SECTIONS and isinstance(value, yaml.SequenceNode)) or key.value not in SECTIONS
    }
    return data, lines


def _rows(data: Mapping[str, Any], name: str, lines: Mapping[str, list[int]] | None) -> tuple[Row, ...]:
    """Check the top-level keys and return the rows of all sections.

    A key that rows use as a module or argument is replaced by its value: `fusion: bifpn` in `[.., Fusion, [fusion]]`.
    Other unknown keys are kept, as forks have some of their own, unless one is spelled almost as a known key.
    """
    values = {key: value for key, value in data.items() if key not in KNOWN}
    for key in [key for key in values if key not in model_keys(data)]:
        if near := did_you_mean(key, KNOWN):
            line = "".join(f":{number}" for number in (lines or {}).get(str(key), ()))
            raise ModelConfigError(f"{name}{line}: unknown key {key!r}{near} known: {', '.join(KNOWN)}")
    rows: list[Row] = []
    for section in SECTIONS:
        if not isinstance(data.get(section), list) or not data[section]:
            raise ModelConfigError(f"{name}: `{section}` must be a list of rows [from, repeats, module, args]")
        for i, columns in enumerate(data[section]):
            where = f"{name}:{lines[section][i]}" if section in (lines or ()) else f"{name} {section} row {i}"
            row = _parse_row(columns, section, where, values)
            taken = {other.name: other.where for other in rows if other.name}
            if row.name in taken:
                raise ModelConfigError(f"{where}: the name {row.name!r} is taken by {taken[row.name]}; choose another")
            rows.append(row)
    return tuple(rows)


def _parse_row(row: Any, section: str, where: str, values: Mapping[str, Any]) -> Row:
    if not isinstance(row, list) or len(row) not in (4, 5):
        raise ModelConfigError(f"{where}: a row is [from, repeats, module, args] or, named, one more; got {row!r}")
    sources, repeats, module, args, name = [*row, None][:5]
    if name is not None and not (isinstance(name, str) and name.isidentifier() and not re.fullmatch(PYRAMID, name)):
        raise ModelConfigError(f"{where}: a row's name is a word other than P1 to P9, got {name!r}")
    takes_list = isinstance(sources, list)
    sources = sources if takes_list else [sources]
    if not sources or not all(type(s) in (int, str) for s in sources):
        raise ModelConfigError(f"{where}: `from` must be a layer number, a name, or a list of these, got {row[0]!r}")
    if type(repeats) is not int or repeats < 1:
        raise ModelConfigError(f"{where}: repeats must be a whole number from 1, got {repeats!r}")
    if not isinstance(args, list):
        raise ModelConfigError(f"{where}: the fourth column is the list of {module}'s arguments, got {args!r}")
    module, *args = (values.get(cell, cell) if isinstance(cell, str) else cell for cell in (module, *args))
    if not isinstance(module, str):
        raise ModelConfigError(f"{where}: the third column is the module's name, got {module!r}")
    args = [_literal(arg, where) for arg in args]
    return Row(tuple(sources), takes_list, repeats, module, tuple(args), section, where, name)


def _named_scale(data: Mapping[str, Any], name: str) -> str | None:
    """Return the scale after the version in a file name, such as `s` of `yolo11s-own.yaml`, if the file has it."""
    version, scales = re.fullmatch(SCALED, Path(name).stem), data.get("scales")
    return version[2] if version and isinstance(scales, Mapping) and version[2] in scales else None


def _select_scale(data: dict[str, Any], name: str) -> tuple[float, float, float]:
    """Return depth, width and channel limit; of `scales`, those of `scale` or else the first."""
    scales, scale = data.get("scales"), data.get("scale")
    if scales:
        if not isinstance(scales, Mapping):
            raise ModelConfigError(f"{name}: scales must be lines of the form `l: [1.0, 1.0, 1024]`, got {scales!r}")
        scale = data["scale"] = scale or _named_scale(data, name) or next(iter(scales))  # published ones may be empty
        if isinstance(scale, (list, Mapping)) or scale not in scales:
            raise ModelConfigError(f"{name}: unknown scale {scale!r}; the file has {', '.join(map(str, scales))}")
        values, where = scales[scale], f"scale {scale!r} must be [depth, width, max_channels]"
        if not isinstance(values, (list, tuple)) or len(values) != 3:
            raise ModelConfigError(f"{name}: {where}, got {values!r}")
    else:
        values = [data.get(key, default) for key, default in FACTORS.items()]
        where = f"{', '.join(FACTORS)} must be numbers"
    for value, limit in zip(values, (MAX_FACTOR, MAX_FACTOR, math.inf), strict=True):
        if type(value) not in (int, float) or not 0 < value <= limit:
            raise ModelConfigError(f"{name}: {where} above 0, at most {MAX_FACTOR} for depth and width; got {values!r}")
    return tuple(values)


def _literal(value: Any, where: str) -> Any:
    """Convert 'None', 'True' and numbers in quotes to values; YAML's own null is `null`."""
    if isinstance(value, list):
        return [_literal(v, where) for v in value]
    if isinstance(value, str) and len(value) <= MAX_LITERAL:
        with suppress(ValueError):
            value = parse_literal(value)
    if isinstance(value, int) and abs(value) > MAX_ARGUMENT:
        raise ModelConfigError(f"{where}: the argument {value} is too large, expected at most {MAX_ARGUMENT:,}")
    return value
