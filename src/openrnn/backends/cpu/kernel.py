"""A compiled kernel, and the call of it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from openrnn.backends.cpu import build
from openrnn.backends.cpu.assemble import assemble
from openrnn.backends.cpu.codegen import generate
from openrnn.backends.cpu.runtime import empty, matmul, pool, runtime
from openrnn.backends.stepwise import Named
from openrnn.errors import BackendError
from openrnn.step.evaluate import evaluator
from openrnn.step.graph import Node
from openrnn.step.shape import Batch, Shape, row_dims, rows_dim
from openrnn.step.split import Stages


def source(stages: Stages, states: tuple[str, ...]) -> str:
    """The C++ of these stages, for people to read; see `staged.Engine.prepare`."""
    _, assembly, dtype = assemble(stages, states)
    return generate(assembly, dtype)


class Kernel:
    """See `staged.Scan`."""

    def __init__(self, stages: Stages, states: tuple[str, ...]) -> None:
        phases, assembly, self._dtype = assemble(stages, states)
        self._library = build.load(generate(assembly, self._dtype))
        self._kernel = ctypes.addressof(ctypes.c_char.in_dll(self._library, "kernel"))
        self._run = runtime(self._dtype).run
        cpu = torch.device("cpu")
        self._before, self._after = (
            [evaluator(graph, cpu, matmul) for graph in graphs if graph.outputs]
            for graphs in ((stages.parameters, phases.before), (phases.after, phases.later))
        )
        nodes = [node for plan in assembly.plans for node in plan.graph.nodes if node.op == "input"]
        shapes = {node.label: node.shape for node in nodes}
        for over in phases.over_rows:  # what no loop reads is (B, features)
            for label in filter(None, (over.left, over.right)):
                shapes.setdefault(label, (Batch(), 1))
        self._given = [(label, _fold(shapes[label])) for label in assembly.given]
        self._wholes = [(label, label in assembly.any_layout) for label in assembly.wholes]
        self._states = tuple(assembly.step.states)
        results = {
            label: (buffer.size, plan.graph.nodes[dict(plan.graph.outputs)[label]])
            for plan in assembly.plans
            for label, buffer in plan.outputs.items()
        }
        self._made = [
            (label, results[label][0], _spread(results[label][1], self._dtype))
            for label in assembly.made
        ]
        places = {label: place for place, label in enumerate(assembly.given)}
        places |= {label: len(places) + place for place, label in enumerate(assembly.made)
                   if label.startswith("value.")}  # fmt: skip
        self._sums = [
            (over.label, over.shape, over.left and places[over.left], places[over.right])
            for over in phases.over_rows
        ]

    def __call__(
        self, given: Named, sizes: list[int], *, reverse: bool
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        total, dtype = sum(sizes), self._dtype
        known, results = dict(given), dict[str, Tensor]()

        def note(outputs: Named) -> None:
            """What another stage reads, and what is a result: their names may be those of inputs."""
            for label, tensor in outputs.items():
                (known if label.startswith("value.") else results)[label] = tensor

        for evaluate in self._before:
            note(evaluate(known, total))
        rows = [_plain(fold(known[label]) if fold else known[label], dtype)
                for label, fold in self._given]  # fmt: skip
        wholes = [known[label] if any_layout else _plain(known[label], dtype)
                  for label, any_layout in self._wholes]  # fmt: skip
        initial = [_plain(known[f"state.{name}"], dtype) for name in self._states]
        made = [empty(total, size, dtype) for _, size, _ in self._made]
        final = [torch.empty_like(tensor) for tensor in initial]
        sums = [torch.empty(shape, dtype=dtype) for _, shape, _, _ in self._sums]
        self._call(sizes, reverse, rows, wholes, made, initial, final, sums)
        note(
            {
                label: spread(tensor) if spread else tensor
                for (label, _, spread), tensor in zip(self._made, made, strict=True)
            }
        )
        note({label: tensor for (label, *_), tensor in zip(self._sums, sums, strict=True)})
        for evaluate in self._after:
            note(evaluate(known, total))
        return results, dict(zip(self._states, final, strict=True))

    def _call(
        self,
        sizes: list[int],
        reverse: bool,
        rows: list[Tensor],
        wholes: list[Tensor],
        made: list[Tensor],
        initial: list[Tensor],
        final: list[Tensor],
        sums: list[Tensor],
    ) -> None:
        tensors = (*rows, *made, *wholes, *initial, *final)
        addresses = [tensor.data_ptr() for tensor in tensors]
        pointers = (ctypes.c_void_p * len(tensors))(*addresses)
        strides = [stride for tensor in wholes for stride in (0, 0, *tensor.stride())[-2:]]
        over = (_OverRows * len(sums))(*[
            (left if left is None else addresses[left], addresses[right], result.data_ptr(), *shape)
            for (_, shape, left, right), result in zip(self._sums, sums, strict=True)
        ])  # fmt: skip
        start, word = ctypes.addressof(pointers), ctypes.sizeof(ctypes.c_void_p)
        counts = len(rows), len(made), len(wholes), len(initial)
        of_rows, of_made, of_wholes, of_initial, of_final = (
            start + word * count for count in accumulate(counts, initial=0)
        )
        call = _Call(
            len(sizes),
            reverse,
            torch.get_num_threads(),
            *_time(tuple(sizes)),
            of_rows,
            of_wholes,
            (ctypes.c_int64 * len(strides))(*strides),
            of_made,
            of_initial,
            of_final,
            len(sums),
            over,
            pool(),
        )
        self._run(ctypes.byref(call), self._kernel)


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


class _OverRows(ctypes.Structure):
    """`openrnn::OverRows` in vectors.h."""

    _fields_ = (
        ("left", ctypes.c_void_p),
        ("right", ctypes.c_void_p),
        ("result", ctypes.c_void_p),
        ("m", ctypes.c_int64),
        ("n", ctypes.c_int64),
    )


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
        ("sums", ctypes.c_int64),
        ("over_rows", ctypes.POINTER(_OverRows)),
        ("pool", ctypes.c_void_p),
    )


@lru_cache(maxsize=256)
def _time(sizes: tuple[int, ...]) -> tuple[Any, Any]:
    """The rows of each step, and those before it."""
    count = len(sizes)
    return (ctypes.c_int64 * count)(*sizes), (ctypes.c_int64 * (count + 1))(0, *accumulate(sizes))


@lru_cache(maxsize=1024)  # by the identity of the stages
def _kernel(stages: Stages, states: tuple[str, ...]) -> Kernel | BackendError:
    """A refusal is kept too: it would be the same the next time."""
    try:
        return Kernel(stages, states)
    except BackendError as error:
        return error


def prepare(stages: Stages, states: tuple[str, ...]) -> Kernel:
    """See `staged.Engine`."""
    found = _kernel(stages, states)
    if isinstance(found, BackendError):
        raise BackendError(str(found)) from found
    return found
