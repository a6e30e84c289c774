"""What of a step is made of weights alone, in words."""

from __future__ import annotations

from openrnn.step.graph import Graph, ancestors
from openrnn.step.shape import show_shape

# How operations are written.
SIGNS = {
    "add": "+", "mul": "⊙", "sub": "−", "div": "÷", "pow": "^", "matmul": "@", "maximum": "max",
    "minimum": "min", "eq": "=", "ne": "≠", "lt": "<", "le": "≤", "gt": ">", "ge": "≥",
    "logical_and": "and", "logical_or": "or", "logical_not": "not", "remainder": "mod",
    "sigmoid": "σ", "neg": "−", "sqrt": "√", "rsqrt": "1/√", "reciprocal": "1/", "abs": "| |",
    "sum": "Σ", "amax": "max", "amin": "min", "cat": "concat", "first_max": "first max",
}  # fmt: skip
_LONGEST = 40  # letters of an expression; of a longer one the parameters are told
# Operations that leave the numbers as they are.
VIEWS = ("reshape", "permute", "expand", "convert", "detach")


class Weights:
    """The words for the values of a graph that depend on no x and no state."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def name(self, index: int, named: bool = True) -> str:
        """In the cell's own words, or, if not `named`, in the names of parameters."""
        text = self._expression(index, named)
        if len(text) <= _LONGEST:
            return text
        parameters = (
            str(node["name"])
            for place, node in self.graph.inputs("parameter")
            if place in ancestors(self.graph.nodes, [index])
        )
        return f"function({', '.join(parameters)})"

    def _expression(self, index: int, named: bool) -> str:
        node = self.graph.nodes[index]
        if named and node.name is not None and node.op != "input":
            return node.name
        inputs = [self._expression(i, named) for i in node.inputs]
        if node.op in ("input", "constant"):
            return self.graph.title(index) if node.shape == () or node.op == "input" else "numbers"
        if node.op in VIEWS:
            return inputs[0]
        if node.op == "slice":
            start, stop = node["start"], node["stop"]
            at = f"{start}" if stop - start == 1 else f"{start}:{stop}"
            turned = ".T" if self.graph.nodes[node.inputs[0]].op == "permute" else ""
            return f"{inputs[0]}{turned}[{':, ' * node['dim']}{at}]"
        if len(inputs) == 2 and node.op in SIGNS:
            return f"({inputs[0]} {SIGNS[node.op]} {inputs[1]})"
        return f"{SIGNS.get(node.op, node.op)}({', '.join(inputs)})"

    def parameter(self, index: int) -> tuple[str, str]:
        """A parameter, or a part of one, with its shape: as it lies, however it is turned."""
        nodes, name = self.graph.nodes, self.name(index, named=False)
        while nodes[index].op in VIEWS:
            (inner,) = nodes[index].inputs
            if nodes[inner].op == "slice" and nodes[index].op == "reshape":
                break  # one of a few matrices, without the dimension that counted them
            index = inner
        return name, show_shape(nodes[index].shape)
