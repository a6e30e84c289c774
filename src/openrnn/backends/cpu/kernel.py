"""A compiled recurrence, and the call of it."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from openrnn.backends.cpu import build
from openrnn.backends.cpu.codegen import generate
from openrnn.backends.cpu.lower import Plan, lower
from openrnn.backends.cpu.rewrite import rewrite
from openrnn.backends.cpu.runtime import REAL, empty, pool, runtime
from openrnn.backends.stepwise import Named
from openrnn.errors import BackendError
from openrnn.step.graph import Graph
from openrnn.step.shape import Batch, Shape, batch_dim, features, row_dims


class Kernel:
    """The recurrence of one step graph, for any number of steps and rows."""

    def __init__(self, graph: Graph, carried: tuple[str, ...], wanted: tuple[str, ...]) -> None:
        results = dict(graph.outputs)
        nexts = {name: graph.nodes[results[f"state.{name}"]] for name in carried}
        dtype = next(iter(nexts.values())).dtype
        if dtype not in REAL:
            raise BackendError(f"a kernel computes in float32 or float64, not in {dtype}")
        states = {name: features(node.shape) for name, node in nexts.items()}
        self.plan: Plan = lower(rewrite(graph), dtype, states, wanted)
        self.source = generate(self.plan, dtype)
        self._dtype = dtype
        self._library = build.load(self.source)
        self._kernel = ctypes.addressof(ctypes.c_char.in_dll(self._library, "kernel"))
        self._run = runtime(dtype).run
        nodes = self.plan.graph.nodes
        self._shapes = {node.label: node.shape for node in nodes if node.op == "input"}
        self._results = {
            label: (nodes[index].shape, nodes[index].dtype)
            for label, index in self.plan.graph.outputs
        }

    def __call__(
        self, known: Named, state: Named, sizes: list[int], *, reverse: bool
    ) -> tuple[Named, Named]:
        """See `staged.Recur`."""
        total = sum(sizes)
        plan = self.plan
        rows = [self._rows(known[label], self._shapes[label]) for label in plan.rows]
        wholes = [self._plain(known[label]) for label in plan.wholes]
        initial = [self._plain(state[name]) for name in plan.states]
        outputs = [empty(total, buffer.size, self._dtype) for buffer in plan.outputs.values()]
        final = [torch.empty_like(tensor) for tensor in initial]
        call = _Call(
            len(sizes),
            reverse,
            torch.get_num_threads(),
            *_time(tuple(sizes)),
            *map(_pointers, (rows, wholes, outputs, initial, final)),
            pool(),
        )
        self._run(ctypes.byref(call), self._kernel)
        found = {
            label: _as_shape(tensor, *self._results[label])
            for label, tensor in zip(plan.outputs, outputs, strict=True)
        }
        return found, dict(zip(plan.states, final, strict=True))

    def _plain(self, tensor: Tensor) -> Tensor:
        if tensor.dtype == self._dtype and tensor.is_contiguous():
            return tensor
        return tensor.detach().to(self._dtype).contiguous()

    def _rows(self, tensor: Tensor, shape: Shape) -> Tensor:
        """All the features of a row side by side."""
        dim = batch_dim(shape)
        assert dim is not None
        if dim:
            tensor = _unfold(tensor, shape).movedim(dim, 0)
        return self._plain(tensor)


def _unfold(tensor: Tensor, shape: Shape) -> Tensor:
    """The rows, and what is repeated for each of them, as two dimensions."""
    dim = batch_dim(shape)
    assert dim is not None
    size = shape[dim]
    times = size.times if isinstance(size, Batch) else 1
    return tensor.reshape(*tensor.shape[:dim], -1, times, *tensor.shape[dim + 1 :])


def _as_shape(tensor: Tensor, shape: Shape, dtype: torch.dtype) -> Tensor:
    """Rows of features in the shape that the graph has for them."""
    dim = batch_dim(shape)
    assert dim is not None
    dims = row_dims(shape)
    count = tensor.size(0)
    tensor = tensor.to(dtype)
    if dim == 0 and len(dims) == 2 and dims[0] == 1:
        return tensor
    spread = tensor.reshape(count, *dims).movedim(0, dim)  # the rows, before their repetitions
    return spread.reshape(*dims[:dim], count * dims[dim], *dims[dim + 1 :])


class _Call(ctypes.Structure):
    """`openrnn::Call` in vectors.h."""

    _fields_ = (
        ("steps", ctypes.c_int64),
        ("reverse", ctypes.c_int64),
        ("threads", ctypes.c_int64),
        ("sizes", ctypes.POINTER(ctypes.c_int64)),
        ("offsets", ctypes.POINTER(ctypes.c_int64)),
        ("rows", ctypes.POINTER(ctypes.c_void_p)),
        ("wholes", ctypes.POINTER(ctypes.c_void_p)),
        ("outputs", ctypes.POINTER(ctypes.c_void_p)),
        ("initial", ctypes.POINTER(ctypes.c_void_p)),
        ("final", ctypes.POINTER(ctypes.c_void_p)),
        ("pool", ctypes.c_void_p),
    )


@lru_cache(maxsize=256)
def _time(sizes: tuple[int, ...]) -> tuple[Any, Any]:
    """The rows of each step, and those before it."""
    count = len(sizes)
    return (ctypes.c_int64 * count)(*sizes), (ctypes.c_int64 * (count + 1))(0, *accumulate(sizes))


def _pointers(tensors: list[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * max(1, len(tensors)))(*(t.data_ptr() for t in tensors))


@lru_cache(maxsize=1024)
def _kernel(
    graph: Graph, carried: tuple[str, ...], wanted: tuple[str, ...]
) -> Kernel | BackendError:
    """A refusal is kept too: it would be the same the next time."""
    try:
        return Kernel(graph, carried, wanted)
    except BackendError as error:
        return error


def prepare(graph: Graph, carried: tuple[str, ...], wanted: tuple[str, ...]) -> Kernel:
    """See `staged.Prepare`."""
    found = _kernel(graph, carried, wanted)
    if isinstance(found, BackendError):
        raise BackendError(str(found)) from found
    return found
