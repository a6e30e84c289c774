"""Slices of sums and products as such of slices: (W x + b)[0:20] = W[0:20] x + b[0:20]."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from openrnn.explain.mathematics.words import WORDS, Writer
from openrnn.step.graph import Graph, Node, Value
from openrnn.step.shape import batch_dim, replace_dim


def take_slices_apart(graph: Graph, keep: Collection[int] = ()) -> Graph:
    """The same graph, with slices of values as far towards the weights as they can go.

    A value that its readers take whole, or that no slice gets through, a norm say, is left; so are
    those to keep.
    """
    wanted = _only_sliced(graph) - set(keep)
    cutter = _Cutter()
    values: list[Value] = []
    for node in graph.nodes:
        inputs = [values[i] for i in node.inputs]
        value: Value | None = None
        if node.op == "slice" and node["step"] == 1 and node.inputs[0] in wanted:
            value = cutter.cut(inputs[0], node["dim"], node["start"], node["stop"])
        elif node.op == "permute":
            value = cutter.turn(inputs[0], node["dims"])
        if value is None:
            value = cutter.copy(node, inputs)
        elif node.name is not None and value.node.op != "input":
            cutter.nodes[value.index] = replace(value.node, name=node.name, line=node.line)
        values.append(value)
    return cutter.finish({label: values[index] for label, index in graph.outputs})


def _only_sliced(graph: Graph) -> set[int]:
    """The values that are sums of products, or that nothing but slices reads."""
    readers, results = graph.readers(), {index for label, index in graph.outputs if is_step(label)}
    affine: set[int] = set()
    for index, node in enumerate(graph.nodes):
        if node.op in ("input", "constant") or (
            node.op in AFFINE and affine.issuperset(node.inputs)
        ):
            affine.add(index)
    return affine | {
        index
        for index in range(len(graph.nodes))
        if index not in results and all(graph.nodes[r].op == "slice" for r in readers[index])
    }


# What keeps a sum of products one.
AFFINE = ("add", "sub", "neg", "matmul", "slice", "cat", "reshape", "permute", "expand", "matrix")


def is_step(label: str) -> bool:
    """Whether it is of a result of the step, not of a value that has a label to be found by."""
    return label.partition(".")[0] not in ("value", "delta")


class _Cutter(Writer):
    def cut(self, value: Value, dim: int, start: int, stop: int) -> Value | None:
        """The slice, or None if it is not to be had in parts."""
        node = value.node
        if (start, stop) == (0, node.shape[dim]):
            return value
        inputs = [Value(self, i) for i in node.inputs]
        kind = WORDS[node.op].kind
        if kind == "elementwise":
            return self._of_each(node, inputs, dim, start, stop)
        if node.op == "matmul" and len(node.shape) == 2:
            side = 1 if dim == 1 else 0
            part = self.cut(inputs[side], dim, start, stop)
            operands = [inputs[0], part] if side else [part, inputs[1]]
            if part is None:
                return None
            return self.add("matmul", [v for v in operands if v is not None])
        if node.op == "permute":
            part = self.cut(inputs[0], node["dims"][dim], start, stop)
            return None if part is None else self.turn(part, node["dims"])
        if node.op == "cat" and node["dim"] == dim:
            return self._of_pieces(inputs, dim, start, stop)
        if node.op == "slice" and node["dim"] == dim and node["step"] == 1:
            first = node["start"]
            return self.cut(inputs[0], dim, first + start, first + stop)
        if node.op == "expand":
            part = inputs[0]
            behind = dim - (len(node.shape) - len(part.shape))
            if behind >= 0 and part.shape[behind] != 1:
                cut = self.cut(part, behind, start, stop)
                if cut is None:
                    return None
                part = cut
            return part.expand(replace_dim(node.shape, dim, stop - start))
        if node.op in ("input", "matrix") or batch_dim(node.shape) is None:
            return value.slice(dim=dim, start=start, stop=stop, step=1)
        return None

    def _of_each(
        self, node: Node, inputs: list[Value], dim: int, start: int, stop: int
    ) -> Value | None:
        parts = []
        for value in inputs:
            behind = dim - (len(node.shape) - len(value.shape))
            part: Value | None = value
            if behind >= 0 and value.shape[behind] != 1:
                part = self.cut(value, behind, start, stop)
            if part is None:
                return None
            parts.append(part)
        return self.add(node.op, parts, dtype=node.dtype, **dict(node.attributes))

    def _of_pieces(self, pieces: list[Value], dim: int, start: int, stop: int) -> Value | None:
        found, at = [], 0
        for piece in pieces:
            size = piece.shape[dim]
            assert isinstance(size, int)
            first, last = max(start - at, 0), min(stop - at, size)
            if first < last:
                part = self.cut(piece, dim, first, last)
                if part is None:
                    part = piece.slice(dim=dim, start=first, stop=last, step=1)
                found.append(part)
            at += size
        return found[0] if len(found) == 1 else self.add("cat", found, dim=dim)

    def turn(self, value: Value, dims: tuple[int, ...]) -> Value:
        """The value with its dimensions in another order: (a b)ᵀ = bᵀ aᵀ, unless a b has rows."""
        node = value.node
        if node.op == "matmul" and dims == (1, 0) and batch_dim(node.shape) != 0:
            left, right = (self.turn(Value(self, i), dims) for i in node.inputs)
            return right.matmul(left)
        return value.permute(dims)
