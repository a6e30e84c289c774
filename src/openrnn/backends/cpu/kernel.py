"""A compiled kernel, and the call of it."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from openrnn.backends.cpu import buffers, build
from openrnn.backends.cpu.assemble import assemble
from openrnn.backends.cpu.codegen import generate
from openrnn.backends.cpu.runtime import empty, matmul, pool, runtime
from openrnn.backends.stepwise import RESET, Given, sort
from openrnn.errors import BackendError
from openrnn.ragged import Steps
from openrnn.step.evaluate import evaluator
from openrnn.step.graph import Node
from openrnn.step.shape import Batch, Shape, features, row_dims, rows_dim
from openrnn.step.split import Stages, is_users, is_value

# Values that are kept for the gradient in one tensor, one behind the other: labels and features.
Bundle = tuple[tuple[str, int], ...]
_BUNDLE = "saved"  # its label


def source(stages: Stages, states: tuple[str, ...]) -> str:
    """The C++ of these stages, for people to read; see `staged.Engine.prepare`."""
    _, assembly, dtype = assemble(stages, states)
    return generate(assembly, dtype)


class Kernel:
    """See `staged.Scan`; `forward` is what ran the step, if this is its gradient."""

    def __init__(self, stages: Stages, states: tuple[str, ...], forward: Kernel | None) -> None:
        bundle = forward.bundle if forward else ()
        self._is_backward, self._stages = forward is not None, stages
        phases, assembly, self._dtype = assemble(stages, states)
        self._library = build.load(generate(assembly, self._dtype))
        self._kernel = ctypes.addressof(ctypes.c_char.in_dll(self._library, "kernel"))
        shared = runtime(self._dtype)
        self._run, self._packed_size = shared.run, shared.packed_size_of(self._kernel)
        self._packs_much = self._packed_size * self._dtype.itemsize >= buffers.LARGE
        cpu = torch.device("cpu")
        self._before, self._after = (
            [evaluator(graph, cpu, matmul) for graph in graphs if graph.outputs]
            for graphs in ((stages.parameters, phases.before), (phases.after, phases.later))
        )
        in_torch = (phases.before, phases.after, phases.later)
        starts = _starts(bundle)
        self._for_torch = [
            (node.label, starts[node.label], features(node.shape), _spread(node, self._dtype))
            for graph in in_torch
            for _, node in graph.inputs("saved")
            if node.label in starts
        ]
        self.apart = not any(graph.outputs for graph in in_torch)
        nodes = [node for plan in assembly.plans for node in plan.graph.nodes if node.op == "input"]
        shapes = {node.label: node.shape for node in nodes}
        self._given = [
            # What no loop reads is (B, features), for a sum over the rows.
            (label, _fold(shapes[label]) if label in shapes else None, starts.get(label))
            for label in assembly.given
        ]
        # The user's arrays are read by the loops alone, row by row.
        self.takes_any_order = not any(
            is_users(node.label) for graph in in_torch for _, node in graph.inputs()
        ) and not any(fold for label, fold, _ in self._given if is_users(label))
        stored = {n.label: torch.int8 for n in nodes if n.dtype == torch.int8}
        self._wholes = [
            (label, stored.get(label, self._dtype), label in assembly.any_layout)
            for label in assembly.wholes
        ]
        self._states = [
            (name, f"state.{name}", now.size, stages.next_state(name).dtype)
            for name, (now, _) in assembly.step.states.items()
        ]
        self.saved = tuple(label for label in stages.saved() if label not in assembly.made)
        results = {
            label: (buffer.size, plan.graph.nodes[dict(plan.graph.outputs)[label]])
            for plan in assembly.plans
            for label, buffer in (plan.left | plan.outputs).items()
        }
        self._results_of_sums = [*phases.sums.items()]
        self.bundle: Bundle = tuple(
            (label, results[label][0]) for label in assembly.made if label.startswith("saved.")
        )
        self.saved += (_BUNDLE,) if self.bundle else ()
        self._bundled = sum(size for _, size in self.bundle)
        before = _starts(self.bundle)
        self._made = [
            (label, results[label][0], before.get(label), is_users(label))
            for label in assembly.made
        ]
        self._spread = {
            label: spread
            for label in assembly.made
            if (spread := _spread(results[label][1], self._dtype)) and label not in before
        }
        values = [label if is_value(label) else None for label in assembly.made]
        places = [*assembly.given, *values]
        self._sums = [
            (
                over.label,
                None if over.left is None else places.index(over.left),
                places.index(over.right),
                over.m,
                over.n,
                (bool(over.left and is_users(over.left)), is_users(over.right)),
                over.shape,
                over.dtype,
            )
            for over in assembly.over_rows
        ]

    def kept(self) -> list[tuple[Shape, torch.dtype]]:
        whole = ((Batch(), self._bundled), self._dtype)
        nodes = {label: self._stages.result(label) for label in self.saved if label != _BUNDLE}
        return [
            (nodes[label].shape, nodes[label].dtype) if label in nodes else whole
            for label in self.saved
        ]

    def __call__(
        self, given: Given, steps: Steps, *, reverse: bool
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        dtype, total = self._dtype, steps.total
        known: dict[str, Any] = dict(given)
        results = dict[str, Tensor]()
        for label, start, columns, spread in self._for_torch:
            flat = known[_BUNDLE].flatten()
            found = flat[start * total : (start + columns) * total].view(total, columns)
            known[label] = found if spread is None else spread(found)
        for evaluate in self._before:
            sort(evaluate(known, total), known, results)
        # All tensors are held by a name until the kernel is done.
        size, words = dtype.itemsize, _header(steps, reverse, self._is_backward)
        held = list[Any]()
        saved = known[_BUNDLE].data_ptr() if _BUNDLE in known else 0
        for label, fold, place in self._given:
            if place is None:
                tensor = known[label]
                tensor = _plain(tensor if fold is None else fold(tensor), dtype)
                held.append(tensor)
                words.append(tensor.data_ptr())
            else:
                words.append(saved + place * total * size)
        if self.bundle:
            results[_BUNDLE] = buffers.empty(total, self._bundled, dtype)
            saved = results[_BUNDLE].data_ptr()
        for label, columns, place, as_users in self._made:
            if place is None:
                if is_value(label):
                    tensor = known[label] = buffers.empty(total, columns, dtype)
                else:
                    rows = steps.places if as_users else total
                    tensor = results[label] = empty(rows, columns, dtype)
                words.append(tensor.data_ptr())
            else:
                words.append(saved + place * total * size)
        wholes = [_plain(known[label], kind, any_layout)
                  for label, kind, any_layout in self._wholes]  # fmt: skip
        initial = [_plain(known[label], dtype) for _, label, *_ in self._states]
        count = steps.sequences
        final = [torch.empty(count, columns, dtype=dtype) for *_, columns, _ in self._states]
        again = self._again(known, steps)
        sums = [torch.empty(shape, dtype=dtype) for *_, shape, _ in self._sums]
        addresses = [whole.data_ptr() for whole in wholes]
        if not all(addresses):
            _check_there(wholes)
        words += addresses
        for tensor in (*initial, *final, *again):
            words.append(0 if tensor is None else tensor.data_ptr())
        for whole in wholes:
            words += (0, 0, *whole.stride())[-2:]
        for (_, left, right, m, n, users, *_), tensor in zip(self._sums, sums, strict=True):
            of_left = 0 if left is None else words[_HEADER + left]
            words += (of_left, words[_HEADER + right], tensor.data_ptr(), m, n, *users)
        if self._packs_much:
            packed = buffers.empty(1, self._packed_size, dtype)
            words[_PACKED] = packed.data_ptr()
        call = array("q", words)
        self._run(call.buffer_info()[0], self._kernel)
        for label, spread in self._spread.items():
            where = known if is_value(label) else results
            where[label] = spread(where[label])
        for (label, *_, stored), tensor in zip(self._sums, sums, strict=True):
            known[label] = tensor if stored == dtype else tensor.to(stored)
        for label, of_sum in self._results_of_sums:
            results[label] = known[of_sum]
        for evaluate in self._after:
            sort(evaluate(known, total), known, results)
        last = {
            name: tensor if stored == dtype else tensor.to(stored)
            for (name, *_, stored), tensor in zip(self._states, final, strict=True)
        }
        if self._is_backward and steps.resets is not None:
            for (name, *_, stored), tensor in zip(self._states, again, strict=True):
                if tensor is not None:
                    results[RESET + name] = tensor.to(stored)
        return results, last

    def _again(self, known: dict[str, Any], steps: Steps) -> list[Any]:
        """What the states become at a reset, or where the gradients of that are added up."""
        if steps.resets is None:
            return [None] * len(self._states)
        if not self._is_backward:
            return [_plain(known[RESET + name], self._dtype) for name, *_ in self._states]
        return [
            None  # zeros want no gradient
            if known[RESET + name] is None
            else torch.zeros(steps.sequences, columns, dtype=self._dtype)
            for name, _, columns, _ in self._states
        ]


class Standing:
    """A kernel that makes one step of some rows, again and again, from x (B, I) to the output.

    Its weights are packed once; its states stay in memory from one step to the next.

    Args:
        kernel: of the stages for inference.
        known: what the step reads beside x and the states, by label.
        like: an input of a step; only shape and dtype matter.
        output: the label of what a step gives.

    Raises:
        BackendError: a step takes more than one call of C++.
    """

    def __init__(self, kernel: Kernel, known: Given, like: Tensor, output: str) -> None:
        rows, dtype = like.size(0), kernel._dtype
        stored = {like.dtype, *(kind for *_, kind in kernel._states)}
        if not kernel.apart or kernel._spread or stored != {dtype} or kernel._given != [_ONLY_X]:
            raise BackendError("a step takes more than one call")
        held: dict[str, Any] = dict(known)
        for evaluate in kernel._before:
            sort(evaluate(held, rows), held, {})
        self._steps = Steps([rows])
        made = {label: empty(rows, columns, dtype) for label, columns, *_ in kernel._made}
        wholes = [
            _plain(held[label], kind, any_layout) for label, kind, any_layout in kernel._wholes
        ]
        self._states = [
            {name: torch.zeros(rows, size, dtype=dtype) for name, _, size, _ in kernel._states}
            for _ in range(2)
        ]
        self._held, self._kernel, self._made, self._output = wholes, kernel, made, output
        self._place = {label: number for number, label in enumerate(made, _HEADER + 1)}[output]
        calls = []
        for before, after in (self._states, self._states[::-1]):
            words = _header(self._steps, False, False)
            tensors = [like, *made.values(), *wholes, *before.values(), *after.values()]
            words += [tensor.data_ptr() for tensor in tensors]
            words += [0] * len(kernel._states)  # no resets
            for whole in wholes:
                words += (0, 0, *whole.stride())[-2:]
            calls.append(array("q", words))
        run = runtime(dtype)
        packed = empty(1, kernel._packed_size, dtype)
        run.pack_weights(calls[0].buffer_info()[0], kernel._kernel, packed.data_ptr())
        for call in calls:
            call[_PACKED], call[_IS_PACKED] = packed.data_ptr(), 1
        self._packed = packed
        self._calls = [(call, call.buffer_info()[0]) for call in calls]
        self._turn = 0

    @property
    def states(self) -> dict[str, Tensor]:
        """After the last step, by name; what is written there is where the next one begins."""
        last = {label.removeprefix("state."): tensor for label, tensor in self._made.items()}
        return last | self._states[self._turn]

    def write(self, name: str, state: Tensor) -> None:
        """Where the next step begins. The output of the last one is the user's own by now."""
        if f"state.{name}" == self._output and name not in self._states[0]:
            self._made[self._output] = state.to(self._made[self._output].dtype).clone()
        else:
            self.states[name].copy_(state)

    def __call__(self, x: Tensor) -> Tensor:
        x = x.contiguous()
        self._made[self._output] = result = torch.empty_like(self._made[self._output])
        words, place = self._calls[self._turn]
        words[2] = torch.get_num_threads()
        words[3], words[4] = pool()  # a fork has none
        words[_HEADER], words[self._place] = x.data_ptr(), result.data_ptr()
        self._kernel._run(place, self._kernel._kernel)
        self._turn ^= 1
        return result


