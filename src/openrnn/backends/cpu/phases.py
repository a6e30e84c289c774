"""The stages of a step as a kernel runs them: by rows, in three phases, and then over the rows.

What has rows is computed for some rows at a time, around the loop over the steps. What remains are
sums over the rows of all steps, most of them products of two values, and what is made of those.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from openrnn.backends.cpu.plan import Factor, OverRows
from openrnn.step import ops
from openrnn.step.graph import Builder, Graph, Node, Value, depends_on
from openrnn.step.shape import Batch, batch_dim
from openrnn.step.split import Stages, is_value


@dataclass(frozen=True)
class Phases:
    """What is computed before and after the loop, for some rows at a time, and over all rows.

    What one of these makes and another reads has the label `value.<name>`. Stages that have no
    kernel are left as they are: `before` and `later`.
    """

    before: Graph
    inputs: Graph
    outputs: Graph
    over_rows: tuple[OverRows, ...]
    sums: dict[str, str]  # results that are such, with the label of the sum
    after: Graph  # on results of `over_rows`, and on what has rows
    later: Graph

    @property
    def in_torch(self) -> tuple[Graph, Graph, Graph]:
        """What torch computes, of that which has rows or is made of sums over them."""
        return self.before, self.after, self.later

    def read_in_torch(self) -> dict[str, Node]:
        """What is read for that, by the label of the array where it, or the step before it, is."""
        return {
            node["made"] if node["kind"] == "previous" else node.label: node
            for graph in self.in_torch
            for _, node in graph.inputs()
        }

    def kept(self) -> set[str]:
        """What has to be there for all rows when the loop is done."""
        factors = {factor.label for over in self.over_rows for factor in over.factors}
        return factors | {*self.read_in_torch()}

    def summed(self) -> set[str]:
        """What has rows for no other end than to be added up: the loop can do so as it goes."""
        alone, others = set[str](), set[str]()
        for over in self.over_rows:
            is_alone = over.left is None and over.right.previous is None
            (alone if is_alone else others).update(factor.label for factor in over.factors)
        return {*filter(is_value, alone - others - {*self.read_in_torch()})}


NOTHING = Graph((), ())


def phases_of(stages: Stages, has_kernel: Callable[[Graph], bool]) -> Phases:
    """`has_kernel` tells of what is computed by rows whether it can be."""
    apart = _Apart()
    inputs, outputs = apart.take(stages.inputs, "x"), apart.take(stages.outputs, "y")
    whole = has_kernel(inputs), has_kernel(outputs)
    if not all(whole):
        apart = _Apart()
        inputs = apart.take(stages.inputs, "x") if whole[0] else NOTHING
        outputs = apart.take(stages.outputs, "y") if whole[1] else NOTHING
    over_rows, sums, after = _settle(apart.over_rows, apart.after.finish(apart.results))
    return Phases(
        before=NOTHING if whole[0] else stages.inputs,
        inputs=inputs,
        outputs=outputs,
        over_rows=over_rows,
        sums=sums,
        after=after,
        later=NOTHING if whole[1] else stages.outputs,
    )


class _Apart:
    """Takes stages apart into what is computed by rows, and what comes after all rows."""

    def __init__(self) -> None:
        self.after = Builder()
        self.results: dict[str, Value] = {}
        self.over_rows: list[OverRows] = []

    def take(self, graph: Graph, prefix: str) -> Graph:
        """What of this stage is computed by rows; the prefix tells its values from another's."""
        return _Stage(self, graph, prefix).by_rows()


