"""Open files of `torch.save` as plain data: tensors, numbers, texts, lists and mappings. No code in them is executed.

Before torch reads a file, its archive and its pickle are checked: the checksums, and what the pickle would build: 200
bytes may build tuples in tuples that take years to hash, or a tensor of 6 GB that repeats one number.
"""

import os
import pickle
import pickletools
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from ultralytics.cfg.plain_data import check_plain
from ultralytics.utils.errors import MissingFileError, WeightsError
from ultralytics.utils.files import first_line

MAX_COMPRESSED = 1 << 24  # bytes that an archive of torch may save by compression
MAX_PICKLE, MAX_OPCODES = 1 << 24, 2_000_000  # bytes, and instructions, a second for each million
MAX_REPEATS, FEW = 20, 10_000  # of the values of a pickle in its tuples: for each byte, and in any pickle
MAX_EXPANDED = 1 << 26  # bytes by which tensors may exceed the file, for weights that layers share
OLD_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P"  # pickled magic number of files of torch before 1.6
OLD_PICKLES = 5  # at the start of such a file, before the numbers
REFUSED_OPCODES = {"EXT1", "EXT2", "EXT4", "INST", "OBJ", "NEXT_BUFFER", "READONLY_BUFFER"}
CLASS_ERRORS = ("GLOBAL", "Unsupported global", "Unsupported class", "Unsupported operand")  # of torch's safe unpickler


class PickledClassesError(WeightsError):
    """The file has pickled Python classes, not only plain data."""


class RefusedError(Exception):
    """A pickle asks for something that a weights file does not need."""


def read_plain(path: str | Path) -> Any:
    """Return the content of a file of `torch.save` on the CPU, if it is plain data.

    Raises PickledClassesError if it has pickled classes, and WeightsError if it is no readable file of `torch.save`.
    """
    path = Path(path)
    before = _version(path)
    try:
        return _read_plain(path)
    except WeightsError:
        if before is None or before == _version(path):
            raise
        return _read_plain(path)  # its training has replaced it meanwhile


def _version(path: Path) -> tuple[int, ...] | None:
    """Return what differs between a file and its replacement; None if there is no file."""
    with suppress(OSError, ValueError):
        status = path.stat()
        return status.st_ino, status.st_size, status.st_mtime_ns


def _read_plain(path: Path) -> Any:
    check_torch_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if any(sign in str(error) for sign in CLASS_ERRORS):
            raise PickledClassesError(
                f"{path}: has pickled Python classes, which are not loaded because that executes code; expected a "
                "checkpoint of this package. RTDETR(...) and .load(...) read the weights of published model files, as "
                f"in RTDETR('{path.name}'); their training cannot be resumed."
            ) from error
        raise WeightsError(f"{path}: damaged or not a weights file ({first_line(error)}).") from error
    except Exception as error:  # whatever an interpreter of damaged bytes may raise
        raise WeightsError(f"{path}: damaged or not a weights file ({first_line(error)}).") from error
    check_plain(content, str(path), WeightsError)
    check_tensors(_tensors(content), path)
    return content


def _tensors(content: Any) -> list[Tensor]:
    if isinstance(content, Tensor):
        return [content]
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, (list, tuple)) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


def check_tensors(tensors: Iterable[Tensor], path: Path) -> None:
    """Raise WeightsError for tensors that are not plain numbers, or have many more numbers than the file."""
    room = os.path.getsize(path) + MAX_EXPANDED
    for tensor in tensors:
        if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided or tensor.device.type != "cpu":
            kind = f"{type(tensor).__name__} with the layout {tensor.layout} on {tensor.device}"
            raise WeightsError(f"{path}: has a {kind}, expected tensors of numbers.")
        if tensor.is_quantized or tensor.is_complex():
            raise WeightsError(f"{path}: has a tensor of {tensor.dtype}, expected real numbers.")
        room -= tensor.numel() * tensor.element_size()
        if room < 0:
            raise WeightsError(f"{path}: refused, its tensors repeat numbers and are much larger than the file.")


