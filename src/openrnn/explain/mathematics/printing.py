"""Formulas as text and as LaTeX, with or without the shape of each symbol beneath it."""

from __future__ import annotations

from openrnn.explain.mathematics.formula import Formula
from openrnn.explain.mathematics.style import LATEX, TEXT, Style
from openrnn.step.shape import Batch, Shape, batch_dim, features

# How tightly a formula holds together: what stands inside one that binds tighter is bracketed.
_CHOICE, _SUM, _PRODUCT, _APPLIED, _POWER, _ATOM = range(6)

# A piece of a formula: what stands there, and the shape beneath it, if it is a symbol.
Piece = tuple[str, Shape | None]

_POWERS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def text(formula: Formula) -> str:
    return "".join(piece for piece, _ in pieces(formula))


def latex(formula: Formula, shapes: bool = False) -> str:
    """The formula; with `shapes` each symbol has its shape under it."""
    return "".join(
        under(piece, shape) if shapes and shape is not None else piece
        for piece, shape in _Printer(LATEX).show(formula, _CHOICE)
    )


def pieces(formula: Formula, style: Style = TEXT) -> list[Piece]:
    """The formula in one line, with the shapes of its symbols."""
    return _Printer(style).show(formula, _CHOICE)


def under(shown: str, shape: Shape) -> str:
    return rf"\underset{{{dims(shape, chr(92) + 'times ')}}}{{{shown}}}"


def dims(shape: Shape, sign: str = "×") -> str:
    """Of one row of the batch: 20×30 of a matrix, 20 of a vector."""
    each = (dim.times if isinstance(dim, Batch) else dim for dim in shape)
    return sign.join(str(dim) for n, dim in enumerate(each) if n or shape[0] != Batch()) or "1"


