"""The table of operations with words for what is one function to a reader: norms, log σ, means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from openrnn.step import ops
from openrnn.step.evaluate import evaluator
from openrnn.step.graph import Builder, Graph, Node, Value
from openrnn.step.ops import Op
from openrnn.step.shape import features

WORDS: dict[str, Op] = dict(ops.TABLE)


def _add(op: Op) -> None:
    WORDS[op.name] = op


def _scale(a: Tensor, eps: float, centre: bool) -> tuple[Tensor, Tensor]:
    """What a norm multiplies with, and the result."""
    a = a - a.mean(-1, keepdim=True) if centre else a
    scale = ((a * a).mean(-1, keepdim=True) + eps).rsqrt()
    return scale, a * scale


def _run_norm(a: Tensor, *affine: Tensor, eps: float, centre: bool, parts: Any, **_: Any) -> Tensor:
    y = _scale(a, eps, centre)[1]
    for part, tensor in zip(parts, affine, strict=True):
        y = y * tensor if part == "weight" else y + tensor
    return y


def _run_norm_back(
    g: Tensor, a: Tensor, *affine: Tensor, eps: float, centre: bool, **_: Any
) -> Tensor:
    """The gradient of what is normalised, for that of the result."""
    scale, y = _scale(a, eps, centre)
    for weight in affine:
        g = g * weight
    inner = g - y * (g * y).mean(-1, keepdim=True)
    return scale * (inner - g.mean(-1, keepdim=True) if centre else inner)


def _norm_derivative(
    g: Value, y: Value, a: Value, *affine: Value, parts: tuple[str, ...], **options: Any
) -> list[Value]:
    weights = affine[: parts.count("weight")]
    normed = g.builder.add("norm", [a], parts=(), **options)
    grads = [g.builder.add("norm_back", [g, a, *weights], parts=parts, **options)]
    return grads + [g * normed if part == "weight" else g for part in parts]


_add(
    Op(
        "norm", "reduction", None, "a, less its mean, over its deviation; weight and bias",
        shape=lambda shapes, _: shapes[0], run=_run_norm, derivative=_norm_derivative,
    )
)  # fmt: skip
_add(
    Op(
        "norm_back", "reduction", None, "its Jacobian, transposed, times a gradient",
        shape=lambda shapes, _: shapes[1], run=_run_norm_back,
    )
)  # fmt: skip
_add(
    Op(
        "mean", "reduction", 1, "the mean over dimensions, which stay with size 1",
        shape=WORDS["sum"].shape,
        run=lambda x, *, dims, **_: x.mean(dims, keepdim=True),
        derivative=lambda g, y, x, *, dims, **_: [
            (g / (features(x.shape) // features(y.shape))).expand(x.shape)
        ],
    )
)  # fmt: skip
_add(
    Op(
        "softmax", "reduction", 1, "exp(x) over its sum",
        shape=lambda shapes, _: shapes[0],
        run=lambda x, *, dim, **_: x.softmax(dim),
        derivative=lambda g, y, x, *, dim, **_: [y * (g - (g * y).sum(dims=(dim,)))],
    )
)  # fmt: skip


def _matrix_of(weight: Tensor, chain: Graph) -> Tensor:
    """What the map makes of the unit vectors, as columns."""
    u = next(node for _, node in chain.inputs() if node["name"] == "u")
    size = features(u.shape)
    units = torch.eye(size, dtype=weight.dtype, device=weight.device)
    y = evaluator(chain, weight.device)({"input.u": units, "input.weight": weight}, size)["y"]
    return y.T


_add(
    Op(
        "matrix", "view", 1, "the numbers of a weight, and zeros, as the matrix of a linear map",
        run=lambda p, *, chain, **_: _matrix_of(p, chain),
    )
)  # fmt: skip


def _elementwise(
    name: str,
    arity: int,
    meaning: str,
    run: Callable[..., Tensor],
    derivative: Callable[..., list[Value | None]],
) -> None:
    shape = ops.TABLE["add"].shape
    _add(Op(name, "elementwise", arity, meaning, shape, run=run, derivative=derivative))


_elementwise(
    "log_sigmoid", 1, "ln σ(x)", lambda x, **_: F.logsigmoid(x),
    lambda g, y, x, **_: [g * (-x).sigmoid()],
)  # fmt: skip
_elementwise(
    "softplus", 1, "ln(1 + e^(beta x)) / beta",
    lambda x, *, beta, threshold, **_: F.softplus(x, beta, threshold),
    lambda g, y, x, *, beta, **_: [g * (x * beta if beta != 1 else x).sigmoid()],
)  # fmt: skip
# At the bound the whole gradient goes through, as torch's clamp has it.
_elementwise(
    "at_most", 2, "x, or the bound where that is less",
    lambda x, bound, **_: torch.minimum(x, bound),
    lambda g, y, x, bound, **_: [x.le(bound).where(g, 0), x.gt(bound).where(g, 0)],
)  # fmt: skip
_elementwise(
    "at_least", 2, "x, or the bound where that is more",
    lambda x, bound, **_: torch.maximum(x, bound),
    lambda g, y, x, bound, **_: [x.ge(bound).where(g, 0), x.lt(bound).where(g, 0)],
)  # fmt: skip
_elementwise(
    "root", 1, "√x, with a slope of 0 at 0", lambda x, **_: x.sqrt(),
    lambda g, y, x, **_: [x.eq(0).where(0, g / (y * 2))],
)  # fmt: skip


class Writer(Builder):
    """Makes a graph of words."""

    table = WORDS


def number_of(node: Node) -> float | None:
    """The number, if the node is one."""
    single = node.op == "constant" and node.shape == () and node.dtype.is_floating_point
    return float(node["value"][0]) if single else None


def inputs_of(value: Value) -> list[Value]:
    return [Value(value.builder, i) for i in value.node.inputs]


def number_like(like: Value, value: float) -> Value:
    return like.builder.lift(value, like.dtype)
