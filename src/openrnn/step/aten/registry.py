"""The converters, by the name of the ATen operation.

Each converter takes the trace, the result that torch worked out (for its shape and dtype alone) and
the arguments, tensors as `Value`, and returns the `Value` of each result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from openrnn.step.graph import Value

Converter = Callable[..., Any]
CONVERTERS: dict[str, Converter] = {}
Function = TypeVar("Function", bound=Converter)


def converts(*names: str) -> Callable[[Function], Function]:
    """Registers a converter, `f(trace, out, *args, **kwargs)`, for these ATen operations."""

    def register(convert: Function) -> Function:
        CONVERTERS.update(dict.fromkeys(names, convert))
        return convert

    return register


def as_list(value: Any) -> list[int]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def number(like: Value, value: float) -> Value:
    """A constant of the same dtype."""
    return like.builder.lift(value, like.dtype)
