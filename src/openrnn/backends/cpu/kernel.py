"""A compiled recurrence, and the call of it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from openrnn.backends.cpu import build
from openrnn.backends.cpu.codegen import generate
from openrnn.backends.cpu.lower import lower
from openrnn.backends.cpu.plan import Plan
from openrnn.backends.cpu.rewrite import rewrite
from openrnn.backends.cpu.runtime import REAL, empty, pool, runtime
from openrnn.backends.stepwise import Named
from openrnn.errors import BackendError
from openrnn.step.graph import Graph, Node
from openrnn.step.shape import Batch, Shape, features, row_dims, rows_dim


def plan_of(
    graph: Graph, carried: tuple[str, ...], wanted: tuple[str, ...]
) -> tuple[Plan, torch.dtype]:
    """The plan of a recurrence, and the dtype that it computes in; see `staged.Engine.prepare`."""
    results = dict(graph.outputs)
    nexts = {name: graph.nodes[results[f"state.{name}"]] for name in carried}
    dtype = next(iter(nexts.values())).dtype
    if dtype not in REAL:
        raise BackendError(f"a kernel computes in float32 or float64, not in {dtype}")
    states = {name: features(node.shape) for name, node in nexts.items()}
    return lower(rewrite(graph), dtype, states, wanted), dtype


def source(graph: Graph, carried: tuple[str, ...], wanted: tuple[str, ...]) -> str:
    """The C++ of a recurrence, for people to read."""
    return generate(*plan_of(graph, carried, wanted))


class Kernel:
    """The recurrence of one step graph, for any number of steps and rows."""

    def __init__(self, graph: Graph, carried: tuple[str, ...], wanted: tuple[str, ...]) -> None:
        self.plan, dtype = plan_of(graph, carried, wanted)
        self._dtype = dtype
        self._library = build.load(generate(self.plan, dtype))
        self._kernel = ctypes.addressof(ctypes.c_char.in_dll(self._library, "kernel"))
        self._run = runtime(dtype).run
        plan, nodes = self.plan, self.plan.graph.nodes
        shapes = {node.label: node.shape for node in nodes if node.op == "input"}
        self._rows = [(label, _fold(shapes[label])) for label in plan.rows]
        strided = [plan.weights[index].buffer for index in plan.strided]
        self._strided = [label for label, buffer in plan.wholes.items() if buffer in strided]
        self._strided.sort(key=lambda label: strided.index(plan.wholes[label]))
        self._wholes = [(label, label in self._strided) for label in plan.wholes]
        results = dict(plan.graph.outputs)
        self._outputs = [
            (label, buffer.size, _spread(nodes[results[label]], dtype))
            for label, buffer in plan.outputs.items()
        ]

    def __call__(
        self, known: Named, state: Named, sizes: list[int], *, reverse: bool
    ) -> tuple[Named, Named]:
        """See `staged.Recur`."""
        total, dtype = sum(sizes), self._dtype
        given = [_plain(fold(known[label]) if fold else known[label], dtype)
                 for label, fold in self._rows]  # fmt: skip
        given += [known[label] if any_way else _plain(known[label], dtype)
                  for label, any_way in self._wholes]  # fmt: skip
        initial = [_plain(state[name], dtype) for name in self.plan.states]
        outputs = [empty(total, size, dtype) for _, size, _ in self._outputs]
        final = [torch.empty_like(tensor) for tensor in initial]
        tensors = (*given, *outputs, *initial, *final)
        pointers = (ctypes.c_void_p * len(tensors))(*[tensor.data_ptr() for tensor in tensors])
        strides = [stride for label in self._strided for stride in known[label].stride()]
        start, word = ctypes.addressof(pointers), ctypes.sizeof(ctypes.c_void_p)
        counts = len(self._rows), len(self._wholes), len(outputs), len(initial)
        places = [start + word * count for count in accumulate(counts, initial=0)]
        call = _Call(
            len(sizes),
            reverse,
            torch.get_num_threads(),
            *_time(tuple(sizes)),
            *places[:2],
            (ctypes.c_int64 * len(strides))(*strides),
            *places[2:],
            pool(),
        )
        self._run(ctypes.byref(call), self._kernel)
        found = {
            label: spread(tensor) if spread else tensor
            for (label, _, spread), tensor in zip(self._outputs, outputs, strict=True)
        }
        return found, dict(zip(self.plan.states, final, strict=True))


def _plain(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if tensor.dtype == dtype and tensor.is_contiguous():
        return tensor
    return tensor.detach().to(dtype).contiguous()


def _fold(shape: Shape) -> Callable[[Tensor], Tensor] | None:
    """What brings all the features of a row side by side, if they are not."""
    dim = rows_dim(shape)
    if dim == 0:
        return None
    size = shape[dim]
    times = size.times if isinstance(size, Batch) else 1

    def fold(tensor: Tensor) -> Tensor:
        apart = tensor.reshape(*tensor.shape[:dim], -1, times, *tensor.shape[dim + 1 :])
        return apart.movedim(dim, 0)

    return fold


def _spread(node: Node, dtype: torch.dtype) -> Callable[[Tensor], Tensor] | None:
    """What gives rows of features the shape and dtype that the graph has for them, if it is not."""
    dim, dims = rows_dim(node.shape), row_dims(node.shape)
    if dim == 0 and len(dims) == 2 and dims[0] == 1 and node.dtype == dtype:
        return None

    def spread(tensor: Tensor) -> Tensor:
        count = tensor.size(0)
        turned = tensor.to(node.dtype).reshape(count, *dims).movedim(0, dim)
        return turned.reshape(*dims[:dim], count * dims[dim], *dims[dim + 1 :])

    return spread


class _Call(ctypes.Structure):
    """`openrnn::Call` in vectors.h."""

    _fields_ = (
        ("steps", ctypes.c_int64),
        ("reverse", ctypes.c_int64),
        ("threads", ctypes.c_int64),
        ("sizes", ctypes.POINTER(ctypes.c_int64)),
        ("offsets", ctypes.POINTER(ctypes.c_int64)),
        ("rows", ctypes.c_void_p),
        ("wholes", ctypes.c_void_p),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("outputs", ctypes.c_void_p),
        ("initial", ctypes.c_void_p),
        ("final", ctypes.c_void_p),
        ("pool", ctypes.c_void_p),
    )


@lru_cache(maxsize=256)
def _time(sizes: tuple[int, ...]) -> tuple[Any, Any]:
    """The rows of each step, and those before it."""
    count = len(sizes)
    return (ctypes.c_int64 * count)(*sizes), (ctypes.c_int64 * (count + 1))(0, *accumulate(sizes))


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
