"""Words for what operations mean together: how they are recognised.

A pattern is recognised by writing it once more: equal nodes are made once, so if the same node
comes out, it is the pattern.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from openrnn.explain.mathematics.words import inputs_of, number_like, number_of
from openrnn.step.aten import CONVERTERS
from openrnn.step.graph import Value
from openrnn.step.shape import features

# They write what torch's operations are made of; these need no trace.
_CONVERTERS: dict[str, Any] = dict(CONVERTERS)


class Word(NamedTuple):
    """An operation in place of a node, on values of the graph that the node is in."""

    op: str
    inputs: tuple[Value, ...]
    attributes: dict[str, Any]


def _is(value: Value, again: Value) -> bool:
    return value.index == again.index


def _mean(value: Value) -> Word | None:
    total, count = inputs_of(value)
    if total.node.op != "sum" or (number := number_of(count.node)) is None:
        return None
    (x,), dims = inputs_of(total), total.node["dims"]
    each = features(x.shape) // max(features(total.shape), 1)
    return Word("mean", (x,), {"dims": dims}) if number == each else None


def _last(value: Value) -> tuple[int, ...]:
    return (len(value.shape) - 1,)


def _norm(value: Value) -> Word | None:
    """(a - mean(a)) · rsqrt(mean((a - mean(a))²) + eps), or the same without the mean."""
    centred, scale = inputs_of(value)
    if scale.node.op != "rsqrt" or (inside := inputs_of(scale)[0]).node.op != "add":
        return None
    eps, count = number_of(inputs_of(inside)[1].node), centred.shape[-1] if centred.shape else 1
    if eps is None:
        return None

    def mean(x: Value) -> Value:
        total: Value = x.sum(dims=_last(x))
        return total / count

    if not _is(value, centred * (mean(centred * centred) + eps).rsqrt()):
        return None
    a = inputs_of(centred)[0] if centred.node.op == "sub" else None
    centre = a is not None and _is(centred, a - mean(a))
    options = {"eps": eps, "centre": centre, "parts": ()}
    return Word("norm", (a if centre and a is not None else centred,), options)


def _softmax(value: Value) -> Word | None:
    exponential, total = inputs_of(value)
    if exponential.node.op != "exp" or (shifted := inputs_of(exponential)[0]).node.op != "sub":
        return None
    x, dims = inputs_of(shifted)[0], dict(total.node.attributes).get("dims", ())
    if len(dims) != 1:
        return None
    e = (x - x.amax(dims=dims).detach()).exp()
    return Word("softmax", (x,), {"dim": dims[0]}) if _is(value, e / e.sum(dims=dims)) else None


def _log_sigmoid(value: Value) -> Word | None:
    condition = inputs_of(value)[0]
    if condition.node.op != "ge":
        return None
    x = inputs_of(condition)[0]
    again, _ = _CONVERTERS["log_sigmoid_forward.default"](None, None, x)
    return Word("log_sigmoid", (x,), {}) if _is(value, again) else None


def _softplus(value: Value) -> Word | None:
    condition, x, _ = inputs_of(value)
    if condition.node.op != "gt" or (scaled := inputs_of(condition)[0]).node.op != "mul":
        return None
    beta, threshold = number_of(inputs_of(scaled)[1].node), number_of(inputs_of(condition)[1].node)
    if beta is None or threshold is None:
        return None
    again = _CONVERTERS["softplus.default"](None, None, x, beta, threshold)
    options = {"beta": beta, "threshold": threshold}
    return Word("softplus", (x,), options) if _is(value, again) else None


def _bound(value: Value) -> Word | None:
    condition, chosen, otherwise = inputs_of(value)
    name = {"gt": "at_most", "lt": "at_least"}.get(condition.node.op)
    if name is None or inputs_of(condition) != [otherwise, chosen]:
        return None
    return Word(name, (otherwise, chosen), {})


def _root(value: Value) -> Word | None:
    condition, _, root = inputs_of(value)
    if condition.node.op != "eq" or root.node.op != "sqrt":
        return None
    x = inputs_of(condition)[0]
    zero = x.eq(0)
    again = zero.where(number_like(x, 0), zero.where(number_like(x, 1), x).sqrt())
    return Word("root", (x,), {}) if _is(value, again) else None


_PATTERNS: dict[str, tuple[Callable[[Value], Word | None], ...]] = {
    "div": (_mean, _softmax),
    "mul": (_norm,),
    "where": (_log_sigmoid, _softplus, _bound, _root),
}


def recognise(value: Value) -> Word | None:
    """What the value is, if it is one of the words."""
    for pattern in _PATTERNS.get(value.node.op, ()):
        word = pattern(value)
        if word is not None:
            return word
    return None
