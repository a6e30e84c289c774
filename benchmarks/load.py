"""What else the processor does meanwhile: a busy core makes threads wait for each other."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_ALLOWED = 0.1  # cores


@dataclass(frozen=True)
class Moment:
    """Seconds of the clock, and those that all programs, and this one with its own, computed."""

    clock: float
    everyone: float
    ours: float


def now() -> Moment | None:
    """This moment; None where the system does not tell."""
    try:
        user, nice, system = Path("/proc/stat").read_text().split()[1:4]
    except OSError:
        return None
    ticks = int(user) + int(nice) + int(system)
    return Moment(time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), sum(os.times()[:4]))


def others(since: Moment | None) -> float:
    """How many cores other programs kept busy since then, on average."""
    moment = now()
    if since is None or moment is None:
        return 0.0
    computed = (moment.everyone - since.everyone) - (moment.ours - since.ours)
    return max(0.0, computed / (moment.clock - since.clock))


def warning(cores: float) -> str | None:
    """A sentence, if other programs did more than little."""
    if cores <= _ALLOWED:
        return None
    return f"Other programs kept {cores:.1f} cores busy meanwhile: measure again without them."
