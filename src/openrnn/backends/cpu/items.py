"""From the items of a plan to C++: products, and loops over the features of a row."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

import torch

from openrnn.backends.cpu.plan import Access, Buffer, Dims, Loop, Nest, Operand, Plan, Product, Step

_INFIX = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "logical_and": "&",
    "logical_or": "|",
}
_WITHOUT_ROWS = ("whole", "table", "once")
_REDUCTIONS = {  # how a vector is taken in, how lanes are put together, and what changes nothing
    "sum": ("{acc} + {x}", "sum", "0"),
    "amax": ("maximum({acc}, {x})", "largest", "-kInfinity"),
    "amin": ("minimum({acc}, {x})", "smallest", "kInfinity"),
}


def items(plan: Plan, first_weight: int, in_place: Collection[Buffer] = ()) -> Iterator[str]:
    """What is done for `active` rows, in order; the plan's weights come after others.

    Of buffers that are `in_place` row r is that whose number is in a table, `<name>_at[r]`.
    """
    return _Items(plan, first_weight, in_place).lines()


class _Items:
    def __init__(self, plan: Plan, first_weight: int, in_place: Collection[Buffer]) -> None:
        self.plan, self.graph, self.first_weight = plan, plan.graph, first_weight
        self.in_place = in_place

    def lines(self) -> Iterator[str]:
        for item in self.plan.items:
            if isinstance(item, Loop):
                yield from self._loop(item)
            elif isinstance(item, Product):
                yield from self._product(item)
            else:
                yield from self._nest(item)

    def _product(self, item: Product) -> Iterator[str]:
        is_int8 = self.plan.weights[item.right].scale is not None
        what = "int8_linear" if is_int8 else "matmul"
        yield self._comment(item.index, what + ", added to another" * (item.start is not None))
        source, target, start = item.left.buffer, item.result.buffer, item.start
        product, size = ("call.int8", "int8_size") if is_int8 else ("product", "packed_size")
        for place in item.places:
            weight = f"weights[{self.first_weight + item.right}]"
            if place.matrix:
                weight += f" + {place.matrix} * {size}({item.depth}, {item.columns})"
            given = (
                f"{source.name} + {place.left}, {_row(source)}, {item.left.strides[0]}, {weight}"
            )
            made = f"{target.name} + {place.result}, {_row(target)}, {item.columns}"
            begin = "nullptr, 0"
            if start is not None:
                begin = f"{start.buffer.name} + {place.start}, {_row(start.buffer)}"
            yield f"{product}(member, active, {given}, {item.depth}, {made}, {begin});"

    def _comment(self, index: int, what: str) -> str:
        line = self.graph.nodes[index].line
        return f"// {self.graph.title(index)} = {what}" + (f", {line}" if line else "")

    # --- loops ---

    def _loop(self, loop: Loop) -> Iterator[str]:
        accesses = [o.value for s in loop.steps for o in s.operands if isinstance(o.value, Access)]
        accesses += [a for s in loop.steps for a in s.stores if not s.reduces]
        kept = len(loop.dims) if loop.kept is None else loop.kept
        groups = collapse(loop.dims, kept, [a.strides for a in accesses])
        yield "for (int64_t r = 0; r < active; r++) {"
        accesses += [a for s in loop.steps for a in s.stores if s.reduces]
        yield from self._rows_in_place(accesses)
        yield from indent(self._nested(loop, groups, kept))
        yield "}"

    def _nested(self, loop: Loop, groups: list[range], kept: int) -> Iterator[str]:
        """The loops over groups of dims: those kept, then those reduced, the last in vectors."""
        outer = [g for g in groups if g.stop <= kept]
        inner = [g for g in groups if g.start >= kept]
        reductions = [step for step in loop.steps if step.reduces]
        vectors = inner or outer[-1:]
        if not inner:
            outer = outer[:-1]
        depth = 0
        for group in outer:
            yield "  " * depth + self._for(loop, group)
            depth += 1
        lines: list[str] = []
        for step in reductions:
            assert step.node is not None
            lines.append(f"vec sum{step.index} = splat({_REDUCTIONS[step.node.op][2]});")
        for place, group in enumerate(vectors[:-1]):
            lines.append("  " * place + self._for(loop, group))
        last = vectors[-1] if vectors else range(len(loop.dims), len(loop.dims))
        size = math.prod(loop.dims[d] for d in last)
        lines.append(f"along({size}, [&](auto width, int64_t j) __attribute__((always_inline)) {{")
        for step in loop.steps:
            lines += indent(self._step(loop, groups, last, step))
        lines.append("});")
        lines += ["}" for _ in vectors[:-1]]
        for step in reductions:
            assert step.node is not None
            total = f"{_REDUCTIONS[step.node.op][1]}(sum{step.index})"
            for access in step.stores:
                where = self._address(access, [g for g in groups if g.stop <= kept], None)
                lines.append(f"{where}[0] = {total};")
        yield from indent(lines, depth)
        for place in range(depth - 1, -1, -1):
            yield "  " * place + "}"

    def _rows_in_place(self, accesses: list[Access]) -> Iterator[str]:
        for buffer in dict.fromkeys(access.buffer for access in accesses):
            if buffer in self.in_place:
                name = buffer.name
                yield f"  auto* const {name}_row = {name} + {name}_at[r] * {buffer.size};"

    def _row_of(self, buffer: Buffer) -> str:
        """Where row r begins."""
        if buffer in self.in_place:
            return f"{buffer.name}_row"
        return (
            buffer.name if buffer.kind in _WITHOUT_ROWS else f"{buffer.name} + r * {_row(buffer)}"
        )

    def _for(self, loop: Loop, group: range) -> str:
        size = math.prod(loop.dims[d] for d in group)
        name = f"i{group.start}"
        return f"for (int64_t {name} = 0; {name} < {size}; {name}++) {{"

    def _address(self, access: Access, groups: list[range], last: range | None) -> str:
        """Where an access is, but for its way along the vectors."""
        buffer = access.buffer
        terms = [self._row_of(buffer)]
        if access.offset:
            terms.append(str(access.offset))
        for group in groups:
            if group != last and len(group) and access.strides[group.stop - 1]:
                terms.append(f"i{group.start} * {access.strides[group.stop - 1]}")
        return f"({' + '.join(terms)})"

    def _step(self, loop: Loop, groups: list[range], last: range, step: Step) -> Iterator[str]:
        operands = [self._operand(o, groups, last) for o in step.operands]
        name = f"x{step.index}" if step.node is not None else "copied"
        node = step.node
        if step.reduces:
            assert node is not None
            take, _, neutral = _REDUCTIONS[node.op]
            x = f"only(width, {operands[0]}, {neutral})"
            yield f"sum{step.index} = {take.format(acc=f'sum{step.index}', x=x)};"
            return
        is_bool = node is not None and node.dtype == torch.bool
        comment = f"  // {node.name}" if node is not None and node.name else ""
        kind = "mask" if is_bool else "vec"
        expression = operands[0] if node is None else self._expression(step, operands)
        yield f"const {kind} {name} = {expression};{comment}"
        for access in step.stores:
            value = f"to_number({name})" if is_bool else name
            where = self._address(access, groups, last)
            stride = access.strides[last.stop - 1] if len(last) else 1
            where += f" + j * {stride}, {stride}" if stride != 1 else " + j"
            if access.buffer.kind == "sum":
                value = f"load(width, {where}) + {value}"
            yield f"store(width, {where}, {value});"

    def _operand(self, operand: Operand, groups: list[range], last: range) -> str:
        value = operand.value
        if isinstance(value, float):
            if operand.is_bool:
                return f"splat_mask({str(bool(value)).lower()})"
            return f"splat({number(value)})"
        if isinstance(value, int):
            return f"x{value}"
        where = self._address(value, groups, last)
        stride = value.strides[last.stop - 1] if len(last) else 0
        if stride == 0:
            text = f"splat({where}[0])"
        elif stride == 1:
            text = f"load(width, {where} + j)"
        else:
            text = f"load(width, {where} + j * {stride}, {stride})"
        return f"to_mask({text})" if operand.is_bool else text

    def _expression(self, step: Step, operands: list[str]) -> str:
        node = step.node
        assert node is not None
        if node.op in _INFIX:
            if node.op in ("eq", "ne") and step.operands[0].is_bool:
                operands = [f"to_number({o})" for o in operands]
            return f"{operands[0]} {_INFIX[node.op]} {operands[1]}"
        if node.op == "neg":
            return f"-{operands[0]}"
        if node.op == "logical_not":
            return f"~{operands[0]}"
        if node.op == "where":
            return f"choose({', '.join(operands)})"
        if node.op in _REDUCTIONS:  # over a single number
            return operands[0]
        if node.op == "convert":
            was, is_now = step.operands[0].is_bool, node.dtype == torch.bool
            if was == is_now:
                return operands[0]
            return f"{'to_number' if was else 'to_mask'}({operands[0]})"
        return f"{node.op}({', '.join(operands)})"

    # --- loops over single numbers ---

    def _nest(self, item: Nest) -> Iterator[str]:
        yield self._comment(item.index, item.node.op)
        yield "for (int64_t r = 0; r < active; r++) {"
        yield from self._rows_in_place([*item.operands, item.result])
        kind = item.node.op
        lines = {
            "matmul": self._inner_product,
            "cumsum": self._running_sum,
            "first_max": self._first_max,
        }.get(kind, self._reduce)(item)
        yield from indent(lines)
        yield "}"

    def _at(self, access: Access, variables: list[str]) -> str:
        terms = [self._row_of(access.buffer), str(access.offset)]
        terms += [
            f"{v} * {s}" for v, s in zip(variables, access.strides, strict=True) if s and v != "0"
        ]
        return f"({' + '.join(terms)})[0]"

    def _over(self, dims: Dims, skip: tuple[int, ...] = ()) -> tuple[list[str], list[str]]:
        variables = [f"i{d}" for d in range(len(dims))]
        heads = [
            f"for (int64_t i{d} = 0; i{d} < {size}; i{d}++)"
            for d, size in enumerate(dims)
            if d not in skip
        ]
        return variables, heads

    def _inner_product(self, item: Nest) -> Iterator[str]:
        a, b = item.operands
        variables, heads = self._over(item.dims)
        depth = self.graph.nodes[item.node.inputs[0]].shape[-1]
        yield from heads
        yield "{"
        yield "  real total = 0;"
        left, right = [*variables[:-1], "k"], [*variables[:-2], "k", variables[-1]]
        yield f"  for (int64_t k = 0; k < {depth}; k++)"
        yield f"    total += {self._at(a, left)} * {self._at(b, right)};"
        yield f"  {self._at(item.result, variables)} = total;"
        yield "}"

    def _running_sum(self, item: Nest) -> Iterator[str]:
        dim = item.node["dim"]
        variables, heads = self._over(item.dims, (dim,))
        yield from heads
        yield "{"
        yield "  real total = 0;"
        yield f"  for (int64_t i{dim} = 0; i{dim} < {item.dims[dim]}; i{dim}++) {{"
        yield f"    total += {self._at(item.operands[0], variables)};"
        yield f"    {self._at(item.result, variables)} = total;"
        yield "  }"
        yield "}"

    def _first_max(self, item: Nest) -> Iterator[str]:
        dim = item.node["dim"]
        variables, heads = self._over(item.dims, (dim,))
        value = self._at(item.operands[0], variables)
        loop = f"for (int64_t i{dim} = 0; i{dim} < {item.dims[dim]}; i{dim}++)"
        yield from heads
        yield "{"
        yield "  int64_t best = 0;"
        yield "  real top = -kInfinity;"
        yield f"  {loop}"
        yield f"    if ((!(top != top) && {value} != {value}) || {value} > top)"
        yield f"      best = i{dim}, top = {value};"
        yield f"  {loop}"
        yield f"    {self._at(item.result, variables)} = i{dim} == best;"
        yield "}"

    def _reduce(self, item: Nest) -> Iterator[str]:
        over = item.node["dims"]
        variables, heads = self._over(item.dims, over)
        _, inner = self._over(item.dims, tuple(d for d in range(len(item.dims)) if d not in over))
        neutral = _REDUCTIONS[item.node.op][2]
        value = self._at(item.operands[0], variables)
        better = {"sum": f"total + {value}"}
        for op, sign in (("amax", ">"), ("amin", "<")):
            better[op] = f"({value} {sign} total || {value} != {value}) ? {value} : total"
        yield from heads
        yield "{"
        yield f"  real total = {neutral};"
        yield from indent(inner)
        yield f"    total = {better[item.node.op]};"
        target = ["0" if d in over else v for d, v in enumerate(variables)]
        yield f"  {self._at(item.result, target)} = total;"
        yield "}"


def collapse(dims: Dims, kept: int, walks: list[Dims]) -> list[range]:
    """Groups of neighbouring dims that all walks go through as if they were one."""
    groups: list[range] = []
    for dim in range(len(dims)):
        joined = groups and dim != kept and all(w[dim - 1] == w[dim] * dims[dim] for w in walks)
        if joined:
            groups[-1] = range(groups[-1].start, dim + 1)
        else:
            groups.append(range(dim, dim + 1))
    return groups


def _row(buffer: Buffer) -> str:
    """How far apart two rows of a buffer are."""
    if buffer.kind in _WITHOUT_ROWS:
        return "0"
    is_array = buffer.kind in ("rows", "output", "sum")
    return str(buffer.size) if is_array else f"padded({buffer.size})"


def number(value: float) -> str:
    if math.isnan(value):
        return 'real(__builtin_nan(""))'
    if math.isinf(value):
        return "kInfinity" if value > 0 else "-kInfinity"
    return f"real({value!r})"


def indent(lines: Iterator[str] | list[str], depth: int = 1) -> Iterator[str]:
    return ("  " * depth + line for line in lines)
