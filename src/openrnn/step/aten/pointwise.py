"""Element by element."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from openrnn.step.aten.registry import CONVERTERS, Converter, converts, number
from openrnn.step.graph import Value

if TYPE_CHECKING:
    from openrnn.step.trace import Trace


def _elementwise(op: str) -> Converter:
    """Inputs in torch's common dtype; numbers become constants of it."""

    def convert(trace: Trace, out: Any, *args: Any, **_: Any) -> Value:
        dtype = trace.common_dtype(args, out)
        return trace.builder.add(op, [trace.cast(a, dtype) for a in args])

    return convert


_UNARY = (
    *("neg", "abs", "sign", "exp", "log", "log1p", "expm1", "sqrt", "rsqrt", "reciprocal"),
    *("exp2", "log2", "log10", "sigmoid", "tanh", "sinh", "cosh", "relu", "erf", "sin", "cos"),
    *("tan", "asin", "acos", "atan", "asinh", "acosh", "atanh"),
    *("floor", "ceil", "trunc", "round", "logical_not"),
)
for _op in _UNARY:
    CONVERTERS[f"{_op}.default"] = _elementwise(_op)
for _op in ("mul", "div", "remainder", "eq", "ne", "lt", "le", "gt", "ge"):
    CONVERTERS[f"{_op}.Tensor"] = CONVERTERS[f"{_op}.Scalar"] = _elementwise(_op)
for _op in ("maximum", "minimum", "logical_and", "logical_or"):
    CONVERTERS[f"{_op}.default"] = _elementwise(_op)
CONVERTERS["max.other"], CONVERTERS["min.other"] = _elementwise("maximum"), _elementwise("minimum")


@converts("bitwise_and.Tensor", "bitwise_or.Tensor", "bitwise_not.default")
def _bitwise(trace: Trace, out: Any, *args: Value) -> Value:
    if out.dtype != torch.bool:  # of booleans the bits are the truth
        raise trace.refuse("works on the bits of integers")
    op = trace.current.removeprefix("aten.bitwise_").split(".")[0]
    return trace.builder.add(f"logical_{op}", args)


@converts("add.Tensor", "add.Scalar", "sub.Tensor", "sub.Scalar", "rsub.Tensor", "rsub.Scalar")
def _add(trace: Trace, out: Any, a: Any, b: Any, alpha: Any = 1, *, kind: str = "") -> Value:
    dtype = trace.common_dtype((a, b), out)
    left, right = trace.cast(a, dtype), trace.cast(b, dtype)
    kind = kind or trace.current.removeprefix("aten.").split(".")[0]
    if kind == "rsub":
        left, right = right, left
    if alpha != 1:
        right = right * alpha
    return left + right if kind == "add" else left - right


@converts("pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar")
def _pow(trace: Trace, out: Any, a: Any, b: Any) -> Value:
    dtype = trace.common_dtype((a, b), out)
    base = trace.cast(a, dtype)
    known: dict[Any, Callable[[], Value]] = {
        1: lambda: base,
        2: lambda: base * base,
        3: lambda: base * base * base,
        0.5: base.sqrt,
        -0.5: base.rsqrt,
        -1: base.reciprocal,
    }
    if not isinstance(b, Value) and b in known:
        return known[b]()
    return trace.builder.add("pow", [base, trace.cast(b, dtype)])


@converts("logical_xor.default")
def _logical_xor(trace: Trace, out: Any, a: Value, b: Value) -> Value:
    return trace.cast(a, torch.bool).ne(trace.cast(b, torch.bool))


@converts("isnan.default")
def _isnan(trace: Trace, out: Any, x: Value) -> Value:
    return x.ne(x)


@converts("isinf.default")
def _isinf(trace: Trace, out: Any, x: Value) -> Value:
    return x.abs().eq(math.inf)


@converts("nan_to_num.default")
def _nan_to_num(
    trace: Trace, out: Any, x: Value, nan: Any = None, posinf: Any = None, neginf: Any = None
) -> Value:
    limits = torch.finfo(x.dtype)
    for is_it, given, default in (
        (x.ne(x), nan, 0.0),
        (x.eq(math.inf), posinf, limits.max),
        (x.eq(-math.inf), neginf, limits.min),
    ):
        x = is_it.where(number(x, default if given is None else given), x)
    return x


@converts("square.default")
def _square(trace: Trace, out: Any, x: Value) -> Value:
    return x * x


