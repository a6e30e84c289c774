"""Equations as lines of text: the shape of each symbol beneath it."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from openrnn.explain.mathematics.printing import Piece, dims, pieces
from openrnn.explain.mathematics.system import Equation

_WIDTH = 100
_LEFT = 20  # what is longer on the left moves no other sign of equality

# Where a line may be broken, and how much less gladly than at a sum.
_BREAKS = {" + ": 0.0, " - ": 0.0, " else ": 0.0, "; ": 0.0, " ⊙ ": 0.5}


def lay_out(equations: Sequence[Equation], indent: int) -> list[str]:
    """Two lines for each equation, with the signs of equality under each other."""
    lefts = [left_side(equation) for equation in equations]
    widths = [_width("".join(piece for piece, _ in left)) for left in lefts]
    column = max((w for w in widths if w <= _LEFT), default=0)
    lines: list[str] = []
    for equation, left, width in zip(equations, lefts, widths, strict=True):
        gap = " " * max(column - width, 0)
        row = [(" " * indent, None), *left, (f"{gap} = ", None), *pieces(equation.right)]
        margin = indent + max(column, width) + 3
        margin = margin if width <= _LEFT else indent + 4
        while row:
            row, rest = _fitting(row, _WIDTH)
            lines += _two_lines(row)
            row = [(" " * margin, None), *rest] if rest else []
    return lines


def left_side(equation: Equation) -> list[Piece]:
    """The pieces on the left: one symbol, or [a; b]."""
    shown = [piece for symbol in equation.left for piece in pieces(symbol)]
    if len(shown) == 1:
        return shown
    joined: list[Piece] = [("[", None)]
    for piece in shown:
        joined += [piece, ("; ", None)]
    return [*joined[:-1], ("]", None)]


def _two_lines(row: Sequence[Piece]) -> list[str]:
    """The pieces, and below the middle of each its shape; pieces move only if shapes meet."""
    above = below = ""
    for piece, shape in row:
        if shape is not None:
            shown, width = dims(shape), _width(above)
            middle = width + (_width(piece) - len(shown)) // 2
            start = max(middle, len(below) + 1 if below else 0)
            above += " " * (start - width - _width(piece) + 1)
            below = below.ljust(start) + shown
        above += piece
    return [above.rstrip(), below.rstrip()]


def _fitting(row: list[Piece], width: int) -> tuple[list[Piece], list[Piece]]:
    """As much as fits, up to the last sign between terms that is least deep in brackets."""
    at, depth, best, least = 0, 0, 0, 0.0
    if _width("".join(piece for piece, _ in row)) <= width:
        return row, []
    for place, (piece, _) in enumerate(row):
        at += _width(piece)
        if at > width:
            break
        depth += (piece in ("(", "[")) - (piece in (")", "]"))
        if piece in _BREAKS and at > width // 3:
            tightness = depth + _BREAKS[piece]
            if best == 0 or tightness <= least:
                best, least = place, tightness
    if best == 0:
        return row, []
    rest = [(row[best][0].lstrip(), None), *row[best + 1 :]]
    return row[:best], rest


def _width(shown: str) -> int:
    return sum(not unicodedata.combining(letter) for letter in shown)