def check_torch_file(path: Path) -> None:
    """Raise WeightsError unless the file is one of `torch.save`, of torch before or after 1.6, with right checksums."""
    if os.path.isdir(path):
        raise WeightsError(f"{path}: is a folder, expected a weights file such as {path / 'best.pt'}.")
    if not os.path.isfile(path):
        raise MissingFileError(f"{path}: no such weights file{'' if path.is_absolute() else f' in {Path.cwd()}'}.")
    try:
        with open(path, "rb") as file:
            head = file.read(16)
            if head[2:].startswith(OLD_MAGIC):
                file.seek(0)
                for _ in range(OLD_PICKLES):
                    check_program(file, os.path.getsize(path))
        if head[:2] == b"PK" and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                _check_archive(archive, os.path.getsize(path))
        elif head[:2] == b"PK":  # the table of contents is at the end
            raise ValueError("its end is missing")
    except RefusedError as error:
        raise refused(path, error) from error
    except Exception as error:  # whatever a damaged table of contents may raise
        raise WeightsError(
            f"{path}: damaged or not a weights file ({first_line(error)}); copy or download it again."
        ) from error
    if head[:2] != b"PK" and not head[2:].startswith(OLD_MAGIC):
        hint = "; is it a .safetensors file under another name?" if head[8:9] == b"{" else ""
        raise WeightsError(
            f"{path}: not a weights file: expected one of torch.save, it starts with {head[:4]!r}{hint}."
        )


def refused(path: str | Path, error: RefusedError) -> WeightsError:
    """Return the error of a file whose pickle is refused."""
    return WeightsError(
        f"{path}: refused. It asks {error}, which a weights file does not need; none of its code was run. Get the file "
        "from a trusted source, or save its state_dict in its original environment."
    )


def _check_archive(archive: zipfile.ZipFile, size: int) -> None:
    entries = archive.infolist()
    if sum(entry.file_size for entry in entries) > size + MAX_COMPRESSED:
        raise ValueError("compressed")  # torch compresses only the code of TorchScript
    if damaged := archive.testzip():  # torch does not check
        raise ValueError(f"wrong checksum of {damaged}")
    for entry in entries:
        if entry.filename.endswith("data.pkl"):
            if entry.file_size > MAX_PICKLE:
                raise RefusedError(f"for {entry.file_size:,} bytes of pickle")
            check_program(BytesIO(archive.read(entry)), entry.file_size)


def check_program(program: IO[bytes], size: int) -> None:
    """Raise RefusedError for instructions of a pickle of `size` bytes that no weights file needs; nothing is built.

    Values are counted as if all tuples were written out, since hashing a tuple visits the tuples in it each time.
    """
    sizes: list[int | None] = []  # of the values on the stack; None is a mark
    memo: dict[int, int] = {}
    work = 0
    for number, (opcode, argument, _) in enumerate(pickletools.genops(program)):
        name, below = opcode.name, opcode.stack_before
        if name in REFUSED_OPCODES or "bytearray" in str(argument)[:99] or number > MAX_OPCODES:
            raise RefusedError(f"for the instruction {name}" if number <= MAX_OPCODES else "for millions of values")
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            if argument is not None and not 0 <= argument <= size:
                raise RefusedError(f"for a table of {argument} objects")
            memo[len(memo) if argument is None else argument] = sizes[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            sizes.append(memo[argument])
        elif name == "DUP":
            sizes.append(sizes[-1])
        elif name == "MARK":
            sizes.append(None)
        else:
            taken = []
            if pickletools.markobject in below:
                while (value := sizes.pop()) is not None:
                    taken.append(value)
                below = below[: below.index(pickletools.markobject)]
            taken += [sizes.pop() or 1 for _ in below]
            work += sum(taken)
            if work > MAX_REPEATS * size + FEW:
                raise RefusedError("for tuples that repeat one another")
            built = 1 + sum(taken) if "TUPLE" in name or name in ("REDUCE", "FROZENSET") or "NEWOBJ" in name else 1
            sizes += [built] * len(opcode.stack_after)
