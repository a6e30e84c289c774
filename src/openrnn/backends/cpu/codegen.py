"""From an assembly to C++: one function that runs all time steps for some rows of the batch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

import torch

from openrnn.backends.cpu.items import indent, items, number
from openrnn.backends.cpu.plan import Assembly, Buffer, Plan
from openrnn.backends.cpu.runtime import REAL
from openrnn.step.split import is_users


def generate(assembly: Assembly, dtype: torch.dtype) -> str:
    """The source of a kernel."""
    return "\n".join(_Source(assembly, REAL[dtype]).lines()) + "\n"


# Names in comments are quoted: one that ends in a backslash would take the next line into its own.


class _Source:
    def __init__(self, assembly: Assembly, real: str) -> None:
        self.assembly, self.real = assembly, real
        inputs, step, outputs = assembly.plans
        self.first_weight = {
            inputs.name: 0,
            step.name: len(inputs.weights),
            outputs.name: len(inputs.weights) + len(step.weights),
        }
        count = sum(len(plan.weights) for plan in assembly.plans)
        self.first_vector = {
            inputs.name: count,
            step.name: count + len(inputs.vectors),
            outputs.name: count + len(inputs.vectors) + len(step.vectors),
        }
        # What lies in chunks, by label and whether it is made: what comes in, and what goes out.
        self.chunks: dict[tuple[str, bool], Buffer] = {}
        for plan in (inputs, outputs):
            for label, buffer in plan.rows.items():
                self._chunk(label, label not in assembly.given, buffer.size)
        for plan in assembly.plans:
            for label, buffer in plan.left.items():
                self._chunk(label, True, buffer.size)
        # Arrays that the steps make, and that are read once more where they are.
        of_step = {label for label in outputs.rows if label in step.outputs}
        self.read_in_place = of_step - {*step.left}
        self.in_place = {plan.name: self._found_in_place(plan) for plan in (inputs, outputs)}
        self.has_tables = any(self.in_place.values())  # of where rows are
        # What stands in for the user's rows of a step, if these are not side by side.
        self.own = [
            (label, buffer)
            for buffers in (step.rows, step.outputs)
            for label, buffer in buffers.items()
            if is_users(label) and buffer.kind != "chunk"
        ]
        # Where threads that write no results have room for a row of them: numbers for those before.
        sizes = {label: buffer.size for label, buffer in step.outputs.items()}
        sizes |= {
            label: buffer.size for plan in assembly.plans for label, buffer in plan.summed.items()
        }
        *starts, self.of_aside = accumulate(sizes.values(), initial=0)
        self.aside = dict(zip(sizes, starts, strict=True))

    def _chunk(self, label: str, made: bool, size: int) -> None:
        name = f"chunk{len(self.chunks)}"
        self.chunks.setdefault((label, made), Buffer(name, "chunk", size))

    def _found_in_place(self, plan: Plan) -> set[Buffer]:
        """The arrays whose rows a phase reads or writes where they are."""
        in_products, assembly = plan.in_products(), self.assembly
        others = {label for other in assembly.plans for label in other.rows}
        read = {
            buffer
            for label, buffer in plan.rows.items()
            if label in self.read_in_place or label in assembly.given
        }
        written = {
            buffer
            for label, buffer in plan.left.items()
            if label in assembly.made and label not in others
        }
        return (read | written | {*plan.summed.values()}) - in_products

    def lines(self) -> Iterator[str]:
        inputs, step, outputs = self.assembly.plans
        yield f"typedef {self.real} real;"
        yield '#include "vectors.h"'
        yield "using namespace openrnn;"
        yield ""
        for plan in self.assembly.plans:
            for name, numbers in plan.tables.items():
                yield f"static const real {name}[] = {{{', '.join(map(number, numbers))}}};"
        yield "// All steps, for some rows of the batch; those that end keep their last state."
        yield "static void run_rows(const Call& call, int64_t first, int64_t count, int64_t most,"
        yield "                     const real* const* weights, real* memory, Product product,"
        yield "                     Member* member, real* aside) {"
        yield from indent(self._memory())
        yield "  int64_t active = 0;"
        yield "  for (int64_t begin = 0, end; begin < call.steps; begin = end) {"
        yield "    const int64_t rows = take_steps(call, begin, first, count, most, &end);"
        if self.has_tables:
            yield "    find_rows(call, begin, end, first, count, packed, users, sequences);"
        if inputs.items:
            yield "    // What does not depend on a state, for all rows of some steps."
            yield from indent(self._phase(inputs), 2)
        if step.items or step.states:
            yield "    // These steps."
            yield from indent(self._steps(), 2)
        if outputs.items:
            yield "    // What no later step depends on, for all these rows."
            yield from indent(self._phase(outputs), 2)
        yield "  }"
        yield "}"
        yield ""
        yield from self._entry()

    # --- memory ---

    def _memory(self) -> Iterator[str]:
        for (label, _), buffer in self.chunks.items():
            yield f"real* const {buffer.name} = memory;  // {label!a}"
            yield f"memory += most * padded({buffer.size});"
        for plan, rows in zip(self.assembly.plans, ("most", "count", "most"), strict=True):
            if plan.scratch:
                yield f"real* const {plan.name}_memory = memory;"
                yield f"memory += {rows} * ({_padded(plan.scratch)});"
        for name, (now, following) in self.assembly.step.states.items():
            for buffer in (now, following):
                yield f"real* {buffer.name} = memory;  // {name!a}"
                yield f"memory += count * padded({buffer.size});"
        for label, buffer in self.own:
            yield f"real* const own_{buffer.name} = memory;  // {label!a}"
            yield f"memory += count * padded({buffer.size});"
        if self.has_tables:
            yield "int64_t* const same = reinterpret_cast<int64_t*>(memory);"
            yield "int64_t* const packed = same + most;"
            yield "int64_t* const users = packed + most;"
            yield "int64_t* const sequences = users + most;"
            yield "for (int64_t r = 0; r < most; r++) same[r] = r;"
        for plan in self.assembly.plans:
            for label, buffer in plan.summed.items():
                yield f"if (!aside) clear({self._array(label, True)}, first, count, {buffer.size});"

    def _inside(self, plan: Plan, rows: str) -> Iterator[str]:
        """The names of a plan's own buffers, and of what it is given without rows."""
        if plan.scratch:
            yield f"real* free = {plan.name}_memory;"
        for buffer in plan.scratch:
            title = plan.graph.title(int(buffer.name.removeprefix("v")))
            yield f"real* const {buffer.name} = free;  // {title!a}"
            yield f"free += {rows} * padded({buffer.size});"
        for label, buffer in plan.wholes.items():
            place = self.assembly.wholes.index(label)
            yield f"const real* const {buffer.name} = call.wholes[{place}];  // {label!a}"
        for place, labels in enumerate(plan.vectors):
            at = self.first_vector[plan.name] + place
            comment = " + ".join(map(ascii, labels))
            yield f"const real* const {plan.name}_sum{place} = weights[{at}];  // {comment}"

    def _size(self, label: str) -> int:
        """The numbers of a row of what is made."""
        return next(
            buffers[label].size
            for plan in self.assembly.plans
            for buffers in (plan.outputs, plan.left, plan.summed)
            if label in buffers
        )

    def _sum(self, label: str) -> str:
        """Where the sums of all sequences are; who writes no results has all rows of these."""
        return f"(aside ? aside + count * {self.aside[label]} : {self._array(label, True)})"

    def _array(self, label: str, made: bool) -> str:
        """The array of all rows that is given or made."""
        if made:
            return f"call.outputs[{self.assembly.made.index(label)}]"
        return f"call.rows[{self.assembly.given.index(label)}]"

    # --- phases ---

    def _phase(self, plan: Plan) -> Iterator[str]:
        yield "{"
        yield "  const int64_t active = rows;"
        yield from indent(self._inside(plan, "most"))
        in_place = self.in_place[plan.name]
        for label, buffer in plan.rows.items():
            made = label not in self.assembly.given
            chunk = self.chunks[label, made].name
            if buffer in in_place:
                array, aside = self._array(label, made), chunk if made else None
                yield from indent(self._in_place(label, buffer, "const ", array, aside))
                continue
            if not made:
                array = f"{self._array(label, made)}, {_is_users(label)}, {buffer.size}"
                chunked = f"{chunk}, padded({buffer.size})"
                yield f"  gather(call, begin, end, first, count, {array}, {chunked});"
            yield f"  const real* const {buffer.name} = {chunk};  // {label!a}"
        for label, buffer in plan.left.items():
            chunk = self.chunks[label, True].name
            if buffer in in_place:
                array = self._array(label, True)
                yield from indent(self._in_place(label, buffer, "", array, chunk))
                continue
            yield f"  real* const {buffer.name} = {chunk};  // {label!a}"
        for label, buffer in plan.summed.items():
            yield f"  real* const {buffer.name} = {self._sum(label)};  // {label!a}, all steps"
            yield f"  const int64_t* const {buffer.name}_at = sequences;"
        yield from indent(items(plan, self.first_weight[plan.name], in_place))
        for label, buffer in plan.left.items():
            if label in self.assembly.made and buffer not in in_place:
                chunked = f"{self.chunks[label, True].name}, padded({buffer.size})"
                array = f"{buffer.size}, {self._array(label, True)}, {_is_users(label)}"
                yield "  if (!aside)"
                yield f"    scatter(call, begin, end, first, count, {chunked}, {array});"
        yield "}"

    def _in_place(
        self, label: str, buffer: Buffer, const: str, array: str, aside: str | None
    ) -> Iterator[str]:
        """An array whose rows are read or written where they are, or those aside in a chunk."""
        of_rows = "users" if is_users(label) else "packed"
        where, rows = array, of_rows
        if aside is not None:
            where, rows = f"aside ? {aside} : {array}", f"aside ? same : {of_rows}"
        yield f"{const}real* const {buffer.name} = {where};  // {label!a}"
        yield f"const int64_t* const {buffer.name}_at = {rows};"

    def _steps(self) -> Iterator[str]:
        plan = self.assembly.step
        yield "for (int64_t i = begin, done = 0; i < end; i++) {"
        yield "  const int64_t now = rows_at(call, i, first, count);"
        yield from indent(self._enter(plan))
        yield "  active = now;"
        yield "  if (active == 0) continue;"
        yield "  const int64_t at = call.offsets[step_of(call, i)] + first;"
        yield from indent(self._reset(plan))
        yield from indent(self._inside(plan, "count"))
        for label, buffer in plan.rows.items():
            if buffer.kind == "chunk":
                where = self._chunk_rows(label, buffer)
            else:
                where = f"{self._array(label, False)} + at * {buffer.size}"
            if (label, buffer) in self.own:
                yield f"  if (call.between) gather({self._one_step(label, buffer, False)});"
                where = f"call.between ? own_{buffer.name} : {where}"
            yield f"  const real* const {buffer.name} = {where};  // {label!a}"
        for label, buffer in plan.outputs.items():
            where = f"{self._array(label, True)} + at * {buffer.size}"
            if (label, buffer) in self.own:
                where = f"call.between ? own_{buffer.name} : {where}"
            instead = f"aside + count * {self.aside[label]}"
            if label in self.read_in_place:  # of all steps of a chunk
                instead = f"{self.chunks[label, True].name} + done * {buffer.size}"
            yield f"  real* const {buffer.name} = aside ? {instead} : {where};  // {label!a}"
        for label, buffer in plan.left.items():
            yield f"  real* const {buffer.name} = {self._chunk_rows(label, buffer)};  // {label!a}"
        for label, buffer in plan.summed.items():
            where = f"{self._sum(label)} + first * {buffer.size}"
            yield f"  real* const {buffer.name} = {where};  // {label!a}, all steps"
        yield from indent(items(plan, self.first_weight[plan.name]))
        for label, buffer in plan.outputs.items():
            if (label, buffer) in self.own:
                one = self._one_step(label, buffer, True)
                yield f"  if (call.between && !aside) scatter({one});"
        yield from indent(self._leave(plan))
        yield "  done += active;"
        yield "}"

    def _one_step(self, label: str, buffer: Buffer, made: bool) -> str:
        """Between the user's rows of a step and those that stand in for them side by side."""
        users, own = f"{self._array(label, made)}", f"own_{buffer.name}, {buffer.size}"
        both = f"{own}, {buffer.size}, {users}, true"
        if not made:
            both = f"{users}, true, {buffer.size}, {own}"
        return f"call, i, i + 1, first, count, {both}"

    def _chunk_rows(self, label: str, buffer: Buffer) -> str:
        """Where the rows of a step are in a chunk."""
        return f"{self.chunks[label, True].name} + done * padded({buffer.size})"

    def _enter(self, plan: Plan) -> Iterator[str]:
        for place, (now, _) in enumerate(plan.states.values()):
            yield "for (int64_t r = active; r < now; r++)"
            yield (
                f"  begin_state(call, {now.name} + r * padded({now.size}), "
                f"call.initial[{place}], first + r, {now.size});"
            )

    def _reset(self, plan: Plan) -> Iterator[str]:
        for place, (now, _) in enumerate(plan.states.values()):
            yield "for (int64_t r = 0; call.resets && !call.resets_after && r < active; r++)"
            yield (
                f"  if (call.resets[at + r]) begin_state(call, {now.name} + r * "
                f"padded({now.size}), call.again[{place}], first + r, {now.size});"
            )

    def _leave(self, plan: Plan) -> Iterator[str]:
        for place, (now, following) in enumerate(plan.states.values()):
            yield "for (int64_t r = 0; call.resets_after && r < active; r++)"
            yield (
                f"  if (call.resets[at + r]) take_state(call, {following.name} + r * "
                f"padded({now.size}), aside ? nullptr : call.again[{place}], first + r, "
                f"{now.size});"
            )
        yield "const int64_t then = i + 1 < call.steps ? rows_at(call, i + 1, first, count) : 0;"
        for place, (now, following) in enumerate(plan.states.values()):
            final = f"call.final[{place}]"
            yield f"for (int64_t r = then; r < active && !aside && {final} != nullptr; r++)"
            yield (
                f"  copy({final} + state_row(call, first + r) * {now.size}, "
                f"{following.name} + r * padded({now.size}), {now.size});"
            )
            yield f"real* const last{place} = {now.name};"
            yield f"{now.name} = {following.name}, {following.name} = last{place};"

    # --- what the runtime has to know ---

    def _entry(self) -> Iterator[str]:
        plans = self.assembly.plans
        weights = [(plan, weight) for plan in plans for weight in plan.weights]
        for place, (_, weight) in enumerate(weights):
            listed = ", ".join(map(str, weight.offsets))
            yield f"static const int64_t offsets{place}[] = {{{listed}}};"
        yield "static const Weight weights[] = {"
        for place, (plan, weight) in enumerate(weights):
            is_table = weight.buffer.kind == "table"
            table = weight.buffer.name if is_table else "nullptr"
            labels = {buffer: label for label, buffer in plan.wholes.items()}
            whole = -1 if is_table else self.assembly.wholes.index(labels[weight.buffer])
            plain = str(weight.is_plain and not is_table).lower()
            sizes = (weight.depth, weight.columns, *weight.strides, len(weight.offsets))
            numbers = ", ".join(map(str, sizes))
            of_scale = weight.scale and labels[weight.scale]
            scale = self.assembly.wholes.index(of_scale) if of_scale else -1
            yield f"    {{{table}, {whole}, {plain}, {numbers}, offsets{place}, {scale}}},"
        yield "    {}};"
        inputs, step, outputs = plans
        states = [buffer for pair in step.states.values() for buffer in pair]
        of_row = _padded([*step.scratch, *states, *(buffer for _, buffer in self.own)])
        of_chunk = _padded([*self.chunks.values(), *inputs.scratch, *outputs.scratch])
        if self.has_tables:
            of_chunk += " + 4 * sizeof(int64_t) / sizeof(real)"
        counts = ", ".join(
            str(len(found))
            for found in (
                self.assembly.given,
                self.assembly.made,
                self.assembly.wholes,
                step.states,
                self.assembly.over_rows,
            )
        )
        vectors = [(plan, terms) for plan in plans for terms in plan.vectors]
        for place, (_, terms) in enumerate(vectors):
            listed = ", ".join(str(self.assembly.wholes.index(label)) for label in terms)
            yield f"static const int64_t terms{place}[] = {{{listed}}};"
        yield "static const Vector vectors[] = {"
        for place, (plan, terms) in enumerate(vectors):
            yield f"    {{{plan.wholes[terms[0]].size}, {len(terms)}, terms{place}}},"
        yield "    {}};"
        yield "static const Output outputs[] = {"
        for label in self.assembly.made:
            yield f"    {{{self._size(label)}, {_is_users(label)}}},"
        yield "    {}};"
        of_states = ", ".join([*(str(now.size) for now, _ in step.states.values()), "0"])
        yield f"static const int64_t state_sizes[] = {{{of_states}}};"
        made = f"{len(weights)}, weights, {len(vectors)}, vectors, outputs, state_sizes"
        fields = f"run_rows, {of_row}, {of_chunk}, {self.of_aside}, {counts}, {made}"
        yield f'extern "C" const Kernel kernel = {{{fields}}};'


def _is_users(label: str) -> str:
    return str(is_users(label)).lower()


def _padded(buffers: list[Buffer]) -> str:
    return " + ".join(f"padded({buffer.size})" for buffer in buffers) or "0"
