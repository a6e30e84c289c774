"""What is no loop over features as statements of C: loops over single numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator

from openrnn.backends.cpu.plan import Access, Nest
from openrnn.export.loops import START, take
from openrnn.export.scope import Scope, loop_over, variables


def nest(item: Nest, scope: Scope) -> Iterator[str]:
    """A product of two values, a running sum, the first of the largest, or a reduction."""
    written = _Nest(item, scope)
    kind = {"matmul": written.product, "cumsum": written.running, "first_max": written.first_max}
    lines, over = kind.get(item.node.op, written.reduction)()
    for dim in reversed(range(len(item.dims))):
        if dim not in over:
            lines = written.over(dim, lines)
    yield from lines


class _Nest:
    """Each kind gives the statements, and the dims that these go over themselves."""

    def __init__(self, item: Nest, scope: Scope) -> None:
        self.item, self.scope, self.node = item, scope, item.node
        depth = scope.plan.graph.nodes[item.node.inputs[0]].shape[-1]
        assert isinstance(depth, int)
        self.depth = depth  # of a product
        self.names = variables((*item.dims, depth), scope.names)
        self.dims: list[int | None] = list(range(len(item.dims)))
        self.total = scope.names.new(item.node.name or "total")
        self.real = scope.language.real

    def over(self, dim: int, lines: list[str]) -> list[str]:
        return list(loop_over(self.names[dim], self.item.dims[dim], lines))

    def at(self, access: Access, dims: list[int | None]) -> str:
        """A number of an array whose dims go along with these; None stays at the first."""
        ways = zip(dims, access.strides, strict=True)
        return self.scope.at(access, [(self.names[d], s) for d, s in ways if d is not None])

    def begin(self, value: float) -> str:
        return f"{self.real} {self.total} = {self.scope.language.number(value)};"

    def product(self) -> tuple[list[str], tuple[int, ...]]:
        deep, (left, right) = len(self.dims), self.item.operands
        a = self.at(left, [*self.dims[:-1], deep])
        b = self.at(right, [*self.dims[:-2], deep, self.dims[-1]])
        sums = loop_over(self.names[deep], self.depth, [f"{self.total} += {a} * {b};"])
        result = f"{self.at(self.item.result, self.dims)} = {self.total};"
        return [self.begin(0.0), *sums, result], ()

    def running(self) -> tuple[list[str], tuple[int, ...]]:
        dim = self.node["dim"]
        source, result = self.at(self.item.operands[0], self.dims), self.item.result
        lines = [f"{self.total} += {source};", f"{self.at(result, self.dims)} = {self.total};"]
        return [self.begin(0.0), *self.over(dim, lines)], (dim,)

    def first_max(self) -> tuple[list[str], tuple[int, ...]]:
        """The first NaN is the largest."""
        dim, best = self.node["dim"], self.scope.names.new("best")
        source, at = self.at(self.item.operands[0], self.dims), self.names[dim]
        nan = f"({source} != {source} && {self.total} == {self.total})"
        lines = [f"if ({nan} || {source} > {self.total}) {{", f"    {best} = {at};"]
        lines += [f"    {self.total} = {source};", "}"]
        result = self.at(self.item.result, self.dims)
        marks = [f"{result} = ({self.real})({at} == {best});"]
        head = [f"int {best} = 0;", self.begin(-math.inf)]
        return [*head, *self.over(dim, lines), *self.over(dim, marks)], (dim,)

    def reduction(self) -> tuple[list[str], tuple[int, ...]]:
        over, op = self.node["dims"], self.node.op
        lines = [take(op, self.total, self.at(self.item.operands[0], self.dims), self.scope)]
        for dim in reversed(over):
            lines = self.over(dim, lines)
        kept = [None if dim in over else dim for dim in self.dims]
        result = f"{self.at(self.item.result, kept)} = {self.total};"
        return [self.begin(START[op]), *lines, result], over
