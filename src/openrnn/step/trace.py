"""From a cell to a step graph: the cell is run once, on tensors without numbers, and watched."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functionalize

from openrnn.binding import Parameters, copy_containers, sandbox, without_global_hooks
from openrnn.errors import CellError
from openrnn.shadow import ROWS, ShadowMode, has_tensors, shadow, shadows
from openrnn.state import StateSpec
from openrnn.step.aten import CONVERTERS
from openrnn.step.calls import Calls
from openrnn.step.graph import Builder, Graph, Node, Value
from openrnn.step.shape import Batch, Dim, Shape
from openrnn.step.source import source_line, watch_names

# Two batch sizes, so that a number that the cell computes from the batch size shows.
_ROWS = (ROWS, 1_000_033)
_LARGEST_CONSTANT = 65_536


def trace(
    cell: nn.Module,
    tensors: Parameters,
    spec: StateSpec,
    input_size: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Graph:
    """The graph of one step of the cell.

    Its inputs are `input.x`, `state.<name>` and `parameter.<name>`, its outputs the next states.

    Args:
        cell: `cell(x, state) -> state`; one with a `graph` is that already.
        tensors: what the cell reads as its parameters, by name; only shapes and dtypes matter.
        spec: what the states of the cell are.
        input_size: features of x.
        dtype: of x and of the states.
        device: what the cell is told that its tensors are on.

    Raises:
        CellError: the step cannot be expressed in the table of operations; it names the operation
            and the line of the cell's source.
    """
    _check_hooks(cell)
    known = getattr(cell, "graph", None)
    if isinstance(known, Graph):
        _check_known(type(cell).__name__, known, input_size, dtype)
        return known
    # In inference torch takes fewer operations apart.
    with torch.inference_mode(False), without_global_hooks():
        first, second = (
            _trace_once(cell, tensors, spec, input_size, dtype, device, rows) for rows in _ROWS
        )
    if first != second:
        raise CellError(
            f"{type(cell).__name__}: two traces of its step, with other numbers of rows in the "
            "batch, differ. A step may not compute with the number of rows, nor with what changes "
            "from call to call, like a counter or Python's random numbers. Use the mean over the "
            "features, a constant, or a state."
        )
    return first


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _check_hooks(cell: nn.Module) -> None:
    for name, module in cell.named_modules():
        if any(getattr(module, table) for table in _HOOKS):
            where = f"its submodule {name!r}" if name else "it"
            raise CellError(
                f"{type(cell).__name__}: {where} has hooks, which a kernel cannot call at each "
                'step. Remove them, or use backend="eager".'
            )


def _check_known(name: str, graph: Graph, input_size: int, dtype: torch.dtype) -> None:
    """Of a cell that is a graph already: whether it takes such an x."""
    for _, node in graph.inputs("input"):
        if (node.shape[-1], node.dtype) != (input_size, dtype):
            raise CellError(
                f"{name}: expected x of {node.shape[-1]} features in {node.dtype}, "
                f"got {input_size} in {dtype}"
            )


def _trace_once(
    cell: nn.Module,
    tensors: Parameters,
    spec: StateSpec,
    input_size: int,
    dtype: torch.dtype,
    device: torch.device,
    rows: int,
) -> Graph:
    assert spec.sizes is not None
    name = type(cell).__name__
    recorder = Trace(name, rows)
    x = shadow((rows, input_size), dtype)
    states = tuple(shadow((rows, size), dtype) for size in spec.sizes)
    inner = shadows(tensors)
    recorder.give("input", "x", x)
    for state_name, state in zip(spec.names, states, strict=True):
        recorder.give("state", state_name, state)
    for parameter_name, tensor in inner.items():
        recorder.give("parameter", parameter_name, tensor)

    def step(x: Tensor, states: tuple[Tensor, ...], inner: dict[str, Tensor]) -> Any:
        bound = sandbox(cell, inner)
        before = [_attributes(m) for m in bound.modules()]
        with watch_names(recorder.name):
            new = spec.unwrap(bound(x, spec.wrap(states)), rows, name)
        for module, attributes in zip(bound.modules(), before, strict=True):
            _check_unchanged(name, module, attributes)
        return new

    try:
        with torch.enable_grad(), recorder, Calls(recorder.refuse_call, device):
            new = functionalize(step, remove="mutations")(x, states, inner)
    except CellError:
        raise
    except Exception as error:
        if recorder.refusal is not None:  # torch wraps what is raised inside an operation
            raise recorder.refusal from error
        raise CellError(f"{name}: its forward fails when it is traced: {error}") from error
    outputs = {}
    for state_name, size, tensor in zip(spec.names, spec.sizes, new, strict=True):
        value = recorder.value(tensor)
        if value.dtype != dtype:
            raise CellError(
                f"{name}: state {state_name} goes in as {dtype} and comes out as {value.dtype}. "
                "A state keeps its dtype: convert it back."
            )
        outputs[f"state.{state_name}"] = value.expand((Batch(), size))
    return recorder.finish(outputs)


def _attributes(module: nn.Module) -> dict[str, Any]:
    """All that a module holds, tensors in its tables by their own names."""
    plain = {k: copy_containers(v) for k, v in module.__dict__.items() if k not in _TABLES}
    return plain | module._parameters | module._buffers


_TABLES = ("_parameters", "_buffers", "_modules")


def _check_unchanged(name: str, module: nn.Module, before: dict[str, Any]) -> None:
    after = _attributes(module)
    for key in before.keys() | after.keys():
        if key not in before or key not in after or not _is_same(before[key], after[key]):
            raise CellError(
                f"{name}: its forward changes self.{key}. A step may depend on its input and its "
                "state alone: make it a state, or set it outside forward."
            )


def _is_same(a: Any, b: Any) -> bool:
    """The same object, or containers of the same objects."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_is_same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple, deque)):
        return len(a) == len(b) and all(map(_is_same, a, b))
    return isinstance(a, (set, bytearray)) and a == b


