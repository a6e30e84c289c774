"""Which values of a step have an equation of their own, and which stand inside another's."""

from __future__ import annotations

from collections.abc import Collection

from openrnn.explain.mathematics.slices import AFFINE
from openrnn.explain.mathematics.words import WORDS
from openrnn.step.graph import Graph, Node, ancestors
from openrnn.step.shape import batch_dim

_ACTIVATIONS = ("sigmoid", "tanh", "relu", "exp", "softplus", "log_sigmoid", "softmax", "erf")
_VIEWS = ("slice", "reshape", "permute", "matrix", "expand", "convert")


class Choice:
    """The values of a graph that are shown, of those that the results are computed from.

    shown: by place. A value with a name is shown, but for a sum of products that is used once, on
    its way into a function. One without is shown if it is used again, and is more than a few
    symbols; so is a gate of a part of a weight.
    stacked: values that are wanted in pieces alone, with their pieces, from first to last.
    readers: of each value, those of them that are computed here.
    """

    def __init__(
        self,
        graph: Graph,
        results: Collection[int],
        known: Collection[int] = (),
        always: Collection[int] = (),
    ) -> None:
        self._graph, self._known, self._always = graph, set(known), set(always)
        self._needed = ancestors(graph.nodes, results)
        self.readers = [
            [r for r in found if r in self._needed and r not in self._known]
            for found in graph.readers()
        ]
        self.results = set(results)
        self.stacked = self._stacks()
        self._pieces = {piece for pieces in self.stacked.values() for piece in pieces}
        self._affine: set[int] = set()
        self._size: dict[int, int] = {}
        self._products: set[int] = set()
        self.anonymous: set[int] = set()  # with a part of a weight that no name tells of
        self.shown: set[int] = set()
        for index in sorted(self._needed):
            self._look(index)

    def is_weight(self, index: int) -> bool:
        """Whether it is a parameter, or a part of one as it lies."""
        node = self._graph.nodes[index]
        if node.op == "input":
            return bool(node["kind"] == "parameter")
        return (
            node.op in _VIEWS
            and batch_dim(node.shape) is None
            and all(self.is_weight(i) for i in node.inputs)
        )

    def is_pre_activation(self, index: int) -> bool:
        """Whether it is a sum with a product, of a weight and a vector."""
        return index in self._affine and index in self._products

    def _stacks(self) -> dict[int, list[int]]:
        """Values that nothing but slices reads, which lie side by side."""
        nodes, found = self._graph.nodes, {}
        for index in self._needed - self.results - self._known:
            node, readers = nodes[index], self.readers[index]
            last = len(node.shape) - 1
            sliced = all(
                (nodes[r].op, dict(nodes[r].attributes).get("step")) == ("slice", 1)
                and nodes[r]["dim"] == last
                for r in readers
            )
            if node.op == "input" or not sliced or len(readers) < 2:
                continue
            pieces = sorted(readers, key=lambda r: int(nodes[r]["start"]))
            ends = [0, *(nodes[r]["stop"] for r in pieces)]
            together = [nodes[r]["start"] for r in pieces] == ends[:-1]
            if together and ends[-1] == node.shape[last] and batch_dim(node.shape) == 0:
                found[index] = pieces
        return found

    def _look(self, index: int) -> None:
        node = self._graph.nodes[index]
        weight = self.is_weight(index)
        leaf = node.op in ("input", "constant", "random") or weight or index in self._known
        inner = [i for i in node.inputs if i not in self.shown and i not in self._pieces]
        if not leaf:
            self._size[index] = sum(self._size.get(i, 1) for i in node.inputs)
            if node.op == "matmul" or any(i in self._products for i in inner):
                self._products.add(index)
        if node.op == "constant":
            self._size[index] = 0
        if leaf or self._is_affine(node):
            self._affine.add(index)
        part = weight and node.op != "input" and not (node.op == "permute" and len(node.shape) == 2)
        if node.name is None and (part or any(i in self.anonymous for i in inner)):
            self.anonymous.add(index)
        if not leaf and index not in self._pieces and self._is_shown(index):
            self.shown.add(index)
            self._size[index] = 1
            self._products.discard(index)
        if index in self._pieces:
            self._size[index] = 1
            self._products.discard(index)

    def _is_affine(self, node: Node) -> bool:
        inner = [i for i in node.inputs if i not in self.shown]
        scaled = node.op in ("mul", "div") and any(
            batch_dim(self._graph.nodes[i].shape) is None for i in node.inputs
        )
        return (node.op in (*AFFINE, "norm") or scaled) and self._affine.issuperset(inner)

    def _is_shown(self, index: int) -> bool:
        node = self._graph.nodes[index]
        if index in self.results or index in self.stacked or index in self._always:
            return True
        if node.op in ("expand", "detach"):
            return False
        if node.name is not None:
            return not self._goes_into_a_function(index)
        if index in self.anonymous and node.op in _ACTIVATIONS and index in self._products:
            return True
        large = self._size[index] > 3 or index in self._products
        return len(self.readers[index]) > 1 and large

    def _goes_into_a_function(self, index: int) -> bool:
        """A sum of products, used once, in sums and products up to a function."""
        if index not in self._affine:
            return False
        while len(self.readers[index]) == 1:
            (index,) = self.readers[index]
            node = self._graph.nodes[index]
            if node.op in _ACTIVATIONS or node.op == "norm":
                return True
            kind = WORDS[node.op].kind
            linear = node.op in AFFINE or node.op in ("mul", "div")
            if index in self.results or not linear:
                return kind == "elementwise" and index not in self.results
        return False
