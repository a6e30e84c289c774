"""The step of one cell as a function of C."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from openrnn.backends.cpu.items import indent
from openrnn.backends.cpu.plan import Buffer, Loop, Nest, Plan
from openrnn.export.expressions import Language
from openrnn.export.loops import loop
from openrnn.export.memory import Item, Memory, Products
from openrnn.export.names import Names, comment
from openrnn.export.nests import nest
from openrnn.export.products import products
from openrnn.export.scope import Scope, copied


def function(
    head: str,
    plan: Plan,
    memory: Memory,
    given: Mapping[Buffer, str],
    names: Names,
    language: Language,
) -> Iterator[str]:
    """The function of a plan.

    Args:
        head: its first line.
        plan, memory: what it does, and where.
        given: what lies outside, by buffer: x, weights and states.
        names: those that are taken.
        language: C in the plan's dtype.
    """
    names, base = names.inner(), dict(given)
    for name, (now, new) in plan.states.items():
        if name in memory.in_place:
            base[new] = base[now]
    own = (*memory.offsets, *memory.scalars)
    base |= {buffer: names.new(_wanted(plan, buffer)) for buffer in own}
    scope = Scope(plan, language, names, base, memory.scalars)
    yield head
    yield "{"
    yield from (line.rstrip() for line in indent(_body(scope, memory), 2))
    yield "}"


def _body(scope: Scope, memory: Memory) -> Iterator[str]:
    for buffer, offset in memory.offsets.items():
        where = f"state->scratch + {offset}" if offset else "state->scratch"
        yield f"{scope.language.real} *const {scope.base[buffer]} = {where};"
    if memory.offsets:
        yield ""
    if "input.x" not in scope.plan.rows:
        yield "(void)x;"
    for item in memory.items:
        yield from _lines_of_source(scope.plan, item)
        if isinstance(item, Loop):
            yield from loop(item, scope)
        elif isinstance(item, Products):
            yield from products(item, scope)
        else:
            yield from nest(item, scope)
    for name, (now, new) in scope.plan.states.items():
        if name not in memory.in_place:
            yield from copied(scope.base[now], scope.base[new], now.size)


def _wanted(plan: Plan, buffer: Buffer) -> str:
    """What a value in the scratch memory may be called."""
    for name, (_, new) in plan.states.items():
        if buffer == new:
            return f"next_{name}"
    node = plan.graph.nodes[int(buffer.name.removeprefix("v"))]
    words = {"matmul": "product", "add": "sum", "sum": "total", "rsqrt": "scale"}
    if node.op == "div" and plan.graph.nodes[node.inputs[0]].op == "sum":
        words["div"] = "mean"
    return node.name or words.get(node.op, "value")


def _lines_of_source(plan: Plan, item: Item) -> Iterator[str]:
    """A comment with the lines of the cell's source that an item computes."""
    if isinstance(item, Loop):
        nodes = [step.node for step in item.steps if step.node is not None]
    elif isinstance(item, Nest):
        nodes = [item.node]
    else:
        nodes = [plan.graph.nodes[term.index] for term in item.terms]
    files: dict[str, list[int]] = {}
    for node in nodes:
        if node.line is not None:
            file, _, line = node.line.rpartition(":")
            files.setdefault(file, []).append(int(line))
    shown = [
        f"{file}:{min(lines)}" + (f"-{max(lines)}" if len({*lines}) > 1 else "")
        for file, lines in files.items()
    ]
    if shown:
        yield f"/* {comment(', '.join(shown))} */"
