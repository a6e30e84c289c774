"""Whether a module is as it was, at a glance: by the identity of all that it holds."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import nn

_Contents = Callable[[], Iterable[Any]]
# Objects of these types never change, so the same object means the same value.
_FIXED = (type(None), bool, int, float, str, bytes, torch.dtype, torch.device, torch.Size)


class Glance:
    """What a module and its submodules, their classes and their containers held at one time.

    It is a quick test before a thorough one: what is unchanged is certainly the same, and only an
    object of which that could not be said makes it impossible.
    """

    def __init__(self) -> None:
        self._contents: list[_Contents] = []
        self._ids: list[list[int]] = []
        self._empty: list[Any] = []  # most of a module's containers are, and hold no id
        self._alive: list[Any] = []  # so that no id is used twice

    @classmethod
    def at(cls, module: nn.Module) -> Glance | None:
        """A glance at a module, or None if it holds what may change unseen."""
        glance = cls()
        for part in module.modules():
            for name, value in part.__dict__.items():
                if name != "_modules" and not glance._look(value):
                    return None
            glance._note(part.__dict__.values)
            glance._note(part._modules.values)
        for kind in {base for part in module.modules() for base in type(part).__mro__}:
            if kind.__module__ not in ("builtins", "torch.nn.modules.module"):
                glance._note(vars(kind).values)
        return glance

    def is_unchanged(self) -> bool:
        return (
            not any(self._empty)
            and [[*map(id, contents())] for contents in self._contents] == self._ids
        )

    def _note(self, contents: _Contents) -> None:
        held = [*contents()]
        self._alive += held
        self._contents.append(contents)
        self._ids.append([*map(id, held)])

    def _look(self, value: Any) -> bool:
        """Notes what a value holds; False if it may change without that being seen."""
        kind = type(value)
        if kind in (dict, OrderedDict, list, deque, set) and not value:
            self._empty.append(value)
            return True
        if kind in (dict, OrderedDict):
            self._note(value.values)
            self._note(value.keys)
            return all(map(self._look, value.values()))
        if kind in (list, deque):
            self._note(value.__iter__)
            return all(map(self._look, value))
        if kind is tuple:
            return all(map(self._look, value))
        if kind is frozenset:
            return all(map(self._look, value))
        if is_dataclass(kind) and kind.__dataclass_params__.frozen:
            return all(self._look(getattr(value, field.name)) for field in fields(value))
        return isinstance(value, (*_FIXED, torch.Tensor)) or (callable(value) and not _holds(value))


def _holds(value: Any) -> bool:
    """Whether a callable has attributes of its own, which may change."""
    return bool(getattr(value, "__dict__", None)) and not isinstance(value, nn.Module)
