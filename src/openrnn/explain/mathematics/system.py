"""The equations of a step."""

from __future__ import annotations

from dataclasses import dataclass

from openrnn.explain.mathematics import formula as paper
from openrnn.explain.mathematics.choice import Choice
from openrnn.explain.mathematics.formula import Formula
from openrnn.explain.mathematics.reader import Reader
from openrnn.explain.mathematics.slices import take_slices_apart
from openrnn.explain.mathematics.symbols import of_variable
from openrnn.explain.mathematics.translate import in_words
from openrnn.step.graph import Graph
from openrnn.step.shape import Shape


@dataclass(frozen=True)
class Equation:
    """`left` = `right`; several symbols on the left are the pieces of one vector."""

    left: tuple[Formula, ...]
    right: Formula
    shape: Shape


@dataclass(frozen=True, eq=False)
class System:
    """Equations in an order in which they can be computed.

    `where` are those of values that stand inside others, and that the gradient has symbols for.
    """

    equations: tuple[Equation, ...]
    where: tuple[Equation, ...]
    reader: Reader


def forward_system(graph: Graph) -> System:
    """The equations of a step graph."""
    graph = take_slices_apart(in_words(graph))
    equations, reader = read_step(graph)
    return System(tuple(equations), (), reader)


def read_step(graph: Graph) -> tuple[list[Equation], Reader]:
    """The equations of what leads to the next states, and who has read them."""
    states = {label: index for label, index in graph.outputs if label.startswith("state.")}
    choice = Choice(graph, set(states.values()))
    reader = Reader(graph, choice)
    found: list[tuple[Equation, int]] = []
    for label, index in states.items():
        symbol = reader.names.take(of_variable(label.removeprefix("state."), "t"))
        shape = graph.nodes[index].shape
        if index in reader.symbols:  # another state's too, or one that stays as it is
            equation = Equation((paper.symbol(symbol, shape),), reader.seen(index), shape)
            found.append((equation, len(graph.nodes)))
        reader.symbols.setdefault(index, symbol)
    for index in sorted(choice.shown):
        for place in choice.stacked.get(index, [index]):
            reader.name(place)
    for index in sorted(choice.shown):
        places = choice.stacked.get(index, [index])
        names = [graph.nodes[place].name for place in places]
        gate = "".join(
            name or reader.symbols[p].base for name, p in zip(names, places, strict=True)
        )
        left = tuple(map(reader.seen, places))
        right = reader.right(index, gate)
        found.append((Equation(left, right, graph.nodes[index].shape), min(reader.inside)))
    return in_order(found), reader


def in_order(equations: list[tuple[Equation, int]]) -> list[Equation]:
    """Each behind those that it needs, and then by its key."""
    makers = {s.data: n for n, (equation, _) in enumerate(equations) for s in equation.left}
    levels: dict[int, int] = {}

    def level(n: int) -> int:
        if n not in levels:
            symbols = equations[n][0].right.symbols()
            needs = {makers[s.data] for s in symbols if s.data in makers} - {n}
            levels[n] = max((level(m) + 1 for m in needs), default=0)
        return levels[n]

    order = sorted(range(len(equations)), key=lambda n: (level(n), equations[n][1]))
    return [equations[n][0] for n in order]
