"""A step graph as lines that read like the user's own code."""

from __future__ import annotations

from collections import Counter
from itertools import count

from openrnn.step.graph import Graph, Node
from openrnn.step.shape import batch_dim, show_shape
from openrnn.step.split import STAGES, Stages

# How tightly an expression holds together: what stands inside one that binds tighter is bracketed.
_SUM, _TERM, _SIGN, _ATOM = range(4)
_INFIX = {"add": ("+", _SUM), "sub": ("-", _SUM), "mul": ("*", _TERM), "div": ("/", _TERM)}
_INFIX |= {"matmul": ("@", _TERM)}
_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


class _Names:
    """What values are called, in all stages alike."""

    def __init__(self) -> None:
        self.given: dict[str, str] = {}  # by the label under which stages pass them
        self.reserved: set[str] = set()  # the user's own, which no number may take
        self._taken: Counter[str] = Counter()
        self._numbers = count(1)

    def fresh(self, wanted: str | None) -> str:
        """The wanted name, with primes if it is taken: c, then c'. A number without one: v1."""
        if wanted is None:
            return next(v for v in (f"v{n}" for n in self._numbers) if v not in self.reserved)
        self._taken[wanted] += 1
        return wanted + "'" * (self._taken[wanted] - 1)


def stage_lines(stages: Stages) -> dict[str, list[str]]:
    """The lines of each stage: the shape, and `name = expression`."""
    names = _Names()
    for stage in STAGES:
        names.reserved |= {node.name for node in getattr(stages, stage).nodes if node.name}
    for _, node in (pair for stage in STAGES for pair in getattr(stages, stage).inputs()):
        if node["kind"] in ("input", "state", "parameter") and node.label not in names.given:
            names.given[node.label] = names.fresh(node["name"])
        elif node["kind"] == "random":
            names.given[node.label] = f"random{node['name']}"
    return {stage: _Stage(getattr(stages, stage), names).lines() for stage in STAGES}


class _Stage:
    def __init__(self, graph: Graph, names: _Names) -> None:
        self._graph, self._names = graph, names
        self._own: dict[int, str] = {}
        reads = Counter(i for node in graph.nodes for i in node.inputs)
        passed = {index for label, index in graph.outputs if label.startswith("value.")}
        self._shown = [
            index
            for index, node in enumerate(graph.nodes)
            if node.op not in ("input", "constant")
            and (index in passed or node.name is not None or reads[index] > 1)
            and not self._is_plain(node)
        ]

    def _is_plain(self, node: Node) -> bool:
        """A weight transposed, or a number repeated, needs no line and no name of its own."""
        return (
            node.op in ("permute", "reshape", "expand")
            and batch_dim(node.shape) is None
            and self._graph.nodes[node.inputs[0]].op in ("input", "constant")
        )

    def lines(self) -> list[str]:
        lines = []
        for index in self._shown:
            node = self._graph.nodes[index]
            text = self._text(index, _SUM, top=True)
            self._own[index] = self._names.fresh(node.name)
            lines.append((show_shape(node.shape), f"{self._own[index]} = {text}"))
        for label, index in self._graph.outputs:
            kind, _, state = label.partition(".")
            if kind == "value":
                self._names.given[label] = self._text(index, _ATOM)
            elif kind == "state":
                shape = show_shape(self._graph.nodes[index].shape)
                lines.append((shape, f"next {state} = {self._text(index, _SUM)}"))
        width = max((len(shape) for shape, _ in lines), default=0)
        return [f"{shape:<{width}}  {text}" for shape, text in lines]

    def _text(self, index: int, at_least: int, top: bool = False) -> str:
        """The value as an expression, in brackets unless it binds at least so tightly."""
        if index in self._own and not top:
            return self._own[index]
        text, binding = self._expression(self._graph.nodes[index])
        return text if binding >= at_least else f"({text})"

    def _expression(self, node: Node) -> tuple[str, int]:
        inputs = node.inputs
        if node.op == "input":
            return self._names.given.get(node.label, node.label), _ATOM
        if node.op == "constant":
            return self._constant(node)
        if node.op in _INFIX:
            sign, binding = _INFIX[node.op]
            left, right = self._text(inputs[0], binding), self._text(inputs[1], binding + 1)
            return f"{left} {sign} {right}", binding
        if node.op in _COMPARE:
            left, right = (self._text(i, _TERM) for i in inputs)
            return f"{left} {_COMPARE[node.op]} {right}", _SUM
        if node.op == "neg":
            return f"-{self._text(inputs[0], _SIGN)}", _SIGN
        if node.op == "expand":
            return self._expression_of(inputs[0])
        if node.op == "slice":
            return f"{self._text(inputs[0], _ATOM)}[{self._range(node)}]", _ATOM
        if node.op == "permute" and node["dims"] == (1, 0):
            return f"{self._text(inputs[0], _ATOM)}.T", _ATOM
        return self._call(node), _ATOM

    def _expression_of(self, index: int) -> tuple[str, int]:
        if index in self._own:
            return self._own[index], _ATOM
        return self._expression(self._graph.nodes[index])

    def _constant(self, node: Node) -> tuple[str, int]:
        value = node["value"]
        if len(value) > 1:
            return f"{show_shape(node.shape)} numbers", _ATOM
        text: str = str(value[0]) if isinstance(value[0], bool) else f"{value[0]:.9g}"
        return text, _SIGN if text.startswith("-") else _ATOM

    def _range(self, node: Node) -> str:
        step = f":{node['step']}" if node["step"] != 1 else ""
        stop = node["stop"]
        leading: int = node["dim"]
        return ":, " * leading + f"{node['start']}:{stop}{step}"

    def _call(self, node: Node) -> str:
        shown = [self._text(i, _SUM) for i in node.inputs]
        if node.op == "reshape":
            shown.append(show_shape(node.shape))
        elif node.op == "convert":
            shown.append(str(node.dtype).removeprefix("torch."))
        else:
            shown += [f"{key}={value}" for key, value in node.attributes]
        return f"{node.op}({', '.join(shown)})"
