"""Whether a module is as it was, at a glance: by the identity of all that it holds."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection, Iterable
from dataclasses import fields, is_dataclass
from itertools import chain, compress
from operator import is_
from typing import Any

import torch
from torch import nn

_END = (object(),)
# Objects of these types never change, so the same object means the same value.
_FIXED = (type(None), bool, int, float, str, bytes, torch.dtype, torch.device, torch.Size)


class Glance:
    """What a module and its submodules, their classes and their containers held at one time.

    It is a quick test before a thorough one: what is unchanged is certainly the same, and only an
    object of which that could not be said makes it impossible.
    """

    def __init__(self) -> None:
        self._contents: list[Iterable[Any]] = [_END]
        self._held: list[Any] = [*_END]  # what they held, one after the other
        self._empty: list[Any] = []  # containers that held nothing, most of them of hooks
        self._of_owner: list[bool] = []  # for each attribute of the owner, whether it is looked at

    @classmethod
    def at(
        cls,
        *modules: nn.Module,
        classes: bool = True,
        beside: Iterable[nn.Module] = (),
        owner: nn.Module | None = None,
        owned: str = "",
    ) -> Glance | None:
        """A glance at modules, or None if they hold what may change unseen.

        Args:
            modules: the modules.
            classes: and at their classes, whose methods may be replaced.
            beside: modules that are looked at as well, but not their classes.
            owner: that of these which the glance belongs to, if one does. Neither it nor its
                `__dict__` is kept alive: it is given again when it is looked at once more.
            owned: the attribute of the owner by which it has the glance; it is not looked at.
        """
        glance = cls()
        parts = (part for whole in (*modules, *beside) for part in whole.modules())
        for part in dict.fromkeys(parts):
            for name, value in part.__dict__.items():
                is_owned = part is owner and name == owned
                if name != "_modules" and not is_owned and not glance._look(value):
                    return None
            if part is owner:
                glance._of_owner = [name != owned for name in part.__dict__]
                glance._held[:0] = compress(part.__dict__.values(), glance._of_owner)
            else:
                glance._note(part.__dict__.values())
            glance._note(part._modules.values())
        if not classes:
            return glance
        inside = (part for whole in modules for part in whole.modules())
        for kind in {base for part in inside for base in type(part).__mro__}:
            if kind.__module__ not in ("builtins", "torch.nn.modules.module"):
                glance._note(vars(kind).values())
        return glance

    def is_unchanged(self, owner: nn.Module | None = None) -> bool:
        # What was added or taken away shifts the rest, up to the end, which is there once.
        contents = chain.from_iterable(self._contents)
        if owner is not None:
            own = owner.__dict__
            if len(own) != len(self._of_owner):
                return False
            contents = chain(compress(own.values(), self._of_owner), contents)
        return not any(self._empty) and all(map(is_, contents, self._held))

    def _note(self, contents: Collection[Any]) -> None:
        """Takes a container, or a view of one, that can be looked at again."""
        if not contents:
            self._empty.append(contents)
            return
        self._contents.insert(-1, contents)
        self._held[-1:-1] = contents

    def _look(self, value: Any) -> bool:
        """Notes what a value holds; False if it may change without that being seen."""
        kind = type(value)
        if kind is set and not value:
            self._note(value)
            return True
        if kind in (dict, OrderedDict):
            if not value:
                self._note(value)
                return True
            self._note(value.values())
            self._note(value.keys())
            return all(map(self._look, value.values()))
        if kind in (list, deque):
            self._note(value)
            return all(map(self._look, value))
        if kind is tuple:
            return all(map(self._look, value))
        if kind is frozenset:
            return all(map(self._look, value))
        if is_dataclass(kind) and kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            return all(self._look(getattr(value, field.name)) for field in fields(value))
        return isinstance(value, (*_FIXED, torch.Tensor)) or (callable(value) and not _holds(value))


def _holds(value: Any) -> bool:
    """Whether a callable has attributes of its own, which may change."""
    return bool(getattr(value, "__dict__", None)) and not isinstance(value, nn.Module)
