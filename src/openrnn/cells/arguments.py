"""Checks of what several cells take as arguments."""

from __future__ import annotations

import math
import numbers

from openrnn.errors import ArgumentError


def check_probability(owner: str, name: str, value: float) -> float:
    """The value itself, if it is a number from 0 to 1.

    Raises:
        ArgumentError: anything else.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= value <= 1:
        raise ArgumentError(f"{owner}: expected {name} in the range 0 to 1, got {value!r}")
    return float(value)


def check_finite(owner: str, name: str, value: float) -> float:
    """The value itself, if it is a finite number.

    Raises:
        ArgumentError: anything else.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise ArgumentError(f"{owner}: expected {name} to be a finite number, got {value!r}")
    return float(value)


def check_count(owner: str, name: str, value: int) -> int:
    """The value itself, if it is an integer ≥ 1.

    Raises:
        ArgumentError: anything else.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ArgumentError(f"{owner}: expected {name} to be an integer ≥ 1, got {value!r}")
    return int(value)
