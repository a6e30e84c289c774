"""A graph read as formulas: symbols for its values, and what stands on the right of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from openrnn.explain.mathematics import formula as paper
from openrnn.explain.mathematics.choice import Choice
from openrnn.explain.mathematics.formula import Formula, Symbol
from openrnn.explain.mathematics.roles import role
from openrnn.explain.mathematics.symbols import Names, of_variable
from openrnn.explain.mathematics.weights import Weights
from openrnn.explain.mathematics.words import number_of
from openrnn.step.graph import Graph, Node
from openrnn.step.shape import Shape, batch_dim


@dataclass(eq=False)
class Reader:
    """Reads a graph as formulas, and gives its values symbols."""

    graph: Graph
    choice: Choice
    names: Names = field(default_factory=Names)
    symbols: dict[int, Symbol] = field(default_factory=dict)  # of shown values, by place
    origins: dict[Symbol, Formula] = field(default_factory=dict)  # of weights, from parameters
    drawn: dict[Symbol, tuple[Node, float]] = field(default_factory=dict)  # random, and scaled
    inside: set[int] = field(default_factory=set)  # what the last formula is made of

    def __post_init__(self) -> None:
        nodes, stacked = self.graph.nodes, self.choice.stacked.values()
        self._pieces = {piece for pieces in stacked for piece in pieces}
        names = (nodes[index].name for index in self.choice.shown | self._pieces)
        self._weights = Weights(self.graph, {name for name in names if name is not None})
        for index, node in self.graph.inputs():
            self._give(index, node)

    # --- symbols ---

    def _give(self, index: int, node: Node) -> None:
        """The symbol of an input."""
        kind, name = node["kind"], str(node["name"])
        if kind == "parameter":
            self.weight(index)
        elif kind in ("input", "state"):
            self.call(index, of_variable(name, "t" if kind == "input" else "t-1"))
        else:  # the gradient of a state: from the loss at this step, or from the next step
            above = "out" if kind == "step gradient" else "next"
            self.symbols[index] = replace(of_variable(name, "t"), mark="δ", above=above)

    def call(self, index: int, wanted: Symbol) -> Symbol:
        """The symbol of a value; the wanted one, with primes if that is taken, if it has none."""
        if index not in self.symbols:
            self.symbols[index] = self.names.take(wanted)
        return self.symbols[index]

    def name(self, index: int) -> Symbol:
        """The symbol of a value after its variable, or after what it does."""
        node = self.graph.nodes[index]
        name = node.name or role(self.graph, index, self.choice.readers) or "v"
        return self.call(index, of_variable(name, "" if batch_dim(node.shape) is None else "t"))

    def shape(self, index: int) -> Shape:
        return self.graph.nodes[index].shape

    def seen(self, index: int) -> Formula:
        """A value by its symbol."""
        return paper.symbol(self.symbols[index], self.shape(index))

    # --- formulas ---

    def right(self, index: int, gate: str) -> Formula:
        """The formula of a value, which is the gate's, say; it names parts of weights."""
        self.inside = set()
        return self._formula(index, gate, None, top=True)

    def _formula(self, index: int, gate: str, own: str | None, top: bool = False) -> Formula:
        """`own` is the name of the value that this one is made for, inside the equation."""
        node = self.graph.nodes[index]
        if index in self.symbols and not top:
            if index in self._pieces:  # a gate of it comes in its place among the pieces
                self.inside.add(index)
            return self.seen(index)
        if self.choice.is_weight(index):
            return self.weight(index, gate, own)
        self.inside.add(index)
        if node.op == "random" or (node.op == "div" and self._is_mask(index)):
            return self._drawn(index)
        own = own if top or node.name is None else node.name
        inputs = tuple(self._formula(i, gate, own) for i in node.inputs)
        return self._write(index, node, inputs)

    def _write(self, index: int, node: Node, inputs: tuple[Formula, ...]) -> Formula:
        op, shape = node.op, node.shape
        if op == "constant":
            return self._constant(index, node)
        if op == "matmul" and len(shape) == 2:
            return _product(*inputs)
        if op == "permute" and node["dims"] == (1, 0):
            return paper.turned(inputs[0])
        if op == "sum" and node["dims"] == (0,) and batch_dim(self.shape(node.inputs[0])) == 0:
            return paper.over_time(inputs[0])
        if op == "reshape" and inputs[0].op in ("over time", "number"):
            return inputs[0]
        if op in ("norm", "norm_back"):
            weights = inputs[1 if op == "norm" else 2 :]
            label = ",".join(weights[0].data.below) if weights else ""
            return paper.call(op, inputs, shape, label=label, **dict(node.attributes))
        if op == "softplus" and node["beta"] != 1:  # in terms of the plain one
            beta, options = paper.number(node["beta"]), {**dict(node.attributes), "beta": 1.0}
            return paper.over(paper.call(op, (paper.times(beta, *inputs),), shape, **options), beta)
        if op == "convert":  # of a condition: others are left out
            return Formula("indicator", inputs, shape)
        if op == "where" and _is_zero(inputs[2]):
            return paper.times(Formula("indicator", inputs[:1], shape), inputs[1])
        if op == "where" and _is_zero(inputs[1]):
            negated = self._negated(inputs[0])
            return paper.times(Formula("indicator", (negated,), shape), inputs[2])
        if op in ("sum", "mean") and inputs[0].op == "minus":
            return paper.minus(paper.call(op, inputs[0].inputs, shape, **dict(node.attributes)))
        if op in _ARITHMETIC:
            return _ARITHMETIC[op](*inputs)
        return paper.call(op, inputs, shape, **dict(node.attributes))

    def _is_mask(self, index: int) -> bool:
        """Whether it is a mask of dropout: zeros, and 1 over the probability of no zero."""
        node = self.graph.nodes[index]
        drawn, scale = (self.graph.nodes[i] for i in node.inputs)
        is_mask = drawn.op == "random" and drawn["distribution"].startswith("bernoulli")
        return is_mask and number_of(scale) is not None

    def _drawn(self, index: int) -> Formula:
        """Random numbers, by a symbol."""
        node = self.graph.nodes[index]
        source = node if node.op == "random" else self.graph.nodes[node.inputs[0]]
        raw = paper.symbol(Symbol(f"random.{source['number']}"), node.shape)
        letter = {"uniform": "u", "normal": "epsilon"}.get(source["distribution"], "d")
        symbol = self.call(index, Symbol(letter, time="t"))
        scale = None if node is source else number_of(self.graph.nodes[node.inputs[1]])
        self.origins[symbol] = raw if scale is None else paper.over(raw, paper.number(scale))
        self.drawn[symbol] = (source, 1.0 if scale is None else 1 / scale)
        return self.seen(index)

    def _negated(self, condition: Formula) -> Formula:
        opposite = {"eq": "ne", "ne": "eq", "lt": "ge", "ge": "lt", "gt": "le", "le": "gt"}
        if condition.op in opposite:
            return replace(condition, op=opposite[condition.op])
        return Formula("logical_not", (condition,), condition.shape)

    def _constant(self, index: int, node: Node) -> Formula:
        values = set(node["value"])
        if len(values) == 1:
            return paper.number(float(values.pop()))
        return paper.symbol(self.call(index, Symbol("K")), node.shape)

    # --- weights ---

    def weight(self, index: int, gate: str = "", own: str | None = None) -> Formula:
        """A parameter, or a part of one, by its symbol; a whole one in another shape as it is."""
        node = self.graph.nodes[index]
        if index in self.symbols:
            return self.seen(index)
        if node.op == "permute" and node["dims"] == (1, 0):
            return paper.turned(self.weight(node.inputs[0], gate, own))
        wanted = self._weights.wanted(index, gate, own)
        if wanted is None:
            inner = self.weight(node.inputs[0], gate, own)
            return paper.call(node.op, (inner,), node.shape, **dict(node.attributes))
        if node.op == "matrix":  # in place of the parameter, which no formula shows
            self.symbols[index] = wanted
        self.origins[self.call(index, wanted)] = self._weights.origin(index)
        return self.seen(index)


