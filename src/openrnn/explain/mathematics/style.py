"""How the parts of a formula are written, as text and in LaTeX."""

from __future__ import annotations

from dataclasses import dataclass, replace

from openrnn.explain.mathematics.formula import Symbol
from openrnn.explain.mathematics.letters import symbol_latex, symbol_text, upright

_NAMES = {
    "sigmoid": "σ",
    "log_sigmoid": "log σ",
    "sqrt": "√",
    "root": "√",
    "amax": "max",
    "amin": "min",
    "maximum": "max",
    "minimum": "min",
    "at_most": "min",
    "at_least": "max",
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "remainder": "mod",
    "logical_not": "not",
}
_SIGNS = {"eq": "=", "ne": "≠", "lt": "<", "le": "≤", "gt": ">", "ge": "≥"}
_SIGNS |= {"logical_and": "and", "logical_or": "or"}
_LATEX = {"σ": r"\sigma", "log σ": r"\log\sigma", "≠": r"\neq", "≤": r"\leq", "≥": r"\geq"}
_LATEX |= {name: rf"\{name}" for name in ("tanh", "exp", "log", "max", "min", "sin", "cos", "tan")}
_LATEX |= {name: rf"\{name}" for name in ("sinh", "cosh", "arcsin", "arccos", "arctan")}


@dataclass(frozen=True)
class Style:
    """The strings of which formulas are made."""

    by_element: str
    dot: str
    then: str  # between a matrix and a vector
    turned: str
    over_time: str
    if_: str
    else_: str
    under: str  # between what is put one under the other
    latex: bool
    around: str = ""  # on both sides of LaTeX within text

    def symbol(self, of: Symbol) -> str:
        if self.latex or self.around:
            return f"{self.around}{symbol_latex(of)}{self.around}"
        return symbol_text(of)

    def labelled(self, name: str, prime: str, label: str) -> str:
        """The name of a function with a label below it: LN'_f."""
        if self.latex or self.around:
            below = f"_{{{label}}}" if label else ""
            return f"{self.around}{upright(name)}{prime}{below}{self.around}"
        return f"{name}_{label}{prime}" if label else name + prime

    def function(self, op: str) -> str:
        """The name of a function."""
        name = _NAMES.get(op, op)
        return _LATEX.get(name) or upright(name) if self.latex else name

    def comparison(self, op: str) -> str | None:
        """The sign between two sides, or None if the operation has none."""
        sign = _SIGNS.get(op)
        if sign is None or not self.latex:
            return sign and f" {sign} "
        if sign in ("and", "or"):
            return rf" \;{upright(sign)}\; "
        return f" {_LATEX.get(sign, sign)} "

    def number(self, value: float) -> str:
        shown = f"{value:.9g}"
        if not self.latex:
            return shown
        digits, _, exponent = shown.partition("e")
        if not exponent:
            return shown.replace("inf", r"\infty")
        power = rf"10^{{{int(exponent)}}}"
        return power if digits == "1" else rf"{digits} \cdot {power}"


TEXT = Style(" ⊙ ", " · ", " ", "ᵀ", "Σ_t ", " if ", " else ", "; ", latex=False)
# What matplotlib draws: text, with the symbols as LaTeX.
PICTURE = replace(TEXT, around="$")
LATEX = Style(
    r" \odot ",
    r" \cdot ",
    r" \, ",
    r"^{\top}",
    r"\sum_{t} \, ",
    r" \;\mathrm{if}\; ",
    r" \;\mathrm{else}\; ",
    r";\, ",
    latex=True,
)
