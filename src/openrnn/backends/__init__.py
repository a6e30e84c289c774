"""What can run a cell over a sequence, by name."""

from __future__ import annotations

import functools
import logging

import torch

from openrnn.backends import eager, reference
from openrnn.backends.backend import Backend
from openrnn.errors import BackendError

__all__ = ["BACKENDS", "Backend", "resolve"]

BACKENDS: dict[str, Backend] = {"eager": eager.run, "reference": reference.run}

_logger = logging.getLogger("openrnn")


def check(name: str) -> str:
    """The name itself, if it is "auto" or that of a backend.

    Raises:
        BackendError: any other name.
    """
    if name != "auto" and name not in BACKENDS:
        known = ", ".join(f'"{known}"' for known in ("auto", *BACKENDS))
        raise BackendError(f"backend {name!r} does not exist: expected one of {known}")
    return name


def resolve(name: str) -> Backend:
    """The backend of this name; "auto" is the best that can run."""
    if name == "auto":
        if not torch.compiler.is_compiling():  # a log line would break the graph
            _log_auto()
        name = "eager"
    return BACKENDS[name]


@functools.cache  # once per process
def _log_auto() -> None:
    _logger.info('backend="auto" runs "eager", a plain loop: there is no generated kernel yet')
