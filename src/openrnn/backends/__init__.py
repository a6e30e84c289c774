"""What can run a cell over a sequence, by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

import torch
from torch import Tensor, nn

from openrnn.backends import auto, compiled, cpu, eager, reference
from openrnn.backends.backend import Backend, Stepper
from openrnn.binding import Parameters
from openrnn.errors import BackendError
from openrnn.state import StateSpec

__all__ = ["BACKENDS", "Backend", "Stepper", "check", "instead", "resolve", "stepper"]

BACKENDS: dict[str, Backend] = {
    "auto": auto.run,
    "eager": eager.run,
    "reference": reference.run,
    "cpu": cpu.run,
}


def stepper(
    name: str, cell: nn.Module, parameters: Parameters | None, spec: StateSpec, like: Tensor
) -> Stepper | None:
    """What this backend has for steps one at a time, of inputs like `like`, (B, I), or None."""
    return cpu.stepper(cell, parameters, spec, like) if name in ("auto", "cpu") else None


def check(name: str) -> str:
    """The name itself, if a backend has it.

    Raises:
        BackendError: any other name.
    """
    if name not in BACKENDS:
        known = ", ".join(f'"{known}"' for known in BACKENDS)
        raise BackendError(f"backend {name!r} does not exist: expected one of {known}")
    return name


def resolve(name: str) -> Backend:
    """The backend of this name, or the one that stands in for all."""
    if torch.compiler.is_compiling():  # which cannot read the variable: nothing stands in there
        return eager.run if name == "eager" else partial(compiled.run, name)
    return _INSTEAD.get() or BACKENDS[name]


@contextmanager
def instead(backend: Backend) -> Iterator[None]:
    """Inside, this backend stands in for all others, in this thread."""
    before = _INSTEAD.set(backend)
    try:
        yield
    finally:
        _INSTEAD.reset(before)


_INSTEAD: ContextVar[Backend | None] = ContextVar("_INSTEAD", default=None)
