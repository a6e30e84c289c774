"""Options, each a line."""

from collections.abc import Callable
from typing import Any

import click


def count(text: str) -> int:
    """An integer from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise click.BadParameter(f"expected an integer from 1, received '{text}'")
    return int(text)


_METAVARS: dict[Any, str] = {int: "N", float: "X", count: "N"}


def option(name: str, kind: Any, text: str, **more: Any) -> Callable[[Any], Any]:
    """An option of a type, with its help; its default is shown."""
    shown = more.get("default") not in (None, "")
    if kind in _METAVARS:
        more.setdefault("metavar", _METAVARS[kind])
    return click.option(name, type=kind, help=text, show_default=shown, **more)