def _is_zero(f: Formula) -> bool:
    return f.op == "number" and bool(f.data == 0)


def _product(left: Formula, right: Formula) -> Formula:
    """Of rows x times Wᵀ it is W x, of gradients δᵀ times rows x the sum of δ xᵀ over time."""
    if left.op == "turned" and batch_dim(left.inputs[0].shape) == 0:
        return paper.outer(left.inputs[0], right)
    if batch_dim(left.shape) == 0:
        return paper.apply(paper.turned(right), left)
    return paper.call("matmul", (left, right), (*left.shape[:1], *right.shape[1:]))


def _difference(a: Formula, b: Formula) -> Formula:
    return paper.total(a, paper.minus(b))


_ONE = paper.number(1)
_ARITHMETIC: dict[str, Callable[..., Formula]] = {
    "add": paper.total,
    "sub": _difference,
    "neg": paper.minus,
    "mul": paper.times,
    "div": paper.over,
    "pow": paper.power,
    "reciprocal": lambda x: paper.over(_ONE, x),
    "rsqrt": lambda x: paper.over(_ONE, Formula("sqrt", (x,), x.shape)),
    "log1p": lambda x: Formula("log", (paper.total(_ONE, x),), x.shape),
    "expm1": lambda x: _difference(Formula("exp", (x,), x.shape), _ONE),
    "exp2": lambda x: paper.power(paper.number(2), x),
    "expand": lambda x: x,
    "detach": lambda x: x,
}
