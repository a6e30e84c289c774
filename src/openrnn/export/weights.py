"""What of a step depends on weights alone: it is computed once, when the layer is exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from openrnn.step.evaluate import evaluator
from openrnn.step.graph import Builder, Graph, Value, ancestors, depends_on, prune
from openrnn.step.shape import batch_dim


@dataclass(frozen=True)
class Weight:
    """An array that a step reads.

    name: in the layer; of what was computed the name that the cell gave it, or none.
    sources: what it was computed from; none of a parameter as it is.
    """

    name: str
    tensor: Tensor
    sources: tuple[str, ...] = ()


def compute_weights(
    graph: Graph, tensors: Mapping[str, Tensor], names: Mapping[str, str]
) -> tuple[Graph, dict[str, Weight]]:
    """The step that reads weights as they are used, and these, by the label of the input.

    Transposes and slices stay in the step: they are only other ways to walk through an array.

    Args:
        graph: of a step without random numbers.
        tensors: what the cell reads, by its own names.
        names: what the layer calls these.
    """
    nodes = graph.nodes
    with_rows = depends_on(
        nodes,
        (
            i
            for i, node in enumerate(nodes)
            if batch_dim(node.shape) is not None
            or (node.op == "input" and node["kind"] != "parameter")
        ),
    )
    builder = Builder()
    values: dict[int, Value] = {}
    computed: dict[str, int] = {}

    def read(index: int) -> Value:
        node = nodes[index]
        if index not in values:
            if index in with_rows or node.op in ("input", "constant", "permute", "slice"):
                values[index] = builder.copy(node, [read(i) for i in node.inputs])
            else:
                name = f".{index}"  # as no tensor of a module can be called
                computed[name] = index
                values[index] = builder.input("parameter", name, node.shape, node.dtype)
        return values[index]

    for index in sorted(with_rows):
        read(index)
    step = builder.finish({label: read(index) for label, index in graph.outputs})
    made = _run(Graph(nodes, tuple(computed.items())), tensors)
    weights = {}
    for _, node in step.inputs("parameter"):
        name = node["name"]
        if name in computed:
            index = computed[name]
            sources = tuple(
                names[nodes[i]["name"]]
                for i in sorted(ancestors(nodes, [index]))
                if nodes[i].op == "input"
            )
            weights[node.label] = Weight(nodes[index].name or "", made[name], sources)
        else:
            weights[node.label] = Weight(names[name], tensors[name])
    return step, weights


def _run(graph: Graph, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    given = {f"parameter.{name}": tensor for name, tensor in tensors.items()}
    with torch.no_grad():
        return evaluator(prune(graph), torch.device("cpu"))(given, 1)
