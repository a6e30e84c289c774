"""The split graph in torch operations, with our derived gradient: no compiler, any device.

It proves what generated kernels build on. It is not faster than the eager loop.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor

from openrnn.backends import staged
from openrnn.backends.loop import loop
from openrnn.backends.staged import Named, evaluator, rows_dim
from openrnn.step.graph import Graph, Node
from openrnn.step.shape import Batch, batch_dim


def recur(
    graph: Graph,
    known: Named,
    state: Named,
    sizes: list[int],
    *,
    reverse: bool,
    wanted: Collection[str],
) -> tuple[Named, Named]:
    """See `staged.Recur`."""
    names = tuple(state)
    step_of = evaluator(graph, next(iter(state.values())).device)
    needed = [node for _, node in graph.inputs() if node["kind"] != "state"]
    offsets = [0, *accumulate(sizes)]

    def step(t: int, rows: int, state: tuple[Tensor, ...]) -> tuple[Named, tuple[Tensor, ...]]:
        here = {node.label: _rows_of(node, known[node.label], offsets[t], rows) for node in needed}
        here |= {f"state.{n}": s for n, s in zip(names, state, strict=True)}
        out = step_of(here, rows)
        return out, tuple(out[f"state.{name}"] for name in names)

    outputs, last = loop(step, sizes, tuple(state.values()), reverse=reverse)
    joined = {
        label: torch.cat([out[label] for out in outputs], rows_dim(graph.nodes[index]))
        for label, index in graph.outputs
        if label in wanted
    }
    return joined, dict(zip(names, last, strict=True))


def _rows_of(node: Node, tensor: Tensor, start: int, rows: int) -> Tensor:
    """The rows of one step, of a value that has rows at all."""
    dim = batch_dim(node.shape)
    if dim is None:
        return tensor
    size = node.shape[dim]
    times = size.times if isinstance(size, Batch) else 1
    return tensor.narrow(dim, start * times, rows * times)


run = partial(staged.run, recur, fused=False)
