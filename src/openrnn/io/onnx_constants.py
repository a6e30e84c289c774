"""What a graph of ONNX computes from nothing but its own numbers."""

from __future__ import annotations

from typing import Any


class Constants:
    """The values of a model that do not depend on its input."""

    def __init__(self, onnx: Any, model: Any) -> None:
        self._onnx, self._model = onnx, model
        self._numbers = {number.name: number for number in model.graph.initializer}
        self._makers = {out: node for node in model.graph.node for out in node.output}

    def read(self, name: str) -> Any:
        """The value as a numpy array, or None if it is not made of constants alone."""
        if name in self._numbers:
            return self._onnx.numpy_helper.to_array(self._numbers[name])
        needed = self._needed(name)
        if needed is None:
            return None
        helper, graph = self._onnx.helper, self._model.graph
        piece = helper.make_model(
            helper.make_graph(
                # In the model's order, in which a value is made before it is read.
                [node for node in graph.node if needed.intersection(node.output)],
                "constants",
                [],
                [self._onnx.ValueInfoProto(name=name)],
                [number for number in graph.initializer if number.name in needed],
            ),
            opset_imports=self._model.opset_import,
            functions=self._model.functions,
        )
        evaluator = self._onnx.reference.ReferenceEvaluator(piece)
        return evaluator.run([name], {})[0]

    def _needed(self, name: str) -> set[str] | None:
        """The names of all values that this one is made of, itself included."""
        needed: set[str] = set()
        waiting = [name]
        while waiting:
            current = waiting.pop()
            if current in needed:
                continue
            needed.add(current)
            if current in self._numbers:
                continue
            maker = self._makers.get(current)
            # A graph inside a node may read any value of the one outside.
            if maker is None or any(a.HasField("g") or a.graphs for a in maker.attribute):
                return None
            waiting.extend(filter(None, maker.input))
        return needed
