"""The closed table of operations as operators of ONNX, and a step graph written by it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from openrnn.io.onnx_nodes import Nodes
from openrnn.step.graph import Graph, Node
from openrnn.step.shape import Batch, concrete


@dataclass(frozen=True)
class Place:
    """Where an operation is written.

    nodes: to add to.
    node: the operation.
    operands: the nodes that it reads.
    rows: gives the name of the number of rows B, (1) int64.
    """

    nodes: Nodes
    node: Node
    operands: list[Node]
    rows: Callable[[], str]

    def number(self, value: float) -> str:
        """A number of the dtype of the first operand."""
        return self.nodes.number(value, self.operands[0].dtype)


# Writes an operation, whose inputs have these names; the result's name is returned.
Write = Callable[..., str]


def write(
    graph: Graph, given: Mapping[str, str], nodes: Nodes, rows: Callable[[], str]
) -> dict[str, str]:
    """Adds the nodes of a graph: the names of its results by label, for those of its inputs."""
    names: list[str] = []
    for node in graph.nodes:
        if node.op == "input":
            names.append(given[node.label])
        elif node.op == "constant":
            flat = torch.tensor(node["value"], dtype=node.dtype)
            names.append(nodes.constant(flat.reshape(concrete(node.shape, 0))))
        else:
            place = Place(nodes, node, [graph.nodes[i] for i in node.inputs], rows)
            names.append(TABLE[node.op](place, *[names[i] for i in node.inputs]))
    return {label: names[index] for label, index in graph.outputs}


def _same(op: str) -> Write:
    return lambda at, *inputs: at.nodes(op, *inputs)


def _log1p(at: Place, x: str) -> str:
    """Exact also where 1 + x rounds: ln u · x/(u - 1), with u = 1 + x as it is rounded."""
    n, one = at.nodes, at.number(1)
    u = n("Add", x, one)
    rounded, log = n("Sub", u, one), n("Log", u)
    scaled = n("Mul", log, n("Div", x, rounded))
    small = n("Where", n("Equal", u, one), x, scaled)
    return n("Where", n("Equal", rounded, x), log, small)


def _expm1(at: Place, x: str) -> str:
    """e^x - 1 = tanh(x/2) · (e^x + 1), which loses nothing about 0."""
    n = at.nodes
    half = n("Tanh", n("Mul", x, at.number(0.5)))
    return n("Mul", half, n("Add", n("Exp", x), at.number(1)))


def _log_to(base: float) -> Write:
    return lambda at, x: at.nodes("Div", at.nodes("Log", x), at.number(math.log(base)))


def _trunc(at: Place, x: str) -> str:
    return at.nodes("Mul", at.nodes("Sign", x), at.nodes("Floor", at.nodes("Abs", x)))


def _remainder(at: Place, a: str, b: str) -> str:
    """Of the sign of b, where that of Mod is of the sign of a."""
    n, zero = at.nodes, at.number(0)
    r = n("Mod", a, b, fmod=1)
    other = n("Less", n("Mul", n("Sign", r), n("Sign", b)), zero)
    return n("Where", other, n("Add", r, b), r)


def _logical(op: str) -> Write:
    def written(at: Place, *inputs: str) -> str:
        n = at.nodes
        truths = [
            x if operand.dtype == torch.bool else n("Cast", x, to=n.kind(torch.bool))
            for x, operand in zip(inputs, at.operands, strict=True)
        ]
        return n(op, *truths)

    return written


def _ne(at: Place, a: str, b: str) -> str:
    return at.nodes("Not", at.nodes("Equal", a, b))


def _convert(at: Place, x: str) -> str:
    return at.nodes("Cast", x, to=at.nodes.kind(at.node.dtype))


def _reshape(at: Place, x: str) -> str:
    sizes = (-1 if isinstance(dim, Batch) else dim for dim in at.node.shape)
    return at.nodes("Reshape", x, at.nodes.ints(*sizes))


def _expand(at: Place, x: str) -> str:
    n, shape, old = at.nodes, at.node.shape, at.operands[0].shape
    old = (1,) * (len(shape) - len(old)) + old
    # Where the size stays, 1 will do.
    wanted = [1 if dim == was else dim for dim, was in zip(shape, old, strict=True)]
    if not any(isinstance(dim, Batch) for dim in wanted):
        return n("Expand", x, n.ints(*(dim for dim in wanted if isinstance(dim, int))))
    sizes = [
        n("Mul", at.rows(), n.ints(dim.times)) if isinstance(dim, Batch) else n.ints(dim)
        for dim in wanted
    ]
    return n("Expand", x, n("Concat", *sizes, axis=0))


def _permute(at: Place, x: str) -> str:
    return at.nodes("Transpose", x, perm=list(at.node["dims"]))


def _slice(at: Place, x: str) -> str:
    places = (at.nodes.ints(at.node[name]) for name in ("start", "stop", "dim", "step"))
    return at.nodes("Slice", x, *places)


def _unslice(at: Place, x: str) -> str:
    """Each place takes its number of x, or the zero behind x."""
    n, dim, rank = at.nodes, at.node["dim"], len(at.node.shape)
    size = at.operands[0].shape[dim]
    assert isinstance(size, int)
    found = [size] * at.node["size"]
    for i, place in enumerate(range(at.node["start"], at.node["stop"], at.node["step"])):
        found[place] = i
    pads = [0] * (2 * rank)
    pads[rank + dim] = 1
    return n("Gather", n("Pad", x, n.ints(*pads)), n.ints(*found), axis=dim)


def _cat(at: Place, *pieces: str) -> str:
    return at.nodes("Concat", *pieces, axis=at.node["dim"])


def _flip(at: Place, x: str) -> str:
    n = at.nodes
    first = torch.iinfo(torch.int64).min
    return n("Slice", x, n.ints(-1), n.ints(first), n.ints(at.node["dim"]), n.ints(-1))


def _reduce(op: str) -> Write:
    return lambda at, x: at.nodes(op, x, at.nodes.ints(*at.node["dims"]), keepdims=1)


def _first_max(at: Place, x: str) -> str:
    n, dim, shape = at.nodes, at.node["dim"], at.node.shape
    size = shape[dim]
    assert isinstance(size, int)
    places = torch.arange(size).reshape([-1 if i == dim else 1 for i in range(len(shape))])
    return n("Equal", n("ArgMax", x, axis=dim, keepdims=1), n.constant(places))


def _cumsum(at: Place, x: str) -> str:
    return at.nodes("CumSum", x, at.nodes.constant(torch.tensor(at.node["dim"])))


TABLE: dict[str, Write] = {
    **{
        name: _same(name.capitalize())
        for name in (
            *("neg", "abs", "sign", "exp", "log", "sqrt", "reciprocal", "sigmoid", "tanh", "relu"),
            *("erf", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh"),
            *("atanh", "floor", "ceil", "round", "add", "sub", "mul", "div", "pow", "where"),
        )
    },
    "log1p": _log1p,
    "expm1": _expm1,
    "rsqrt": lambda at, x: at.nodes("Reciprocal", at.nodes("Sqrt", x)),
    "exp2": lambda at, x: at.nodes("Pow", at.number(2), x),
    "log2": _log_to(2),
    "log10": _log_to(10),
    "trunc": _trunc,
    "detach": _same("Identity"),
    "remainder": _remainder,
    "maximum": _same("Max"),
    "minimum": _same("Min"),
    "eq": _same("Equal"),
    "ne": _ne,
    "lt": _same("Less"),
    "le": _same("LessOrEqual"),
    "gt": _same("Greater"),
    "ge": _same("GreaterOrEqual"),
    "logical_and": _logical("And"),
    "logical_or": _logical("Or"),
    "logical_not": _logical("Not"),
    "convert": _convert,
    "reshape": _reshape,
    "expand": _expand,
    "permute": _permute,
    "slice": _slice,
    "unslice": _unslice,
    "cat": _cat,
    "flip": _flip,
    "sum": _reduce("ReduceSum"),
    "amax": _reduce("ReduceMax"),
    "amin": _reduce("ReduceMin"),
    "first_max": _first_max,
    "cumsum": _cumsum,
    "matmul": _same("MatMul"),
}
