"""Identifiers of C, each used once."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORD = re.compile(r"\w+")
_KEYWORDS = _WORD.findall(
    """auto break case char const continue default do double else enum extern float for goto if
    inline int long register restrict return short signed sizeof static struct switch typedef union
    unsigned void volatile while"""
)
# What math.h declares, also beyond C99, each with the endings f and l.
_MATH = _WORD.findall(
    """acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh drem erf erfc exp exp10
    exp2 expm1 fabs fdim finite floor fma fmax fmin fmod frexp gamma hypot ilogb isinf isnan j0 j1
    jn ldexp lgamma llrint llround log log10 log1p log2 logb lrint lround modf nan nearbyint
    nextafter nexttoward pow pow10 remainder remquo rint round scalb scalbln scalbn significand sin
    sincos sinh sqrt tan tanh tgamma trunc y0 y1 yn"""
)
# What generated functions have of their own.
_OWN = _WORD.findall("state x y j k p dot dot_apart sigmoid relu sign maximum minimum modulo")
_RESERVED = {*_KEYWORDS, *_OWN, *(name + end for name in _MATH for end in ("", "f", "l"))}


class Names:
    """Names that are taken, C's own at first, and new ones beside them."""

    def __init__(self, taken: Iterable[str] = _RESERVED) -> None:
        self._taken = set(taken)

    def inner(self) -> Names:
        """Those of a scope inside."""
        return Names(self._taken)

    def new(self, wanted: str) -> str:
        """An identifier as close to what is wanted as can be."""
        name = re.sub(r"\W", "_", wanted, flags=re.ASCII).strip("_") or "value"
        name = f"v{name}" if name[0].isdigit() else name
        found, count = name, 2
        while found in self._taken:
            found, count = f"{name}_{count}", count + 1
        self._taken.add(found)
        return found


def is_identifier(text: str) -> bool:
    """Whether names in C may begin so."""
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", text) is not None


def comment(text: str) -> str:
    """The text as it may stand in a comment, on one line."""
    for sign, apart in (("*/", "* /"), ("/*", "/ *"), ("??", "? ?")):
        text = text.replace(sign, apart)
    return " ".join(text.split())
