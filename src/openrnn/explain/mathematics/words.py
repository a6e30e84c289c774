"""A step graph in larger words: what is one function to a reader becomes one operation.

A pattern is recognised by writing it once more: equal nodes are made once, so if the same node
comes out, it is the pattern.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from openrnn.step import ops
from openrnn.step.aten import CONVERTERS
from openrnn.step.evaluate import evaluator
from openrnn.step.graph import Builder, Graph, Node, Value, depends_on
from openrnn.step.ops import Op
from openrnn.step.shape import Batch, batch_dim, features

# --- the words -----------------------------------------------------------------------------------

WORDS: dict[str, Op] = dict(ops.TABLE)


def _add(op: Op) -> None:
    WORDS[op.name] = op


def _scale(a: Tensor, eps: float, centre: bool) -> tuple[Tensor, Tensor]:
    """What a norm divides by, and the result."""
    a = a - a.mean(-1, keepdim=True) if centre else a
    scale = ((a * a).mean(-1, keepdim=True) + eps).rsqrt()
    return scale, a * scale


def _run_norm(a: Tensor, *affine: Tensor, eps: float, centre: bool, parts: Any, **_: Any) -> Tensor:
    _, y = _scale(a, eps, centre)
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
    shape = WORDS["add"].shape
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


# --- how they are recognised ---------------------------------------------------------------------


class Word(NamedTuple):
    """An operation in place of a node, on values of the graph that the node is in."""

    op: str
    inputs: tuple[Value, ...]
    attributes: dict[str, Any]


def _inputs(value: Value) -> list[Value]:
    return [Value(value.builder, i) for i in value.node.inputs]


def number_of(node: Node) -> float | None:
    """The number, if the node is one."""
    single = node.op == "constant" and node.shape == () and node.dtype.is_floating_point
    return node["value"][0] if single else None


def _is(value: Value, again: Value) -> bool:
    return value.index == again.index


def _mean(value: Value) -> Word | None:
    total, count = _inputs(value)
    if total.node.op != "sum" or (number := number_of(count.node)) is None:
        return None
    (x,), dims = _inputs(total), total.node["dims"]
    each = features(x.shape) // max(features(total.shape), 1)
    return Word("mean", (x,), {"dims": dims}) if number == each else None


def _last(value: Value) -> tuple[int, ...]:
    return (len(value.shape) - 1,)


def _norm(value: Value) -> Word | None:
    """(a - mean(a)) · rsqrt(mean((a - mean(a))²) + eps), or the same without the mean."""
    centred, scale = _inputs(value)
    if scale.node.op != "rsqrt" or (inside := _inputs(scale)[0]).node.op != "add":
        return None
    eps, count = number_of(_inputs(inside)[1].node), centred.shape[-1] if centred.shape else 1
    if eps is None:
        return None

    def mean(x: Value) -> Value:
        total: Value = x.sum(dims=_last(x))
        return total / count

    if not _is(value, centred * (mean(centred * centred) + eps).rsqrt()):
        return None
    a = _inputs(centred)[0] if centred.node.op == "sub" else None
    centre = a is not None and _is(centred, a - mean(a))
    options = {"eps": eps, "centre": centre, "parts": ()}
    return Word("norm", (a if centre and a is not None else centred,), options)


def _softmax(value: Value) -> Word | None:
    exponential, total = _inputs(value)
    if exponential.node.op != "exp" or (shifted := _inputs(exponential)[0]).node.op != "sub":
        return None
    x, dims = _inputs(shifted)[0], dict(total.node.attributes).get("dims", ())
    if len(dims) != 1:
        return None
    e = (x - x.amax(dims=dims).detach()).exp()
    return Word("softmax", (x,), {"dim": dims[0]}) if _is(value, e / e.sum(dims=dims)) else None


def _log_sigmoid(value: Value) -> Word | None:
    condition = _inputs(value)[0]
    if condition.node.op != "ge":
        return None
    x = _inputs(condition)[0]
    again, _ = CONVERTERS["log_sigmoid_forward.default"](None, None, x)  # type: ignore[arg-type]
    return Word("log_sigmoid", (x,), {}) if _is(value, again) else None


def _softplus(value: Value) -> Word | None:
    condition, x, _ = _inputs(value)
    if condition.node.op != "gt" or (scaled := _inputs(condition)[0]).node.op != "mul":
        return None
    beta, threshold = number_of(_inputs(scaled)[1].node), number_of(_inputs(condition)[1].node)
    if beta is None or threshold is None:
        return None
    again = CONVERTERS["softplus.default"](None, None, x, beta, threshold)  # type: ignore[arg-type]
    options = {"beta": beta, "threshold": threshold}
    return Word("softplus", (x,), options) if _is(value, again) else None


def _bound(value: Value) -> Word | None:
    condition, chosen, otherwise = _inputs(value)
    name = {"gt": "at_most", "lt": "at_least"}.get(condition.node.op)
    if name is None or _inputs(condition) != [otherwise, chosen]:
        return None
    return Word(name, (otherwise, chosen), {})


def _root(value: Value) -> Word | None:
    condition, _, root = _inputs(value)
    if condition.node.op != "eq" or root.node.op != "sqrt":
        return None
    x = _inputs(condition)[0]
    zero = x.eq(0)
    again = zero.where(_number(x, 0), zero.where(_number(x, 1), x).sqrt())
    return Word("root", (x,), {}) if _is(value, again) else None


def _number(like: Value, value: float) -> Value:
    return like.builder.lift(value, like.dtype)


_PATTERNS: dict[str, tuple[Callable[[Value], Word | None], ...]] = {
    "div": (_mean, _softmax),
    "mul": (_norm,),
    "where": (_log_sigmoid, _softplus, _bound, _root),
}


def _recognise(value: Value) -> Word | None:
    for pattern in _PATTERNS.get(value.node.op, ()):
        word = pattern(value)
        if word is not None:
            return word
    return None


# --- weights that are no matrix as they lie, of heads say ----------------------------------------

_VIEWS = ("reshape", "permute", "slice", "expand")


def _is_rows(node: Node) -> bool:
    """Whether it is a vector for each row of the batch."""
    return len(node.shape) == 2 and node.shape[0] == Batch()


def _linear_maps(graph: Graph) -> dict[int, tuple[int, int, Graph]]:
    """Vectors that are a linear map of another one, by a product between views of heads.

    For each its place, that of the other vector, of the weight, and the way from both.
    """
    readers, found = graph.readers(), {}
    for index, node in enumerate(graph.nodes):
        if node.op != "matmul" or (_is_rows(node) and _is_rows(graph.nodes[node.inputs[0]])):
            continue
        sides = sorted(node.inputs, key=lambda i: batch_dim(graph.nodes[i].shape) is None)
        vector, weight = _along_views(graph, sides[0], True), _along_views(graph, sides[1], False)
        result: int | None = index
        while result is not None and not _is_rows(graph.nodes[result]):
            after = readers[result]
            onward = len(after) == 1 and graph.nodes[after[0]].op in _VIEWS
            result = after[0] if onward else None
        if vector is not None and weight is not None and result is not None:
            found[result] = (vector, weight, _chain(graph, vector, weight, result))
    return found


def _along_views(graph: Graph, index: int, rows: bool) -> int | None:
    """What a view is of: a vector for each row, or a parameter."""
    node = graph.nodes[index]
    if _is_rows(node) if rows else node.op == "input" and node["kind"] == "parameter":
        return index
    return _along_views(graph, node.inputs[0], rows) if node.op in _VIEWS else None


def _chain(graph: Graph, vector: int, weight: int, result: int) -> Graph:
    builder = Builder()
    made: dict[int, Value] = {}
    for name, index in (("u", vector), ("weight", weight)):
        node = graph.nodes[index]
        made[index] = builder.input("input", name, node.shape, node.dtype)

    def make(index: int) -> Value:
        if index not in made:
            node = graph.nodes[index]
            made[index] = builder.copy(node, [make(i) for i in node.inputs])
        return made[index]

    return builder.finish({"y": make(result)})


def _matrix_of(weight: Tensor, chain: Graph) -> Tensor:
    """What the map makes of the unit vectors, as columns."""
    u = next(node for _, node in chain.inputs() if node["name"] == "u")
    size = features(u.shape)
    units = torch.eye(size, dtype=weight.dtype, device=weight.device)
    given = {"input.u": units, "input.weight": weight}
    return evaluator(chain, weight.device)(given, size)["y"].T


# --- the graph in these words --------------------------------------------------------------------


def in_words(graph: Graph) -> Graph:
    """The same step; sums of products have those of x first, and mixtures are written as such."""
    raw = Builder()
    values: list[Value] = []
    for node in graph.nodes:
        values.append(raw.copy(node, [values[i] for i in node.inputs]))
    words = {value.index: word for value in values if (word := _recognise(value)) is not None}
    maps = _linear_maps(graph)
    writer = _Sentences(graph)
    made: list[Value] = []
    for index, node in enumerate(graph.nodes):
        if index in maps:
            vector, weight, chain = maps[index]
            shape = (features(node.shape), features(graph.nodes[vector].shape))
            matrix = writer.add("matrix", [made[weight]], shape=shape, chain=chain)
            value = made[vector].matmul(matrix.transpose())
        elif index in words:
            op, inputs, attributes = words[index]
            value = writer.add(op, [made[v.index] for v in inputs], **attributes)
        else:
            value = writer.write(index, node, [made[i] for i in node.inputs])
        writer.call(value, node)
        made.append(value)
    return writer.finish({label: made[index] for label, index in graph.outputs})


class _Sentences(Writer):
    """Writes a node as a reader would have it."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        nodes = graph.nodes
        self._of_input = depends_on(nodes, (i for i, _ in graph.inputs("input")))
        self._of_state = depends_on(nodes, (i for i, _ in graph.inputs("state")))
        self._of_product = depends_on(
            nodes, (i for i, node in enumerate(nodes) if node.op == "matmul")
        )
        self._graph = graph

    def call(self, value: Value, node: Node) -> None:
        """Gives a value the name of the node that it stands for, unless it has one."""
        if node.name is not None and value.node.name is None and value.node.op != "input":
            import dataclasses

            self.nodes[value.index] = dataclasses.replace(
                value.node, name=node.name, line=node.line
            )

    def write(self, index: int, node: Node, inputs: list[Value]) -> Value:
        if node.op == "convert" and node.dtype.is_floating_point:
            (x,) = inputs
            if x.dtype.is_floating_point:
                return x
        if node.op == "add":
            left, right = node.inputs
            if self._is_of_state_alone(left) and self._is_of_input_alone(right):
                inputs.reverse()
            mixed = _mixture(*inputs)
            if mixed is not None:
                return mixed
        if node.op in ("add", "mul"):
            joined = _with_affine(node.op, inputs)
            if joined is not None:
                return joined
        return self.copy(node, inputs)

    def _is_of_input_alone(self, index: int) -> bool:
        of_input = index in self._of_input and index not in self._of_state
        return of_input and index in self._of_product

    def _is_of_state_alone(self, index: int) -> bool:
        of_state = index in self._of_state and index not in self._of_input
        return of_state and index in self._of_product


def _with_affine(op: str, inputs: list[Value]) -> Value | None:
    """A norm with the weight, or the bias, that comes behind it."""
    norm, part = inputs
    if norm.node.op != "norm" or part.node.op != "input" or len(part.shape) != 1:
        return None
    before: tuple[str, ...] = norm.node["parts"]
    after = (*before, "weight" if op == "mul" else "bias")
    if after not in (("weight",), ("weight", "bias")):
        return None
    options = {**dict(norm.node.attributes), "parts": after}
    return norm.builder.add("norm", [*_inputs(norm), part], **options)


def _mixture(left: Value, right: Value) -> Value | None:
    """a + (b - a) w, in either order, is (1 - w) a + w b."""
    for start, step in ((left, right), (right, left)):
        if step.node.op != "mul":
            continue
        difference, weight = _inputs(step)
        if difference.node.op == "sub" and _inputs(difference)[1] == start:
            end, number = _inputs(difference)[0], number_of(weight.node)
            rest = _number(weight, 1) - weight if number is None else _number(weight, 1 - number)
            return rest * start + weight * end
    return None
