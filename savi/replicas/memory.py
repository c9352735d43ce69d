"""Memory that is freed and soon needed again: keep it."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

#: Options of ``mallopt`` in glibc, and the largest threshold that it takes: of a joint step's
#: tensors, most are smaller.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _MMAP_THRESHOLD = -1, -3, 32 * 2**20


@cache
def keep_freed_memory() -> None:
    """Have the C library keep what is freed, instead of returning it to the system.

    The tensors of a joint step are megabytes large. By default glibc hands such blocks back when
    they are freed, and the system clears every page anew at the next operation: a third of the
    time of a step. Other C libraries are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
