"""The stages of a step in torch operations, the recurrence one step at a time: on any device."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from openrnn.backends.loop import loop, replaced
from openrnn.ragged import Steps
from openrnn.step.evaluate import evaluator
from openrnn.step.graph import Graph, Node
from openrnn.step.shape import Batch, Shape, batch_dim, concrete, rows_dim
from openrnn.step.split import Stages, is_value

Named = Mapping[str, Tensor]
Given = Mapping[str, Tensor | None]
RESET = "reset."  # before a state's name: what it becomes at a reset, or the gradient of that
INITIAL = "initial."  # the same, of a gradient: what the state was before the first step


class InTorch:
    """See `staged.Scan`."""

    apart = False
    takes_any_order = False

    def __init__(
        self, stages: Stages, states: tuple[str, ...], forward: InTorch | None = None
    ) -> None:
        self.stages, self._wanted = stages, stages.wanted(states)
        self._is_backward = forward is not None
        self.saved = tuple(stages.saved())
        self._needed = [n for _, n in stages.recurrence.inputs() if n["kind"] != "state"]

    def kept(self) -> list[tuple[Shape, torch.dtype]]:
        nodes = [self.stages.result(label) for label in self.saved]
        return [(node.shape, node.dtype) for node in nodes]

    def __call__(
        self, given: Given, steps: Steps, *, reverse: bool
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        stages = self.stages
        known, results = {k: v for k, v in given.items() if v is not None}, dict[str, Tensor]()
        flatten_rows(known)
        device = known["input.x"].device

        def run(graph: Graph) -> None:
            if graph.outputs:
                sort(evaluator(graph, device)(known, steps.total), known, results)

        run(stages.parameters)
        run(stages.inputs)
        final = dict[str, Tensor]()
        if stages.recurrence.outputs:
            outputs, final = self._recur(known, steps, reverse)
            sort(outputs, known, results)
        find_previous(stages.outputs, known, steps, reverse=not reverse)
        run(stages.outputs)
        return results, final

    def _recur(
        self, known: Named, steps: Steps, reverse: bool
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The wanted outputs of all steps, and the last states."""
        graph, carried, sizes = self.stages.recurrence, self.stages.carried, steps.sizes
        step_of = evaluator(graph, known["input.x"].device)
        initial, again = (
            tuple(self._initial(known, kind, name, steps.most) for name in carried)
            for kind in ("state.", "" if self._is_backward else RESET)
        )
        resets = steps.resets is not None and torch.split(steps.resets, sizes)
        offsets = [0, *accumulate(sizes)]

        def step(t: int, rows: int, state: tuple[Tensor, ...]) -> tuple[Named, tuple[Tensor, ...]]:
            here = {
                node.label: _rows_of(node, known[node.label], offsets[t], rows)
                for node in self._needed
            }
            if resets and not self._is_backward:
                state = replaced(state, resets[t], again)
            here |= {f"state.{n}": s for n, s in zip(carried, state, strict=True)}
            out = step_of(here, rows)
            new = tuple(out[f"state.{name}"] for name in carried)
            if resets and self._is_backward:
                for sum_, gradient in zip(again, new, strict=True):
                    sum_[:rows] += torch.where(resets[t].unsqueeze(1), gradient, 0)
                new = replaced(new, resets[t], tuple(map(torch.zeros_like, new)))
            return out, new

        outputs, last = loop(step, sizes, initial, reverse=reverse)
        joined = {
            label: torch.cat([out[label] for out in outputs], rows_dim(graph.nodes[index].shape))
            for label, index in graph.outputs
            if label in self._wanted
        }
        if resets and self._is_backward:
            joined |= {f"{RESET}{name}": sum_ for name, sum_ in zip(carried, again, strict=True)}
        return joined, dict(zip(carried, last, strict=True))

    def _initial(self, known: Named, kind: str, name: str, rows: int) -> Tensor:
        """The state before the first step, or at a reset; zeros where none is given."""
        if kind + name in known:
            return known[kind + name]
        node = self.stages.next_state(name)
        device = known["input.x"].device
        return torch.zeros(concrete(node.shape, rows), dtype=node.dtype, device=device)


def sort(outputs: Named, known: dict[str, Any], results: dict[str, Tensor]) -> None:
    """What another stage reads, and what is a result, whose name may be an input's."""
    for label, tensor in outputs.items():
        (known if is_value(label) else results)[label] = tensor


def find_previous(graph: Graph, known: dict[str, Any], steps: Steps, *, reverse: bool) -> None:
    """What the states that a graph reads were before each step; see `step.gradient.Gradient`.

    Args:
        graph: of the gradient.
        known: packed rows, and what the states were where a sequence begins or is reset.
        steps: of the sequence.
        reverse: the direction of the step, not that of its gradient.
    """
    for _, node in graph.inputs("previous"):
        rows, tables = known[node["made"]], []
        for kind in (INITIAL, RESET):
            given = known.get(kind + node["name"])
            tables.append(rows.new_zeros(steps.most, rows.size(1)) if given is None else given)
        table = torch.cat((rows, *tables)).to(rows.dtype)
        known[node.label] = table.index_select(0, steps.rows_before(reverse).to(rows.device))


def flatten_rows(known: dict[str, Any]) -> None:
    """Arrays of the user's, (T, B, features), become rows, (T·B, features), as graphs have them."""
    for label, tensor in known.items():
        if label.startswith(("input.", "gradient.")) and tensor is not None:
            known[label] = tensor.flatten(0, -2)


def _rows_of(node: Node, tensor: Tensor, start: int, rows: int) -> Tensor:
    """The rows of one step, of a value that has rows at all."""
    dim = batch_dim(node.shape)
    if dim is None:
        return tensor
    size = node.shape[dim]
    times = size.times if isinstance(size, Batch) else 1
    return tensor.narrow(dim, start * times, rows * times)
