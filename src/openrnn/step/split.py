"""Four stages: what is computed once, for all steps at once, in the loop, and after it.

- parameters: on weights alone: once.
- inputs: on x_t, or random, but on no state: for all T steps at once.
- recurrence: on the way from a state to a next state that a later step reads: in the loop.
- outputs: on a state, but on no such way: for all T steps at once.

The backward graph of a step has the same form, with the gradients of the states as its states, so
it is split by the same rule: weight gradients come out as one product over all T steps.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import networkx

from openrnn.step import ops
from openrnn.step.graph import Builder, Graph, Node, Value, ancestors, depends_on
from openrnn.step.shape import batch_dim, features

STAGES = ("parameters", "inputs", "recurrence", "outputs")


@dataclass(frozen=True, eq=False)
class Stages:
    """A step graph in four graphs.

    What one computes and another reads is an output of the one, `value.<number>`, and an input of
    the other by the same name. The results of the whole are outputs of the stage that makes them;
    the recurrence makes the next states `state.<name>`.
    """

    parameters: Graph
    inputs: Graph
    recurrence: Graph
    outputs: Graph
    carried: tuple[str, ...]  # the states that a later step reads, in order
    randoms: tuple[Node, ...]  # the random nodes of a step, in the order in which they are drawn

    def next_state(self, name: str) -> Node:
        """What the recurrence makes of a state that is carried."""
        return self.recurrence.nodes[dict(self.recurrence.outputs)[f"state.{name}"]]

    def result(self, label: str) -> Node:
        """What a stage makes under this label."""
        graphs: list[Graph] = [getattr(self, stage) for stage in STAGES]
        return next(g.nodes[dict(g.outputs)[label]] for g in graphs if label in dict(g.outputs))

    def saved(self) -> list[str]:
        """What is kept for the gradient."""
        outputs = (label for stage in STAGES for label, _ in getattr(self, stage).outputs)
        return sorted(label for label in outputs if label.startswith("saved."))

    def wanted(self, states: Collection[str]) -> list[str]:
        """The outputs of the recurrence that are wanted at each step: of carried states, these."""
        carried = {f"state.{name}" for name in self.carried}
        labels = (label for label, _ in self.recurrence.outputs)
        return [label for label in labels if label in states or label not in carried]

    def __str__(self) -> str:
        return "\n\n".join(f"{name}:\n{getattr(self, name)}" for name in STAGES)


def is_value(label: str) -> bool:
    """Whether it is of what one stage computes and another reads, and not of a result."""
    return label.startswith("value.")


def is_users(label: str) -> bool:
    """Whether what has rows is the user's, and lies as it was given; all else is packed."""
    return label.startswith(("input.", "state.", "gradient."))


def split(graph: Graph, *, fuse: bool = False) -> Stages:
    """The stages of a step graph, whose states are the inputs of kind "state".

    With `fuse` the loop also computes, element by element, what it could be given, where that
    leaves less to be handed over: a loop in registers does it faster than a pass over all T steps.
    And each stage takes weights as they are, with transposes and slices of its own.
    """
    graph = distribute(graph)
    stage = _assign(graph)
    if fuse:
        _fuse(graph, stage)
    walked = _walked(graph, stage) if fuse else frozenset[int]()
    carried = tuple(node["name"] for _, node in graph.inputs("state"))
    builders = {name: _Stage(name, walked) for name in STAGES}
    results: dict[int, list[str]] = {}
    for label, index in graph.outputs:
        results.setdefault(index, []).append(label)
    for index, node in enumerate(graph.nodes):
        if node.op not in ("constant", "input"):
            builders[stage[index]].compute(graph, builders, stage, index)
    for index, labels in results.items():
        for label in labels:
            home = builders[_home_of_result(label, carried, stage[index])]
            home.results[label] = home.read(graph, builders, stage, index)
    randoms = sorted(
        (node for node in graph.nodes if node.op == "random"), key=lambda node: int(node["number"])
    )
    graphs = {name: b.builder.finish(b.results) for name, b in builders.items()}
    return Stages(**graphs, carried=carried, randoms=tuple(randoms))


