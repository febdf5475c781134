"""How a process that computes on the CPU gets its memory: kept between the runs of a network, and in huge pages.

Both are asked of glibc and Linux through their documented calls (mallopt(3), madvise(2)); elsewhere nothing changes.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, MADV_HUGEPAGE = -1, -3, 14  # of malloc.h and sys/mman.h
BLOCK = 512 << 20  # bytes; more than 1 GiB at once would not come from the heap


@cache
def prepare_host_memory() -> tuple[bool, int]:
    """Have this process keep the memory it frees and back it by huge pages, from now on and once.

    A network frees its maps and asks for them again with every run. Pages that were given back to the system in between
    are cleared and mapped anew. Its matrix products read rows that lie far apart, a page of 4 KiB each: more pages than
    the processor remembers the addresses of, unless they are pages of 2 MiB.

    Returns:
        Whether freed memory is kept, and the bytes of the heap that get huge pages as they are used (0: none).
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if getattr(libc, "mallopt", None) is None:
        return False, 0
    kept = bool(libc.mallopt(M_MMAP_THRESHOLD, 1 << 30) and libc.mallopt(M_TRIM_THRESHOLD, -1))
    return kept, _reserve_huge_pages(libc) if kept else 0


def _reserve_huge_pages(libc: ctypes.CDLL) -> int:
    """Stretch the heap over half of the machine's memory, of which nothing is used yet, and ask for huge pages there.

    Returns the bytes that will have them: 0 where the kernel has none, or where addresses are memory (overcommitment is
    off, so that other processes would lack what this one does not use).
    """
    if _setting("kernel/mm/transparent_hugepage/enabled", "/sys") in ("", "never") or (
        _setting("sys/vm/overcommit_memory", "/proc") == "2"
    ):
        return 0
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    libc.free.argtypes = (ctypes.c_void_p,)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    page = os.sysconf("SC_PAGE_SIZE")
    blocks, advised = [], 0
    for _ in range(os.sysconf("SC_PHYS_PAGES") * page // 2 // BLOCK):
        block = libc.malloc(BLOCK)
        if not block:  # a limit of this process (ulimit); what there is so far will do
            break
        blocks.append(block)
        first, last = -(-block // page) * page, (block + BLOCK) // page * page
        advised += last - first if libc.madvise(first, last - first, MADV_HUGEPAGE) == 0 else 0
    for block in blocks:
        libc.free(block)  # the heap keeps them, for it is not trimmed any more
    return advised


def _setting(name: str, folder: str) -> str:
    """A setting of the kernel, of a choice as in `always [madvise] never` the chosen one; "" where there is none."""
    try:
        text = Path(folder, name).read_text(encoding="ascii").strip()
    except OSError:
        return ""
    return text.partition("[")[2].partition("]")[0] or text
