"""A compiled kernel, and the call of it."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from openrnn.backends.cpu import buffers, build
from openrnn.backends.cpu.assemble import assemble
from openrnn.backends.cpu.codegen import generate
from openrnn.backends.cpu.runtime import empty, matmul, runtime
from openrnn.backends.cpu.words import (
    IS_PACKED,
    PACKED,
    Bundle,
    Words,
    features_of,
    last_two,
    renew,
    starts,
)
from openrnn.backends.stepwise import INITIAL, RESET, Given, find_previous, flatten_rows, sort
from openrnn.errors import BackendError
from openrnn.ragged import Steps
from openrnn.step.evaluate import evaluator
from openrnn.step.graph import Node
from openrnn.step.shape import Batch, Shape, features, row_dims, rows_dim
from openrnn.step.split import Stages, is_users, is_value

if TYPE_CHECKING:
    from openrnn.backends.cpu.packed import Packed

_BUNDLE = "saved"  # the label of what is kept for the gradient, in one tensor


def source(stages: Stages, states: tuple[str, ...]) -> str:
    """The C++ of these stages, for people to read; see `staged.Engine.prepare`."""
    _, assembly, dtype = assemble(stages, states)
    return generate(assembly, dtype)


class Kernel:
    """See `staged.Scan`; `forward` is what ran the step, if this is its gradient."""

    def __init__(self, stages: Stages, states: tuple[str, ...], forward: Kernel | None) -> None:
        bundle = forward.bundle if forward else ()
        self._is_backward, self._stages = forward is not None, stages
        phases, assembly, self.dtype = assemble(stages, states)
        int8 = any(weight.scale for plan in assembly.plans for weight in plan.weights)
        with ThreadPoolExecutor(1) as aside:  # where both have to be built, side by side
            built = aside.submit(runtime, self.dtype, int8=int8)
            self._library = build.load(generate(assembly, self.dtype))
            self._runtime = built.result()
        self._kernel = ctypes.addressof(ctypes.c_char.in_dll(self._library, "kernel"))
        self._run = self._runtime.run
        self._packed_size = self._runtime.packed_size_of(self._kernel)
        self.packed_bytes = self._packed_size * self.dtype.itemsize
        self._packs_much = self.packed_bytes >= buffers.LARGE
        cpu = torch.device("cpu")
        self._before, self._after = (
            [evaluator(graph, cpu, matmul) for graph in graphs if graph.outputs]
            for graphs in ((stages.parameters, phases.before), (phases.after, phases.later))
        )
        self.apart = not any(graph.outputs for graph in phases.in_torch)
        self.saved = tuple(label for label in stages.saved() if label not in assembly.made)
        results = {
            label: (buffer.size, plan.graph.nodes[dict(plan.graph.outputs)[label]])
            for plan in assembly.plans
            for label, buffer in (plan.left | plan.outputs | plan.summed).items()
        }
        self.bundle: Bundle = tuple(
            (label, results[label][0]) for label in assembly.made if label.startswith("saved.")
        )
        self.saved += (_BUNDLE,) if self.bundle else ()
        self._bundled = features_of(self.bundle)
        before = starts(bundle)
        for_torch = phases.read_in_torch()
        self._for_torch = [
            (label, before[label], features(node.shape), _spread(node, self.dtype))
            for label, node in for_torch.items()
            if label in before
        ]
        # Graphs that want the rows of the step before.
        self._look_back = [g for g in phases.in_torch if any(g.inputs("previous"))]
        # Of what is handed on, all that torch does not read is in one tensor as well.
        of_sums = [label for label in assembly.made if is_value(label) and label not in for_torch]
        of_rows, of_sequences = (
            tuple((label, results[label][0]) for label in of_sums if label in group)
            for group in ({*of_sums} - assembly.summed, assembly.summed)
        )
        self.words = words = Words(assembly, (bundle, self.bundle), (of_rows, of_sequences))
        together = {label for label, _ in (*self.bundle, *of_rows, *of_sequences)}
        nodes = assembly.read()
        # Arrays that are tensors of their own, and those that are parts of a bundle: see `Words`.
        self.reads = [
            # What no loop reads is (B, features), for a sum over the rows.
            (place, label, _fold(nodes[label].shape) if label in nodes else None)
            for label, place in words.given.items()
            if label not in before
        ]
        self.writes = [
            (place, label, results[label][0], is_users(label), is_value(label))
            for label, place in words.made.items()
            if label not in together
        ]
        # The user's arrays are read by the loops alone, row by row.
        in_order = [
            *map(is_users, for_torch),
            *(fold is not None for _, label, fold in self.reads if is_users(label)),
        ]
        self.takes_any_order = not self._look_back and not any(in_order)
        self.wholes = [
            (
                place,
                label,
                torch.int8 if nodes[label].dtype == torch.int8 else self.dtype,
                label in assembly.any_layout,
            )
            for label, place in words.wholes.items()
        ]
        self.states = [
            (*places, name, f"state.{name}", now.size)
            for places, (name, (now, _)) in zip(
                words.states, assembly.step.states.items(), strict=True
            )
        ]
        self._spread = {
            label: spread
            for label in assembly.made
            if label not in together and (spread := _spread(results[label][1], self.dtype))
        }
        self._sums = [
            (*places, over.label, over.shape)
            for places, over in zip(words.sums, assembly.over_rows, strict=True)
        ]
        # What is handed out in another dtype than we compute in: sums by label, states by name.
        sums = {over.label: over.dtype for over in assembly.over_rows}
        states_of = {name: stages.next_state(name).dtype for name in assembly.step.states}
        self.stored_sums, self.stored_states = (
            {key: kind for key, kind in kinds.items() if kind != self.dtype}
            for kinds in (sums, states_of)
        )
        self._results_of_sums = [*phases.sums.items()]

    def kept(self) -> list[tuple[Shape, torch.dtype]]:
        whole = ((Batch(), self._bundled), self.dtype)
        nodes = {label: self._stages.result(label) for label in self.saved if label != _BUNDLE}
        return [
            (nodes[label].shape, nodes[label].dtype) if label in nodes else whole
            for label in self.saved
        ]

    def __call__(
        self, given: Given, steps: Steps, *, reverse: bool, packed: Packed | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        dtype, total = self.dtype, steps.total
        known: dict[str, Any] = dict(given)
        results = dict[str, Tensor]()
        if not self.takes_any_order:
            flatten_rows(known)
        for label, start, columns, spread in self._for_torch:
            flat = known[_BUNDLE].flatten()
            found = flat[start * total : (start + columns) * total].view(total, columns)
            known[label] = found if spread is None else spread(found)
        for evaluate in self._before:
            sort(evaluate(known, total), known, results)
        # All tensors are held by a name until the kernel is done.
        words_of = self.words
        words = words_of.blank(steps, reverse, dtype.itemsize, self._is_backward)
        held = []
        for place, label, fold in self.reads:
            tensor = known[label] if fold is None else fold(known[label])
            if fold is not None or tensor.dtype != dtype or not tensor.is_contiguous():
                tensor = _plain(tensor, dtype)
                held.append(tensor)
            words[place] = tensor.data_ptr()
        if _BUNDLE in known:
            saved = known[_BUNDLE].data_ptr()
            for place in words_of.saved_given:
                words[place] += saved
        if self.bundle:
            results[_BUNDLE] = buffers.empty(total, self._bundled, dtype)
            saved = results[_BUNDLE].data_ptr()
            for place in words_of.saved_made:
                words[place] += saved
        if words_of.handed_on:
            tensor = buffers.empty(1, words_of.handed_on_by(steps), dtype)
            held.append(tensor)
            handed_on = tensor.data_ptr()
            for place in words_of.handed_on:
                words[place] += handed_on
        for place, label, columns, is_of_users, is_handed_on in self.writes:
            if is_handed_on:
                tensor = known[label] = buffers.empty(total, columns, dtype)
            else:
                shape = steps.shape if is_of_users else (total,)
                tensor = results[label] = empty((*shape, columns), dtype)
            words[place] = tensor.data_ptr()
        self.give_wholes(words, [known[label] for _, label, *_ in self.wholes], held)
        final, again = {}, {}
        for before, after, at_reset, name, label, columns in self.states:
            tensor = known[label]
            if tensor is not None:
                words[before] = _address(tensor, dtype, held)
            shape = (*steps.state_shape, columns)
            if not self._is_backward or known[INITIAL + name] is not None:
                tensor = final[name] = torch.empty(shape, dtype=dtype, device="cpu")
                words[after] = tensor.data_ptr()
            if steps.resets is not None:
                tensor = self._again(known[RESET + name], shape)
                if tensor is not None:
                    again[name] = tensor
                    words[at_reset] = tensor.data_ptr()
        for name, before, at_reset in words_of.previous:
            for place, when in ((before, INITIAL), (at_reset, RESET)):
                tensor = known[when + name]
                if tensor is not None:
                    words[place] = _address(tensor, dtype, held)
        for place, pairs, label, shape in self._sums:
            tensor = known[label] = torch.empty(shape, dtype=dtype, device="cpu")
            words[place] = tensor.data_ptr()
            for wanted, there in pairs:
                words[wanted] = words[there]
        (packed or self).run(words)
        for label, spread in self._spread.items():
            where = known if is_value(label) else results
            where[label] = spread(where[label].flatten(0, -2))
        for label, kind in self.stored_sums.items():
            known[label] = known[label].to(kind)
        for name, kind in self.stored_states.items():
            for table in (final, again):
                if name in table:
                    table[name] = table[name].to(kind)
        if self._is_backward:
            results.update({RESET + name: tensor for name, tensor in again.items()})
        for label, of_sum in self._results_of_sums:
            results[label] = known[of_sum]
        for graph in self._look_back:
            find_previous(graph, known, steps, reverse=not reverse)
        for evaluate in self._after:
            sort(evaluate(known, total), known, results)
        return results, final

    def give_wholes(self, words: array[int], tensors: list[Tensor], held: list[Tensor]) -> None:
        """Writes where tensors without rows are, those of `wholes`; copies of them are held."""
        for (place, _, kind, any_layout), tensor in zip(self.wholes, tensors, strict=True):
            if tensor.dtype != kind or not tensor.is_contiguous():
                tensor = _plain(tensor, kind, any_layout)
                held.append(tensor)
                first, second = self.words.strides[place]
                words[first], words[second] = last_two(tensor.stride())
            words[place] = address = tensor.data_ptr()
            if not address:
                _check_there(tensor)

    def run(self, words: array[int]) -> bool:
        """Whether it has run: see `run` in runtime.cpp."""
        if self._packs_much and not words[IS_PACKED]:
            packed = buffers.empty(1, self._packed_size, self.dtype)
            words[PACKED] = packed.data_ptr()
        return bool(self._run(words.buffer_info()[0], self._kernel))

    def pack(self, words: array[int]) -> Tensor:
        """The weights that a call reads, packed."""
        packed = empty((1, self._packed_size), self.dtype)
        self._runtime.pack_weights(words.buffer_info()[0], self._kernel, packed.data_ptr())
        return packed

    @property
    def is_plain(self) -> bool:
        """Whether it is one call of C++, which reads x and makes one array of rows, and states."""
        folds = [fold for *_, fold in self.reads if fold is not None]
        more = (self._before, self._after, self._for_torch, self._sums, self._spread, folds)
        makes_more = len(self.writes) > 1 or self.bundle or self.words.handed_on
        return self.reads_only_x and not (any(more) or makes_more or self.stored_states)

    @property
    def reads_only_x(self) -> bool:
        """Whether x is all that it reads by rows, and what it gives is in memory of its own."""
        return self.apart and [label for _, label, _ in self.reads] == ["input.x"]

    def _again(self, given: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
        """What a state becomes at a reset, or where the gradients of that are added up."""
        if given is None:  # zeros, which want no gradient
            return None
        if self._is_backward:
            return torch.zeros(shape, dtype=self.dtype, device="cpu")
        plain: Tensor = _plain(given, self.dtype)
        return plain


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
        rows, dtype = like.size(0), kernel.dtype
        is_plain = not kernel.stored_states and like.dtype == dtype
        if kernel._spread or not is_plain or not kernel.reads_only_x:
            raise BackendError("a step takes more than one call")
        held: dict[str, Any] = dict(known)
        for evaluate in kernel._before:
            sort(evaluate(held, rows), held, {})
        words, self._steps = kernel.words, Steps([rows])
        made = {label: empty((rows, columns), dtype) for _, label, columns, *_ in kernel.writes}
        wholes = {
            place: _plain(held[label], kind, any_layout)
            for place, label, kind, any_layout in kernel.wholes
        }
        self._states = [
            {
                name: torch.zeros(rows, size, dtype=dtype, device="cpu")
                for *_, name, _, size in kernel.states
            }
            for _ in range(2)
        ]
        self._held, self._kernel, self._made, self._output = wholes, kernel, made, output
        self._of_x, self._of_output = words.given["input.x"], words.made[output]
        calls = []
        for before, after in (self._states, self._states[::-1]):
            call = words.blank(self._steps, False, dtype.itemsize, False)
            call[self._of_x] = like.data_ptr()
            for label, tensor in made.items():
                call[words.made[label]] = tensor.data_ptr()
            for place, tensor in wholes.items():
                call[place] = tensor.data_ptr()
                first, second = words.strides[place]
                call[first], call[second] = last_two(tensor.stride())
            for initial, final, _, name, *_ in kernel.states:
                call[initial], call[final] = before[name].data_ptr(), after[name].data_ptr()
            calls.append(call)
        packed = kernel.pack(calls[0])
        for call in calls:
            call[PACKED], call[IS_PACKED] = packed.data_ptr(), 1
        self._packed = packed
        self._calls = calls
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
        words = self._calls[self._turn]
        renew(words)
        words[self._of_x], words[self._of_output] = x.data_ptr(), result.data_ptr()
        self._kernel.run(words)
        self._turn ^= 1
        return result


def _plain(tensor: Any, dtype: torch.dtype, any_layout: bool = False) -> Any:
    if tensor is None or (tensor.dtype == dtype and (any_layout or tensor.is_contiguous())):
        return tensor
    return (tensor if tensor.dtype == dtype else tensor.detach().to(dtype)).contiguous()


def _address(tensor: Tensor, dtype: torch.dtype, held: list[Tensor]) -> int:
    """Of a state; a copy of it, if it takes one, is held."""
    plain: Tensor = _plain(tensor, dtype)
    if plain is not tensor:
        held.append(plain)
    return plain.data_ptr()


def _check_there(tensor: Tensor) -> None:
    """Raises a BackendError if the numbers of a tensor are nowhere, as its address tells."""
    if tensor.numel():
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