def _home_of_result(label: str, carried: tuple[str, ...], stage: str) -> str:
    """A next state that is carried leaves the loop even if it does not depend on a state."""
    kind, _, name = label.partition(".")
    return "recurrence" if kind == "state" and name in carried else stage


class _Stage:
    """One stage under construction."""

    def __init__(self, name: str, walked: Collection[int]) -> None:
        self.name, self.walked = name, walked
        self.builder = Builder()
        self.values: dict[int, Value] = {}  # by the node's place in the whole graph
        self.results: dict[str, Value] = {}

    def compute(
        self, graph: Graph, builders: Mapping[str, _Stage], stage: list[str], index: int
    ) -> None:
        node = graph.nodes[index]
        if node.op == "random":  # drawn outside, step by step, and given
            value = self.builder.input("random", str(node["number"]), node.shape, node.dtype)
        else:
            inputs = [self.read(graph, builders, stage, i) for i in node.inputs]
            value = self.builder.copy(node, inputs)
        self.values[index] = value

    def read(
        self, graph: Graph, builders: Mapping[str, _Stage], stage: list[str], index: int
    ) -> Value:
        """The value of a node here: computed here, or coming in from its own stage."""
        if index not in self.values:
            node = graph.nodes[index]
            state = node.op == "input" and node["kind"] == "state"
            if node.op in ("constant", "input") and not (state and self.name != "recurrence"):
                self.values[index] = self.builder.copy(node, ())
            elif index in self.walked:
                inputs = [self.read(graph, builders, stage, i) for i in node.inputs]
                self.values[index] = self.builder.copy(node, inputs)
            else:
                home = builders[stage[index]]
                home.results[f"value.{index}"] = home.read(graph, builders, stage, index)
                self.values[index] = self.builder.input("value", str(index), node.shape, node.dtype)
        return self.values[index]


def _walked(graph: Graph, stage: list[str]) -> frozenset[int]:
    """Transposes and slices of weights, through which a kernel walks itself, and sums of biases."""
    found = set[int]()
    for index, node in enumerate(graph.nodes):
        if node.op in ("permute", "slice") and stage[index] == "parameters":
            (source,) = node.inputs
            if graph.nodes[source].op == "input" or source in found:
                found.add(index)
        elif is_sum_of_vectors(graph, index):
            found.add(index)
    return frozenset(found)


def is_sum_of_vectors(graph: Graph, index: int) -> bool:
    """Whether a value is a sum of inputs of one dimension, as long as each other, without rows."""
    node = graph.nodes[index]
    if node.op != "add" or len(node.shape) != 1 or batch_dim(node.shape) is not None:
        return False
    terms = (graph.nodes[i] for i in node.inputs)
    return all(
        term.shape == node.shape and (term.op == "input" or is_sum_of_vectors(graph, i))
        for term, i in zip(terms, node.inputs, strict=True)
    )


def _onward(graph: Graph) -> set[int]:
    """What leads to a next state that a later step reads."""
    carried = {node["name"] for _, node in graph.inputs("state")}
    nexts = (
        i for label, i in graph.outputs if label.partition(".")[2] in carried and _is_state(label)
    )
    return ancestors(graph.nodes, nexts)


def _assign(graph: Graph) -> list[str]:
    """The stage of each node."""
    # What a state was in the step before is known when all steps are done.
    on_state = _on_state(graph) | depends_on(graph.nodes, (i for i, _ in graph.inputs("previous")))
    onward = _onward(graph)
    stage = []
    for index, node in enumerate(graph.nodes):
        if node.op == "input" and node["kind"] == "state":
            stage.append("recurrence")  # the loop has it, and hands it on
        elif index in on_state:
            stage.append("recurrence" if index in onward else "outputs")
        elif batch_dim(node.shape) is not None or _has_rows(graph, stage, index):
            stage.append("inputs")
        else:
            stage.append("parameters")
    _sink_views(graph, stage)
    return stage


