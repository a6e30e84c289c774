"""How pictures write names."""

from __future__ import annotations

import re
from collections.abc import Sequence


def now(name: str) -> str:
    """A value at this step: xₜ."""
    return f"{name}ₜ"


def before(name: str) -> str:
    """A value at the step before: hₜ₋₁."""
    return f"{name}ₜ₋₁"


def mark(number: int) -> str:
    """What tells the next value of a name from those before: c, c′, c′′, c′′′, c⁽⁴⁾."""
    high = str(number).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return "′" * number if number < 4 else f"⁽{high}⁾"


def places(names: Sequence[str]) -> str:
    """The places of several cells: all of three, else the first and the last, and how many."""
    if len(names) <= 3:
        return ", ".join(names)
    return f"{names[0]} … {names[-1]} ({len(names)} in all)"


def class_lines(name: str) -> list[str]:
    """The name of a cell's class, without "Cell", in lines of a few letters."""
    name = name.removesuffix("Cell") or name
    lines: list[str] = []
    for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9_]*|[^A-Z]+", name):
        if lines and len(lines[-1]) + len(word) <= 9:
            lines[-1] += word
        else:
            lines.append(word)
    return lines
