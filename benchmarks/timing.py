"""Times of several contenders, side by side, and the threads that they have."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

Contender = Callable[[], Any]


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    A turn is as many calls of one contender as fit into `turn` seconds, at least one: the threads
    of the one before still wait busily for a few milliseconds, and few of a turn's calls are to
    meet them. Turns alternate for `seconds`, at least five for each contender.
    """

    seconds: float = 1.5
    turn: float = 0.02
    turns: int = 5


QUICK = Effort(seconds=0, turn=0)


def medians(contenders: Mapping[str, Contender], effort: Effort) -> dict[str, float]:
    """The median time of a call of each, in milliseconds, in alternating turns."""
    return {name: statistics.median(found) for name, found in times(contenders, effort).items()}


def times(contenders: Mapping[str, Contender], effort: Effort) -> dict[str, list[float]]:
    """The time of each call of each, in milliseconds, in alternating turns."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    end, turns, order = time.perf_counter() + effort.seconds, 0, list(contenders)
    while turns < effort.turns or time.perf_counter() < end:
        for name in order:
            seconds[name] += _turn(contenders[name], effort.turn)
        order.reverse()  # no one always comes behind the same other, with what that left in caches
        turns += 1
    return {name: [1000 * value for value in values] for name, values in seconds.items()}


def _turn(contender: Contender, seconds: float) -> list[float]:
    """The time of each call, in seconds."""
    times: list[float] = []
    now = time.perf_counter()
    end = now + seconds
    while not times or now < end:
        start = time.perf_counter()
        contender()
        now = time.perf_counter()
        times.append(now - start)
    return times


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Gives torch this many threads. One alone stays on one core, where the system can do that."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        if count == 1 and sys.platform == "linux":
            cores = os.sched_getaffinity(0)
            os.sched_setaffinity(0, {max(cores)})
            try:
                yield
            finally:
                os.sched_setaffinity(0, cores)
        else:
            yield
    finally:
        torch.set_num_threads(before)