def _fuse(graph: Graph, stage: list[str]) -> None:
    """Moves from the inputs into the recurrence what a minimum cut says.

    Its capacities are the bytes for each row that are handed over; of equal bytes the earlier.
    """
    results = {index for label, index in graph.outputs if not is_value(label)}
    values = {index for label, index in graph.outputs if is_value(label)}
    readers = graph.readers()
    network: networkx.DiGraph[Any] = networkx.DiGraph()
    network.add_nodes_from(("start", "end"))
    rows = [i for i, node in enumerate(graph.nodes) if batch_dim(node.shape) is not None]
    mine = {i for i in rows if stage[i] == "inputs"}
    for index in mine:
        node = graph.nodes[index]
        bytes_each = features(node.shape) * node.dtype.itemsize
        cost = bytes_each * 2 * len(graph.nodes) + index
        network.add_edge((index, "in"), (index, "out"), capacity=cost)
        movable = ops.TABLE[node.op].kind in ("elementwise", "view") and index not in results
        movable = movable and not _is_biased_product(graph, node)
        elsewhere = (r for r in readers[index] if r not in mine and stage[r] != "recurrence")
        if not movable or next(elsewhere, None) is not None:
            network.add_edge("start", (index, "in"))  # without a capacity it is infinite
        for reader in readers[index]:
            if reader in mine:
                network.add_edge((index, "out"), (reader, "in"))
            elif stage[reader] == "recurrence":
                network.add_edge((index, "out"), "end")
        if index in values:  # handed over to what comes behind the loop
            network.add_edge((index, "out"), "end")
        for i in node.inputs:  # a constant has no rows, and is at hand everywhere
            if i in mine:  # what stays is computed from what stays
                network.add_edge((index, "in"), (i, "in"))
            if i not in mine and batch_dim(graph.nodes[i].shape) is not None:
                network.add_edge("start", (index, "in"))
    _, (_, after) = networkx.minimum_cut(network, "start", "end")
    for index in mine:
        if (index, "in") in after:
            stage[index] = "recurrence"


def _is_biased_product(graph: Graph, node: Node) -> bool:
    """A bias costs nothing where its product is computed."""
    if node.op != "add":
        return False
    product, bias = (graph.nodes[i] for i in node.inputs)
    is_product = ops.TABLE[product.op].kind == "product" and product.shape == node.shape
    return is_product and batch_dim(bias.shape) is None


def _is_state(label: str) -> bool:
    return label.startswith("state.")


def _has_rows(graph: Graph, stage: list[str], index: int) -> bool:
    """A sum over the rows has none itself, but needs them."""
    return any(stage[i] != "parameters" for i in graph.nodes[index].inputs)


_SINKING = ("slice", "reshape", "expand", "permute")


def _sink_views(graph: Graph, stage: list[str]) -> None:
    """A view whose readers are all in one later stage is made there, from the tensor itself."""
    readers = graph.readers()
    results = {index for _, index in graph.outputs}
    for index in range(len(graph.nodes) - 1, -1, -1):
        where = {stage[reader] for reader in readers[index]}
        if (
            graph.nodes[index].op in _SINKING
            and stage[index] == "inputs"
            and index not in results
            and len(where) == 1
        ):
            stage[index] = where.pop()


def distribute(graph: Graph) -> Graph:
    """The same step, with all that does not depend on a state taken out of what does.

    [x, h] W becomes x W_x + h W_h, also where dropout or another function, element by element, is
    between. In sums the terms without a state come first: (x W + h U) + b becomes (x W + b) + h U.
    So they are computed for all steps at once, however the user wrote it.
    """
    return _order_sums(_split_products(graph))


def _split_products(graph: Graph) -> Graph:
    on_state, onward = _on_state(graph), _onward(graph)
    builder = Builder()
    values: list[Value] = []
    pieces: dict[int, list[_Piece]] = {}  # of what is, or is made of, a concatenation of features
    for index, node in enumerate(graph.nodes):
        inputs = [values[i] for i in node.inputs]
        found = _pieces_of(graph, index, pieces, values, on_state)
        if found:
            pieces[index] = found
        loops = index in onward and _is_weighted(graph, node)
        parts = pieces.get(node.inputs[0], []) if loops else []
        if len({part.on_state for part in parts}) == 2:
            values.append(_distributed(inputs[1], parts))
        else:
            values.append(builder.copy(node, inputs))
    return builder.finish({label: values[index] for label, index in graph.outputs})


