"""Symbols as text and as LaTeX."""

from __future__ import annotations

import re

from openrnn.explain.mathematics.formula import Symbol

_NAMED = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau"
_NAMED += " upsilon phi chi psi omega"
GREEK = dict(zip(_NAMED.split(), "αβγδεζηθικλμνξπρστυφχψω", strict=True))
OVER = {"tilde": "\u0303", "hat": "\u0302", "bar": "\u0304"}


def symbol_text(symbol: Symbol) -> str:
    """W_ii, h_{t-1}, δc_t^next."""
    below = ",".join((*map(_text, symbol.below), *filter(None, [symbol.time])))
    below = below if re.fullmatch(r"\w*", below) else f"{{{below}}}"
    above = f"^{symbol.above}" if symbol.above else ""
    primes = "'" * symbol.primes
    return f"{symbol.mark}{_text(symbol.base)}{primes}{f'_{below}' if below else ''}{above}"


def symbol_latex(symbol: Symbol) -> str:
    r"""W_{ii}, h_{t-1}, \delta c^{\mathrm{next}}_{t}."""
    mark = {"": "", "δ": r"\delta ", "Δ": r"\Delta "}[symbol.mark]
    below = ",".join((*map(_latex, symbol.below), *filter(None, [symbol.time])))
    above = r"\prime" * symbol.primes
    above += rf"\mathrm{{{symbol.above}}}" if symbol.above else ""
    above = f"^{{{above}}}" if above else ""
    return f"{mark}{_latex(symbol.base)}{above}{f'_{{{below}}}' if below else ''}"


def upright(word: str) -> str:
    """A word in LaTeX."""
    escaped = word.replace("_", r"\_")
    return rf"\mathrm{{{escaped}}}"


def _marked(word: str) -> tuple[str, str]:
    """The word, and what stands over it: of `c_tilde` c and "tilde"."""
    base, _, mark = word.rpartition("_")
    return (base, mark) if base and mark in OVER else (word, "")


def _text(word: str) -> str:
    base, mark = _marked(word)
    return GREEK.get(base, base) + OVER.get(mark, "")


def _latex(word: str) -> str:
    base, mark = _marked(word)
    short = len(base) <= 3 and (len(base) == 1 or base.isalnum())
    shown = rf"\{base}" if base in GREEK else base if short else upright(base)
    return rf"\{mark}{{{shown}}}" if mark else shown
