"""Freed memory is kept for the next tensor instead of being given back to the system.

Bounds make and drop tensors of megabytes thousands of times. glibc returns such memory when it is freed, so that every
page of the next tensor is a page fault and is filled with zeros first: a quarter of the processor time of bounding a
network of large convolutions. Settings that the environment has for the allocator are respected.
"""

from __future__ import annotations

import ctypes
import os
import sys

KEPT_BYTES = 2**30  # free memory at the end of the heap beyond which some is given back
LARGEST = 2**28  # larger blocks are mapped one by one, and given back when they are freed
ACCEPTED = 2**25  # as `LARGEST`, the most that older versions of glibc take
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Settles it for this process; where the C library is not glibc nothing happens."""
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    settle = getattr(ctypes.CDLL(None), "mallopt", None)
    if settle is None:
        return
    settle(M_TRIM_THRESHOLD, KEPT_BYTES)
    settle(M_ARENA_MAX, 1)  # those of further threads are made of small mappings, which come and go
    if not settle(M_MMAP_THRESHOLD, LARGEST):
        settle(M_MMAP_THRESHOLD, ACCEPTED)
