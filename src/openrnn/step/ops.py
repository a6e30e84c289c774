"""The closed table of operations: arity, shape rule, torch meaning and derivative of each.

A derivative is written once, here, in the table's own operations; no cell and no backend has one.
`g` is the gradient of the node's result `y`; the derivative gives that of each input, in the shape
that broadcasting made of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from openrnn.errors import CellError
from openrnn.step import int8
from openrnn.step.shape import Batch, Shape, broadcast, replace_dim

if TYPE_CHECKING:
    from openrnn.step.graph import Value

Attributes = dict[str, Any]
ShapeRule = Callable[[list[Shape], Attributes], Shape]


@dataclass(frozen=True)
class Op:
    """One operation of the table."""

    name: str
    kind: str  # "source", "elementwise", "view", "reduction" or "product"
    arity: int | None  # None: any number of inputs
    meaning: str
    shape: ShapeRule | None = None  # None: the node's shape is given, not derived
    dtype: torch.dtype | None = None  # None: that of the last input, or given
    run: Callable[..., Tensor] | None = None
    derivative: Callable[..., Sequence[Value | None]] | None = None  # None: zero


TABLE: dict[str, Op] = {}


def _add(op: Op) -> None:
    TABLE[op.name] = op


# --- sources -------------------------------------------------------------------------------------

_add(Op("input", "source", 0, "a value that is given"))
_add(Op("constant", "source", 0, "numbers that stand in the cell's code"))
_add(Op("random", "source", 0, "fresh random numbers for each step: bernoulli, uniform or normal"))


# --- element by element --------------------------------------------------------------------------


def _elementwise(
    name: str,
    arity: int,
    meaning: str,
    run: Callable[..., Tensor],
    derivative: Callable[..., Sequence[Value | None]] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """`run` takes the inputs, `derivative` takes g, y and the inputs."""
    _add(
        Op(
            name,
            "elementwise",
            arity,
            meaning,
            lambda shapes, _: broadcast(shapes),
            dtype,
            lambda *inputs, **_: run(*inputs),
            derivative and (lambda g, y, *inputs, **_: derivative(g, y, *inputs)),
        )
    )


_elementwise("neg", 1, "-x", torch.neg, lambda g, y, x: [-g])
_elementwise("abs", 1, "|x|", torch.abs, lambda g, y, x: [g * x.sign()])
_elementwise("sign", 1, "-1, 0 or 1", torch.sign)
_elementwise("exp", 1, "e^x", torch.exp, lambda g, y, x: [g * y])
_elementwise("log", 1, "ln x", torch.log, lambda g, y, x: [g / x])
_elementwise("log1p", 1, "ln(1 + x)", torch.log1p, lambda g, y, x: [g / (x + 1)])
_elementwise("expm1", 1, "e^x - 1", torch.expm1, lambda g, y, x: [g * (y + 1)])
_elementwise("sqrt", 1, "√x", torch.sqrt, lambda g, y, x: [g / (y * 2)])
_elementwise("rsqrt", 1, "1/√x", torch.rsqrt, lambda g, y, x: [g * y * y * y * -0.5])
_elementwise("reciprocal", 1, "1/x", torch.reciprocal, lambda g, y, x: [-g * y * y])
_elementwise("sigmoid", 1, "1/(1 + e^-x)", torch.sigmoid, lambda g, y, x: [g * (y * (1 - y))])
_elementwise("tanh", 1, "tanh x", torch.tanh, lambda g, y, x: [g * (1 - y * y)])
_elementwise("relu", 1, "max(x, 0)", torch.relu, lambda g, y, x: [(y.gt(0)).where(g, 0)])
_elementwise(
    "erf", 1, "the error function", torch.erf,
    lambda g, y, x: [g * (-x * x).exp() * (2 / math.sqrt(math.pi))],
)  # fmt: skip
_elementwise("exp2", 1, "2^x", torch.exp2, lambda g, y, x: [g * (y * math.log(2))])
_elementwise("log2", 1, "log₂ x", torch.log2, lambda g, y, x: [g / (x * math.log(2))])
_elementwise("log10", 1, "log₁₀ x", torch.log10, lambda g, y, x: [g / (x * math.log(10))])
_elementwise("sin", 1, "sin x", torch.sin, lambda g, y, x: [g * x.cos()])
_elementwise("cos", 1, "cos x", torch.cos, lambda g, y, x: [-g * x.sin()])
_elementwise("tan", 1, "tan x", torch.tan, lambda g, y, x: [g * (y * y + 1)])
_elementwise("asin", 1, "arcsin x", torch.asin, lambda g, y, x: [g * (1 - x * x).rsqrt()])
_elementwise("acos", 1, "arccos x", torch.acos, lambda g, y, x: [-g * (1 - x * x).rsqrt()])
_elementwise("atan", 1, "arctan x", torch.atan, lambda g, y, x: [g / (x * x + 1)])
_elementwise("sinh", 1, "sinh x", torch.sinh, lambda g, y, x: [g * x.cosh()])
_elementwise("cosh", 1, "cosh x", torch.cosh, lambda g, y, x: [g * x.sinh()])
_elementwise("asinh", 1, "arsinh x", torch.asinh, lambda g, y, x: [g * (x * x + 1).rsqrt()])
_elementwise("acosh", 1, "arcosh x", torch.acosh, lambda g, y, x: [g * (x * x - 1).rsqrt()])
_elementwise("atanh", 1, "artanh x", torch.atanh, lambda g, y, x: [g / (1 - x * x)])
_elementwise("floor", 1, "the largest integer ≤ x", torch.floor)
_elementwise("ceil", 1, "the smallest integer ≥ x", torch.ceil)
_elementwise("trunc", 1, "x without its fraction", torch.trunc)
_elementwise("round", 1, "the nearest integer, halves to even", torch.round)
_elementwise("detach", 1, "x, without a gradient", torch.detach)

_elementwise("add", 2, "a + b", torch.add, lambda g, y, a, b: [g, g])
_elementwise("sub", 2, "a - b", torch.sub, lambda g, y, a, b: [g, -g])
_elementwise("mul", 2, "a · b", torch.mul, lambda g, y, a, b: [g * b, g * a])
_elementwise("div", 2, "a / b", torch.div, lambda g, y, a, b: [g / b, -g * (y / b)])
_elementwise(
    "pow", 2, "a^b", torch.pow,
    lambda g, y, a, b: [
        # At b = 0 the power is constant, also where a^(b-1) is infinite.
        g * b.eq(0).where(0, b * a.pow(b - 1)),
        # At a = 0 the power is constant in b, also where ln a is infinite.
        g * a.eq(0).where(0, y * a.eq(0).where(1, a).log()),
    ],
)  # fmt: skip
_elementwise(
    "remainder", 2, "a - ⌊a/b⌋ b, exactly", torch.remainder,
    lambda g, y, a, b: [g, -g * (a / b).floor()],
)  # fmt: skip
# Where both are equal each takes half, as in torch.
_elementwise(
    "maximum", 2, "the larger", torch.maximum,
    lambda g, y, a, b: [a.gt(b).where(g, a.eq(b).where(g * 0.5, 0)),
                        b.gt(a).where(g, a.eq(b).where(g * 0.5, 0))],
)  # fmt: skip
_elementwise(
    "minimum", 2, "the smaller", torch.minimum,
    lambda g, y, a, b: [a.lt(b).where(g, a.eq(b).where(g * 0.5, 0)),
                        b.lt(a).where(g, a.eq(b).where(g * 0.5, 0))],
)  # fmt: skip
_elementwise(
    "where", 3, "a where the condition holds, else b", torch.where,
    lambda g, y, c, a, b: [None, c.where(g, 0), c.where(0, g)],
)  # fmt: skip

for _name, _meaning in {
    "eq": "a = b", "ne": "a ≠ b", "lt": "a < b", "le": "a ≤ b", "gt": "a > b", "ge": "a ≥ b",
}.items():  # fmt: skip
    _elementwise(_name, 2, _meaning, getattr(torch, _name), dtype=torch.bool)
_elementwise("logical_and", 2, "both", torch.logical_and, dtype=torch.bool)
_elementwise("logical_or", 2, "either", torch.logical_or, dtype=torch.bool)
_elementwise("logical_not", 1, "not", torch.logical_not, dtype=torch.bool)


def _convert(x: Tensor, *, dtype: torch.dtype, **_: Any) -> Tensor:
    return x.to(dtype)


_add(
    Op(
        "convert", "elementwise", 1, "x in another dtype",
        shape=lambda shapes, _: shapes[0],
        run=_convert,
        derivative=lambda g, y, x, **_: [
            g.builder.add("convert", [g], dtype=x.dtype) if x.dtype.is_floating_point else None
        ],
    )
)  # fmt: skip


# --- views ---------------------------------------------------------------------------------------


def _slice_shape(shapes: list[Shape], a: Attributes) -> Shape:
    return replace_dim(shapes[0], a["dim"], len(range(a["start"], a["stop"], a["step"])))


def _cat_shape(shapes: list[Shape], a: Attributes) -> Shape:
    sizes = [shape[a["dim"]] for shape in shapes]
    assert not any(isinstance(size, Batch) for size in sizes)
    return replace_dim(shapes[0], a["dim"], sum(s for s in sizes if isinstance(s, int)))


def _slices(g: Value, pieces: tuple[Value, ...], dim: int) -> list[Value]:
    """The parts of g that belong to the pieces of a concatenation."""
    parts, start = [], 0
    for piece in pieces:
        size = piece.shape[dim]
        assert isinstance(size, int)
        parts.append(g.slice(dim=dim, start=start, stop=start + size, step=1))
        start += size
    return parts


def _run_slice(x: Tensor, *, dim: int, start: int, stop: int, step: int, **_: Any) -> Tensor:
    return x[(slice(None),) * dim + (slice(start, stop, step),)]


def _run_unslice(
    x: Tensor, *, dim: int, start: int, stop: int, step: int, size: int, **_: Any
) -> Tensor:
    shape = list(x.shape)
    shape[dim] = size
    return torch.slice_scatter(x.new_zeros(shape), x, dim, start, stop, step)


def _inverse(dims: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(dims.index(i) for i in range(len(dims)))


_add(
    Op(
        "reshape", "view", 1, "the same numbers in another shape",
        run=lambda x, *, size, **_: x.reshape(size),
        derivative=lambda g, y, x, **_: [g.reshape(x.shape)],
    )
)  # fmt: skip
_add(
    Op(
        "expand", "view", 1, "repeated along dimensions of size 1, and new ones in front",
        run=lambda x, *, size, **_: x.expand(size),
        derivative=lambda g, y, x, **_: [g],  # broadcasting is undone for all operations alike
    )
)  # fmt: skip
_add(
    Op(
        "permute", "view", 1, "the dimensions in another order",
        shape=lambda shapes, a: tuple(shapes[0][dim] for dim in a["dims"]),
        run=lambda x, *, dims, **_: x.permute(dims),
        derivative=lambda g, y, x, *, dims, **_: [g.permute(_inverse(dims))],
    )
)  # fmt: skip
_add(
    Op(
        "slice", "view", 1, "x[start:stop:step] along one dimension", _slice_shape,
        run=_run_slice,
        derivative=lambda g, y, x, **a: [g.unslice(size=x.shape[a["dim"]], **a)],
    )
)  # fmt: skip
_add(
    Op(
        "unslice", "view", 1, "zeros with x at [start:stop:step] along one dimension",
        shape=lambda shapes, a: replace_dim(shapes[0], a["dim"], a["size"]),
        run=_run_unslice,
        derivative=lambda g, y, x, *, size, **a: [g.slice(**a)],
    )
)  # fmt: skip
_add(
    Op(
        "cat", "view", None, "one behind the other along one dimension", _cat_shape,
        run=lambda *pieces, dim, **_: torch.cat(pieces, dim),
        derivative=lambda g, y, *pieces, dim, **_: _slices(g, pieces, dim),
    )
)  # fmt: skip
_add(
    Op(
        "flip", "view", 1, "in the opposite order along one dimension",
        shape=lambda shapes, _: shapes[0],
        run=lambda x, *, dim, **_: x.flip(dim),
        derivative=lambda g, y, x, *, dim, **_: [g.flip(dim=dim)],
    )
)  # fmt: skip


# --- reductions: the dimensions stay, with size 1 ------------------------------------------------


def _reduced(shapes: list[Shape], a: Attributes) -> Shape:
    return tuple(1 if i in a["dims"] else dim for i, dim in enumerate(shapes[0]))


def _share(g: Value, y: Value, x: Value, dims: tuple[int, ...]) -> Value:
    """g, in equal shares to all that reach the extreme value y."""
    reached = x.builder.add("convert", [x.eq(y)], dtype=x.dtype)
    return (g / reached.sum(dims=dims)) * reached


_add(
    Op(
        "sum", "reduction", 1, "the sum over dimensions, which stay with size 1", _reduced,
        run=lambda x, *, dims, **_: x.sum(dims, keepdim=True),
        derivative=lambda g, y, x, **_: [g.expand(x.shape)],
    )
)  # fmt: skip
_add(
    Op(
        "amax", "reduction", 1, "the largest over dimensions, which stay with size 1", _reduced,
        run=lambda x, *, dims, **_: x.amax(dims, keepdim=True),
        derivative=lambda g, y, x, *, dims, **_: [_share(g, y, x, dims)],
    )
)  # fmt: skip
_add(
    Op(
        "amin", "reduction", 1, "the smallest over dimensions, which stay with size 1", _reduced,
        run=lambda x, *, dims, **_: x.amin(dims, keepdim=True),
        derivative=lambda g, y, x, *, dims, **_: [_share(g, y, x, dims)],
    )
)  # fmt: skip


def _run_first_max(x: Tensor, *, dim: int, **_: Any) -> Tensor:
    mask = torch.zeros_like(x, dtype=torch.bool)
    return mask.scatter(dim, x.argmax(dim, keepdim=True), True)


_add(
    Op(
        "first_max", "reduction", 1, "true at the place of the largest along one dimension",
        shape=lambda shapes, _: shapes[0],
        dtype=torch.bool,
        run=_run_first_max,
    )
)  # fmt: skip
_add(
    Op(
        "cumsum", "reduction", 1, "running sums along one dimension",
        shape=lambda shapes, _: shapes[0],
        run=lambda x, *, dim, **_: x.cumsum(dim),
        derivative=lambda g, y, x, *, dim, **_: [g.flip(dim=dim).cumsum(dim=dim).flip(dim=dim)],
    )
)  # fmt: skip


# --- products ------------------------------------------------------------------------------------


def _product_shape(shapes: list[Shape], _: Attributes) -> Shape:
    a, b = shapes
    if len(a) != len(b) or a[:-2] != b[:-2] or a[-1] != b[-2]:
        raise ValueError(f"product of {a} and {b}")
    return (*a[:-1], b[-1])


_add(
    Op(
        "matmul", "product", 2, "the matrix product of the last two dimensions", _product_shape,
        run=lambda a, b, **_: a @ b,
        derivative=lambda g, y, a, b, **_: [
            g.matmul(b.transpose()), a.transpose().matmul(g)
        ],
    )
)  # fmt: skip


def _int8_shape(shapes: list[Shape], _: Attributes) -> Shape:
    x, weight, scale = shapes
    fits = len(x) == len(weight) and x[:-2] == weight[:-2] and x[-1] == weight[-1]
    if not fits or scale != weight[:-1]:
        raise ValueError(f"int8 product of {x} and {weight}, scaled by {scale}")
    return (*x[:-1], weight[-2])


def _no_gradient(*_: Any, **__: Any) -> Sequence[Value | None]:
    raise CellError(int8.NO_GRADIENT)


_add(
    Op(
        "int8_linear", "product", 3,
        "x Wᵀ, x taken to 8 bits row by row; W is int8, with a scale for each of its rows",
        _int8_shape,
        run=int8.linear,
        derivative=_no_gradient,
    )
)  # fmt: skip
