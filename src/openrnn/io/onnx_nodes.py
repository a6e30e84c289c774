"""An ONNX graph under construction."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

# What ONNX calls torch's dtypes, in onnx.TensorProto.
DTYPES = {
    torch.float32: "FLOAT",
    torch.float64: "DOUBLE",
    torch.float16: "FLOAT16",
    torch.bfloat16: "BFLOAT16",
    torch.bool: "BOOL",
    torch.int8: "INT8",
    torch.int16: "INT16",
    torch.int32: "INT32",
    torch.int64: "INT64",
    torch.uint8: "UINT8",
}


class Nodes:
    """The nodes of a graph, in order: `nodes("Add", a, b)` adds one, and gives its output's name.

    A graph inside another reads the values of the outer one by their names; so all names are
    distinct, and all numbers are initializers of the outermost. Names of inputs and outputs are
    kept in the outermost alone.
    """

    def __init__(self, outer: Nodes | None = None) -> None:
        self._is_inside = outer is not None
        self.onnx: Any = outer.onnx if outer else import_module("onnx")
        self.list: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.initializers: dict[str, Tensor] = outer.initializers if outer else {}
        self._taken: set[str] = outer._taken if outer else set()
        self._known: dict[Hashable, str] = outer._known if outer else {}

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.several(op, inputs, 1, **attributes)[0]

    def several(
        self, op: str, inputs: Sequence[str], count: int, name: str = "", **attributes: Any
    ) -> list[str]:
        """A node with so many outputs."""
        name = self.new_name(name or op.lower())
        outputs = [name] if count == 1 else [f"{name}.{i}" for i in range(count)]
        make = self.onnx.helper.make_node
        self.list.append(make(op, list(inputs), outputs, name=name, **attributes))
        return outputs

    def reserve(self, *names: str) -> None:
        """Keeps names for inputs and outputs."""
        self._taken.update(names)

    def new_name(self, wanted: str) -> str:
        name, number = wanted, 0
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name

    def input(self, name: str, dtype: torch.dtype, shape: Sequence[int | str | None]) -> str:
        name = self._interface(name)
        self.inputs.append(self._info(name, dtype, shape))
        return name

    def output(
        self, name: str, value: str, dtype: torch.dtype, shape: Sequence[int | str | None]
    ) -> None:
        """The value becomes an output, under a name of its own."""
        name = self._interface(name)
        self.list.append(self.onnx.helper.make_node("Identity", [value], [name], name=name))
        self.outputs.append(self._info(name, dtype, shape))

    def _interface(self, name: str) -> str:
        if self._is_inside:
            return self.new_name(name)
        self._taken.add(name)
        return name

    def _info(self, name: str, dtype: torch.dtype, shape: Sequence[int | str | None]) -> Any:
        make = self.onnx.helper.make_tensor_value_info
        return make(name, self.kind(dtype), list(shape))

    def kind(self, dtype: torch.dtype) -> int:
        """ONNX's number for a dtype."""
        return int(getattr(self.onnx.TensorProto, DTYPES[dtype]))

    def weight(self, name: str, tensor: Tensor) -> str:
        """An initializer of this name; the same tensor under the same name is there once."""
        key = name, tensor.data_ptr(), tensor.shape, tensor.stride()
        if key not in self._known:
            self._known[key] = self.new_name(name)
            self.initializers[self._known[key]] = tensor
        return self._known[key]

    def constant(self, tensor: Tensor) -> str:
        """Numbers that stand in the graph; equal ones are there once."""
        key = tensor.dtype, tensor.shape, as_bytes(tensor)
        if key not in self._known:
            self._known[key] = self.new_name("constant")
            self.initializers[self._known[key]] = tensor
        return self._known[key]

    def ints(self, *values: int) -> str:
        return self.constant(torch.tensor(values, dtype=torch.int64))

    def number(self, value: float, dtype: torch.dtype) -> str:
        return self.constant(torch.tensor(value, dtype=dtype))

    def graph(self, name: str) -> Any:
        """The graph of these nodes; that of the outermost has the initializers."""
        return self.onnx.helper.make_graph(self.list, name, self.inputs, self.outputs)

    def tensors(self) -> list[Any]:
        """The initializers, for the file."""
        make = self.onnx.helper.make_tensor
        return [
            make(name, self.kind(tensor.dtype), tensor.shape, as_bytes(tensor), raw=True)
            for name, tensor in self.initializers.items()
        ]


def as_bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).numpy().tobytes())
