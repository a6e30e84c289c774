"""Equations as lines, of text or of a picture: the shape of each symbol beneath it."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from openrnn.explain.mathematics.printing import Piece, dims, pieces
from openrnn.explain.mathematics.style import TEXT, Style
from openrnn.explain.mathematics.system import Equation

_WIDTH = 100
_LEFT = 20  # letters; what is longer on the left moves no other sign of equality

# Where a line may be broken, and how much less gladly than at a sum.
_BREAKS = {" + ": 0.0, " - ": 0.0, " else ": 0.0, "; ": 0.0, " ⊙ ": 0.5}


@dataclass(frozen=True)
class Ruler:
    """How wide things are: in letters, or in pixels.

    page: a line.
    letter: the least between two shapes.
    piece, shape: what they measure.
    centred: where shapes would meet, a symbol moves until its shape is beneath its middle; else
        only until it is beneath it at all, which takes less room.
    """

    page: float
    letter: float
    piece: Callable[[str], float]
    shape: Callable[[str], float]
    centred: bool = True


class Placed(NamedTuple):
    """A piece and where it begins; the shape beneath it, "" of none, and where that begins."""

    piece: Piece
    x: float
    shape: str
    shape_x: float


def lay_out(equations: Sequence[Equation], indent: int, width: int = _WIDTH) -> list[str]:
    """Two lines of text for each equation, with the signs of equality under each other."""
    lines: list[str] = []
    for row in rows(equations, Ruler(width, 1, _width, len, centred=False), indent):
        above = below = ""
        for (piece, _), x, shape, shape_x in row:
            above += " " * (int(x) - _width(above)) + piece
            if shape:
                below = below.ljust(int(shape_x)) + shape
        lines += [above.rstrip(), below.rstrip()]
    return lines


def rows(
    equations: Sequence[Equation], ruler: Ruler, indent: float = 0, style: Style = TEXT
) -> Iterator[list[Placed]]:
    """The equations line by line; what is too long for the page goes on in the next line."""
    lefts = [_placed(left_side(e, style), indent, ruler, -ruler.letter) for e in equations]
    ends = [_end(left, ruler) for left in lefts]
    most = indent + _LEFT * ruler.letter
    column = max((end for end in ends if end <= most), default=indent)
    sign: Piece = (" = ", None)
    for equation, left, end in zip(equations, lefts, ends, strict=True):
        right = [sign, *pieces(equation.right, style)]
        row = [*left, *_placed(right, max(column, end), ruler, _end_of_shapes(left, ruler))]
        margin = column + ruler.piece(sign[0]) if end <= most else indent + 4 * ruler.letter
        while at := _cut(row, ruler):
            yield row[:at]
            (first, shape), *rest = (placed.piece for placed in row[at:])
            row = _placed([(first.lstrip(), shape), *rest], margin, ruler, -ruler.letter)
        yield row


def left_side(equation: Equation, style: Style = TEXT) -> list[Piece]:
    """The pieces on the left: one symbol, or [a; b]."""
    shown = [piece for symbol in equation.left for piece in pieces(symbol, style)]
    if len(shown) == 1:
        return shown
    joined: list[Piece] = [("[", None)]
    for piece in shown:
        joined += [piece, ("; ", None)]
    return [*joined[:-1], ("]", None)]


def _placed(row: Sequence[Piece], x: float, ruler: Ruler, below: float) -> list[Placed]:
    """The pieces one behind the other from x on; they move apart only where shapes would meet.

    `below` is where the last shape before them ends.
    """
    found = []
    for piece in row:
        width, shown = ruler.piece(piece[0]), ""
        start = x
        if piece[1] is not None:
            shown = dims(piece[1])
            aside = (width - ruler.shape(shown)) // 2
            start = max(x + aside, below + ruler.letter)
            x = max(x, start - (aside if ruler.centred else width - ruler.letter))
            below = start + ruler.shape(shown)
        found.append(Placed(piece, x, shown, start))
        x += width
    return found


def _end(row: Sequence[Placed], ruler: Ruler) -> float:
    return row[-1].x + ruler.piece(row[-1].piece[0])


def _end_of_shapes(row: Sequence[Placed], ruler: Ruler) -> float:
    last = next(placed for placed in reversed(row) if placed.shape)
    return last.shape_x + ruler.shape(last.shape)


def _cut(row: Sequence[Placed], ruler: Ruler) -> int:
    """Up to which piece a line goes that is too long: the last sign between terms that is least
    deep in brackets. 0 if it fits, or there is none.
    """
    ends = [max(p.x + ruler.piece(p.piece[0]), p.shape_x + ruler.shape(p.shape)) for p in row]
    depth, best, least = 0, 0, 0.0
    if max(ends) <= ruler.page:
        return 0
    for place, ((piece, _), *_) in enumerate(row):
        if ends[place] > ruler.page:
            break
        depth += (piece in ("(", "[")) - (piece in (")", "]"))
        if piece in _BREAKS and ends[place] > ruler.page // 3:
            tightness = depth + _BREAKS[piece]
            if best == 0 or tightness <= least:
                best, least = place, tightness
    return best


def _width(shown: str) -> int:
    return sum(not unicodedata.combining(letter) for letter in shown)