class _Printer:
    def __init__(self, style: Style) -> None:
        self._style = style

    def show(self, formula: Formula, at_least: int) -> list[Piece]:
        """The pieces, in brackets unless they bind at least so tightly."""
        found, binding = self._show(formula)
        return found if binding >= at_least else self._bracket("(", found, ")")

    def _bracket(self, left: str, inside: list[Piece], right: str) -> list[Piece]:
        if any("frac" in piece for piece, _ in inside):  # what is tall needs tall brackets
            left, right = rf"\left{left}", rf"\right{right}"
        return [(left, None), *inside, (right, None)]

    def _show(self, f: Formula) -> tuple[list[Piece], int]:
        method = getattr(self, f"_{f.op.replace(' ', '_')}", None)
        if method is not None:
            shown: tuple[list[Piece], int] = method(f)
            return shown
        sign = self._style.comparison(f.op)
        if sign is not None:
            left, right = (self.show(i, _SUM) for i in f.inputs)
            return [*left, (sign, None), *right], _CHOICE
        return self._call(self._style.function(f.op), f.inputs), _ATOM

    # --- arithmetic ---

    def _symbol(self, f: Formula) -> tuple[list[Piece], int]:
        return [(self._style.symbol(f.data), f.shape)], _ATOM

    def _number(self, f: Formula) -> tuple[list[Piece], int]:
        return [(self._style.number(f.data), None)], _ATOM

    def _total(self, f: Formula) -> tuple[list[Piece], int]:
        found = self.show(f.inputs[0], _SUM)
        for term in f.inputs[1:]:
            negative = term.op == "minus"
            inner = term.inputs[0] if negative else term
            found = [*found, (" - " if negative else " + ", None)]
            found += self.show(inner, _PRODUCT)
        return found, _SUM

    def _minus(self, f: Formula) -> tuple[list[Piece], int]:
        return [("-", None), *self.show(f.inputs[0], _PRODUCT)], _SUM

    def _times(self, f: Formula) -> tuple[list[Piece], int]:
        found: list[Piece] = []
        for before, factor in zip((None, *f.inputs), f.inputs, strict=False):
            if before is not None:
                scalar = any(_is_scalar(side) for side in (before, factor))
                sign = self._style.dot if scalar else self._style.by_element
                if before.op == "number":
                    sign = self._style.dot if factor.op == "indicator" else self._style.then
                found.append((sign, None))
            alone = len(f.inputs) == 2 and f.inputs[0].op == "number"
            found += self.show(factor, _APPLIED if alone else _POWER)
        return found, _PRODUCT

    def _over(self, f: Formula) -> tuple[list[Piece], int]:
        if self._style.latex:
            above, below = (self.show(i, _CHOICE) for i in f.inputs)
            return [(r"\dfrac{", None), *above, ("}{", None), *below, ("}", None)], _ATOM
        above, below = self.show(f.inputs[0], _PRODUCT), self.show(f.inputs[1], _POWER)
        return [*above, (" / ", None), *below], _PRODUCT

    def _power(self, f: Formula) -> tuple[list[Piece], int]:
        base, exponent = self.show(f.inputs[0], _ATOM), f.inputs[1]
        if self._style.latex:
            above = self.show(exponent, _CHOICE)
            return [("{", None), *base, ("}^{", None), *above, ("}", None)], _POWER
        if exponent.op == "number" and exponent.data == int(exponent.data):
            return [*base, (str(int(exponent.data)).translate(_POWERS), None)], _POWER
        return [*base, ("^", None), *self.show(exponent, _ATOM)], _POWER

    _pow = _power

    def _sqrt(self, f: Formula) -> tuple[list[Piece], int]:
        if self._style.latex:
            return [(r"\sqrt{", None), *self.show(f.inputs[0], _CHOICE), ("}", None)], _ATOM
        return self._call(self._style.function("sqrt"), f.inputs), _ATOM

    _root = _sqrt

    # --- vectors and matrices ---

    def _apply(self, f: Formula) -> tuple[list[Piece], int]:
        matrix, vector = self.show(f.inputs[0], _POWER), self.show(f.inputs[1], _APPLIED)
        return [*matrix, (self._style.then, None), *vector], _APPLIED

    def _turned(self, f: Formula) -> tuple[list[Piece], int]:
        return self._transposed(f.inputs[0]), _POWER

    def _transposed(self, f: Formula) -> list[Piece]:
        """With ᵀ, which belongs to a symbol: the shape beneath is that of both."""
        shown = self.show(f, _ATOM)
        if f.op != "symbol":
            return [*shown, (self._style.turned, None)]
        symbol = shown[0][0]
        if self._style.latex and "^" in symbol:
            symbol = f"{{{symbol}}}"
        columns = [dim for dim in f.shape if not isinstance(dim, Batch)]
        turned = (columns[1], columns[0]) if len(columns) > 1 else (1, *columns)
        return [(symbol + self._style.turned, turned)]

    def _outer(self, f: Formula) -> tuple[list[Piece], int]:
        left, right = self.show(f.inputs[0], _POWER), self._transposed(f.inputs[1])
        return [(self._style.over_time, None), *left, (self._style.then, None), *right], _PRODUCT

    def _over_time(self, f: Formula) -> tuple[list[Piece], int]:
        return [(self._style.over_time, None), *self.show(f.inputs[0], _PRODUCT)], _PRODUCT

    def _cat(self, f: Formula) -> tuple[list[Piece], int]:
        found = self.show(f.inputs[0], _SUM)
        # What lies one under the other, for a vector is a column; columns of a matrix with commas.
        beside = dict(f.data)["dim"] == 1 and batch_dim(f.shape) is None
        for piece in f.inputs[1:]:
            separator = self._style.under.replace(";", ",") if beside else self._style.under
            found = [*found, (separator, None), *self.show(piece, _SUM)]
        return self._bracket("[", found, "]"), _ATOM

    def _slice(self, f: Formula) -> tuple[list[Piece], int]:
        where = dict(f.data)
        part = f"{where['start']}:{where['stop']}"
        part += f":{where['step']}" if where["step"] != 1 else ""
        if batch_dim(f.shape) is None:
            part = ":, " * where["dim"] + part
        return [*self.show(f.inputs[0], _ATOM), (f"[{part}]", None)], _ATOM

    def _unslice(self, f: Formula) -> tuple[list[Piece], int]:
        where = dict(f.data)
        if where["step"] != 1:
            return self._call("spread", f.inputs), _ATOM
        inside = self.show(f.inputs[0], _SUM)
        if where["start"] > 0:
            inside = [("0", None), (self._style.under, None), *inside]
        if where["stop"] < where["size"]:
            inside = [*inside, (self._style.under, None), ("0", None)]
        return self._bracket("[", inside, "]"), _ATOM

    # --- functions ---

    def _reshape(self, f: Formula) -> tuple[list[Piece], int]:
        """What only has other dimensions of size 1 is the same on paper."""
        (inner,) = f.inputs
        if [d for d in f.shape if d != 1] == [d for d in inner.shape if d != 1]:
            return self._show(inner)
        shape = (dims(f.shape, r" \times " if self._style.latex else "×"), None)
        name = self._style.function("reshape")
        return [
            (f"{name}(", None),
            *self.show(inner, _CHOICE),
            (", ", None),
            shape,
            (")", None),
        ], _ATOM

    def _expand(self, f: Formula) -> tuple[list[Piece], int]:
        return self._show(f.inputs[0])

    _detach = _convert = _expand

    def _call(self, name: str, inputs: tuple[Formula, ...]) -> list[Piece]:
        inside: list[Piece] = []
        for argument in inputs:
            if inside:
                inside.append((", ", None))
            inside += self.show(argument, _CHOICE)
        return [(name, None), *self._bracket("(", inside, ")")]

    def _norm_name(self, f: Formula, prime: str = "") -> str:
        attributes = dict(f.data)
        label, centre = attributes["label"], attributes["centre"]
        kind = ("LN" if centre else "RMS") if attributes["parts"] else "norm" if centre else "rms"
        return self._style.labelled(kind, prime, label)

    def _norm(self, f: Formula) -> tuple[list[Piece], int]:
        return self._call(self._norm_name(f), f.inputs[:1]), _ATOM

    def _norm_back(self, f: Formula) -> tuple[list[Piece], int]:
        jacobian = self._call(self._norm_name(f, "'"), f.inputs[1:2])
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

    def _abs(self, f: Formula) -> tuple[list[Piece], int]:
        return self._bracket("|", self.show(f.inputs[0], _CHOICE), "|"), _ATOM

    def _floor(self, f: Formula) -> tuple[list[Piece], int]:
        left, right = (r"\lfloor ", r" \rfloor") if self._style.latex else ("⌊", "⌋")
        return self._bracket(left, self.show(f.inputs[0], _CHOICE), right), _ATOM

    def _ceil(self, f: Formula) -> tuple[list[Piece], int]:
        left, right = (r"\lceil ", r" \rceil") if self._style.latex else ("⌈", "⌉")
        return self._bracket(left, self.show(f.inputs[0], _CHOICE), right), _ATOM


def _is_scalar(f: Formula) -> bool:
    """Whether it is one number for each row, beside vectors."""
    return f.op != "number" and features(f.shape) == 1
