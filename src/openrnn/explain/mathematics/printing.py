"""Formulas as text and as LaTeX, with or without the shape of each symbol beneath it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from openrnn.explain.mathematics.formula import Formula, Symbol
from openrnn.step.shape import Shape, batch_dim, features

# How tightly a formula holds together: what stands inside one that binds tighter is bracketed.
_CHOICE, _SUM, _PRODUCT, _APPLIED, _ATOM = range(5)

# A piece of a formula: what stands there, and the shape beneath it, if it is a symbol.
Piece = tuple[str, Shape | None]

_NAMES = {
    "sigmoid": "σ",
    "log_sigmoid": "log σ",
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
}
_COMPARED = {"eq": "=", "ne": "≠", "lt": "<", "le": "≤", "gt": ">", "ge": "≥"}
_COMPARED |= {"logical_and": "and", "logical_or": "or"}
GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau "
    "upsilon phi chi psi omega"
).split()
_LETTERS = dict(zip(GREEK, "αβγδεζηθικλμνξπρστυφχψω", strict=True))
_POWERS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_OVER = {"tilde": "\u0303", "hat": "\u0302", "bar": "\u0304"}


@dataclass(frozen=True)
class Style:
    """The strings of which formulas are made."""

    by_element: str
    dot: str
    then: str  # between a matrix and a vector
    minus: str
    turned: str
    prime: str
    over_time: str
    if_: str
    else_: str
    ellipsis: str
    separator: str
    latex: bool


TEXT = Style(
    " ⊙ ", " · ", " ", "-", "ᵀ", "'", "Σ_t ", " if ", " else ", "…", "; ", latex=False
)  # fmt: skip
LATEX = Style(
    r" \odot ", r" \cdot ", r" \, ", "-", r"^{\top}", "'", r"\sum_{t} ", r" \;\mathrm{if}\; ",
    r" \;\mathrm{else}\; ", r"\ldots", r";\, ", latex=True,
)  # fmt: skip


def text(formula: Formula) -> str:
    return "".join(piece for piece, _ in pieces(formula))


def latex(formula: Formula, shapes: bool = False) -> str:
    """The formula; with `shapes` each symbol has its shape under it."""
    return "".join(
        under(piece, shape) if shapes and shape is not None else piece
        for piece, shape in _Printer(LATEX).show(formula, _CHOICE)
    )


def pieces(formula: Formula) -> list[Piece]:
    """The formula as text, with the shapes of its symbols."""
    return _Printer(TEXT).show(formula, _CHOICE)


def under(shown: str, shape: Shape) -> str:
    return rf"\underset{{{dims(shape, chr(92) + 'times ')}}}{{{shown}}}"


def dims(shape: Shape, sign: str = "×") -> str:
    """20×30, or B×20."""
    return sign.join(map(str, shape)) or "1"


def symbol_text(symbol: Symbol) -> str:
    base, mark, _ = re.fullmatch(r"(.*?)(?:_(tilde|hat|bar))?()", symbol.base).groups()  # type: ignore[union-attr]
    shown = _LETTERS.get(base, base) + (_OVER[mark] if mark else "")
    below = ",".join((*symbol.below, *filter(None, [symbol.time])))
    short = re.fullmatch(r"\w*", below)
    after = f"_{below}" if short else f"_{{{below}}}"
    above = f"^{symbol.above}" if symbol.above else ""
    return f"{symbol.mark}{shown}{TEXT.prime * symbol.primes}{after if below else ''}{above}"


def symbol_latex(symbol: Symbol) -> str:
    base, mark, _ = re.fullmatch(r"(.*?)(?:_(tilde|hat|bar))?()", symbol.base).groups()  # type: ignore[union-attr]
    shown = rf"\{base}" if base in GREEK else base if len(base) == 1 else _word(base)
    shown = rf"\{mark}{{{shown}}}" if mark else shown
    marks = {"": "", "δ": r"\delta ", "Δ": r"\Delta "}
    below = [part if len(part) <= 3 else _word(part) for part in symbol.below]
    below = [part.replace("_", r"\_") for part in below]
    below += [symbol.time] if symbol.time else []
    after = f"_{{{','.join(below)}}}" if below else ""
    above = LATEX.prime * symbol.primes
    if symbol.above:
        above = rf"^{{\mathrm{{{symbol.above}}}}}"
        above = above.replace("^{", "^{" + r"\prime" * symbol.primes, 1)
    return f"{marks[symbol.mark]}{shown}{above}{after}"


def _word(word: str) -> str:
    escaped = word.replace("_", r"\_")
    return rf"\mathrm{{{escaped}}}"


class _Printer:
    def __init__(self, style: Style) -> None:
        self._style = style

    def show(self, formula: Formula, at_least: int) -> list[Piece]:
        """The pieces, in brackets unless they bind at least so tightly."""
        found, binding = self._show(formula)
        return found if binding >= at_least else self._bracket("(", found, ")")

    def _bracket(self, left: str, inside: list[Piece], right: str) -> list[Piece]:
        if self._style.latex:
            left, right = rf"\left{left}", rf"\right{right}"
        return [(left, None), *inside, (right, None)]

    def _show(self, f: Formula) -> tuple[list[Piece], int]:
        style, inputs = self._style, f.inputs
        method = getattr(self, f"_{f.op.replace(' ', '_')}", None)
        if method is not None:
            shown: tuple[list[Piece], int] = method(f)
            return shown
        if f.op in _COMPARED:
            left, right = (self.show(i, _SUM) for i in inputs)
            sign = _COMPARED[f.op]
            if style.latex:
                sign = {"≠": r"\neq", "≤": r"\leq", "≥": r"\geq"}.get(sign, sign)
                sign = rf"\;\mathrm{{{sign}}}\;" if sign in ("and", "or") else sign
            return [*left, (f" {sign} ", None), *right], _CHOICE
        if f.op in ("expand", "detach", "convert"):
            return self._show(inputs[0])
        if f.op == "reshape" and _squeezed(f.shape) == _squeezed(inputs[0].shape):
            return self._show(inputs[0])
        return self._call(self._name(f.op), inputs), _ATOM

    # --- arithmetic ---

    def _symbol(self, f: Formula) -> tuple[list[Piece], int]:
        shown = symbol_latex(f.data) if self._style.latex else symbol_text(f.data)
        return [(shown, f.shape)], _ATOM

    def _number(self, f: Formula) -> tuple[list[Piece], int]:
        shown = f"{f.data:.9g}"
        if self._style.latex and "e" in shown:
            digits, exponent = shown.split("e")
            shown = rf"10^{{{int(exponent)}}}"
            shown = shown if digits == "1" else rf"{digits} \cdot {shown}"
        if self._style.latex:
            shown = shown.replace("inf", r"\infty")
        return [(shown, None)], _ATOM

    def _total(self, f: Formula) -> tuple[list[Piece], int]:
        found = self.show(f.inputs[0], _SUM)
        for term in f.inputs[1:]:
            negative = term.op == "minus"
            inner = term.inputs[0] if negative else term
            found = [*found, (f" {self._style.minus if negative else '+'} ", None)]
            found += self.show(inner, _PRODUCT)
        return found, _SUM

    def _minus(self, f: Formula) -> tuple[list[Piece], int]:
        return [(self._style.minus, None), *self.show(f.inputs[0], _PRODUCT)], _SUM

    def _times(self, f: Formula) -> tuple[list[Piece], int]:
        found: list[Piece] = []
        for before, factor in zip((None, *f.inputs), f.inputs, strict=False):
            if before is not None:
                scalar = any(_is_scalar(side) for side in (before, factor))
                sign = self._style.dot if scalar else self._style.by_element
                sign = self._style.then if before.op == "number" else sign
                found.append((sign, None))
            alone = len(f.inputs) == 2 and f.inputs[0].op == "number"
            found += self.show(factor, _APPLIED if alone else _ATOM)
        return found, _PRODUCT

    def _over(self, f: Formula) -> tuple[list[Piece], int]:
        if self._style.latex:
            above, below = (self.show(i, _CHOICE) for i in f.inputs)
            return [(r"\frac{", None), *above, ("}{", None), *below, ("}", None)], _ATOM
        above, below = self.show(f.inputs[0], _PRODUCT), self.show(f.inputs[1], _ATOM)
        return [*above, (" / ", None), *below], _PRODUCT

    def _power(self, f: Formula) -> tuple[list[Piece], int]:
        base, exponent = self.show(f.inputs[0], _ATOM), f.inputs[1]
        whole = exponent.op == "number" and exponent.data == int(exponent.data)
        if self._style.latex:
            if len(base) == 1 and "'" in base[0][0]:
                base = self._bracket("(", base, ")")
            above = self.show(exponent, _CHOICE)
            return [("{", None), *base, ("}^{", None), *above, ("}", None)], _ATOM
        if whole:
            return [*base, (str(int(exponent.data)).translate(_POWERS), None)], _ATOM
        return [*base, ("^", None), *self.show(exponent, _ATOM)], _ATOM

    def _pow(self, f: Formula) -> tuple[list[Piece], int]:
        return self._power(f)

    def _sqrt(self, f: Formula) -> tuple[list[Piece], int]:
        if self._style.latex:
            return [(r"\sqrt{", None), *self.show(f.inputs[0], _CHOICE), ("}", None)], _ATOM
        return self._call("√", f.inputs), _ATOM

    _root = _sqrt

    # --- vectors and matrices ---

    def _apply(self, f: Formula) -> tuple[list[Piece], int]:
        matrix, vector = self.show(f.inputs[0], _ATOM), self.show(f.inputs[1], _APPLIED)
        return [*matrix, (self._style.then, None), *vector], _APPLIED

    def _turned(self, f: Formula) -> tuple[list[Piece], int]:
        return [*self.show(f.inputs[0], _ATOM), (self._style.turned, None)], _ATOM

    def _outer(self, f: Formula) -> tuple[list[Piece], int]:
        left, right = (self.show(i, _ATOM) for i in f.inputs)
        then, turned = self._style.then, self._style.turned
        return [(self._style.over_time, None), *left, (then, None), *right, (turned, None)], _PRODUCT

    def _over_time(self, f: Formula) -> tuple[list[Piece], int]:
        return [(self._style.over_time, None), *self.show(f.inputs[0], _PRODUCT)], _PRODUCT

    def _cat(self, f: Formula) -> tuple[list[Piece], int]:
        found = self.show(f.inputs[0], _SUM)
        # What lies one under the other, for a vector is a column; columns of a matrix with commas.
        beside = dict(f.data)["dim"] == 1 and batch_dim(f.shape) is None
        for piece in f.inputs[1:]:
            separator = self._style.separator.replace(";", ",") if beside else self._style.separator
            found = [*found, (separator, None), *self.show(piece, _SUM)]
        return self._bracket("[", found, "]"), _ATOM

    def _slice(self, f: Formula) -> tuple[list[Piece], int]:
        where = dict(f.data)
        step = f":{where['step']}" if where["step"] != 1 else ""
        matrix = batch_dim(f.shape) is None and len(f.shape) > 1
        range_ = f"{where['start']}:{where['stop']}{step}"
        if matrix:
            range_ = ", ".join([":"] * where["dim"] + [range_])
        return [*self.show(f.inputs[0], _ATOM), (f"[{range_}]", None)], _ATOM

    def _unslice(self, f: Formula) -> tuple[list[Piece], int]:
        where = dict(f.data)
        if where["step"] != 1:
            return self._call("spread", f.inputs), _ATOM
        inside = self.show(f.inputs[0], _SUM)
        if where["start"] > 0:
            inside = [("0", None), (self._style.separator, None), *inside]
        if where["stop"] < where["size"]:
            inside = [*inside, (self._style.separator, None), ("0", None)]
        return self._bracket("[", inside, "]"), _ATOM

    # --- functions ---

    def _name(self, op: str) -> str:
        name = _NAMES.get(op, op)
        if not self._style.latex:
            return name
        known = {"σ": r"\sigma", "log σ": r"\log\sigma", "√": r"\surd"}
        plain = ("tanh", "exp", "log", "max", "min", "sin", "cos", "tan", "sinh", "cosh")
        plain += ("arcsin", "arccos", "arctan")
        return known.get(name, rf"\{name}" if name in plain else _word(name))

    def _call(self, name: str, inputs: tuple[Formula, ...]) -> list[Piece]:
        inside: list[Piece] = []
        for argument in inputs:
            if inside:
                inside.append((", ", None))
            inside += self.show(argument, _CHOICE)
        return [(name, None), *self._bracket("(", inside, ")")]

    def _norm_name(self, f: Formula) -> str:
        attributes = dict(f.data)
        label = attributes.get("label", "")
        kind = "LN" if attributes["centre"] else "RMS"
        if not attributes["parts"]:
            kind = "norm" if attributes["centre"] else "rms"
        if not self._style.latex:
            return f"{kind}_{label}" if label else kind
        return _word(kind) + (f"_{{{label}}}" if label else "")

    def _norm(self, f: Formula) -> tuple[list[Piece], int]:
        return self._call(self._norm_name(f), f.inputs[:1]), _ATOM

    def _norm_back(self, f: Formula) -> tuple[list[Piece], int]:
        name = self._norm_name(f) + self._style.prime
        if self._style.latex:
            name = self._norm_name(f).replace("}_", "}" + self._style.prime + "_", 1)
            name = name if self._style.prime in name else name + self._style.prime
        jacobian = self._call(name, f.inputs[1:2])
        gradient = self.show(f.inputs[0], _APPLIED)
        return [*jacobian, (self._style.turned + self._style.then, None), *gradient], _APPLIED

    def _where(self, f: Formula) -> tuple[list[Piece], int]:
        condition, a, b = f.inputs
        found = [*self.show(a, _SUM), (self._style.if_, None), *self.show(condition, _CHOICE)]
        return [*found, (self._style.else_, None), *self.show(b, _CHOICE)], _CHOICE

    def _indicator(self, f: Formula) -> tuple[list[Piece], int]:
        one = r"\mathbf{1}" if self._style.latex else "1"
        inside = self.show(f.inputs[0], _CHOICE)
        return [(one, None), *self._bracket("[", inside, "]")], _ATOM

    def _logical_not(self, f: Formula) -> tuple[list[Piece], int]:
        return self._call(_word("not") if self._style.latex else "not", f.inputs), _ATOM

    def _abs(self, f: Formula) -> tuple[list[Piece], int]:
        return self._bracket("|", self.show(f.inputs[0], _CHOICE), "|"), _ATOM

    def _floor(self, f: Formula) -> tuple[list[Piece], int]:
        left, right = (r"\lfloor ", r" \rfloor") if self._style.latex else ("⌊", "⌋")
        return self._bracket(left, self.show(f.inputs[0], _CHOICE), right), _ATOM

    def _ceil(self, f: Formula) -> tuple[list[Piece], int]:
        left, right = (r"\lceil ", r" \rceil") if self._style.latex else ("⌈", "⌉")
        return self._bracket(left, self.show(f.inputs[0], _CHOICE), right), _ATOM


def _squeezed(shape: Shape) -> tuple[object, ...]:
    return tuple(dim for dim in shape if dim != 1)


def _is_scalar(f: Formula) -> bool:
    """Whether it is one number for each row, beside vectors."""
    return f.op != "number" and features(f.shape) == 1
