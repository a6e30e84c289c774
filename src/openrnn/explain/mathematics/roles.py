"""What a gate without a name is called: after what it does."""

from __future__ import annotations

from collections.abc import Sequence

from openrnn.explain.mathematics.words import number_of
from openrnn.step.graph import Graph


def role(graph: Graph, index: int, readers: Sequence[Sequence[int]]) -> str | None:
    """The letter of the literature for a gate: i, f, g, o of an LSTM, r, z, n of a GRU.

    What is mixed with 1 less itself is z, what multiplies an old state f, a candidate i, a function
    of a new state o, and anything else r. A candidate is n if z weighs it, else g.

    Args:
        graph: of the step.
        index: the place of the gate.
        readers: of each value, those that are part of the step.
    """
    nodes = graph.nodes
    results = {place for label, place in graph.outputs if label.startswith("state.")}

    def is_rest(place: int) -> bool:
        node = nodes[place]
        return node.op == "sub" and number_of(nodes[node.inputs[0]]) == 1

    partners = [
        sum(nodes[r].inputs) - index  # the other of two
        for r in readers[index]
        if nodes[r].op == "mul" and nodes[r].inputs != (index, index)
    ]
    if nodes[index].op == "tanh":
        return "n" if any(map(is_rest, partners)) else "g" if partners else None
    if nodes[index].op != "sigmoid" or not partners:
        return None
    if any(map(is_rest, readers[index])):
        return "z"
    for place in partners:
        partner = nodes[place]
        if partner.op == "input" and partner["kind"] == "state":
            return "f"
        if partner.op == "tanh":
            return "o" if partner.inputs[0] in results else "i"
    return "r"
