"""Run folders, files written whole or not at all, and YAML read strictly. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import yaml

from ultralytics.utils.atomic import atomic_write
from ultralytics.utils.errors import UserError

RUNS_FOLDER = Path("runs") / "detect"

FULL_WIDTH = {"：": ":", "，": ",", "【": "[", "】": "]", "［": "[", "］": "]"}


def resumed_weights(resume: bool | str) -> str | None:
    """The weights that `resume=` names, by themselves or by their run's folder."""
    if not isinstance(resume, str):
        return None
    return str(Path(resume) / "weights" / "last.pt") if Path(resume).is_dir() else resume


class RunOptions(Protocol):
    """The options that name a run's folder; `ultralytics.cfg.Options` has them."""

    project: str | None
    name: str | None
    exist_ok: bool


class _StrictLoader(yaml.SafeLoader):
    """YAML as people write it: `1e-4` is a number (YAML 1.1 says text) and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        # Merge keys (`<<: *base`) may legitimately be overridden, so only the keys written in place are compared.
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = getattr(key_node, "value", None)
            if isinstance(key, str) and key != "<<":
                if key in seen:
                    raise yaml.MarkedYAMLError(problem=f"key {key!r} is given twice", problem_mark=key_node.start_mark)
                seen.add(key)
        return super().construct_mapping(node, deep)


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse_yaml(text: str, where: str) -> object:
    """Value of a YAML text; `where` names its origin in the UserError for a text that is not YAML."""
    try:
        return yaml.load(text, Loader=_StrictLoader)  # a SafeLoader: builds plain data only
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{where}{line}: not valid YAML: {error.problem}{_full_width_hint(text)}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not valid YAML: {error}") from error


def _full_width_hint(text: str) -> str:
    """What YAML does not take for a sign, though it looks like one: the punctuation of a Chinese keyboard."""
    for number, line in enumerate(text.splitlines(), 1):
        wide = next((c for c in line.partition("#")[0] if c in FULL_WIDTH), None)
        if wide is not None:
            return f"; line {number} has a full-width {wide!r}, write {FULL_WIDTH[wide]!r}"
    return ""


def read_yaml(path: str | Path) -> dict:
    """The mapping in a YAML file (UTF-8); an empty file is an empty mapping. UserError names the file and the line."""
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file") from error
    except IsADirectoryError as error:
        raise UserError(f"{file}: is a folder; expected a YAML file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text (byte {error.start}); save the file as UTF-8") from error
    data = parse_yaml(text, str(file))
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UserError(f"{file}: expected lines of the form `key: value`, got a {type(data).__name__}")
    return data


def write_text(path: str | Path, text: str) -> Path:
    """Write a UTF-8 file that is either the old one or the whole new one, whatever happens in between."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as stream:
        stream.write(text.encode("utf-8"))
    return file


def write_yaml(path: str | Path, data: Mapping) -> Path:
    """Write plain data as YAML, keys in the order given, non-ASCII text readable; whole or not at all."""
    return write_text(path, yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True))


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(part.stat().st_size for part in ([path] if path.is_file() else path.rglob("*")) if part.is_file())


def safe_name(text: str) -> str:
    """A name for a file or folder: without the characters that file systems or addresses give a meaning."""
    return "".join("_" if c in '<>:"/\\|?*' or ord(c) < 32 else c for c in text).strip(". ") or "_"


def increment_path(path: str | Path, *, exist_ok: bool = False) -> Path:
    """The path itself while nothing is there, else with a number: `train`, `train2`, `train3`, ...

    The number is one above the highest in the folder, so the newest run always has the highest. A file keeps its
    suffix: `crop.jpg`, `crop2.jpg`. Nothing is created.
    """
    path = Path(path)
    if exist_ok or not path.exists():
        return path
    stem, suffix = (path.stem, path.suffix) if path.is_file() else (path.name, "")
    pattern = re.compile(re.escape(stem) + r"(\d+)" + re.escape(suffix))
    taken = [int(match[1]) for entry in path.parent.iterdir() if (match := pattern.fullmatch(entry.name))]
    return path.with_name(f"{stem}{max([1, *taken]) + 1}{suffix}")


def run_dir(options: RunOptions, default_name: str) -> Path:
    """Create and return the folder of a run: `project/name`, numbered when taken unless `exist_ok`.

    `project` is `runs/detect` and `name` is `default_name` (train, val, predict) where the options leave them open.
    """
    wanted = Path(options.project or RUNS_FOLDER) / (options.name or default_name)
    while True:
        folder = increment_path(wanted, exist_ok=options.exist_ok)
        try:
            # Without exist_ok, mkdir claims the name: of two runs started together only one gets it.
            folder.mkdir(parents=True, exist_ok=options.exist_ok)
        except FileExistsError as error:
            if folder.is_dir():
                continue
            raise UserError(
                f"{folder}: is a file; the run needs a folder there. Choose another project= or name="
            ) from error
        except (NotADirectoryError, PermissionError) as error:
            raise UserError(
                f"{folder}: cannot create the run's folder ({error.strerror}). Choose another project=, now "
                f"{str(wanted.parent)!r}"
            ) from error
        return folder
