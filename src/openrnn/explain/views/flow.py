"""A step graph as the items of a picture: few enough to be drawn, in the cell's own names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from openrnn.explain.views.patterns import Found, find
from openrnn.explain.views.weights import SIGNS, VIEWS, Weights
from openrnn.explain.views.words import before, mark, now
from openrnn.step.graph import Graph, Node, depends_on
from openrnn.step.shape import Shape, show_shape

_JOINED = ("add", "mul")  # of several values the order does not matter


@dataclass(eq=False)
class Item:
    """A shape in the picture.

    kind: "state", "next", "input", "product", "norm", "weighted" (by a vector of weights),
        "function" or "random".
    lines: what is written in it.
    inputs: the items that it is made of.
    name: the cell's own name for its value; `base` is the same without marks.
    shape: of its value; `tells` whether that is worth telling.
    """

    kind: str
    lines: list[str]
    inputs: list[Item] = field(default_factory=list)
    name: str = ""
    base: str = ""
    shape: Shape = ()
    tells: bool = False


@dataclass(frozen=True)
class _Value:
    """A node of the graph in the picture: an item, or some words where it is of weights alone."""

    item: Item | None
    name: str  # what the cell calls it, or an expression of weights


def read_flow(graph: Graph, gates: Mapping[int, str] = MappingProxyType({})) -> list[Item]:
    """The items of a step, each behind those that it is made of.

    What depends on weights alone is written where it is used, a sum with a bias is part of its
    product, sums of sums and products of products are one, views are left out, and a function of
    torch that takes many operations is one item.

    Args:
        graph: the step.
        gates: names of functions, by their places in the graph, that have none of their own.
    """
    return _Reader(graph, gates).read()


class _Reader:
    def __init__(self, graph: Graph, gates: Mapping[int, str]) -> None:
        self.graph, self.gates, self.weights = graph, gates, Weights(graph)
        nodes = graph.nodes
        sources = [
            index
            for index, node in enumerate(nodes)
            if node.op == "random" or (node.op == "input" and node["kind"] != "parameter")
        ]
        self.live = depends_on(nodes, sources)
        self.readers = graph.readers()
        self.results: dict[int, list[str]] = {}
        for label, index in graph.outputs:
            self.results.setdefault(index, []).append(label.partition(".")[2])
        self.found = find(graph, set(range(len(nodes))) - self.live)
        inside = {i for found in self.found.values() for i in found.inside}
        self.hidden = inside - self.found.keys()
        self.products: dict[Item, int] = {}
        self.values: dict[int, _Value] = {}
        self.items: list[Item] = []
        self.used: Counter[str] = Counter()

    def read(self) -> list[Item]:
        for index, node in enumerate(self.graph.nodes):
            if index in self.hidden:
                continue
            if index not in self.live:
                self.values[index] = _Value(None, self.weights.name(index))
            elif index in self.found:
                self.values[index] = self._function_of(index, self.found[index])
            elif node.op in VIEWS:
                self.values[index] = self._view(index, node)
            elif node.op == "slice":
                self.values[index] = self._slice(index, node)
            else:
                self.values[index] = self._value(index, node)
        for label, index in self.graph.outputs:
            state, value = label.partition(".")[2], self.values[index]
            item = value.item
            if item is None:
                item = Item("weighted", [value.name])
                self.items.append(item)
            shape = self.graph.nodes[index].shape
            self.items.append(Item("next", [now(state)], [item], "", state, shape, tells=True))
        read = {i for item in self.items for i in item.inputs}
        ends = ("state", "input", "next")  # random numbers that nothing reads are left out
        return [item for item in self.items if item in read or item.kind in ends]

    # --- values of the step ----------------------------------------------------------------------

    def _value(self, index: int, node: Node) -> _Value:
        if node.op == "input":
            kind, name = str(node["kind"]), str(node["name"])
            shown = before(name) if kind == "state" else now(name)
            item = Item(kind, [shown], base=name, shape=node.shape, tells=True)
            self.used[name] += 1
            self.items.append(item)
            return _Value(item, shown)
        if node.op == "random":
            return self._add(index, Item("random", ["random"]))
        given = [self.values[i] for i in node.inputs]
        if node.op == "matmul" and None in (given[0].item, given[1].item):
            return self._product(index, node, given)
        if node.op in _JOINED:
            return self._joined(index, node, given)
        kind = "weighted" if self._is_weighted(node) else "function"
        item = Item(kind, [_sign(node, given)], _items(given), tells=node.op == "cat")
        return self._of_slice(index, item, given[0]) if len(given) == 1 else self._add(index, item)

    def _product(self, index: int, node: Node, given: list[_Value]) -> _Value:
        weight = node.inputs[0] if given[0].item is None else node.inputs[1]
        name, size = self.weights.parameter(weight)
        item = Item("product", [f"× {name}", size], _items(given), tells=True)
        self.products[item] = index
        return self._add(index, item)

    def _joined(self, index: int, node: Node, given: list[_Value]) -> _Value:
        """A sum or a product element by element, one with those that it alone reads."""
        weights = [value.name for value in given if value.item is None]
        if weights:
            (item,) = _items(given)
            product = self._product_for_bias(item, node) if node.op == "add" else None
            if product is not None:
                bias = next(i for i in node.inputs if i not in self.live)
                product.lines.append(
                    " ".join(("+", *self.weights.parameter(bias))).removesuffix(" ()")
                )
                self._call(item, index)
                return _Value(item, item.name)
            weighted = self._is_weighted(node)
            sign = SIGNS[node.op] if weighted or node.op != "mul" else "×"
            kind = "weighted" if weighted else "function"
            return self._add(index, Item(kind, [f"{sign} {weights[0]}"], [item]))
        inputs: list[Item] = []
        for i, value in zip(node.inputs, given, strict=True):
            assert value.item is not None
            inner = self.graph.nodes[i]
            if inner.op == node.op and self._is_alone(i) and value.item.lines == [SIGNS[node.op]]:
                self.items.remove(value.item)
                inputs += value.item.inputs
            else:
                inputs.append(value.item)
        return self._add(index, Item("function", [SIGNS[node.op]], inputs))

    def _product_for_bias(self, item: Item, node: Node) -> Item | None:
        """The product that a bias may be added to: the item, or one of the sum that it is.

        It has no bias yet, and all of it, and nothing else of it, is in this sum.
        """
        (source,) = (i for i in node.inputs if i in self.live)
        for product in [item, *(item.inputs if item.lines == ["+"] else [])]:
            index = self.products.get(product)
            while index not in (None, source) and self._is_read_once(index):
                (index,) = self.readers[index]
                if self.graph.nodes[index].op not in (*VIEWS, "add"):
                    index = None
            if index == source and self._is_read_once(source) and len(product.lines) == 2:
                return product
        return None

    def _is_weighted(self, node: Node) -> bool:
        """Whether it takes weights, not numbers alone."""
        return any(self.graph.nodes[i].shape != () for i in node.inputs if i not in self.live)

    def _is_alone(self, index: int) -> bool:
        """Whether one value alone reads it, and the cell has no name for it."""
        return self.graph.nodes[index].name is None and self._is_read_once(index)

    def _is_read_once(self, index: int) -> bool:
        return len(self.readers[index]) == 1 and index not in self.results

    def _function_of(self, index: int, found: Found) -> _Value:
        value = self.values[found.input]
        kind = "norm" if found.weights or "norm" in found.name else "function"
        lines = [found.name]
        if found.weights:
            names = [self.values[i].name for i in found.weights]
            prefix = names[0].rpartition(".")[0]
            size = show_shape(self.graph.nodes[found.weights[0]].shape)
            lines.append(f"{prefix or ', '.join(names)} {size}")
        return self._of_slice(index, Item(kind, lines, _items([value])), value)

    def _of_slice(self, index: int, item: Item, value: _Value) -> _Value:
        """A function without a name of its own tells of which slice of a sum it is."""
        added = self._add(index, item)
        if item.name or index in self.results or value.item is None or not value.name:
            return added
        if value.name == value.item.name or value.item.kind in ("state", "input"):
            return added
        item.lines[0] += f" {value.name}"
        return _Value(item, item.lines[0])

    def _view(self, index: int, node: Node) -> _Value:
        """The same item."""
        value = self.values[node.inputs[0]]
        assert value.item is not None
        if value.item.kind == "product":
            value.item.shape = node.shape
        elif node.name is not None and not value.item.name:
            self._call(value.item, index)
        return _Value(value.item, value.item.name or value.name)

    def _slice(self, index: int, node: Node) -> _Value:
        """Of a sum the same item, since it is the sum of a gate; of all else an item of its own."""
        (source,) = node.inputs
        value = self.values[source]
        assert value.item is not None
        if value.item.kind in ("product", "norm") or value.item.lines == ["+"]:
            value.item.tells = True
            return _Value(value.item, node.name or "")
        text = f"[{node['start']}:{node['stop']}]"
        return self._add(index, Item("function", [text], [value.item]))

    # --- names -----------------------------------------------------------------------------------

    def _add(self, index: int, item: Item) -> _Value:
        self.items.append(item)
        item.shape = self.graph.nodes[index].shape
        self._call(item, index)
        return _Value(item, item.name)

    def _call(self, item: Item, index: int) -> None:
        """Gives an item the name of a value, with a mark if the name is taken."""
        node = self.graph.nodes[index]
        states = self.results.get(index, [])
        base = node.name or (self.gates.get(index) if not states else None)
        if base is None or item.kind == "product":
            return
        item.base = base
        if base in states:
            item.name = now(base) if self.readers[index] else ""
            return
        item.name = base + mark(self.used[base])
        self.used[base] += 1
        if item.kind == "function" and len(node.inputs) == 1:
            item.tells = True


def _items(values: Iterable[_Value]) -> list[Item]:
    return [value.item for value in values if value.item is not None]


def _sign(node: Node, given: list[_Value]) -> str:
    """What is written in an item: an operand that is a weight or a number, or that has a name."""
    sign = SIGNS.get(node.op, node.op)
    if len(given) != 2:
        if all(value.item is not None for value in given):
            return sign
        return f"{sign} {', '.join('·' if value.item else value.name for value in given)}"
    left, right = given
    if left.item is None:
        return f"{left.name} {sign}"
    if right.item is None:
        return f"{sign} {right.name}"
    if node.op in ("maximum", "minimum", "eq", "ne", "logical_and", "logical_or", "cat"):
        return sign
    return f"{left.name or '·'} {sign} {right.name or '·'}"
