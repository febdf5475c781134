"""malloc settings for computing on the CPU: freed memory is kept for the next run, and backed by huge pages.

Set through documented calls of glibc and Linux (mallopt(3), madvise(2)); no effect on other systems.
"""

import ctypes
import os
import sys
from functools import cache
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, MADV_HUGEPAGE = -1, -3, 14  # of malloc.h and sys/mman.h
BLOCK = 512 << 20  # bytes; more than 1 GiB at once would not come from the heap
OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")


@cache
def prepare_host_memory() -> int:
    """Make this process keep freed memory and back it by huge pages; the first call sets it up, for good.

    A network frees and allocates its maps with every run; pages returned to the system in between would be cleared and
    mapped again. Matrix products read rows that are far apart, a 4 KiB page each: more pages than the TLB holds, unless
    they are 2 MiB. So the heap is extended to half of the machine's memory, without using it, and advised there.

    Returns the bytes of the heap that get huge pages when used.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "mallopt"):
        return 0
    libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
    libc.mallopt(M_TRIM_THRESHOLD, -1)
    if not OVERCOMMIT.exists() or OVERCOMMIT.read_text().strip() == "2":  # other processes would miss reserved memory
        return 0
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    libc.free.argtypes = (ctypes.c_void_p,)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    page = os.sysconf("SC_PAGE_SIZE")
    blocks, advised = [], 0
    for _ in range(os.sysconf("SC_PHYS_PAGES") * page // 2 // BLOCK):
        block = libc.malloc(BLOCK)
        if not block:  # a limit of this process (ulimit)
            break
        blocks.append(block)
        failed = libc.madvise(-(-block // page) * page, BLOCK - page, MADV_HUGEPAGE)
        advised += 0 if failed else BLOCK - page
    for block in blocks:
        libc.free(block)  # they stay in the heap, which is no longer trimmed
    return advised
