"""The user's source while it runs: which line it is, and what it calls the values it computes."""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor

_TORCH = os.path.dirname(torch.__file__)
_OPENRNN = os.path.dirname(os.path.dirname(__file__)) + os.sep
_BOX = os.path.join(_OPENRNN, "cells") + os.sep
_EQUATIONS = (_BOX, os.path.join(_OPENRNN, "forecast", "row_cell.py"))
_CHECKS = os.path.join(_BOX, "base.py")


def _is_users(frame: FrameType) -> bool:
    """Whether the code is a cell's: not torch's, nor ours but for the equations of cells."""
    file = frame.f_code.co_filename
    ours = file.startswith(_OPENRNN) and not file.startswith(_EQUATIONS)
    return not (ours or file == _CHECKS or file.startswith((_TORCH, "<frozen")))


def source_line(short: bool = False) -> str:
    """The line of the user's source that is running: file:line, and what stands there."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not _is_users(frame):
        frame = frame.f_back
    if frame is None:
        return "an unknown line"
    file, number = frame.f_code.co_filename, frame.f_lineno
    if short:
        return f"{os.path.basename(file)}:{number}"
    return f"{file}:{number} `{linecache.getline(file, number).strip()}`"


@contextmanager
def watch_names(name: Callable[[Tensor, str], None]) -> Iterator[None]:
    """While the cell runs, `name(tensor, called)` hears what its source calls what it computes."""

    def note(frame: FrameType, event: str, arg: Any) -> Any:
        for called, local in frame.f_locals.items():
            if isinstance(local, Tensor) and torch._C._functorch.is_functionaltensor(local):
                name(torch._C._functorch.get_unwrapped(local), called)
        return note

    def enter(frame: FrameType, event: str, arg: Any) -> Any:
        return note if _is_users(frame) else None

    outer = sys.gettrace()
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(outer)
