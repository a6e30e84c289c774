"""Loops over the features as statements of C."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch

from openrnn.backends.cpu.items import collapse
from openrnn.backends.cpu.plan import Access, Buffer, Loop, Operand, Step
from openrnn.export.expressions import ATOM, Text
from openrnn.export.memory import reads, writes
from openrnn.export.scope import Scope, Walk, loop_over, variables

_LONGEST = 50  # an expression that is written into another one
START = {"sum": 0.0, "amax": -math.inf, "amin": math.inf}
_BETTER = {"amax": "maximum", "amin": "minimum"}


def take(op: str, total: str, text: str, scope: Scope) -> str:
    """The statement by which a reduction takes in one number."""
    if op == "sum":
        return f"{total} += {text};"
    return f"{total} = {scope.language.use(_BETTER[op])}({total}, {text});"


def loop(item: Loop, scope: Scope) -> Iterator[str]:
    """Over the dims that are kept, and inside over those that are reduced."""
    each = [*reads(item), *(a for step in item.steps if not step.reduces for a in step.stores)]
    kept = len(item.dims) if item.kept is None else item.kept
    groups = collapse(item.dims, kept, [access.strides for access in each])
    sizes = [math.prod(item.dims[d] for d in group) for group in groups]
    names = variables(sizes, scope.names)
    heads = list(zip(names, sizes, strict=True))
    outside = sum(group.stop <= kept for group in groups)

    def walk(access: Access) -> Walk:
        """What a reduction makes has the dims alone that are kept."""
        ways = zip(names, groups, strict=True)
        rank = len(access.strides)
        return [(name, access.strides[g.stop - 1]) for name, g in ways if g.stop <= rank]

    def nested(heads: list[tuple[str, int]], lines: list[str]) -> list[str]:
        for name, size in reversed(heads):
            lines = list(loop_over(name, size, lines))
        return lines

    totals = {step.index: _total(step, scope) for step in item.steps if step.reduces}
    inner = replace(scope, names=scope.names.inner()) if groups else scope
    body = _Body(item, inner, walk, totals)
    lines = body.lines()
    if totals:
        before, after = [], []
        for step in item.steps:
            if step.reduces:
                assert step.node is not None
                total, start = totals[step.index], START[step.node.op]
                real, number = scope.language.real, scope.language.number(start)
                before.append(f"{real} {total} = {number};")
                after += [
                    scope.store(store, walk(store), total)
                    for store in step.stores
                    if store.buffer not in scope.scalars
                ]
        lines = [*before, *nested(heads[outside:], lines), *after]
    yield from nested(heads[:outside], lines)


def _total(step: Step, scope: Scope) -> str:
    """The variable in which a reduction goes on: that of its result, if that is one."""
    alone = [s for s in step.stores if s.buffer in scope.scalars]
    if alone:
        return scope.base[alone[0].buffer]
    return scope.names.new((step.node and step.node.name) or "total")


class _Body:
    """What is done for one index: values are declared, and stored at the end."""

    def __init__(
        self, item: Loop, scope: Scope, walk: Callable[[Access], Walk], totals: Mapping[int, str]
    ) -> None:
        self.item, self.scope, self.walk, self.totals = item, scope, walk, totals
        self.texts: dict[int, Text] = {}
        self.before: dict[Buffer, str] = {}  # states that are overwritten here, as they were
        values = (o.value for step in item.steps for o in step.operands)
        self.uses = Counter(value for value in values if type(value) is int)

    def lines(self) -> list[str]:
        lines = list(self._load_states())
        stores: list[str] = []
        for step in self.item.steps:
            lines += self._step(step, stores)
        return lines + stores

    def _load_states(self) -> Iterator[str]:
        read = {access.buffer for access in reads(self.item)}
        places = {self.scope.base[access.buffer] for access in writes(self.item)}
        for state, (now, _) in self.scope.plan.states.items():
            if now in read and self.scope.base[now] in places:
                access = next(a for a in reads(self.item) if a.buffer == now)
                name = self.before[now] = self.scope.names.new(f"last_{state}")
                where = self.scope.at(access, self.walk(access))
                yield f"const {self.scope.language.real} {name} = {where};"

    def _step(self, step: Step, stores: list[str]) -> Iterator[str]:
        node, language, uses = step.node, self.scope.language, self.uses[step.index]
        operands = [self._operand(operand) for operand in step.operands]
        text = operands[0]
        if node is not None:
            text = language.apply(node, operands, of_bool=step.operands[0].is_bool)
        if step.reduces:
            assert node is not None
            yield take(node.op, self.totals[step.index], text.text, self.scope)
            return
        is_bool = node is not None and node.dtype == torch.bool
        named = node is not None and node.name is not None
        short = len(text.text) <= _LONGEST and not named and not step.stores
        if uses > 1 or (uses == 1 and not short) or len(step.stores) > 1:
            kind = "int" if is_bool else language.real
            name = self.scope.names.new((node and node.name) or "t")
            yield f"const {kind} {name} = {text.text};"
            text = Text(name, ATOM)
        self.texts[step.index] = text
        if step.stores and is_bool:
            text = Text(f"({language.real}){text.within(ATOM)}", ATOM)
        for store in step.stores:
            stores.append(self.scope.store(store, self.walk(store), text.text))

    def _operand(self, operand: Operand) -> Text:
        value, language = operand.value, self.scope.language
        if isinstance(value, float):
            return language.constant(value, is_bool=operand.is_bool)
        if isinstance(value, int):
            return self.texts[value]
        if value.buffer in self.before:
            text = Text(self.before[value.buffer], ATOM)
        else:
            text = Text(self.scope.at(value, self.walk(value)), ATOM)
        return language.as_condition(text) if operand.is_bool else text
