"""Sums of pieces that lie apart, written as what they are: a concatenation."""

from __future__ import annotations

from openrnn.step.graph import Builder, Graph, Node, Value

# Where each piece starts and stops, and what it is.
_Parts = list[tuple[int, int, Value]]


def join_pieces(graph: Graph) -> Graph:
    """0 + [a, 0] + [0, b] becomes [a, b]: gradients of chunks are made of such sums."""
    builder = Builder()
    values: list[Value] = []
    sums: dict[int, _Parts] = {}  # by the index of the new value
    for node in graph.nodes:
        inputs = [values[i] for i in node.inputs]
        value = builder.copy(node, inputs)
        parts = _parts_of(node, inputs, sums)
        if parts:
            parts.sort(key=lambda part: part[0])
            dim = len(node.shape) - 1
            if _covers(parts, node.shape[dim]):
                value = builder.add("cat", [piece for _, _, piece in parts], dim=dim)
            else:
                sums[value.index] = parts
        values.append(value)
    return builder.finish({label: values[index] for label, index in graph.outputs})


def _parts_of(node: Node, inputs: list[Value], sums: dict[int, _Parts]) -> _Parts:
    if node.op == "unslice" and node["step"] == 1 and node["dim"] == len(node.shape) - 1:
        return [(node["start"], node["stop"], inputs[0])]
    if node.op == "add" and all(v.index in sums and v.shape == node.shape for v in inputs):
        return [part for value in inputs for part in sums[value.index]]
    return []


def _covers(parts: _Parts, size: object) -> bool:
    """Whether sorted parts lie side by side, from the start to the end."""
    ends = [0, *(stop for _, stop, _ in parts)]
    return [start for start, _, _ in parts] == ends[:-1] and ends[-1] == size