class Trace(ShadowMode):  # type: ignore[no-untyped-call]
    """Sees every operation that the cell runs, and writes it down in our own."""

    def __init__(self, owner: str, rows: int) -> None:
        super().__init__(rows)
        self.builder = Builder()
        self.current = ""  # the ATen operation at work
        self._asked = ""  # the one that the user asked for, if that is another
        self.refusal: CellError | None = None
        self._owner = owner
        self._values: dict[int, Value | None] = {}
        self._given: dict[int, str] = {}
        self._alive: list[Tensor] = []  # so that no id is used twice
        self._names: dict[int, str] = {}
        self._lines: dict[int, str] = {}
        self._randoms = 0

    # --- what converters use ---

    def dim(self, size: int) -> Dim:
        if size < ROWS:
            return size
        if size % self.rows:
            raise self.refuse(f"makes a size, {size}, that is not a multiple of the batch size")
        return Batch(size // self.rows)

    def shape(self, tensor: Tensor) -> Shape:
        return tuple(self.dim(size) for size in tensor.shape)

    def cast(self, value: Any, dtype: torch.dtype) -> Value:
        """A value, or a number, in this dtype."""
        if not isinstance(value, Value):
            return self.builder.lift(value, dtype)
        if value.dtype == dtype:
            return value
        return self.builder.add("convert", [value], dtype=dtype)

    def common_dtype(self, args: Sequence[Any], out: Tensor) -> torch.dtype:
        """What torch computes in: the result's dtype, or for a comparison that of its inputs."""
        if out.dtype != torch.bool:
            return out.dtype
        dtypes = [a.dtype for a in args if isinstance(a, Value) and a.shape != ()]
        dtypes = dtypes or [a.dtype for a in args if isinstance(a, Value)]
        common = dtypes[0]
        for dtype in dtypes[1:]:
            common = torch.promote_types(common, dtype)
        fractions = any(isinstance(a, float) for a in args)
        return torch.get_default_dtype() if fractions and not common.is_floating_point else common

    def random(self, out: Tensor, distribution: str, **attributes: Any) -> Value:
        """Fresh numbers; each call is its own node."""
        shape = self.shape(out)
        if not any(isinstance(dim, Batch) for dim in shape):
            raise self.refuse(
                "draws random numbers without a batch, a mask on a weight say, at every step. "
                "Make it a parametrization of the weight, which is drawn once for a sequence"
            )
        self._randoms += 1
        return self.builder.add(
            "random",
            shape=shape,
            dtype=out.dtype,
            distribution=distribution,
            number=self._randoms,
            **attributes,
        )

    def refuse(self, why: str) -> CellError:
        """The error that says which operation, at which line of the user's source, and why."""
        return self.refuse_call(self._asked or self.current, why)

    def refuse_call(self, operation: str, why: str) -> CellError:
        """The same, for an operation by its name."""
        self.refusal = CellError(f"{self._owner}: {operation}, at {source_line()}, {why}.")
        return self.refusal

    # --- watching ---

    def give(self, kind: str, name: str, tensor: Tensor) -> None:
        """Makes a tensor an input of the graph."""
        if tensor.is_complex():
            raise CellError(f"{self._owner}: {kind} {name} is complex; a step is in real numbers.")
        self._keep(tensor, self.builder.input(kind, name, self.shape(tensor), tensor.dtype))
        self._given[id(tensor)] = f"{kind} {name}"

    def value(self, tensor: Tensor) -> Value:
        """What we know a tensor as."""
        if id(tensor) not in self._values:
            if self.current in ("aten.lift_fresh.default", "aten.lift_fresh_copy.default"):
                return self._constant(tensor)  # torch.tensor(...) in the code
            raise self.refuse(
                "reads a tensor that is no input, state, parameter, buffer or attribute of the "
                "cell, or is one but is reached by another way, through a list or a closure. "
                "Register it as a buffer, and read it as self.name"
            )
        value = self._values[id(tensor)]
        if value is None:
            raise self.refuse("reads the index of a maximum, which has no gradient")
        return value

    def _constant(self, tensor: Tensor) -> Value:
        if tensor.numel() > _LARGEST_CONSTANT:
            raise self.refuse(
                f"makes {tensor.numel()} numbers at each step. Register them as a buffer"
            )
        numbers = tuple(tensor.flatten().tolist())
        return self.builder.add(
            "constant", shape=tuple(tensor.shape), dtype=tensor.dtype, value=numbers
        )

    def _keep(self, tensor: Tensor, value: Value | None) -> None:
        self._values[id(tensor)] = value
        self._alive.append(tensor)
        if value is not None and value.node.op != "input" and value.index not in self._lines:
            self._lines[value.index] = source_line(short=True)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        watcher = sys.gettrace()  # is for the user's source; in here it would only cost time
        sys.settrace(None)
        try:
            return self._record(func, args, kwargs or {})
        finally:
            sys.settrace(watcher)

    def _record(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func.namespace == "prim":
            return func(*args, **kwargs)
        self.current = outer = str(func)
        name = outer.removeprefix("aten.")
        if name == "_local_scalar_dense.default":
            raise self.refuse(
                "turns a tensor into a Python number or branches on one. "
                "Use torch.where for a choice that depends on values"
            )
        target: Tensor | None = None
        if func._schema.is_mutable:
            target = args[0]
            if id(target) in self._given:
                raise self.refuse(
                    f"changes {self._given[id(target)]} in place. "
                    "Compute a new tensor, x = x + 1 instead of x += 1"
                )
            name = name.replace("_.", ".", 1)
            self.current = f"aten.{name}"
        convert = CONVERTERS.get(name)
        if convert is None and target is None and not has_tensors(args):
            return self._literal(func, args, kwargs)
        if convert is None:
            return self._decompose(func, args, kwargs)
        out = self.run(func, args, kwargs)
        values = self._map(args), {key: self._map(value) for key, value in kwargs.items()}
        result = convert(self, out, *values[0], **values[1])
        if not torch.is_grad_enabled():
            result = _detached(result)
        if target is not None:
            self._keep(target, result)
            return target
        if isinstance(out, Tensor):
            assert result.shape == self.shape(out), f"{outer}: {result.shape} for {out.shape}"
            self._keep(out, result)
        else:
            for tensor, value in zip(out, result, strict=True):
                self._keep(tensor, value)
        return out

    def _decompose(self, func: Any, args: Any, kwargs: Any) -> Any:
        """An operation that torch itself writes in terms of simpler ones."""
        from torch._decomp import decomposition_table  # slow to import, and seldom needed

        drawn = torch.Tag.nondeterministic_seeded in func.tags  # other numbers than torch's own
        outer, self._asked = self._asked, self._asked or str(func)
        try:
            if func in decomposition_table and not drawn:
                with self:
                    return decomposition_table[func](*args, **kwargs)
            if func._can_decompose():
                with self:
                    return func.decompose(*args, **kwargs)
            raise self.refuse("is not in the table of operations")
        finally:
            self._asked = outer

    def _literal(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        """Numbers made from nothing, `torch.eye(3)` say: the same at each step, so made now."""
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise self.refuse("is not in the table of operations")
        real = func(*args, **{**kwargs, "device": "cpu"})
        out: Tensor = self.run(func, args, kwargs)
        self.shape(out)
        self._keep(out, self._constant(real))
        return out

    def _map(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.value(value)
        if isinstance(value, (tuple, list)):
            return type(value)(self._map(v) for v in value)
        return value

    def name(self, tensor: Tensor, name: str) -> None:
        """Notes that the user calls this value so; the first name stays."""
        value = self._values.get(id(tensor))
        if value is not None and value.node.op not in ("input", "constant"):
            self._names.setdefault(value.index, name)

    def finish(self, outputs: dict[str, Value]) -> Graph:
        nodes = self.builder.nodes
        mixing = _mixing(nodes)
        if mixing is not None:
            raise CellError(
                f"{self._owner}: {nodes[mixing].op}, at {self._lines.get(mixing)}, mixes the rows "
                "of the batch. Rows are sequences of their own."
            )
        for index, node in enumerate(nodes):
            nodes[index] = replace(node, name=self._names.get(index), line=self._lines.get(index))
        return self.builder.finish(outputs)


# What reads along some dimensions, which must not be that of the rows.
_ALONG_DIMS = ("flip", "cumsum", "slice", "unslice", "cat", "first_max", "sum", "amax", "amin")


def _mixing(nodes: Sequence[Node]) -> int | None:
    """The first node that mixes rows of the batch, where the converters could not see it."""
    for index, node in enumerate(nodes):
        places = [i for i, dim in enumerate(node.shape) if isinstance(dim, Batch)]
        if len(places) > 1:
            return index
        if node.op in _ALONG_DIMS:
            dims = node["dims"] if "dims" in dict(node.attributes) else (node["dim"],)
            shapes = [nodes[i].shape for i in node.inputs]
            if any(isinstance(shape[dim], Batch) for shape in shapes for dim in dims):
                return index
        if node.op == "reshape":
            before = nodes[node.inputs[0]].shape
            if _in_front(before) != _in_front(node.shape):
                return index
    return None


def _in_front(shape: Shape) -> int | None:
    """How many numbers come before the rows of the batch are counted."""
    product = 1
    for dim in shape:
        if isinstance(dim, Batch):
            return product
        product *= dim
    return None


def _detached(result: Any) -> Any:
    """The value, or each of several, without a gradient."""
    if isinstance(result, (tuple, list)):
        return type(result)(map(_detached, result))
    return result.detach() if isinstance(result, Value) else result
