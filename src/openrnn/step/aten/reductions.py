"""Reductions over the features, and what is composed of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from openrnn.step.aten.registry import as_list, converts, number
from openrnn.step.graph import Value
from openrnn.step.shape import Batch, Shape

if TYPE_CHECKING:
    from openrnn.step.trace import Trace


_OVER_ROWS = (
    "reduces over the rows of the batch, which are sequences of their own; "
    "for a choice that depends on values use torch.where"
)


def _dims(trace: Trace, x: Value, dims: Any) -> tuple[int, ...]:
    """Which dimensions are meant; none given means all."""
    rank = len(x.shape)
    given = range(rank) if dims is None or dims == [] else as_list(dims)
    chosen = tuple(sorted(d % rank for d in given))
    if any(isinstance(x.shape[d], Batch) for d in chosen):
        raise trace.refuse(_OVER_ROWS)
    return chosen


def _count(x: Value, dims: tuple[int, ...]) -> int:
    return math.prod(size for d in dims if isinstance(size := x.shape[d], int))


@converts("sum.default", "sum.dim_IntList")
def _sum(trace: Trace, out: Any, x: Value, dims: Any = None, *_: Any, **__: Any) -> Value:
    x = trace.cast(x, out.dtype)
    return x.sum(dims=_dims(trace, x, dims)).reshape(trace.shape(out))


@converts("mean.default", "mean.dim")
def _mean(trace: Trace, out: Any, x: Value, dims: Any = None, *_: Any, **__: Any) -> Value:
    x = trace.cast(x, out.dtype)
    return _mean_kept(x, _dims(trace, x, dims)).reshape(trace.shape(out))


def _mean_kept(x: Value, dims: tuple[int, ...]) -> Value:
    mean: Value = x.sum(dims=dims) / _count(x, dims)
    return mean


def _wide(trace: Trace, *values: Value | None) -> list[Any]:
    """In single precision where that is less: squares overflow in half, and torch does so too."""
    half = (torch.float16, torch.bfloat16)
    return [v if v is None or v.dtype not in half else trace.cast(v, torch.float32) for v in values]


def _variance(x: Value, dims: tuple[int, ...], correction: float) -> tuple[Value, Value]:
    mean = _mean_kept(x, dims)
    centred = x - mean
    return (centred * centred).sum(dims=dims) / max(_count(x, dims) - correction, 0), mean


def _correction(args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    given = kwargs.get("correction", args[0] if args else 1)
    return 1.0 if given is None else float(given)


@converts("var.correction", "var.dim", "var.default")
def _var(trace: Trace, out: Any, x: Value, dims: Any = None, *args: Any, **kwargs: Any) -> Value:
    (x,) = _wide(trace, x)
    variance, _ = _variance(x, _dims(trace, x, dims), _correction(args, kwargs))
    return trace.cast(variance.reshape(trace.shape(out)), out.dtype)


@converts("std.correction", "std.dim", "std.default")
def _std(trace: Trace, out: Any, x: Value, dims: Any = None, *args: Any, **kwargs: Any) -> Value:
    (x,) = _wide(trace, x)
    variance, _ = _variance(x, _dims(trace, x, dims), _correction(args, kwargs))
    return trace.cast(_root(variance).reshape(trace.shape(out)), out.dtype)


@converts("var_mean.correction")
def _var_mean(
    trace: Trace, out: Any, x: Value, dims: Any = None, *args: Any, **kwargs: Any
) -> tuple[Value, Value]:
    (x,) = _wide(trace, x)
    found = _variance(x, _dims(trace, x, dims), _correction(args, kwargs))
    variance, mean = (
        trace.cast(value.reshape(trace.shape(tensor)), tensor.dtype)
        for value, tensor in zip(found, out, strict=True)
    )
    return variance, mean


def _root(x: Value) -> Value:
    """√x whose gradient at 0 is 0, as torch has it for norms and standard deviations."""
    zero = x.eq(0)
    return zero.where(number(x, 0), zero.where(number(x, 1), x).sqrt())


@converts("linalg_vector_norm.default")
def _norm(
    trace: Trace, out: Any, x: Value, ord: Any = 2, dims: Any = None, *_: Any, **__: Any
) -> Value:
    over = _dims(trace, x, dims)
    (x,) = _wide(trace, x)
    if ord == 2:
        norm = _root((x * x).sum(dims=over))
    elif ord == 1:
        norm = x.abs().sum(dims=over)
    elif ord == math.inf:
        norm = x.abs().amax(dims=over)
    else:
        raise trace.refuse(f"takes a norm of order {ord}")
    return trace.cast(norm.reshape(trace.shape(out)), out.dtype)


@converts("amax.default", "amin.default")
def _extreme(trace: Trace, out: Any, x: Value, dims: Any = None, *_: Any) -> Value:
    op = "amax" if "amax" in trace.current else "amin"
    extreme = trace.builder.add(op, [x], dims=_dims(trace, x, dims))
    return extreme.reshape(trace.shape(out))


@converts("max.default", "min.default")
def _extreme_of_all(trace: Trace, out: Any, x: Value) -> Value:
    raise trace.refuse(_OVER_ROWS)


@converts("max.dim", "min.dim")
def _max_dim(trace: Trace, out: Any, x: Value, dim: int, *_: Any) -> tuple[Value, Any]:
    (at,) = _dims(trace, x, dim)
    first = (x if "max" in trace.current else -x).first_max(dim=at)
    value = first.where(x, number(x, 0)).sum(dims=(at,)).reshape(trace.shape(out[0]))
    return value, None  # the index is no number of ours; reading it is refused


@converts("cumsum.default")
def _cumsum(trace: Trace, out: Any, x: Value, dim: int, **_: Any) -> Value:
    (at,) = _dims(trace, x, dim)
    return trace.cast(x, out.dtype).cumsum(dim=at)


def _softmax_parts(trace: Trace, x: Value, dim: int) -> tuple[Value, Value, Value]:
    """x less its largest, the exponential of that, and its sum."""
    at = _dims(trace, x, dim)
    shifted = x - x.amax(dims=at).detach()  # the shift changes nothing, so it needs no gradient
    exponential = shifted.exp()
    return shifted, exponential, exponential.sum(dims=at)


@converts("_softmax.default", "softmax.int")
def _softmax(trace: Trace, out: Any, x: Value, dim: int, *__: Any) -> Value:
    _, exponential, total = _softmax_parts(trace, trace.cast(x, out.dtype), dim)
    return exponential / total


@converts("_log_softmax.default", "log_softmax.int")
def _log_softmax(trace: Trace, out: Any, x: Value, dim: int, *__: Any) -> Value:
    shifted, _, total = _softmax_parts(trace, trace.cast(x, out.dtype), dim)
    return shifted - total.log()


@converts("logsumexp.default")
def _logsumexp(trace: Trace, out: Any, x: Value, dims: Any, *_: Any) -> Value:
    at = _dims(trace, x, dims)
    largest = x.amax(dims=at).detach()
    finite = largest.abs().lt(math.inf)  # of a row that is all -inf the shift is 0
    largest = finite.where(largest, number(x, 0))
    total = ((x - largest).exp().sum(dims=at)).log() + largest
    return total.reshape(trace.shape(out))


@converts("native_layer_norm.default", "layer_norm.default")
def _layer_norm(
    trace: Trace, out: Any, x: Value, size: list[int], weight: Any = None, bias: Any = None,
    eps: float = 1e-5, *_: Any,
) -> Any:  # fmt: skip
    dims = tuple(range(len(x.shape) - len(size), len(x.shape)))
    dtype = x.dtype
    x, weight, bias = _wide(trace, x, weight, bias)
    variance, mean = _variance(x, dims, 0)
    scale = (variance + eps).rsqrt()
    y = trace.cast(_affine((x - mean) * scale, weight, bias), dtype)
    return (y, mean, scale) if isinstance(out, tuple) else y


def _affine(x: Value, weight: Value | None, bias: Value | None) -> Value:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


@converts("rms_norm.default", "_fused_rms_norm.default")
def _rms_norm(
    trace: Trace, out: Any, x: Value, size: list[int], weight: Any = None, eps: Any = None
) -> Any:
    dims = tuple(range(len(x.shape) - len(size), len(x.shape)))
    epsilon = torch.finfo(x.dtype).eps if eps is None else eps
    dtype = x.dtype
    x, weight = _wide(trace, x, weight)
    scale = (_mean_kept(x * x, dims) + epsilon).rsqrt()
    y = trace.cast(_affine(x * scale, weight, None), dtype)
    return (y, scale) if isinstance(out, tuple) else y


@converts("native_group_norm.default")
def _group_norm(
    trace: Trace, out: Any, x: Value, weight: Any, bias: Any, _: int, channels: int, inner: int,
    groups: int, eps: float,
) -> tuple[Value, Value, Value]:  # fmt: skip
    rows, dtype = x.shape[0], x.dtype
    x, weight, bias = _wide(trace, x, weight, bias)
    grouped = x.reshape((rows, groups, channels // groups * inner))
    variance, mean = _variance(grouped, (2,), 0)
    scale = (variance + eps).rsqrt()
    shape: Shape = (1, channels) + (1,) * (len(x.shape) - 2)
    parts = [None if part is None else part.reshape(shape) for part in (weight, bias)]
    y = _affine(((grouped - mean) * scale).reshape(x.shape), *parts)
    y = trace.cast(y, dtype)
    return y, mean.reshape((rows, groups)), scale.reshape((rows, groups))
