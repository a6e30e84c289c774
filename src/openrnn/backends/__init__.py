"""What can run a cell over a sequence, by name."""

from __future__ import annotations

from openrnn.backends import auto, cpu, eager, reference
from openrnn.backends.backend import Backend
from openrnn.errors import BackendError

__all__ = ["BACKENDS", "Backend", "check", "resolve"]

BACKENDS: dict[str, Backend] = {
    "auto": auto.run,
    "eager": eager.run,
    "reference": reference.run,
    "cpu": cpu.run,
}


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
    """The backend of this name."""
    return BACKENDS[name]
