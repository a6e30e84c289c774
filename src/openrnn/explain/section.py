"""What an explanation is shown in: titled sentences, tables and lines of code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rows:
    """A table. A cell may have several lines; the columns after the first `left` are numbers."""

    rows: Sequence[Sequence[str]]
    header: Sequence[str] | None = None
    left: int = 1


@dataclass(frozen=True)
class Code:
    """Lines that are kept as they are."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Section:
    """A title, and what stands below it: sentences, tables, code."""

    title: str
    parts: Sequence[str | Rows | Code]
