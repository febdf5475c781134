"""Files written by `torch.save`, read as plain data: tensors, numbers, strings, lists; no code in them is run."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import torch

from ultralytics.utils.errors import WeightsError

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
