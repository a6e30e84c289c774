"""The gradient of one step, as a graph of its own, derived from the table of operations.

Reverse mode gives a graph from the gradients of the next states to those of the states, the input
and the parameters. It reads values of the forward graph. Which of them are kept, and which computed
again from those kept, is a minimum cut: the fewest bytes for each row, and no product made twice.
What a state was before a step need not be kept where it can be had from the step before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import networkx

from openrnn.step import ops
from openrnn.step.graph import Builder, Graph, Node, Value, ancestors, depends_on
from openrnn.step.pieces import join_pieces
from openrnn.step.shape import Shape, batch_dim, features


@dataclass(frozen=True)
class Gradient:
    """A step graph that also gives what its gradient needs, and the gradient.

    `forward` has the outputs of the step graph and `saved.<number>`. `backward` reads those by the
    same names, the input and the parameters, `state.<name>`, the gradient of a next state as later
    steps give it, and `gradient.<name>`, that of a state's value at this step. It gives the
    gradients under the labels of the inputs that they belong to.

    Of a state that is only read by sums over the rows `backward` may read `previous.<name>`, what
    the state was before this step. That is what it became in the step before: there it has the
    label of the attribute `made`, of something saved, or of what `backward` gives beside gradients.
    """

    forward: Graph
    backward: Graph


def gradient(graph: Graph, at_steps: Collection[str], wanted: Collection[str]) -> Gradient:
    """Derives the gradient of a step graph.

    Args:
        graph: from `input.x`, `state.*` and `parameter.*` to the next states.
        at_steps: names of the states that have a gradient at each step, not only at the last.
        wanted: labels of the inputs whose gradient is wanted; that of carried states always is.
    """
    builder = Builder()
    values: list[Value] = []
    for node in graph.nodes:
        values.append(builder.copy(node, [values[i] for i in node.inputs]))
    first_backward = len(builder.nodes)
    carried = [node["name"] for _, node in graph.inputs("state")]
    grads: dict[int, Value] = {}
    for label, index in graph.outputs:
        name = label.partition(".")[2]
        shape, dtype = values[index].shape, values[index].dtype
        for kind, names in (("carried", carried), ("step", at_steps)):
            if name in names:
                given = builder.input(f"{kind} gradient", name, shape, dtype)
                _accumulate(grads, index, given)
    reverse(graph, values, grads, wanted)
    results = {}
    for index, node in graph.inputs():
        if node["kind"] == "state" or node.label in wanted:
            zero = builder.lift(0, node.dtype).expand(node.shape)
            results[node.label] = grads.get(index, zero)
    outputs = {label: values[i] for label, i in graph.outputs}
    return _partition(builder, outputs, results, first_backward)


def reverse(
    graph: Graph, values: list[Value], grads: dict[int, Value], wanted: Collection[str]
) -> None:
    """Goes through the nodes from the results to the inputs, and adds up their gradients.

    Args:
        graph: the step.
        values: its nodes, where the gradient is built.
        grads: those of the results; those of all other nodes that have one are added.
        wanted: labels of the inputs whose gradient is wanted beside those of the states.
    """
    active = _active(graph, wanted)
    for index in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[index]
        derivative = values[index].builder.table[node.op].derivative
        if index not in grads or index not in active or derivative is None:
            continue
        inputs = [values[i] for i in node.inputs]
        parts = derivative(grads[index], values[index], *inputs, **dict(node.attributes))
        for i, part in zip(node.inputs, parts, strict=True):
            if part is not None and i in active:
                _accumulate(grads, i, _unbroadcast(part, graph.nodes[i].shape))


def _accumulate(grads: dict[int, Value], index: int, part: Value) -> None:
    grads[index] = grads[index] + part if index in grads else part


def _active(graph: Graph, wanted: Collection[str]) -> set[int]:
    """The nodes through which a gradient flows to an input where it is wanted."""
    active: set[int] = set()
    for index, node in enumerate(graph.nodes):
        if not node.dtype.is_floating_point:
            continue
        given = node.op == "input" and (node["kind"] == "state" or node.label in wanted)
        if given or any(i in active for i in node.inputs):
            active.add(index)
    return active


def _unbroadcast(grad: Value, shape: Shape) -> Value:
    """The sum over the dimensions along which a value of this shape was repeated."""
    extra = len(grad.shape) - len(shape)
    padded = (1,) * extra + shape
    dims = tuple(
        i for i, (size, own) in enumerate(zip(grad.shape, padded, strict=True)) if size != own
    )
    if dims:
        grad = grad.sum(dims=dims)
    return grad.reshape(shape)


def _partition(
    builder: Builder, outputs: dict[str, Value], results: dict[str, Value], first_backward: int
) -> Gradient:
    """Takes the joint graph apart, at the values that are kept."""
    nodes = builder.nodes
    flowing = depends_on(
        nodes, (i for i, n in enumerate(nodes) if n.op == "input" and "gradient" in n["kind"])
    )
    needed = ancestors(nodes, (value.index for value in results.values()))
    states = {value.index for value in outputs.values()}
    saved = _cheapest(nodes, needed, flowing, states, first_backward)
    previous = _from_step_before(nodes, saved, outputs, results)
    saved -= {*previous}
    forward = builder.finish({**outputs, **{f"saved.{i}": Value(builder, i) for i in saved}})
    backward = Builder()
    made: dict[int, Value] = {}
    again = {i: f"value.next_{nodes[s]['name']}" for s, i in previous.items() if i not in saved}
    results = results | {label: Value(builder, i) for i, label in again.items()}
    for index in sorted(_until(nodes, (v.index for v in results.values()), {*saved, *previous})):
        node = nodes[index]
        if index in previous:
            label = again.get(previous[index], f"saved.{previous[index]}")
            name, shape, dtype = node["name"], node.shape, node.dtype
            made[index] = backward.input("previous", name, shape, dtype, made=label)
        elif index in saved:
            made[index] = backward.input("saved", str(index), node.shape, node.dtype)
        elif node.op == "input" and "gradient" in node["kind"]:
            kind = {"carried gradient": "state", "step gradient": "gradient"}[node["kind"]]
            made[index] = backward.input(kind, node["name"], node.shape, node.dtype)
        else:
            made[index] = backward.copy(node, [made[i] for i in node.inputs])
    found = backward.finish({label: made[value.index] for label, value in results.items()})
    return Gradient(forward, join_pieces(found))


def _from_step_before(
    nodes: list[Node], saved: set[int], outputs: dict[str, Value], results: dict[str, Value]
) -> dict[int, int]:
    """The states that need not be kept, each with the value that it becomes in a step.

    Only sums over the rows read them, which may look for a row elsewhere, and the value can be
    computed again, without a product, from what else is kept.
    """
    found: dict[int, int] = {}
    used: set[int] = set()  # by those computed again
    in_backward = _until(nodes, (value.index for value in results.values()), saved)
    readers: dict[int, list[int]] = {index: [] for index in in_backward}
    for index in in_backward - saved:
        for i in nodes[index].inputs:
            readers[i].append(index)

    def is_sum(index: int, factor: int) -> bool:
        """Whether it is a product over the rows, of two matrices, the second this factor."""
        node = nodes[index]
        product = node.op == "matmul" and len(node.shape) == 2 and batch_dim(node.shape) is None
        return product and node.inputs[1] == factor and nodes[node.inputs[0]].op == "permute"

    def is_only_summed(index: int) -> bool:
        """As the second factor, or, turned, as the first."""
        for reader in readers[index]:
            turned = nodes[reader].op == "permute" and all(
                nodes[r].inputs[0] == reader and is_sum(r, nodes[r].inputs[1])
                for r in readers[reader]
            )
            if not turned and not is_sum(reader, index):
                return False
        return True

    def is_computed(index: int) -> bool:
        """Whether the gradient can compute it: from weights, the input, and what is kept."""
        node = nodes[index]
        if node.op == "input":
            return index in saved or node["kind"] in ("input", "parameter")
        return index in saved or (
            node.op != "random" and (node.op != "matmul" or batch_dim(node.shape) is None)
        )

    for index in sorted(saved):
        node = nodes[index]
        if node.op != "input" or node["kind"] != "state" or index in used:
            continue
        value = outputs[f"state.{node['name']}"].index
        rest = saved - {index, *found}
        sources = _until(nodes, [value], rest)
        same = (nodes[value].shape, nodes[value].dtype) == (node.shape, node.dtype)
        is_made = value in rest or nodes[value].op != "input"
        free = sources.isdisjoint({index, *found}) and all(map(is_computed, sources))
        if same and is_made and free and is_only_summed(index):
            found[index] = value
            used |= sources & saved
    return found


def _until(nodes: list[Node], sources: Iterable[int], saved: Collection[int]) -> set[int]:
    """The nodes from which the sources are computed, as far back as what is kept."""
    found, todo = set[int](), list(sources)
    while todo:
        index = todo.pop()
        if index not in found:
            found.add(index)
            if index not in saved:
                todo.extend(nodes[index].inputs)
    return found


_CHEAP = ("neg", "abs", "sign", "relu", "add", "sub", "mul", "where", "maximum", "minimum")


def _costly_before(nodes: list[Node]) -> list[int]:
    """How many costly functions, one after the other, lead to each value."""
    depth: list[int] = []
    for node in nodes:
        costly = node.op not in _CHEAP and ops.TABLE[node.op].kind in ("elementwise", "reduction")
        costly = costly and node.dtype.is_floating_point and node.op not in ("detach", "convert")
        depth.append(max((depth[i] for i in node.inputs), default=0) + costly)
    return depth


def _cheapest(
    nodes: list[Node], needed: set[int], flowing: set[int], states: set[int], first_backward: int
) -> set[int]:
    """Which forward values to keep: a minimum cut between what cannot, or should not, be computed
    again, and what the gradient reads. Its capacities are bytes for each row of the batch.
    """

    def cost(index: int) -> int:
        """Bytes, a little less behind each costly function, for it is then not computed again; of
        equal values the later.

        The input and the states of all steps are kept in any case. What the gradient alone
        computes is the last choice: it would be more work in the forward direction.
        """
        node = nodes[index]
        kept = index in states or (node.op == "input" and node["kind"] in ("input", "state"))
        bytes_each = 0 if kept else features(node.shape) * node.dtype.itemsize
        bytes_each *= 64 - min(depth[index], 16)
        rank = index if index >= first_backward else first_backward - index
        return bytes_each * 2 * len(nodes) + rank

    depth = _costly_before(nodes)
    network: networkx.DiGraph[Any] = networkx.DiGraph()
    network.add_nodes_from(("start", "end"))
    for index in needed:
        node = nodes[index]
        if index in flowing:
            for i in node.inputs:
                if i not in flowing and batch_dim(nodes[i].shape) is not None:
                    network.add_edge((i, "out"), "end")  # without a capacity it is infinite
            continue
        if batch_dim(node.shape) is None:
            continue
        network.add_edge((index, "in"), (index, "out"), capacity=cost(index))
        if node.op in ("input", "random", "matmul"):
            network.add_edge("start", (index, "in"))
        for i in node.inputs:
            if batch_dim(nodes[i].shape) is not None:
                network.add_edge((i, "out"), (index, "in"))
    _, (before, after) = networkx.minimum_cut(network, "start", "end")
    cut = {i for i in needed if (i, "in") in before and (i, "out") in after}
    return {i for i in cut if not (nodes[i].op == "input" and nodes[i]["kind"] == "input")}
