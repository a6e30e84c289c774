"""The operations of a step in C, for single numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch

from openrnn.errors import BackendError
from openrnn.step.graph import Node


class Text(NamedTuple):
    """An expression, and how strongly its outermost operator binds."""

    text: str
    binds: int

    def within(self, binds: int) -> str:
        """The expression as an operand of an operator."""
        return self.text if self.binds >= binds else f"({self.text})"


ATOM, _UNARY, _PRODUCT, _SUM, _COMPARISON, _LOWEST = 9, 8, 7, 6, 5, 0
_INFIX = {
    "add": ("+", _SUM), "sub": ("-", _SUM), "mul": ("*", _PRODUCT), "div": ("/", _PRODUCT),
    "eq": ("==", _COMPARISON), "ne": ("!=", _COMPARISON), "lt": ("<", _COMPARISON),
    "le": ("<=", _COMPARISON), "gt": (">", _COMPARISON), "ge": (">=", _COMPARISON),
    "logical_and": ("&&", _COMPARISON), "logical_or": ("||", _COMPARISON),
}  # fmt: skip
# Of math.h, by the names that the table of operations has for them.
_MATH = {"abs": "fabs", "round": "nearbyint"} | {
    name: name
    for name in (
        *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "pow", "erf", "tanh"),
        *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh"),
        *("floor", "ceil", "trunc"),
    )
}
# Functions that a source file has where it needs them.
_FUNCTIONS = {
    "dot": """
/* The sum of a[k] * b[k]: four sums, which do not wait for each other. */
static real dot(int n, const real *a, const real *b)
{
    real s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    int k;
    for (k = 0; k + 4 <= n; k += 4) {
        s0 += a[k] * b[k];
        s1 += a[k + 1] * b[k + 1];
        s2 += a[k + 2] * b[k + 2];
        s3 += a[k + 3] * b[k + 3];
    }
    for (; k < n; k++)
        s0 += a[k] * b[k];
    return (s0 + s1) + (s2 + s3);
}
""",
    "dot_apart": """
/* The same of numbers that lie da and db apart. */
static real dot_apart(int n, const real *a, int da, const real *b, int db)
{
    real sum = 0;
    for (int k = 0; k < n; k++)
        sum += a[k * da] * b[k * db];
    return sum;
}
""",
    "sigmoid": """
static real sigmoid(real a)
{
    return 1 / (1 + exp(-a));
}
""",
    "relu": """
static real relu(real a)
{
    return a < 0 ? 0 : a; /* NaN stays */
}
""",
    "sign": """
static real sign(real a)
{
    return (real)((a > 0) - (a < 0));
}
""",
    "maximum": """
static real maximum(real a, real b)
{
    return a > b || a != a ? a : b; /* NaN wins */
}
""",
    "minimum": """
static real minimum(real a, real b)
{
    return a < b || a != a ? a : b; /* NaN wins */
}
""",
    "modulo": """
/* What is left of a after whole multiples of b, with the sign of b. */
static real modulo(real a, real b)
{
    const real left = fmod(a, b);
    return left != 0 && (left < 0) != (b < 0) ? left + b : left;
}
""",
}


class Language:
    """C in one dtype; it notes the functions that were used."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.real = "float" if dtype == torch.float32 else "double"
        self._is_float = dtype == torch.float32
        self._used: set[str] = set()

    def functions(self) -> str:
        """The functions that were used."""
        return "".join(
            text.replace("real", self.real)
            .replace("exp(", f"{self.math('exp')}(")
            .replace("fmod(", f"{self.math('fmod')}(")
            for name, text in _FUNCTIONS.items()
            if name in self._used
        )

    def use(self, name: str) -> str:
        """One of our own functions."""
        self._used.add(name)
        return name

    def math(self, name: str) -> str:
        """A function of math.h."""
        return f"{name}f" if self._is_float else name

    def number(self, value: float) -> str:
        """A number, such that C reads the very same."""
        if math.isnan(value):
            return "NAN"
        if math.isinf(value):
            return "INFINITY" if value > 0 else "-INFINITY"
        text = f"{value:.9g}" if self._is_float else f"{value:.17g}"
        text = text if any(sign in text for sign in ".e") else f"{text}.0"
        return f"{text}f" if self._is_float else text

    def constant(self, value: float, *, is_bool: bool) -> Text:
        if is_bool:
            return Text(str(int(value)), ATOM)
        text = self.number(value)
        return Text(text, _UNARY if text.startswith("-") else ATOM)

    def as_condition(self, number: Text) -> Text:
        """A condition that is stored as 0 or 1."""
        return Text(f"{number.within(_COMPARISON + 1)} != 0", _COMPARISON)

    def apply(self, node: Node, operands: list[Text], *, of_bool: bool) -> Text:
        """The operation of a node.

        of_bool: whether its first operand is a condition.

        Raises:
            BackendError: it is not one for single numbers.
        """
        op, (first, *others) = node.op, operands
        if op in _INFIX:
            sign, binds = _INFIX[op]
            # In C a chain of comparisons means something else, and compilers warn of mixed logic.
            left = first.within(binds if binds > _COMPARISON else binds + 1)
            return Text(f"{left} {sign} {others[0].within(binds + 1)}", binds)
        if op == "neg":
            return Text(f"-{first.within(ATOM)}", _UNARY)
        if op == "logical_not":
            return Text(f"!{first.within(ATOM)}", _UNARY)
        if op == "where":
            return Text(" ".join((
                first.within(_COMPARISON), "?", others[0].within(_COMPARISON),
                ":", others[1].within(_COMPARISON),
            )), _LOWEST)  # fmt: skip
        if op == "convert":
            if of_bool == (node.dtype == torch.bool):
                return first
            if of_bool:
                return Text(f"({self.real}){first.within(ATOM)}", _UNARY)
            return self.as_condition(first)
        if op in ("sum", "amax", "amin", "detach"):  # of a single number
            return first
        if op == "reciprocal":
            return Text(f"1 / {first.within(_UNARY)}", _PRODUCT)
        if op == "rsqrt":
            return Text(f"1 / {self.math('sqrt')}({first.text})", _PRODUCT)
        if op in _MATH:
            return self.call(self.math(_MATH[op]), operands)
        name = {"remainder": "modulo"}.get(op, op)
        if name not in _FUNCTIONS:
            raise BackendError(f"{op} has no meaning in C yet")
        return self.call(self.use(name), operands)

    def call(self, name: str, operands: Iterable[Text]) -> Text:
        return Text(f"{name}({', '.join(each.text for each in operands)})", ATOM)