# Of a call: steps, direction, threads and their pool, where the rows of the steps are told, where
# packed weights go (0: to memory of the runtime's), whether they are there, resets, and whether
# these are behind the steps; the order of the sequences, their number, the rows of the user's
# arrays, and how far steps and sequences are apart there; 0 for none. Then come addresses.
_HEADER, _PACKED, _IS_PACKED = 16, 7, 8
_ONLY_X = ("input.x", None, None)


def _header(steps: Steps, reverse: bool, is_backward: bool) -> list[int]:
    sizes, width = steps.memory.buffer_info()[0], steps.memory.itemsize
    count = len(steps.sizes)
    head = [count, reverse, torch.get_num_threads(), *pool(), sizes, sizes + width * count, 0, 0]
    head += (0, 0) if steps.resets is None else (steps.resets.data_ptr(), is_backward)
    ragged = steps.ragged
    if ragged is None or ragged.order is None:
        return [*head, 0, 0, 0, 0, 0]
    order = sizes + width * (2 * count + 1)
    return [*head, order, len(ragged.order), steps.places, ragged.between, ragged.stride]


def _starts(bundle: Bundle) -> dict[str, int]:
    """For each value of a bundle the features of those before it."""
    starts = accumulate((size for _, size in bundle), initial=0)
    return {label: start for (label, _), start in zip(bundle, starts, strict=False)}


