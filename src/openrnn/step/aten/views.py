"""Views: the same numbers in another shape, some of them, or several one behind the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openrnn.step.aten.registry import as_list, converts
from openrnn.step.graph import Value
from openrnn.step.shape import Batch, Dim, replace_dim

if TYPE_CHECKING:
    from openrnn.step.trace import Trace


@converts("view.default", "_unsafe_view.default", "reshape.default", "flatten.using_ints")
@converts("unsqueeze.default", "squeeze.default", "squeeze.dim", "squeeze.dims")
@converts("_reshape_alias.default", "unflatten.int")
def _reshape(trace: Trace, out: Any, x: Value, *_: Any, **__: Any) -> Value:
    return x.reshape(trace.shape(out))


@converts("expand.default")
def _expand(trace: Trace, out: Any, x: Value, *_: Any, **__: Any) -> Value:
    return x.expand(trace.shape(out))


@converts("repeat.default")
def _repeat(trace: Trace, out: Any, x: Value, repeats: list[int]) -> Value:
    padded = (1,) * (len(repeats) - len(x.shape)) + x.shape
    counts = [trace.dim(r) for r in repeats]
    between: list[Dim] = []
    for count, dim in zip(counts, padded, strict=True):
        between += [count, dim]
    spaced: list[Dim] = []
    for dim in padded:
        spaced += [1, dim]
    return x.reshape(tuple(spaced)).expand(tuple(between)).reshape(trace.shape(out))


@converts("t.default", "numpy_T.default", "mT.default")
def _t(trace: Trace, out: Any, x: Value) -> Value:
    return x.transpose() if len(x.shape) >= 2 else x


@converts("transpose.int")
def _transpose(trace: Trace, out: Any, x: Value, a: int, b: int) -> Value:
    dims = list(range(len(x.shape)))
    dims[a], dims[b] = dims[b], dims[a]
    return x.permute(dims)


@converts("permute.default")
def _permute(trace: Trace, out: Any, x: Value, dims: list[int]) -> Value:
    return x.permute([d % len(dims) for d in dims])


@converts("slice.Tensor")
def _slice(
    trace: Trace,
    out: Any,
    x: Value,
    dim: int = 0,
    start: int | None = None,
    stop: int | None = None,
    step: int = 1,
) -> Value:
    dim %= len(x.shape)
    size = x.shape[dim]
    if isinstance(size, Batch):
        if trace.shape(out) == x.shape and step == 1:
            return x
        raise trace.refuse("takes some rows of the batch out of others")
    return _cut(x, dim, *slice(start, stop, step).indices(size))


def _cut(x: Value, dim: int, start: int, stop: int, step: int = 1) -> Value:
    if (start, step) == (0, 1) and x.shape[dim] == stop:
        return x
    # One form for equal slices.
    stop = start + len(range(start, stop, step)) * step - (step - 1)
    return x.slice(dim=dim, start=start, stop=max(start, stop), step=step)


@converts("select.int")
def _select(trace: Trace, out: Any, x: Value, dim: int, index: int) -> Value:
    dim %= len(x.shape)
    size = x.shape[dim]
    if isinstance(size, Batch):
        raise trace.refuse("takes one row of the batch out of others")
    index %= size
    return _cut(x, dim, index, index + 1).reshape(x.shape[:dim] + x.shape[dim + 1 :])


@converts("unbind.int")
def _unbind(trace: Trace, out: Any, x: Value, dim: int = 0) -> list[Value]:
    return [_select(trace, part, x, dim, i) for i, part in enumerate(out)]


@converts("split.Tensor", "unsafe_split.Tensor", "split_with_sizes.default", "chunk.default")
@converts("unsafe_split_with_sizes.default", "unsafe_chunk.default", "split.sizes")
def _split(trace: Trace, out: Any, x: Value, _: Any, dim: int = 0) -> list[Value]:
    dim %= len(x.shape)
    if isinstance(x.shape[dim], Batch):
        raise trace.refuse("splits the rows of the batch")
    parts, start = [], 0
    for part in out:
        parts.append(_cut(x, dim, start, start + part.shape[dim]))
        start += part.shape[dim]
    return parts


@converts("cat.default")
def _cat(trace: Trace, out: Any, pieces: list[Value], dim: int = 0) -> Value:
    pieces = [trace.cast(piece, out.dtype) for piece in pieces]
    pieces = [piece for piece in pieces if piece.shape != (0,)]  # torch allows such a piece
    dim %= out.dim()
    if any(isinstance(piece.shape[dim], Batch) for piece in pieces):
        raise trace.refuse("puts rows of the batch one behind the other")
    return pieces[0] if len(pieces) == 1 else trace.builder.add("cat", pieces, dim=dim)


@converts("stack.default")
def _stack(trace: Trace, out: Any, pieces: list[Value], dim: int = 0) -> Value:
    dim %= out.dim()
    shape = replace_dim(trace.shape(out), dim, 1)
    return _cat(trace, out, [piece.reshape(shape) for piece in pieces], dim)


@converts("flip.default")
def _flip(trace: Trace, out: Any, x: Value, dims: list[int]) -> Value:
    for dim in dims:
        x = x.flip(dim=dim % len(x.shape))
    return x


@converts("roll.default")
def _roll(trace: Trace, out: Any, x: Value, shifts: Any, dims: Any = ()) -> Value:
    if not dims:
        raise trace.refuse("rolls all dimensions at once")
    for shift, dim in zip(as_list(shifts), as_list(dims), strict=True):
        dim %= len(x.shape)
        size = x.shape[dim]
        if isinstance(size, Batch):
            raise trace.refuse("rolls the rows of the batch")
        at = -shift % size
        if at:
            x = trace.builder.add("cat", [_cut(x, dim, at, size), _cut(x, dim, 0, at)], dim=dim)
    return x


@converts("constant_pad_nd.default")
def _pad(trace: Trace, out: Any, x: Value, pad: list[int], value: Any = 0) -> Value:
    if value != 0 or min(pad) < 0:
        raise trace.refuse("pads with something else than zeros, or by a negative number")
    for i in range(0, len(pad), 2):
        dim = len(x.shape) - 1 - i // 2
        size = x.shape[dim]
        if pad[i] or pad[i + 1]:
            if isinstance(size, Batch):
                raise trace.refuse("pads the rows of the batch")
            start, stop = pad[i], pad[i] + size
            x = x.unslice(dim=dim, start=start, stop=stop, step=1, size=stop + pad[i + 1])
    return x


@converts("slice_scatter.default")
def _slice_scatter(
    trace: Trace,
    out: Any,
    x: Value,
    source: Value,
    dim: int = 0,
    start: int | None = None,
    stop: int | None = None,
    step: int = 1,
) -> Value:
    dim %= len(x.shape)
    size = x.shape[dim]
    if isinstance(size, Batch):
        if trace.shape(out) == source.shape and step == 1:
            return trace.cast(source, x.dtype)
        raise trace.refuse("writes to some rows of the batch")
    begin, end, step = slice(start, stop, step).indices(size)
    place = {"dim": dim, "start": begin, "stop": end, "step": step}
    source = trace.cast(source, x.dtype)
    if step == 1:
        parts = [_cut(x, dim, 0, begin), source, _cut(x, dim, end, size)]
        return _cat(trace, out, [p for p in parts if p.shape[dim] != 0], dim)
    hole = trace.cast(1, x.dtype).expand(source.shape).unslice(size=size, **place)
    return hole.ne(0).where(source.unslice(size=size, **place), x)


@converts("select_scatter.default")
def _select_scatter(trace: Trace, out: Any, x: Value, source: Value, dim: int, index: int) -> Value:
    dim %= len(x.shape)
    size = x.shape[dim]
    if isinstance(size, Batch):
        raise trace.refuse("writes to one row of the batch")
    index %= size
    row = source.reshape(replace_dim(x.shape, dim, 1))
    return _slice_scatter(trace, out, x, row, dim, index, index + 1)
