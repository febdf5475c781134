"""Files written by `torch.save`, read as plain data: tensors, numbers, strings, lists; no code in them is run."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import torch

from ultralytics.utils.errors import WeightsError


def read_plain(path: str | Path) -> object:
    """What a file written by `torch.save` holds (on the CPU), provided it is plain data. Raises WeightsError."""
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f"{path}: is a folder, expected a weights file such as {path / 'best.pt'}.")
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file.")
    try:
        with open(path, "rb") as file:
            head = file.read(4)
        if head[:2] not in (b"PK", b"\x80\x02"):  # zip archive, or the format torch wrote before 1.6
            raise WeightsError(f"{path}: not a weights file: expected one of torch.save, it starts with {head!r}.")
        if head[:2] == b"PK" and not zipfile.is_zipfile(path):  # a zip archive ends with its table of contents
            raise WeightsError(f"{path}: damaged, its end is missing; copy or download it again.")
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error) or "GLOBAL" in str(error):
            raise WeightsError(
                f"{path}: holds pickled Python classes, which are not read because reading them runs their code; "
                "expected a checkpoint of this package or a plain state_dict."
            ) from error
        raise WeightsError(f"{path}: damaged or not a weights file ({_first_line(error)}).") from error
    except (RuntimeError, EOFError) as error:
        raise WeightsError(f"{path}: damaged ({_first_line(error)}).") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
