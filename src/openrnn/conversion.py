"""What `convert` or `to_torch` did to a model."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn


class Replaced(NamedTuple):
    """A module of another class now: its places in the model, "" for the model itself."""

    places: tuple[str, ...]
    was: str
    now: str

    def __str__(self) -> str:
        return f"{self.was} -> {self.now}"


class Left(NamedTuple):
    """A module that stays what it is: its places in the model, its class, and why."""

    places: tuple[str, ...]
    kind: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind} left: {self.reason}"


@dataclass(frozen=True, repr=False)
class Conversion:
    """What `convert` or `to_torch` did: `str()` tells it, a module a line.

    Attributes:
        model: the model that was given, the same object.
        replaced: the modules that are of another class now, with `places`, `was` and `now`.
        left: those that stay, with `places`, `kind` and `reason`.
    """

    model: nn.Module
    replaced: tuple[Replaced, ...]
    left: tuple[Left, ...]

    def __str__(self) -> str:
        counts = f"{len(self.replaced)} replaced, {len(self.left)} left"
        lines = [f"{type(self.model).__name__}: {counts}"]
        entries: tuple[Replaced | Left, ...] = (*self.replaced, *self.left)
        names = [", ".join(place or "(model)" for place in entry.places) for entry in entries]
        width = min(24, max(map(len, names), default=0))
        for name, entry in zip(names, entries, strict=True):
            head, below = f"  {name:<{width}}  ", " " * (width + 4)
            lines += textwrap.wrap(head + str(entry), 80, subsequent_indent=below)
        return "\n".join(lines)

    __repr__ = __str__
