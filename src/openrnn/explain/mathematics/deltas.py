"""The equations of the gradient of a step: backpropagation through time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from openrnn.explain.mathematics import formula as paper
from openrnn.explain.mathematics.choice import Choice
from openrnn.explain.mathematics.formula import Formula, Symbol
from openrnn.explain.mathematics.slices import take_slices_apart
from openrnn.explain.mathematics.symbols import of_variable
from openrnn.explain.mathematics.system import Equation, System, in_order, read_step
from openrnn.explain.mathematics.translate import in_words
from openrnn.explain.mathematics.words import Writer
from openrnn.step.gradient import reverse
from openrnn.step.graph import Graph, Value, ancestors
from openrnn.step.pieces import join_pieces

_VIEWS = ("slice", "reshape", "expand", "permute")


def backward_system(graph: Graph, at_steps: Collection[str], wanted: Collection[str]) -> System:
    """The equations of the gradient of a step graph.

    Args:
        graph: of the step.
        at_steps: names of the states that have a gradient at each step.
        wanted: labels of the inputs whose gradient is wanted beside those of the states.
    """
    return _Backward(in_words(graph), at_steps, wanted).system()


def _joint(words: Graph, at_steps: Collection[str], wanted: Collection[str]) -> Graph:
    """Step and gradient in one: `value.<n>` is the n-th value, `delta.<n>` its gradient."""
    builder = Writer()
    values: list[Value] = []
    for node in words.nodes:
        values.append(builder.copy(node, [values[i] for i in node.inputs]))
    carried = [node["name"] for _, node in words.inputs("state")]
    grads: dict[int, Value] = {}
    for label, index in words.outputs:
        name = label.partition(".")[2]
        for kind, names in (("step", at_steps), ("carried", carried)):
            if name in names:
                shape, dtype = values[index].shape, values[index].dtype
                given = builder.input(f"{kind} gradient", name, shape, dtype)
                grads[index] = grads[index] + given if index in grads else given
    reverse(words, values, grads, wanted)
    outputs = {label: values[index] for label, index in words.outputs}
    for index in range(len(words.nodes)):
        outputs[f"value.{index}"] = values[index]
        if index in grads:
            outputs[f"delta.{index}"] = grads[index]
    joint = join_pieces(builder.finish(outputs))
    joined = {
        f"delta.{index}"
        for index, node in enumerate(words.nodes)
        if node.op == "cat" and node.name is not None
    }
    return take_slices_apart(joint, {index for label, index in joint.outputs if label in joined})


class _Backward:
    """`_value` and `_delta` are where a value of the step, and its gradient, are in the graph."""

    def __init__(self, words: Graph, at_steps: Collection[str], wanted: Collection[str]) -> None:
        self._words, self._wanted = words, wanted
        self._graph = _joint(words, at_steps, wanted)
        labels, count = dict(self._graph.outputs), range(len(words.nodes))
        self._value = {k: labels[f"value.{k}"] for k in count}
        self._delta = {k: labels[f"delta.{k}"] for k in count if f"delta.{k}" in labels}
        self._of: dict[int, list[int]] = {}  # whose gradient it is
        for k, index in self._delta.items():
            self._of.setdefault(index, []).append(k)
        _, self._reader = read_step(self._graph)
        self._step = self._reader.choice
        states = (index for label, index in self._graph.outputs if label.startswith("state."))
        self._forward = ancestors(self._graph.nodes, states)
        self._where: set[int] = set()

    def system(self) -> System:
        nodes, reader = self._graph.nodes, self._reader
        inputs = self._results()
        arriving = [k for _, k in self._words.outputs if k in self._delta]
        results = {self._delta[k] for k in (*inputs, *arriving)}
        backward = ancestors(nodes, results) - self._forward
        self._refer(backward)
        known = {*self._step.shown, *reader.symbols}
        choice = Choice(self._graph, results, known, self._always(backward))
        reader.choice = choice
        shown = choice.shown - self._forward
        final = {self._delta[k] for k in inputs} - {self._delta[k] for k in arriving}
        best = {index: self._best(index) for index in sorted(shown - final)}
        for k in sorted(k for k in best.values() if k is not None):
            self._call(k)  # in the order of the step, so that primes are
        for index, of in best.items():
            reader.symbols[index] = self._symbol(of)
        keyed = [
            (Equation((reader.seen(i),), self._right(i), nodes[i].shape), -1 if of is None else of)
            for i, of in best.items()
        ]
        found = [*in_order(keyed), *(self._result(k) for k in inputs)]
        return System(tuple(found), self._definitions(found), reader)

    def _results(self) -> list[int]:
        """What the step hands back: gradients of x, of the states and of the parameters."""
        found: dict[str, list[int]] = {"input": [], "state": [], "parameter": []}
        for k, node in self._words.inputs():
            if node["kind"] == "state" or node.label in self._wanted:
                parts = self._parts(k) if node["kind"] == "parameter" else [k]
                found[node["kind"]] += [part for part in parts if part in self._delta]
        return [k for kind in found.values() for k in kind]

    def _parts(self, k: int) -> list[int]:
        """Of a parameter that is only read in parts, which do not overlap, these; else itself."""
        nodes, readers = self._words.nodes, self._words.readers()
        parts = readers[k]
        if [nodes[r].op for r in parts] == ["matrix"]:
            return parts
        if any(nodes[r].op != "slice" or nodes[r]["dim"] or nodes[r]["step"] != 1 for r in parts):
            return [k]
        parts = sorted(parts, key=lambda r: int(nodes[r]["start"]))
        ends = [0, *(nodes[r]["stop"] for r in parts)]
        if any(nodes[r]["start"] < end for r, end in zip(parts, ends, strict=False)):
            return [k]
        for place, part in enumerate(parts):  # in the shape in which they are read
            while len(readers[part]) == 1 and nodes[readers[part][0]].op == "reshape":
                (part,) = readers[part]
            parts[place] = part
        return parts

    def _always(self, backward: set[int]) -> set[int]:
        """What has an equation, however short: pieces of what is put together, and what several
        products read.
        """
        nodes, readers = self._graph.nodes, self._graph.readers()
        found = set()
        for index in backward:
            node = nodes[index]
            if node.op == "cat":
                found |= {i for i in node.inputs if i in backward and nodes[i].op != "input"}
            through = [
                r
                for reader in readers[index]
                for r in (readers[reader] if nodes[reader].op == "permute" else [reader])
                if r in backward
            ]
            multiplied = any(nodes[r].op == "matmul" for r in through)
            if multiplied and len(through) > 1 and node.op not in ("input", "permute"):
                found.add(index)
        return found

    def _refer(self, backward: set[int]) -> None:
        """Gives sums of products inside the step's equations symbols, where they are read."""
        nodes, places = self._graph.nodes, {index: k for k, index in self._value.items()}
        todo = [i for n in backward for i in nodes[n].inputs if i in self._forward]
        found: set[int] = set()
        while todo:
            index = todo.pop()
            if index in self._reader.symbols or self._step.is_weight(index):
                continue
            if self._step.is_pre_activation(index) and index in places:
                found.add(places[index])
            else:
                todo += nodes[index].inputs
        for k in sorted(found):
            self._call(k)

    def _right(self, index: int) -> Formula:
        return paper.with_common_factors(self._reader.right(index, ""))

    def _result(self, k: int) -> Equation:
        node, index = self._words.nodes[k], self._delta[k]
        kind = node["kind"] if node.op == "input" else "parameter"
        right = self._reader.symbols.get(index)
        formula = self._right(index) if right is None else self._reader.seen(index)
        if kind == "parameter":
            symbol = replace(self._reader.weight(self._value[k]).data, mark="Δ")
        else:
            above = "next" if kind == "state" else ""
            symbol = replace(self._reader.symbols[self._value[k]], mark="δ", above=above)
        return Equation((paper.symbol(symbol, node.shape),), formula, node.shape)

    # --- names ---

    def _best(self, index: int) -> int | None:
        """The value that a gradient is named after, of those whose gradient it is."""
        of, outputs = self._of.get(index, []), {k for _, k in self._words.outputs}
        ranked = (
            [k for k in of if k in outputs],
            [k for k in of if self._value[k] in self._step.shown],
            [k for k in of if self._gate(k) is not None],
            [k for k in of if self._words.nodes[k].name is not None],
            of,
        )
        return next((ks[-1] for ks in ranked if ks), None)

    def _symbol(self, k: int | None) -> Symbol:
        """δ of a value of the step; of a state as its name is after the step."""
        if k is None:
            return self._reader.names.take(Symbol("e", time="t"))
        states = [label for label, place in self._words.outputs if place == k]
        if states:
            return replace(of_variable(states[0].removeprefix("state."), "t"), mark="δ")
        return replace(self._call(k), mark="δ")

    def _call(self, k: int) -> Symbol:
        """The symbol of a value of the step; if it has no equation, after the gate made of it."""
        reader, index, node = self._reader, self._value[k], self._words.nodes[k]
        if index in reader.symbols:
            return reader.symbols[index]
        gate = self._gate(k)
        pieces = [] if gate is None else self._step.stacked.get(gate, [gate])
        gates = [reader.symbols[piece] for piece in pieces]
        if node.name is not None and node.name not in [g.base for g in gates]:
            wanted = of_variable(node.name, "t")
        elif gates:
            below = "".join(g.base for g in gates)
            wanted = Symbol("a", (below, *gates[0].below), gates[0].primes, "t")
        else:
            weights = self._weights(index)
            wanted = Symbol("a", weights[0].below if len(weights) == 1 else (), time="t")
        self._where.add(k)
        return reader.call(index, wanted)

    def _gate(self, k: int) -> int | None:
        """The value with an equation that is a function of this one alone."""
        for place, node in enumerate(self._words.nodes):
            shown = self._value[place] in self._step.shown
            if node.inputs == (k,) and shown and node.op not in _VIEWS:
                return self._value[place]
        return None

    def _weights(self, index: int) -> list[Symbol]:
        """Those of the products, and norms, of which a value is a sum."""
        nodes, symbols = self._graph.nodes, self._reader.symbols
        node = nodes[index]
        if node.op in ("matmul", "norm") and len(node.inputs) > 1:
            weight = node.inputs[1]
            weight = nodes[weight].inputs[0] if nodes[weight].op == "permute" else weight
            return [symbols[weight]] if weight in symbols else []
        return [s for i in node.inputs for s in self._weights(i)] if node.op == "add" else []

    def _definitions(self, equations: list[Equation]) -> tuple[Equation, ...]:
        """Of the values that only the gradient has symbols for, as far as they are read.

        Of what is put together the gradient itself says it.
        """
        made = {}
        for k in sorted(self._where):
            index, shape = self._value[k], self._words.nodes[k].shape
            equation = Equation((self._reader.seen(index),), self._reader.right(index, ""), shape)
            made[self._reader.symbols[index]] = (equation, k)
        joined = {e.left[0].data for e in equations if e.right.op == "cat"}
        todo = [
            replace(symbol.data, mark="")
            for equation in equations
            for symbol in (*equation.left, *equation.right.symbols())
            if symbol.data not in joined
        ]
        needed: set[Symbol] = set()
        while todo:
            symbol = todo.pop()
            if symbol in made and symbol not in needed:
                needed.add(symbol)
                todo += [s.data for s in made[symbol][0].right.symbols()]
        return tuple(in_order([made[symbol] for symbol in made if symbol in needed]))
