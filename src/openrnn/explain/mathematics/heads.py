"""Products between views of heads, as the product of a matrix and a vector that they are."""

from __future__ import annotations

from openrnn.step.graph import Builder, Graph, Node, Value
from openrnn.step.shape import Batch, batch_dim

_VIEWS = ("reshape", "permute", "slice", "expand")


def _is_rows(node: Node) -> bool:
    """Whether it is a vector for each row of the batch."""
    return len(node.shape) == 2 and node.shape[0] == Batch()


def linear_maps(graph: Graph) -> dict[int, tuple[int, int, Graph]]:
    """Vectors that are a linear map of another one, by a product between views of heads.

    For each its place, that of the other vector, of the weight, and the way from both.
    """
    readers, found = graph.readers(), {}
    for index, node in enumerate(graph.nodes):
        if node.op != "matmul" or (_is_rows(node) and _is_rows(graph.nodes[node.inputs[0]])):
            continue
        sides = sorted(node.inputs, key=lambda i: batch_dim(graph.nodes[i].shape) is None)
        vector, weight = _along_views(graph, sides[0], True), _along_views(graph, sides[1], False)
        result: int | None = index
        while result is not None and not _is_rows(graph.nodes[result]):
            after = readers[result]
            onward = len(after) == 1 and graph.nodes[after[0]].op in _VIEWS
            result = after[0] if onward else None
        if vector is not None and weight is not None and result is not None:
            found[result] = (vector, weight, _chain(graph, vector, weight, result))
    return found


def _along_views(graph: Graph, index: int, rows: bool) -> int | None:
    """What a view is of: a vector for each row, or a parameter."""
    node = graph.nodes[index]
    if _is_rows(node) if rows else node.op == "input" and node["kind"] == "parameter":
        return index
    return _along_views(graph, node.inputs[0], rows) if node.op in _VIEWS else None


def _chain(graph: Graph, vector: int, weight: int, result: int) -> Graph:
    builder = Builder()
    made: dict[int, Value] = {}
    for name, index in (("u", vector), ("weight", weight)):
        node = graph.nodes[index]
        made[index] = builder.input("input", name, node.shape, node.dtype)

    def make(index: int) -> Value:
        if index not in made:
            node = graph.nodes[index]
            made[index] = builder.copy(node, [make(i) for i in node.inputs])
        return made[index]

    return builder.finish({"y": make(result)})
