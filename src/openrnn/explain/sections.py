"""What an explanation says: its data as titled tables, sentences and lines of code."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from openrnn.explain.comparison import Directions
from openrnn.explain.explanation import CellExplanation, Explanation
from openrnn.explain.network import form
from openrnn.explain.parameters import Parameter
from openrnn.explain.section import Code, Rows, Section
from openrnn.explain.shapes import TensorShape
from openrnn.explain.views.words import places
from openrnn.step.shape import show_shape

_STAGES = {
    "parameters": "parameters, once",
    "inputs": "inputs, for all T steps at once",
    "recurrence": "recurrence, at each step",
    "outputs": "outputs, for all T steps at once",
}


def sections(explanation: Explanation) -> list[Section]:
    """All that is shown, from the top."""
    found = [
        Section(explanation.title, [_size(explanation)]),
        Section("Shapes", list(_shapes(explanation))),
        Section("Parameters", [_parameters(explanation)] if explanation.parameters else []),
        Section("Beside plain cells with the same I and H", list(_comparison(explanation))),
    ]
    if explanation.directions is not None:
        found.append(Section("Two directions", list(_directions(explanation.directions))))
    found.append(Section("Multiply-adds in products", list(_work(explanation))))
    alone = [cell.cell for cell in explanation.cells] == [explanation.title]
    found += [of_cell(explanation.cells[0], "One step")] if alone else _cells(explanation.cells)
    found.append(Section("Backend", list(_backend(explanation))))
    return [section for section in found if section.parts]


def _cells(cells: Sequence[CellExplanation]) -> Iterator[Section]:
    """The steps; of those that differ in their sizes alone one, and the sizes of the others."""
    shown: dict[Hashable, CellExplanation] = {}
    for cell in cells:
        like = cell
        if cell.program is not None and cell.source is None:
            key = cell.cell.partition("(")[0], form(cell.program.graph)
            like = shown.setdefault(key, cell)
        yield of_cell(cell) if like is cell else _of_other_sizes(cell, like)


def _of_other_sizes(cell: CellExplanation, like: CellExplanation) -> Section:
    assert cell.program is not None
    inputs = (node for _, node in cell.program.graph.inputs() if node["kind"] != "parameter")
    sizes = ", ".join(f"{node['name']} {show_shape(node.shape)}" for node in inputs)
    return Section(_title(cell), [f"The same step as in {like.places[0]}, with {sizes}."])


def of_cell(cell: CellExplanation, title: str = "") -> Section:
    """The step of one cell in its four stages."""
    title = title or _title(cell)
    if cell.reason is not None:
        return Section(title, ["It runs in the eager loop only:", cell.reason])
    lines = []
    for stage, shown in cell.stages.items():
        lines += [_STAGES[stage], *(f"  {line}" for line in shown or ["nothing"])]
    source = [] if cell.source is None else [Code(cell.source.splitlines())]
    return Section(title, [Code(lines), *source])


def _title(cell: CellExplanation) -> str:
    return f"{_at(cell.places)}{cell.cell}"


def _at(where: Sequence[str]) -> str:
    return f"{places(where)}: " if any(where) else ""


def _size(explanation: Explanation) -> str:
    if not explanation.parameters:
        return "no parameters"
    dtypes = ", ".join(dict.fromkeys(parameter.dtype for parameter in explanation.parameters))
    return f"{explanation.numbers:,} parameters, {_bytes(explanation.bytes)} in {dtypes}"


def _bytes(count: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} B"


# --- shapes --------------------------------------------------------------------------------------


def _shapes(explanation: Explanation) -> Iterator[str | Rows | Code]:
    shapes = explanation.shapes
    yield Code([explanation.call])
    yield Rows([_shape_row(shape) for shape in shapes], left=4)
    yield ", ".join(f"{letter} {meaning}" for letter, meaning in explanation.letters.items())
    state = next(shape for shape in shapes if shape.role == "state")
    if explanation.owner != "a cell":
        learned = any("learned" in parameter.note for parameter in explanation.parameters)
        begin = "what was learned" if learned else "zeros"
        before, after = state.names
        yield (
            f"{before} is the state before the first step, {begin} if none is given; "
            f"{after} is that after the last."
        )
    if state.dims[0] == "D·L" and explanation.directions is not None and not state.where:
        yield "Of the D·L states 2·l is that of layer l forward, 2·l + 1 that of layer l backward."
    yield from (f"{note[0].upper()}{note[1:]}." for note in explanation.notes)


def _shape_row(shape: TensorShape) -> list[str]:
    dims, sizes = (f"({', '.join(map(str, each))})" for each in (shape.dims, shape.sizes))
    meaning = shape.meaning
    if shape.where:
        meaning = f"{shape.where}, of {meaning}"
    return [", ".join(shape.names), dims, f"= {sizes}", meaning]


# --- parameters ----------------------------------------------------------------------------------


def _parameters(explanation: Explanation) -> Rows:
    groups: dict[object, list[Parameter]] = {}
    for p in explanation.parameters:
        groups.setdefault((p.of, p.shape, p.dtype, p.blocks, p.note, len(p.places)), []).append(p)
    rows = [
        [_parameter(group), f"{numbers:,}", _bytes(sum(p.bytes for p in group)), _percent(share)]
        for group in groups.values()
        for numbers, share in [(sum(p.numbers for p in group), sum(p.share for p in group))]
    ]
    if len(rows) > 1:
        total = sum(p.share for p in explanation.parameters)
        rows.append(
            ["together", f"{explanation.numbers:,}", _bytes(explanation.bytes), _percent(total)]
        )
    return Rows(rows, ("", "numbers", "memory", "share"))


def _parameter(group: Sequence[Parameter]) -> str:
    first = group[0]
    lines = [f"{first.name} {_shape(first.shape)}"]
    if len(group) > 1:
        last = group[-1].name
        names = f"{first.name}, {last}" if len(group) == 2 else f"{first.name} … {last}"
        lines = [names, f"  {len(group)} of {_shape(first.shape)}"]
    if blocks := _blocks(first):
        lines.append(f"  {'each ' * (len(group) > 1)}{blocks}")
    if first.note:
        lines.append(f"  {first.note}")
    if len(first.places) > 1:
        lines.append(f"  read by {places(first.places)}")
    return "\n".join(lines)


def _blocks(parameter: Parameter) -> str:
    blocks = parameter.blocks
    names = [block.name or "?" for block in blocks]
    if len(blocks) == 1:
        is_matrix = len(blocks[0].shape) > 1
        return f"1 block: {names[0]}" if is_matrix and blocks[0].name else ""
    if len({block.shape for block in blocks}) > 1:
        shown = ", ".join(f"{n} {_shape(b.shape)}" for n, b in zip(names, blocks, strict=True))
        return f"{len(blocks)} blocks: {shown}"
    named = f": {', '.join(names)}" if any(block.name for block in blocks) else ""
    return f"{len(blocks)} blocks of {_shape(blocks[0].shape)}{named}"


def _shape(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


# --- comparison ----------------------------------------------------------------------------------


def _comparison(explanation: Explanation) -> Iterator[str | Rows]:
    *plain, this = (
        [
            compared.name,
            f"{compared.parameters:,}",
            f"{compared.times:.3g} ×",
            "?" if compared.multiply_adds is None else f"{compared.multiply_adds:,}",
            "" if compared.blocks is None else str(compared.blocks),
        ]
        for compared in explanation.compared
    )
    rows = [[f"{row[0]}, as this", *row[1:]] if row[1:] == this[1:] else row for row in plain]
    if rows == plain:
        rows.append(this)
    yield Rows(rows, ("", "parameters", "", "multiply-adds", "blocks of a weight"))
    for cell in explanation.blocks:
        by_names: dict[tuple[str, ...], list[str]] = {}
        for weight, names in cell.weights.items():
            by_names.setdefault(names, []).append(weight)
        of = f" of {cell.cell}" if len(explanation.blocks) > 1 else ""
        for names, weights in by_names.items():
            have = "has" if len(weights) == 1 else "each have"
            beside = ", those of an RNN 1" if len(names) > 1 else ""
            yield f"{_and(weights)}{of} {have} {_count(names)}{beside}."


def _count(names: Sequence[str]) -> str:
    blocks = "1 block" if len(names) == 1 else f"{len(names)} blocks"
    distinct = ", ".join(name for name in dict.fromkeys(names) if name)
    return f"{blocks} ({distinct})" if distinct else blocks


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def _directions(two: Directions) -> Iterator[str]:
    if two.forward or two.backward:
        yield (
            f"Double: the cells and their parameters ({two.forward:,} forward, {two.backward:,} "
            "backward), their states and their multiply-adds."
        )
    if two.shared:
        yield f"Both directions read the same {two.shared:,} numbers of parameters."
    if two.merge == "concat":
        yield f"The output has the features of both: {two.output}, where one has {two.each}."
    else:
        yield f"The output has the features of one, {two.output}: it is the {two.merge} of both."
    if two.wider:
        wider = [place for place, _ in two.wider]
        where = _and(wider) if len(wider) <= 3 else places(wider)
        reads = "reads" if len(two.wider) == 1 else "read"
        sizes = " and ".join(dict.fromkeys(str(size) for _, size in two.wider))
        yield f"So {where} {reads} {sizes} features, by input weights that are wider."
    yield "Not double: T, B and I, and the units of each cell."


# --- work ----------------------------------------------------------------------------------------


def _work(explanation: Explanation) -> Iterator[str | Rows]:
    counted = explanation.multiply_adds
    if counted is None:
        yield "Not known: a cell cannot be read, for the reason below."
        return
    each = (
        ("inputs, for all steps at once", counted.inputs),
        ("recurrence, step after step", counted.recurrence),
        ("outputs, for all steps at once", counted.outputs),
    )
    rows = [[text, f"{count:,}", _percent(count / counted.step)] for text, count in each if count]
    if len(rows) > 1:
        rows.append(["together", f"{counted.step:,}", ""])
    if counted.parameters:
        rows.append(["parameters, once for a call", f"{counted.parameters:,}", ""])
    total = explanation.multiply_adds_of_call
    if total is not None:
        counts = ((explanation.steps, "step"), (explanation.batch, "row"))
        of = " of ".join(f"{n} {word}{'s' * (n != 1)}" for n, word in counts if n is not None)
        rows.append([f"a call: {of}", f"{total:,}", ""])
    if rows:
        yield Rows(rows, ("for each step and row of the batch", "", "share"))


def _backend(explanation: Explanation) -> Iterator[str]:
    if explanation.owner == "a cell":
        yield "A cell called by itself makes one step, in torch. In openrnn.Recurrent:"
    elif explanation.owner == "torch.nn":
        name = explanation.title.partition("(")[0]
        yield f"torch.nn.{name} runs torch's own code. In openrnn.{name}, which takes its weights:"
    elif told := [name for name in explanation.told if name != "auto"]:
        shown = " and ".join(f'backend="{name}"' for name in told)
        yield f"The layer is told {shown}. If it were not:"
    runs: dict[tuple[str, str | None], list[str]] = {}
    for cell in explanation.cells:
        reason = "the step cannot be read, as said above" if cell.reason else cell.backend_reason
        runs.setdefault((cell.backend, reason), []).extend(cell.places)
    for (backend, reason), where in runs.items():
        at = f"{_at(where)}on" if len(runs) > 1 else "On"
        what = ": C++ generated from the step"
        if reason is not None:
            what = f", a plain loop: {reason.rstrip('.')}"
        yield f'{at} a CPU, backend="auto" runs "{backend}"{what}.'
