"""A step graph in the words of a reader."""

from __future__ import annotations

from dataclasses import replace

from openrnn.explain.mathematics.heads import linear_maps
from openrnn.explain.mathematics.patterns import recognise
from openrnn.explain.mathematics.words import Writer, inputs_of, number_like, number_of
from openrnn.step.graph import Builder, Graph, Node, Value, depends_on
from openrnn.step.shape import features


def in_words(graph: Graph) -> Graph:
    """The same step; sums of products have those of x first, and mixtures are written as such."""
    raw = Builder()
    values: list[Value] = []
    for node in graph.nodes:
        values.append(raw.copy(node, [values[i] for i in node.inputs]))
    words = {value.index: word for value in values if (word := recognise(value)) is not None}
    maps = linear_maps(graph)
    writer = _Sentences(graph)
    made: list[Value] = []
    for index, node in enumerate(graph.nodes):
        if index in maps:
            vector, weight, chain = maps[index]
            shape = (features(node.shape), features(graph.nodes[vector].shape))
            matrix = writer.add("matrix", [made[weight]], shape=shape, chain=chain)
            value = made[vector].matmul(matrix.transpose())
        elif index in words:
            op, inputs, attributes = words[index]
            value = writer.add(op, [made[v.index] for v in inputs], **attributes)
        else:
            value = writer.write(index, node, [made[i] for i in node.inputs])
        writer.call(value, node)
        made.append(value)
    return writer.finish({label: made[index] for label, index in graph.outputs})


class _Sentences(Writer):
    """Writes a node as a reader would have it."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        nodes = graph.nodes
        self._of_input = depends_on(nodes, (i for i, _ in graph.inputs("input")))
        self._of_state = depends_on(nodes, (i for i, _ in graph.inputs("state")))
        self._of_product = depends_on(
            nodes, (i for i, node in enumerate(nodes) if node.op == "matmul")
        )
        self._graph = graph

    def call(self, value: Value, node: Node) -> None:
        """Gives a value the name of the node that it stands for, unless it has one."""
        if node.name is not None and value.node.name is None and value.node.op != "input":
            self.nodes[value.index] = replace(value.node, name=node.name, line=node.line)

    def write(self, index: int, node: Node, inputs: list[Value]) -> Value:
        if node.op == "convert" and node.dtype.is_floating_point:
            (x,) = inputs
            if x.dtype.is_floating_point:
                return x
        if node.op == "add":
            left, right = node.inputs
            if self._is_of_state_alone(left) and self._is_of_input_alone(right):
                inputs.reverse()
            mixed = _mixture(*inputs)
            if mixed is not None:
                return mixed
        if node.op in ("add", "mul"):
            joined = _with_affine(node.op, inputs)
            if joined is not None:
                return joined
        return self.copy(node, inputs)

    def _is_of_input_alone(self, index: int) -> bool:
        of_input = index in self._of_input and index not in self._of_state
        return of_input and index in self._of_product

    def _is_of_state_alone(self, index: int) -> bool:
        of_state = index in self._of_state and index not in self._of_input
        return of_state and index in self._of_product


def _with_affine(op: str, inputs: list[Value]) -> Value | None:
    """A norm with the weight, or the bias, that comes behind it."""
    norm, part = inputs
    if norm.node.op != "norm" or part.node.op != "input" or len(part.shape) != 1:
        return None
    before: tuple[str, ...] = norm.node["parts"]
    after = (*before, "weight" if op == "mul" else "bias")
    if after not in (("weight",), ("weight", "bias")):
        return None
    options = {**dict(norm.node.attributes), "parts": after}
    return norm.builder.add("norm", [*inputs_of(norm), part], **options)


def _mixture(left: Value, right: Value) -> Value | None:
    """a + (b - a) w, in either order, is (1 - w) a + w b."""
    for start, step in ((left, right), (right, left)):
        if step.node.op != "mul":
            continue
        difference, weight = inputs_of(step)
        if difference.node.op == "sub" and inputs_of(difference)[1] == start:
            end, number = inputs_of(difference)[0], number_of(weight.node)
            rest = (
                number_like(weight, 1) - weight
                if number is None
                else number_like(weight, 1 - number)
            )
            return rest * start + weight * end
    return None
