"""How much work the products of a step are, counted in its stages."""

from __future__ import annotations

from dataclasses import dataclass

from openrnn.step import ops
from openrnn.step.graph import Graph
from openrnn.step.shape import features
from openrnn.step.split import STAGES, Stages


@dataclass(frozen=True)
class MultiplyAdds:
    """Multiplications, each with an addition, in the products of a step, by stage.

    parameters: once for a call. inputs, recurrence, outputs: for each step and row of the batch.
    """

    parameters: int = 0
    inputs: int = 0
    recurrence: int = 0
    outputs: int = 0

    def __add__(self, other: MultiplyAdds) -> MultiplyAdds:
        return MultiplyAdds(*(getattr(self, s) + getattr(other, s) for s in STAGES))

    @property
    def step(self) -> int:
        """For each step and row of the batch."""
        return self.inputs + self.recurrence + self.outputs

    def total(self, steps: int, rows: int) -> int:
        """For a whole call."""
        return self.parameters + steps * rows * self.step


def multiply_adds(stages: Stages) -> MultiplyAdds:
    """Those of one cell.

    Examples:
        >>> from openrnn import LSTMCell
        >>> from openrnn.explain.parts import read
        >>> (lane,) = read(LSTMCell(30, 20)).lanes
        >>> multiply_adds(lane.program.stages)
        MultiplyAdds(parameters=0, inputs=2400, recurrence=1600, outputs=0)
    """
    return MultiplyAdds(*(_of_products(getattr(stages, stage)) for stage in STAGES))


def _of_products(graph: Graph) -> int:
    """Each number of a product is a sum of as many terms as the left side has columns."""
    products = (node for node in graph.nodes if ops.TABLE[node.op].kind == "product")
    return sum(
        features(node.shape) * features(graph.nodes[node.inputs[0]].shape[-1:]) for node in products
    )
