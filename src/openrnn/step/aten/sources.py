"""Numbers that stand in the code, and random numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from openrnn.step.aten.registry import converts
from openrnn.step.graph import Value

if TYPE_CHECKING:
    from openrnn.step.trace import Trace


@converts("full.default", "full_like.default", "new_full.default")
def _full(trace: Trace, out: Any, *args: Any, **_: Any) -> Value:
    # (size, value), (like, value) or, for new_full, (like, size, value)
    value = args[2 if trace.current == "aten.new_full.default" else 1]
    return trace.cast(value, out.dtype).expand(trace.shape(out))


@converts("zeros.default", "zeros_like.default", "new_zeros.default", "zero.default")
@converts("empty.memory_format", "empty_like.default", "new_empty.default")
@converts("new_empty_strided.default", "empty_strided.default")
def _zeros(trace: Trace, out: Any, *_: Any, **__: Any) -> Value:
    # What is empty is filled before it is read, by a random mask or by copy.
    return trace.cast(0, out.dtype).expand(trace.shape(out))


@converts("ones.default", "ones_like.default", "new_ones.default")
def _ones(trace: Trace, out: Any, *_: Any, **__: Any) -> Value:
    return trace.cast(1, out.dtype).expand(trace.shape(out))


@converts("scalar_tensor.default")
def _scalar_tensor(trace: Trace, out: Any, value: Any, **_: Any) -> Value:
    return trace.cast(value, out.dtype)


@converts("bernoulli.p", "bernoulli.Tensor", "bernoulli.default")
def _bernoulli(trace: Trace, out: Any, x: Value, p: Any = None, **_: Any) -> Value:
    if isinstance(p, float):
        return trace.random(out, "bernoulli", p=p)
    # torch draws otherwise for a tensor of probabilities, also where they are all the same.
    probabilities = x if p is None else p
    number = _constant_number(probabilities)
    if number is None:
        raise trace.refuse("draws with probabilities that are computed; they must be a constant")
    return trace.random(out, "bernoulli of a tensor", p=number)


def _constant_number(value: Value) -> float | None:
    """The number that a value is everywhere, if it is one that stands in the code."""
    nodes, node = value.builder.nodes, value.node
    while node.op in ("expand", "reshape", "detach"):
        node = nodes[node.inputs[0]]
    if node.op == "constant" and len(set(node["value"])) == 1:
        return float(node["value"][0])
    return None


@converts("rand.default", "rand_like.default")
def _rand(trace: Trace, out: Any, *_: Any, **__: Any) -> Value:
    return trace.random(out, "uniform")


@converts("randn.default", "randn_like.default")
def _randn(trace: Trace, out: Any, *_: Any, **__: Any) -> Value:
    return trace.random(out, "normal")


@converts("native_dropout.default")
def _native_dropout(trace: Trace, out: Any, x: Value, p: float, train: Any) -> tuple[Value, Value]:
    if not train:
        return x, trace.cast(1, torch.bool).expand(x.shape)
    mask = trace.random(out[0], "bernoulli", p=1 - p)
    return x * (mask / (1 - p)), mask.ne(0)
