"""Files written by `torch.save`, read as plain data: tensors, numbers, strings, lists; no code in them is run."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import yaml

from ultralytics.utils.errors import UserError, WeightsError


@contextmanager
def atomic_write(path: str | Path, *, shared: bool = False) -> Iterator[BinaryIO]:
    """A binary file that takes the place of `path` when the block ends well; otherwise `path` stays as it was.

    The temporary file lies in the same folder (a rename is atomic only within a file system) under a fixed name, so
    that what a killed process leaves behind is overwritten by the next save instead of piling up. With `shared`,
    for caches, several processes may write the same file at once, and it need not survive a power cut.
    """
    path = Path(path)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp" if shared else f"{path.name}.tmp")
    try:
        with open(unfinished, "wb") as file:
            yield file
            if not shared:
                file.flush()
                os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


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


OLD_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P"  # a number with which files of torch before 1.6 begin, pickled
SAFETENSORS_HINT = "; is it a .safetensors file under another name?"


class PickledClassesError(WeightsError):
    """A file that pickles Python classes beside, or around, its tensors."""


def read_plain(path: str | Path) -> object:
    """What a file written by `torch.save` holds (on the CPU), provided it is plain data.

    Raises:
        PickledClassesError: it is not plain data.
        WeightsError: it is missing, damaged, or no file of `torch.save`.
    """
    import torch

    path = Path(path)
    check_torch_file(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except pickle.UnpicklingError as error:
        if any(
            sign in str(error) for sign in ("GLOBAL", "Unsupported global", "Unsupported class", "Unsupported operand")
        ):
            raise PickledClassesError(
                f"{path}: holds pickled Python classes, which are not read because reading them runs their code; "
                "expected a checkpoint of this package. A published model file is read as data by RTDETR(...) and "
                f".load(...), as in RTDETR('{path.name}'); its training cannot be resumed here."
            ) from error
        raise WeightsError(f"{path}: damaged or not a weights file ({first_line(error)}).") from error
    except (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: damaged ({first_line(error)}).") from error


def check_torch_file(path: Path) -> None:
    """Raise WeightsError unless the file looks like one of `torch.save`, before and after torch 1.6."""
    if path.is_dir():
        raise WeightsError(f"{path}: is a folder, expected a weights file such as {path / 'best.pt'}.")
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file{'' if path.is_absolute() else f' in {Path.cwd()}'}.")
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}).") from error
    if not head:
        raise WeightsError(f"{path}: is empty, not a weights file; copy or download it again.")
    if head[:2] != b"PK" and not head[2:].startswith(OLD_MAGIC):
        hint = SAFETENSORS_HINT if head[8:9] == b"{" else ""
        raise WeightsError(
            f"{path}: not a weights file: expected one of torch.save, it starts with {head[:4]!r}{hint}."
        )
    if head[:2] == b"PK":
        if not zipfile.is_zipfile(path):  # a zip archive ends with its table of contents
            raise WeightsError(f"{path}: damaged, its end is missing; copy or download it again.")
        with zipfile.ZipFile(path) as archive:
            entries = archive.namelist()
        if any(entry.endswith("/constants.pkl") for entry in entries):
            raise WeightsError(f"{path}: an exported TorchScript program; expected weights, a file of torch.save.")
        if not any(entry.endswith("data.pkl") for entry in entries):
            raise WeightsError(f"{path}: a zip archive without a data.pkl; expected a file of torch.save.")


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
