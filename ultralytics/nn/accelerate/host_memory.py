"""malloc settings for computing on the CPU: freed memory is kept for the next run, and backed by huge pages.

Set through documented calls of glibc and Linux (mallopt(3), madvise(2)); no effect on other systems.
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
    """Make this process keep freed memory and back it by huge pages; the first call sets it up, for good.

    A network frees and allocates its maps with every run; pages returned to the system in between would be cleared and
    mapped again. Matrix products read rows that are far apart, a 4 KiB page each: more pages than the TLB holds, unless
    they are 2 MiB.

    Returns:
        Whether freed memory is kept, and the bytes of the heap that get huge pages when used (0: none).
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if getattr(libc, "mallopt", None) is None:
        return False, 0
    kept = bool(libc.mallopt(M_MMAP_THRESHOLD, 1 << 30) and libc.mallopt(M_TRIM_THRESHOLD, -1))
    return kept, _reserve_huge_pages(libc) if kept else 0


def _reserve_huge_pages(libc: ctypes.CDLL) -> int:
    """Extend the heap to half of the machine's memory, without using it, and request huge pages there.

    Returns the number of bytes: 0 if the kernel has no huge pages, or if overcommit is off, where reserved memory would
    be missing in other processes.
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
        if not block:  # a limit of this process (ulimit); keep what was reserved
            break
        blocks.append(block)
        first, last = -(-block // page) * page, (block + BLOCK) // page * page
        advised += last - first if libc.madvise(first, last - first, MADV_HUGEPAGE) == 0 else 0
    for block in blocks:
        libc.free(block)  # they stay in the heap, which is no longer trimmed
    return advised


def _setting(name: str, folder: str) -> str:
    """Read a kernel setting, of `always [madvise] never` the chosen one; "" if there is none."""
    try:
        text = Path(folder, name).read_text(encoding="ascii").strip()
    except OSError:
        return ""
    return text.partition("[")[2].partition("]")[0] or text
