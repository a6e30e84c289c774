"""Rewrites of a step graph that leave its meaning, and let a kernel keep more in registers."""

from __future__ import annotations

from openrnn.step import ops
from openrnn.step.graph import Builder, Graph, Node, Value
from openrnn.step.shape import batch_dim
from openrnn.step.split import is_sum_of_vectors


def rewrite(graph: Graph) -> Graph:
    """Takes slices of what is computed element by element before the computation."""
    sliced = _only_sliced(graph)
    expandable: set[int] = set()  # the new values of those
    builder = Builder()
    values: list[Value] = []
    for index, node in enumerate(graph.nodes):
        inputs = [values[i] for i in node.inputs]
        if node.op == "slice":
            values.append(_slice(inputs[0], node, expandable))
        else:
            values.append(builder.copy(node, inputs))
        if index in sliced:
            expandable.add(values[index].index)
    return builder.finish({label: values[index] for label, index in graph.outputs})


def _only_sliced(graph: Graph) -> set[int]:
    """The results of element-wise operations that are read by slices alone, along the last dim."""
    results = {index for _, index in graph.outputs}
    readers = graph.readers()
    found: set[int] = set()
    for index in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[index]
        if ops.TABLE[node.op].kind != "elementwise" or index in results or not readers[index]:
            continue
        if added_product(graph, readers, index):
            continue
        by_slices = all(
            graph.nodes[r].op == "slice" and graph.nodes[r]["dim"] == len(node.shape) - 1
            for r in readers[index]
        )
        by_sliced = all(r in found and graph.nodes[r].shape == node.shape for r in readers[index])
        if by_slices or by_sliced:
            found.add(index)
    return found


def _slice(value: Value, node: Node, expandable: set[int]) -> Value:
    dim, start, stop, step = (node[key] for key in ("dim", "start", "stop", "step"))

    def cut(value: Value, dim: int, rank: int) -> Value:
        here = dim - rank + len(value.shape)  # as broadcasting lays the dimensions out
        if here < 0 or value.shape[here] == 1:
            return value
        if value.index in expandable:
            inner = [Value(value.builder, i) for i in value.node.inputs]
            size = len(value.shape)
            return value.builder.add(
                value.node.op,
                [cut(v, here, size) for v in inner],
                dtype=value.dtype,
                **dict(value.node.attributes),
            )
        if value.node.op == "cat" and value.node["dim"] == here and step == 1:
            begin = 0
            for i in value.node.inputs:
                piece = Value(value.builder, i)
                width = piece.shape[here]
                assert isinstance(width, int)
                if begin <= start and stop <= begin + width:
                    if width == stop - start:
                        return piece
                    return piece.slice(dim=here, start=start - begin, stop=stop - begin, step=1)
                begin += width
        return value.slice(dim=here, start=start, stop=stop, step=step)

    return cut(value, dim, len(node.shape))


def added_product(graph: Graph, readers: list[list[int]], index: int) -> tuple[int, int] | None:
    """Of a sum: a product with a weight, which nothing else reads, and what it is added to.

    That has to be there before the product is computed: an input, or another such sum.
    """
    node = graph.nodes[index]
    if node.op != "add":
        return None
    results = {i for _, i in graph.outputs}
    for product, other in (node.inputs, node.inputs[::-1]):
        factors = graph.nodes[product]
        if ops.TABLE[factors.op].kind != "product":
            continue
        if batch_dim(graph.nodes[factors.inputs[1]].shape) is not None:
            continue
        alone = readers[product] == [index] and product not in results
        source = other
        while ops.TABLE[graph.nodes[source].op].kind == "view":
            (source,) = graph.nodes[source].inputs
        known = (
            graph.nodes[source].op == "input"
            or is_sum_of_vectors(graph, source)
            or added_product(graph, readers, source)
        )
        if alone and known and factors.shape == node.shape and product != other:
            return product, other
    return None
