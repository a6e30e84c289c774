"""Activation functions of other libraries, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openrnn.errors import ConversionError

REMEDY = (
    "No cell of openrnn.cells computes that: write the step as a torch.nn.Module for "
    "openrnn.Recurrent, and copy the weights into it"
)


def function_name(owner: str, argument: str, given: Any, library: Any, names: Sequence[str]) -> str:
    """Which of the functions `names` of a library was given.

    Raises:
        ConversionError: none of them.
    """
    for name in names:
        if given is getattr(library, name):
            return name
    expected = " or ".join(repr(name) for name in names)
    got = getattr(given, "__name__", None) or type(given).__name__
    raise ConversionError(f"{owner}: expected {argument} {expected}, got {got!r}. {REMEDY}")