@converts("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def _where(trace: Trace, out: Any, condition: Value, a: Any, b: Any) -> Value:
    dtype = out.dtype
    return trace.builder.add("where", [condition, trace.cast(a, dtype), trace.cast(b, dtype)])


@converts("masked_fill.Scalar", "masked_fill.Tensor")
def _masked_fill(trace: Trace, out: Any, x: Value, mask: Value, value: Any) -> Value:
    return trace.builder.add("where", [mask, trace.cast(value, x.dtype), x])


@converts("clamp.default", "clamp.Tensor", "clamp_min.default", "clamp_max.default")
@converts("clamp_min.Tensor", "clamp_max.Tensor")
def _clamp(trace: Trace, out: Any, x: Value, low: Any = None, high: Any = None, **kw: Any) -> Value:
    if "clamp_max" in trace.current:
        low, high = None, low
    low, high = kw.get("min", low), kw.get("max", high)
    x = trace.cast(x, out.dtype)
    # Not by maximum and minimum: at the bound torch lets the whole gradient through.
    if low is not None:
        low = trace.cast(low, out.dtype)
        x = trace.builder.add("where", [x.lt(low), low, x])
    if high is not None:
        high = trace.cast(high, out.dtype)
        x = trace.builder.add("where", [x.gt(high), high, x])
    return x


@converts("hardtanh.default")
def _hardtanh(trace: Trace, out: Any, x: Value, low: float = -1.0, high: float = 1.0) -> Value:
    return x.le(low).where(number(x, low), x.ge(high).where(number(x, high), x))


@converts("relu6.default")
def _relu6(trace: Trace, out: Any, x: Value) -> Value:
    return _hardtanh(trace, out, x, 0.0, 6.0)


@converts("hardsigmoid.default")
def _hardsigmoid(trace: Trace, out: Any, x: Value) -> Value:
    return x.le(-3).where(number(x, 0), x.ge(3).where(number(x, 1), (x + 3) / 6))


@converts("hardswish.default")
def _hardswish(trace: Trace, out: Any, x: Value) -> Value:
    return x.le(-3).where(number(x, 0), x.lt(3).where(x * (x + 3) / 6, x))


@converts("leaky_relu.default")
def _leaky_relu(trace: Trace, out: Any, x: Value, slope: float = 0.01) -> Value:
    return x.gt(0).where(x, x * slope)


@converts("prelu.default", "_prelu_kernel.default")
def _prelu(trace: Trace, out: Any, x: Value, weight: Value) -> Value:
    return x.gt(0).where(x, x * weight)


@converts("elu.default")
def _elu(
    trace: Trace, out: Any, x: Value, alpha: float = 1.0, scale: float = 1.0, inner: float = 1.0
) -> Value:
    # The inner `where` keeps the branch that is not taken finite, or its gradient would be NaN.
    positive = x.gt(0)
    negative = (positive.where(number(x, 0), x) * inner).expm1() * (alpha * scale)
    return positive.where(x * scale, negative)


@converts("celu.default")
def _celu(trace: Trace, out: Any, x: Value, alpha: float = 1.0) -> Value:
    return _elu(trace, out, x, alpha, 1.0, 1.0 / alpha)


@converts("selu.default")
def _selu(trace: Trace, out: Any, x: Value) -> Value:
    return _elu(trace, out, x, 1.6732632423543772, 1.0507009873554805)


@converts("silu.default")
def _silu(trace: Trace, out: Any, x: Value) -> Value:
    return x * x.sigmoid()


@converts("softplus.default")
def _softplus(
    trace: Trace, out: Any, x: Value, beta: float = 1.0, threshold: float = 20.0
) -> Value:
    scaled = x * beta
    linear = scaled.gt(threshold)
    return linear.where(x, linear.where(number(x, 0), scaled).exp().log1p() / beta)


@converts("log_sigmoid_forward.default")
def _log_sigmoid(trace: Trace, out: Any, x: Value) -> tuple[Value, Value]:
    positive = x.ge(0)
    # Each branch sees only the numbers for which its exponential is at most 1.
    above = -(-positive.where(x, number(x, 0))).exp().log1p()
    below = positive.where(number(x, 0), x)
    return positive.where(above, below - below.exp().log1p()), number(x, 0)


@converts("mish.default")
def _mish(trace: Trace, out: Any, x: Value) -> Value:
    return x * _softplus(trace, out, x).tanh()


@converts("gelu.default")
def _gelu(trace: Trace, out: Any, x: Value, approximate: str = "none") -> Value:
    if approximate == "tanh":
        inner = (x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)
        return x * 0.5 * (inner.tanh() + 1)
    return x * 0.5 * ((x * math.sqrt(0.5)).erf() + 1)


@converts("lerp.Scalar", "lerp.Tensor")
def _lerp(trace: Trace, out: Any, a: Value, b: Value, weight: Value | float) -> Value:
    return a + (b - a) * weight


@converts("addcmul.default")
def _addcmul(trace: Trace, out: Any, x: Value, a: Value, b: Value, value: float = 1) -> Value:
    return x + a * b * value


@converts("addcdiv.default")
def _addcdiv(trace: Trace, out: Any, x: Value, a: Value, b: Value, value: float = 1) -> Value:
    return x + a / b * value


@converts("detach.default", "alias.default", "clone.default", "contiguous.default")
@converts("lift_fresh.default", "lift_fresh_copy.default", "_unsafe_view_copy.default")
def _same(trace: Trace, out: Any, x: Value, **_: Any) -> Value:
    return x.detach() if trace.current == "aten.detach.default" else x


@converts("_to_copy.default")
def _to_copy(trace: Trace, out: Any, x: Value, **_: Any) -> Value:
    return trace.cast(x, out.dtype)


@converts("copy.default")
def _copy(trace: Trace, out: Any, x: Value, source: Value, *_: Any) -> Value:
    return trace.cast(source, x.dtype).expand(x.shape)


@converts("fill.Scalar", "fill.Tensor")
def _fill(trace: Trace, out: Any, x: Value, value: Any) -> Value:
    return trace.cast(value, x.dtype).expand(x.shape)
