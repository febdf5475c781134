"""Files that are either the old one or the new one, never half of each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


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
