"""Products with weights as statements of C."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from openrnn.export.memory import Products
from openrnn.export.scope import Scope, index, loop_over

_WIDTH = 84


def products(item: Products, scope: Scope) -> Iterator[str]:
    """Each column is what there is already, plus a sum for each product."""
    columns = item.last.columns
    column = "j" if columns > 1 else "0"
    offsets = [_offsets(item, scope, place) for place in range(len(item.last.places))]
    steps = [tuple(b - a for a, b in zip(*pair, strict=True)) for pair in pairwise(offsets)]
    if len(offsets) > 1 and len(set(steps)) == 1:  # evenly apart: heads, say
        inside = loop_over(column, columns, _column(item, scope, column, offsets[0], steps[0]))
        yield from loop_over("p", len(offsets), inside)
        return
    for each in offsets:
        yield from loop_over(column, columns, _column(item, scope, column, each, (0,) * len(each)))


def _offsets(item: Products, scope: Scope, place: int) -> tuple[int, ...]:
    """Of the result, of the start, and of both factors of each product."""
    result, found = item.last.places[place].result, list[int]()
    for term in item.terms:
        here = term.places[place]
        found += [here.left, scope.plan.weights[term.right].offsets[here.matrix]]
    return result, item.terms[0].places[place].start, *found


def _column(
    item: Products, scope: Scope, j: str, offsets: tuple[int, ...], steps: tuple[int, ...]
) -> list[str]:
    """The statement for one column."""
    result, start, *factors = [
        (offset, ("p", step)) for offset, step in zip(offsets, steps, strict=True)
    ]
    target = f"{scope.base[item.last.result.buffer]}[{index(result[0], [result[1], (j, 1)])}] ="
    terms = []
    if item.start is not None:
        where = index(start[0], [start[1], (j, item.start.strides[-1])])
        terms.append(f"{scope.base[item.start.buffer]}[{where}]")
    for number, term in enumerate(item.terms):
        weight = scope.plan.weights[term.right]
        (left, left_step), (right, right_step) = factors[2 * number : 2 * number + 2]
        a = scope.pointer(term.left.buffer, left, [left_step])
        b = scope.pointer(weight.buffer, right, [right_step, (j, weight.strides[1])])
        apart = term.left.strides[0], weight.strides[0]
        if apart == (1, 1) or term.depth == 1:
            terms.append(f"{scope.language.use('dot')}({term.depth}, {a}, {b})")
        else:
            name = scope.language.use("dot_apart")
            terms.append(f"{name}({term.depth}, {a}, {apart[0]}, {b}, {apart[1]})")
    line = f"{target} {' + '.join(terms)};"
    if len(line) <= _WIDTH:
        return [line]
    lines = [f"{target} {terms[0]}", *(f"    + {term}" for term in terms[1:])]
    return [*lines[:-1], f"{lines[-1]};"]
