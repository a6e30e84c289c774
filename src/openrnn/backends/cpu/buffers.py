"""Memory of our own that is used again: fresh memory from the system costs more than to fill it.

What a call keeps for its gradient, and what one kernel hands to the next, is large and of the same
size at each call. Freed, it waits here for the next one. Of what is much the system may take the
pages meanwhile; to let it takes as long as a good part of a small call.
"""

from __future__ import annotations

import math
import mmap
import os
import weakref
from contextlib import suppress
from threading import RLock

import torch
from torch import Tensor

LARGE = 1 << 22  # bytes from which on memory comes from the system page by page
_KEPT = 1 << 26  # bytes that wait as they are; malloc keeps as much of what was freed
_HUGE_PAGES = getattr(mmap, "MADV_HUGEPAGE", None)
_MAY_TAKE = getattr(mmap, "MADV_FREE", None)


class Buffers:
    """Hands out memory. It never holds more than was in use at one time."""

    def __init__(self) -> None:
        self._free: list[mmap.mmap] = []  # the last one freed at the end
        self._in_use = self._held = self._most = 0  # bytes; held is what is free
        self.renew()

    def renew(self) -> None:
        """In a forked child, where a thread that held the lock is gone."""
        self._lock = RLock()  # not Lock: a tensor may be freed while this thread holds it

    def empty(self, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
        """A matrix that is about to be written. Its storage cannot be resized."""
        used = rows * columns * dtype.itemsize
        size = _rounded(used)
        with self._lock:
            block = self._take(size, used)
            memory = memoryview(block)
            weakref.finalize(memory, self._give, block).atexit = False
            self._in_use += size
            self._most = max(self._most, self._in_use)
        found = torch.frombuffer(memory, dtype=dtype, count=rows * columns).view(rows, columns)
        if (
            torch.are_deterministic_algorithms_enabled()
            and torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
        ):
            found.fill_(math.nan)  # as torch.empty does then
        return found

    def _take(self, size: int, used: int) -> mmap.mmap:
        for place in reversed(range(len(self._free))):
            if len(self._free[place]) == size:
                self._held -= size
                return self._free.pop(place)
        while self._free and self._in_use + self._held + size > self._most:
            self._held -= len(self._free.pop(0))
        block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        # Of large pages fewer have to be got one by one; behind what is used one would be in vain.
        _advise(block, _HUGE_PAGES, used // mmap.PAGESIZE * mmap.PAGESIZE)
        return block

    def _give(self, block: mmap.mmap) -> None:
        with self._lock:
            if self._held + len(block) > _KEPT:
                _advise(block, _MAY_TAKE, len(block))
            self._in_use -= len(block)
            self._held += len(block)
            self._free.append(block)


def _advise(block: mmap.mmap, advice: int | None, size: int) -> None:
    """Tells the system something of so many bytes, which it may not know, or not do."""
    if advice is not None:
        with suppress(OSError):
            block.madvise(advice, 0, size)


def _rounded(size: int) -> int:
    """Up to one of eight sizes between a power of two and the next: batches that differ share."""
    step = max(mmap.PAGESIZE, 1 << max(0, size.bit_length() - 4))
    return math.ceil(size / step) * step


_BUFFERS = Buffers()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_BUFFERS.renew)


def empty(rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """Memory for what no user sees, about to be written."""
    if rows * columns * dtype.itemsize < LARGE or not hasattr(mmap, "MAP_PRIVATE"):
        return torch.empty(rows, columns, dtype=dtype, device="cpu")
    return _BUFFERS.empty(rows, columns, dtype)
