"""Matrix products."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openrnn.step.aten.registry import converts
from openrnn.step.graph import Value
from openrnn.step.shape import Batch

if TYPE_CHECKING:
    from openrnn.step.trace import Trace


@converts("mm.default", "bmm.default")
def _mm(trace: Trace, out: Any, a: Value, b: Value, **_: Any) -> Value:
    if isinstance(a.shape[-1], Batch):
        raise trace.refuse("multiplies over the rows of the batch")
    return trace.cast(a, out.dtype).matmul(trace.cast(b, out.dtype))


@converts("mv.default")
def _mv(trace: Trace, out: Any, a: Value, v: Value) -> Value:
    product = _mm(trace, out, a, v.reshape((*v.shape, 1)))
    return product.reshape(trace.shape(out))


@converts("dot.default")
def _dot(trace: Trace, out: Any, a: Value, b: Value) -> Value:
    return (a * b).sum(dims=(0,)).reshape(())


@converts("addmm.default", "baddbmm.default", "addmv.default")
def _addmm(
    trace: Trace, out: Any, x: Value, a: Value, b: Value, *, beta: Any = 1, alpha: Any = 1
) -> Value:
    product = (_mv if trace.current == "aten.addmv.default" else _mm)(trace, out, a, b)
    product = product if alpha == 1 else product * alpha
    x = trace.cast(x, out.dtype)
    return product + (x if beta == 1 else x * beta)