class _Stage:
    def __init__(self, apart: _Apart, graph: Graph, prefix: str) -> None:
        self.apart, self.graph, self.prefix = apart, graph, prefix
        self.readers = graph.readers()
        self.late = self._late()
        self.rows = Builder()
        self.row_values: list[Value | None] = []
        self.row_results: dict[str, Value] = {}
        self.after_values: dict[int, Value] = {}

    def by_rows(self) -> Graph:
        for index, node in enumerate(self.graph.nodes):
            if index in self.late:
                self.row_values.append(None)
                continue
            inputs = [self.row_values[i] for i in node.inputs]
            self.row_values.append(self.rows.copy(node, [v for v in inputs if v is not None]))
        for index in sorted(self.late):
            self._compute(index, self.graph.nodes[index])
        for label, index in self.graph.outputs:
            if index in self.late or batch_dim(self.graph.nodes[index].shape) is None:
                self.apart.results[label] = self._read(index)
            else:
                self.row_results[label] = self._row_value(index)
        return self.rows.finish(self.row_results)

    def _row_value(self, index: int) -> Value:
        value = self.row_values[index]
        assert value is not None
        return value

    def _late(self) -> set[int]:
        """Sums over rows, and all that is made of them; views that only those read, too.

        Not concatenations, which are written.
        """
        nodes, made = self.graph.nodes, self.apart.results
        has_rows = [batch_dim(node.shape) is not None for node in nodes]
        sums = {
            index
            for index, node in enumerate(nodes)
            if (not has_rows[index] and any(has_rows[i] for i in node.inputs))
            or (node.op == "input" and node["kind"] == "value" and node.label in made)
        }
        late = depends_on(nodes, sums)
        results = {index for _, index in self.graph.outputs}
        for index in range(len(nodes) - 1, -1, -1):
            node = nodes[index]
            is_view = ops.TABLE[node.op].kind == "view" and node.op != "cat"
            is_view &= index not in results
            if is_view and self.readers[index] and late.issuperset(self.readers[index]):
                late.add(index)
        return late

    # --- after the rows ---

    def _compute(self, index: int, node: Node) -> None:
        over = self._over_rows(index, node)
        if over is not None:
            self.apart.over_rows.append(over)
            name = over.label.removeprefix("value.")
            value = self.apart.after.input("value", name, over.shape, node.dtype)
        elif node.op == "input":  # what the other stage made after its rows
            value = self.apart.results[node.label]
        elif self._is_turned(index):
            return  # made by its reader
        else:
            value = self.apart.after.copy(node, [self._read(i) for i in node.inputs])
        self.after_values[index] = value

    def _read(self, index: int) -> Value:
        if index not in self.after_values:
            node = self.graph.nodes[index]
            if node.op in ("input", "constant") or batch_dim(node.shape) is None:
                value = self.apart.after.copy(node, [self._read(i) for i in node.inputs])
            else:
                name = self._label(index).removeprefix("value.")
                value = self.apart.after.input("value", name, node.shape, node.dtype)
            self.after_values[index] = value
        return self.after_values[index]

    def _label(self, index: int) -> str:
        """Under which a value that is computed by rows is known outside."""
        node = self.graph.nodes[index]
        if node.op == "input":
            return node.label
        label = f"value.{self.prefix}{index}"
        self.row_results[label] = self._row_value(index)
        return label

    def _over_rows(self, index: int, node: Node) -> OverRows | None:
        nodes, label = self.graph.nodes, f"value.{self.prefix}{index}"
        if node.op == "sum" and node["dims"] == (0,) and self._is_matrix(node.inputs[0]):
            (right,) = node.inputs
            return _sum_over(label, None, self._factor(right), node)
        turned = node.op == "permute" and self._is_turned(node.inputs[0])
        found = self._factors(node.inputs[0] if turned else index)
        if found is None or (not turned and self._is_turned(index)):
            return None
        left, right = found[::-1] if turned else found
        assert nodes[left].dtype == nodes[right].dtype
        return _sum_over(label, self._factor(left), self._factor(right), node)

    def _factor(self, index: int) -> Factor:
        node = self.graph.nodes[index]
        if node.op == "input" and node["kind"] == "previous":
            return Factor(node["made"], node["name"])
        return Factor(self._label(index))

    def _is_turned(self, index: int) -> bool:
        """Whether a product over the rows is only read as its transpose: that is made at once."""
        readers = [self.graph.nodes[i] for i in self.readers[index]]
        is_result = index in (i for _, i in self.graph.outputs)
        by_one = len(readers) == 1 and readers[0].op == "permute" and not is_result
        return by_one and self._factors(index) is not None

    def _factors(self, index: int) -> tuple[int, int] | None:
        """Of a product over the rows: (B, m) and (B, n)."""
        node = self.graph.nodes[index]
        if node.op != "matmul":
            return None
        turned, right = node.inputs
        if self.graph.nodes[turned].op != "permute" or len(node.shape) != 2:
            return None
        (left,) = self.graph.nodes[turned].inputs
        return (left, right) if self._is_matrix(left) and self._is_matrix(right) else None

    def _is_matrix(self, index: int) -> bool:
        """(B, features), computed by rows."""
        node = self.graph.nodes[index]
        shape = node.shape
        real = node.dtype.is_floating_point
        return index not in self.late and real and len(shape) == 2 and shape[0] == Batch()


def _sum_over(label: str, left: Factor | None, right: Factor, node: Node) -> OverRows:
    m, n = node.shape
    assert isinstance(m, int)
    assert isinstance(n, int)
    return OverRows(label, left, right, m, n, (m, n), node.dtype)


def _settle(
    sums: list[OverRows], after: Graph
) -> tuple[tuple[OverRows, ...], dict[str, str], Graph]:
    """The sums in the shapes in which they are read, results that are sums, and what is left."""
    readers, known = after.readers(), {over.label: over for over in sums}
    labels = dict[int, str]()  # of the nodes that are sums
    for index, node in enumerate(after.nodes):
        if node.op == "input" and node.label in known:
            labels[index] = node.label
            shapes = {after.nodes[r].shape for r in readers[index]}
            reshaped = {after.nodes[r].op for r in readers[index]} == {"reshape"}
            if reshaped and len(shapes) == 1 and index not in (i for _, i in after.outputs):
                shape = tuple(size for size in shapes.pop() if isinstance(size, int))
                known[node.label] = replace(known[node.label], shape=shape)
                labels |= dict.fromkeys(readers[index], node.label)
    builder, values = Builder(), list[Value]()
    for index, node in enumerate(after.nodes):
        if index in labels:
            over = known[labels[index]]
            name = over.label.removeprefix("value.")
            values.append(builder.input("value", name, over.shape, node.dtype))
        else:
            values.append(builder.copy(node, [values[i] for i in node.inputs]))
    left = {label: values[i] for label, i in after.outputs if i not in labels}
    results = {label: labels[i] for label, i in after.outputs if i in labels}
    return tuple(known.values()), results, builder.finish(left)