def _plain(tensor: Any, dtype: torch.dtype, any_layout: bool = False) -> Any:
    if tensor is None or (tensor.dtype == dtype and (any_layout or tensor.is_contiguous())):
        return tensor
    return (tensor if tensor.dtype == dtype else tensor.detach().to(dtype)).contiguous()


def _check_there(tensors: Iterable[Tensor]) -> None:
    """Raises a BackendError if the numbers of any are nowhere: there is no other way to tell."""
    for tensor in tensors:
        if tensor.numel() and not tensor.data_ptr():
            raise BackendError(
                f"a weight of shape {tuple(tensor.shape)} has no memory now. FSDP frees weights "
                "after forward, and gathers them for backward by a hook on what its module gave: "
                "do not change that in place where it is a view"
            )


def _fold(shape: Shape) -> Callable[[Tensor], Tensor] | None:
    """What brings all the features of a row side by side, if they are not."""
    dim = rows_dim(shape)
    if dim == 0:
        return None
    size = shape[dim]
    times = size.times if isinstance(size, Batch) else 1

    def fold(tensor: Tensor) -> Tensor:
        apart = tensor.reshape(*tensor.shape[:dim], -1, times, *tensor.shape[dim + 1 :])
        return apart.movedim(dim, 0)

    return fold


def _spread(node: Node, dtype: torch.dtype) -> Callable[[Tensor], Tensor] | None:
    """What gives rows of features the shape and dtype that the graph has for them, if it is not."""
    dim, dims = rows_dim(node.shape), row_dims(node.shape)
    if dim == 0 and len(dims) == 2 and dims[0] == 1 and node.dtype == dtype:
        return None

    def spread(tensor: Tensor) -> Tensor:
        count = tensor.size(0)
        turned = tensor.to(node.dtype).reshape(count, *dims).movedim(0, dim)
        return turned.reshape(*dims[:dim], count * dims[dim], *dims[dim + 1 :])

    return spread


@lru_cache(maxsize=1024)  # by the identity of the stages
def _kernel(
    stages: Stages, states: tuple[str, ...], forward: Kernel | None
) -> Kernel | BackendError:
    """A refusal is kept too: it would be the same the next time."""
    try:
        return Kernel(stages, states, forward)
    except BackendError as error:
        return error


def prepare(stages: Stages, states: tuple[str, ...], forward: Kernel | None = None) -> Kernel:
    """See `staged.Engine`."""
    found = _kernel(stages, states, forward)
    if isinstance(found, BackendError):
        raise BackendError(str(found)) from found
    return found