@dataclass(frozen=True)
class _Piece:
    """Some of the features of a value, computed on their own."""

    value: Value
    on_state: bool


def _on_state(graph: Graph) -> set[int]:
    return depends_on(graph.nodes, (index for index, _ in graph.inputs("state")))


def _is_weighted(graph: Graph, node: Node) -> bool:
    return node.op == "matmul" and batch_dim(graph.nodes[node.inputs[1]].shape) is None


def _pieces_of(
    graph: Graph,
    index: int,
    pieces: Mapping[int, list[_Piece]],
    values: list[Value],
    on_state: set[int],
) -> list[_Piece]:
    """The pieces of a concatenation, or of a function of one, element by element."""
    node = graph.nodes[index]
    if node.op == "cat" and node["dim"] == len(node.shape) - 1:
        return [_Piece(values[i], i in on_state) for i in node.inputs]
    source = next((i for i in node.inputs if i in pieces), None)
    if source is None or ops.TABLE[node.op].kind != "elementwise":
        return []
    if graph.nodes[source].shape != node.shape:
        return []
    found, start = [], 0
    for piece in pieces[source]:
        size = piece.value.shape[-1]
        assert isinstance(size, int)
        operands, of_state = [], piece.on_state
        for i in node.inputs:
            shape = graph.nodes[i].shape
            if i == source:
                operands.append(piece.value)
                continue
            of_state = of_state or i in on_state
            value, dim = values[i], len(shape) - 1
            if shape and shape[-1] != 1:
                value = value.slice(dim=dim, start=start, stop=start + size, step=1)
            operands.append(value)
        value = piece.value.builder.add(
            node.op, operands, dtype=node.dtype, **dict(node.attributes)
        )
        found.append(_Piece(value, of_state))
        start += size
    return found


def _distributed(weight: Value, pieces: list[_Piece]) -> Value:
    products: dict[bool, list[Value]] = {False: [], True: []}
    start, dim = 0, len(weight.shape) - 2
    for on_state, run in groupby(pieces, key=lambda piece: piece.on_state):
        parts = [piece.value for piece in run]  # neighbours of one kind stay together
        value = parts[0]
        if len(parts) > 1:
            value = value.builder.add("cat", parts, dim=len(value.shape) - 1)
        size = value.shape[-1]
        assert isinstance(size, int)
        rows = weight.slice(dim=dim, start=start, stop=start + size, step=1)
        products[on_state].append(value.matmul(rows))
        start += size
    return _total(products[False]) + _total(products[True])


def _order_sums(graph: Graph) -> Graph:
    """Sums with what depends on least first: on weights alone, then on x_t, then on a state."""
    on_state, readers = _on_state(graph), graph.readers()
    with_rows = depends_on(
        graph.nodes, (i for i, n in enumerate(graph.nodes) if batch_dim(n.shape) is not None)
    )
    results = {index for _, index in graph.outputs}
    builder = Builder()
    values: list[Value] = []
    terms: dict[int, list[tuple[int, Value]]] = {}  # of each sum, with what they depend on
    for index, node in enumerate(graph.nodes):
        inputs = [values[i] for i in node.inputs]
        value = builder.copy(node, inputs)
        if node.op == "add" and index in with_rows:
            parts: list[tuple[int, Value]] = []
            for i in node.inputs:
                alone = i in terms and readers[i] == [index] and i not in results
                rank = (i in with_rows) + (i in on_state)
                parts += terms[i] if alone else [(rank, values[i])]
            terms[index] = parts
            fixed, given, of_state = ([v for r, v in parts if r == rank] for rank in range(3))
            if len(fixed) > 1 or (of_state and len(fixed + given) > 1):
                # A product takes what it is added to as its start: the weights' sum comes second.
                biases = [_total(fixed)] if fixed else []
                value = _total([*given[:1], *biases, *given[1:], *of_state])
        values.append(value)
    return builder.finish({label: values[index] for label, index in graph.outputs})


def _total(values: list[Value]) -> Value:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total
