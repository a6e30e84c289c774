"""The recurrence of a split graph in torch operations, one step at a time: on any device."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

import torch
from torch import Tensor

from openrnn.backends.loop import loop
from openrnn.step.evaluate import evaluator
from openrnn.step.graph import Graph, Node
from openrnn.step.shape import Batch, batch_dim, rows_dim

Named = Mapping[str, Tensor]


class Stepwise:
    """See `staged.Recur`."""

    def __init__(self, graph: Graph, carried: tuple[str, ...], wanted: tuple[str, ...]) -> None:
        self.graph, self.carried, self.wanted = graph, carried, wanted
        self._needed = [node for _, node in graph.inputs() if node["kind"] != "state"]

    def __call__(
        self, known: Named, state: Named, sizes: list[int], *, reverse: bool
    ) -> tuple[Named, Named]:
        step_of = evaluator(self.graph, next(iter(state.values())).device)
        offsets = [0, *accumulate(sizes)]

        def step(t: int, rows: int, state: tuple[Tensor, ...]) -> tuple[Named, tuple[Tensor, ...]]:
            here = {
                node.label: _rows_of(node, known[node.label], offsets[t], rows)
                for node in self._needed
            }
            here |= {f"state.{n}": s for n, s in zip(self.carried, state, strict=True)}
            out = step_of(here, rows)
            return out, tuple(out[f"state.{name}"] for name in self.carried)

        outputs, last = loop(step, sizes, tuple(state.values()), reverse=reverse)
        nodes = self.graph.nodes
        joined = {
            label: torch.cat([out[label] for out in outputs], rows_dim(nodes[index].shape))
            for label, index in self.graph.outputs
            if label in self.wanted
        }
        return joined, dict(zip(self.carried, last, strict=True))


def _rows_of(node: Node, tensor: Tensor, start: int, rows: int) -> Tensor:
    """The rows of one step, of a value that has rows at all."""
    dim = batch_dim(node.shape)
    if dim is None:
        return tensor
    size = node.shape[dim]
    times = size.times if isinstance(size, Batch) else 1
    return tensor.narrow(dim, start * times, rows * times)
