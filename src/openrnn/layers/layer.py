"""What every layer over time does around its own work: read the user's input, write the result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from openrnn.errors import ArgumentError, ArgumentTypeError, CellError, StateError
from openrnn.layers.repeat import Known
from openrnn.layers.stream import Link, Stream
from openrnn.sequence import Sequence

if TYPE_CHECKING:
    from openrnn.layers.parts import Part, Survey


class Scanned(NamedTuple):
    """What a layer makes of a sequence.

    states: of all steps, nested as the state is; None where they were not asked for.
    """

    output: Sequence
    state: Any
    states: Any


class Layer(nn.Module, ABC):
    """A module over whole sequences: `output, state = layer(input, state)`."""

    batch_first: bool

    def __init__(self) -> None:
        super().__init__()
        self._known = Known()

    def forward(
        self,
        input: Tensor | PackedSequence,
        state: Any = None,
        *,
        lengths: Any = None,
        reset: Tensor | None = None,
        reset_to: Any = None,
        return_states: bool = False,
    ) -> Any:
        """Runs over whole sequences.

        Args:
            input: (T, B, I), or (B, T, I) with batch_first; (T, I) without a batch; or a
                PackedSequence.
            state: the initial state. Default: zeros, or what is learned.
            lengths: the steps of each sequence, (B,) integers from 0 to T, on any device and in any
                order; what lies behind them is not read. Default: all have T steps.
            reset: bool, of the input's shape without the features: where it is True the sequence is
                cut before the step. No state and no gradient crosses a cut. Default: no cuts.
            reset_to: the state with which the sequence goes on after a cut, or "default" for that
                of a call without a state, which is what is wanted where `state` was carried over
                from a call before. Default: the initial state given.
            return_states: whether the states of all steps are returned as well. Default: False.

        Returns:
            output: every step's output, in the layout of the input; 0 behind a sequence's end.
            state: each sequence's state after its own last step; the initial state of one without
                steps. In the reverse direction that is the state after its first step in time.
            states: with return_states, the states after all steps, time first whatever the input:
                states[t] has the form of the state. 0 behind a sequence's end.

        Raises:
            ShapeError: input, state, lengths or reset of the wrong rank, size or dtype.
            StateError: a state that is not as many tensors as the layer has states.
            ArgumentError: lengths below 0 or above T; reset_to without reset.
            ArgumentTypeError: lengths that are not integers, or a reset that is not bool.
        """
        is_plain = lengths is None and reset_to is None and return_states is False
        is_plain = is_plain and not torch.compiler.is_compiling()
        if is_plain and (found := self._known(self, input, state, reset)) is not None:
            return found
        owner = type(self).__name__
        sequence = Sequence.read(
            input, batch_first=self.batch_first, owner=owner, lengths=lengths, reset=reset
        )
        check_reset_to(owner, reset, reset_to)
        check_bool("return_states", return_states)
        output, last, states = self.scan(sequence, state, reset_to=reset_to, every=return_states)
        if is_plain:
            self._known.learn(self, input, state, reset)
        if return_states:
            return output.write(), last, states
        return output.write(), last

    def stream(self, batch_size: int = 1, state: Any = None) -> Stream:
        """The layer, to be fed step by step, in inference: see `Stream`.

        Args:
            batch_size: sequences B that run side by side, ≥ 1. Default: 1.
            state: the state in which the stream begins. Default: zeros, or what is learned.
        """
        return Stream(self, batch_size, state)

    def link(self, like: Tensor, parameters: Any = None) -> Link | None:
        """The layer made ready for steps one at a time, if there is a quicker way than `scan`.

        Args:
            like: an input of a step, (B, I).
            parameters: as in `scan`.
        """
        return None

    def part(self, survey: Survey, features: int, parameters: Any = None) -> Part:
        """What is done in a call like the last one, so that it can be repeated.

        Args:
            survey: of the whole layer that it is a part of; what is found out is noted there.
            features: of the input.
            parameters: as in `scan`.

        Raises:
            BackendError, CellError: more is to be done than to run cells in kernels.
        """
        raise CellError(f"{type(self).__name__} does more than to run cells")

    @property
    @abstractmethod
    def runs_backward(self) -> bool:
        """Whether any direction runs from the last step to the first."""

    def check_streams(self, asked: str) -> None:
        """Raises ArgumentTypeError if what was asked for, steps in parts, cannot be done."""
        if self.runs_backward:
            raise ArgumentTypeError(
                f"{asked}: {type(self).__name__} has a direction that runs from the last step to "
                "the first, so it needs all steps at once. Call the layer on the whole sequence"
            )

    @abstractmethod
    def scan(
        self,
        sequence: Sequence,
        state: Any,
        parameters: Any = None,
        *,
        reset_to: Any = None,
        every: bool = False,
    ) -> Scanned:
        """The layer's own work, on a sequence with time first.

        Args:
            sequence: the input.
            state: the initial state as the user gave it; zeros where it is None.
            parameters: what the layer's cells read in place of their own parameters, nested as
                the state is, or None.
            reset_to: the state after a reset as the user gave it, DEFAULT, or None for the
                initial state.
            every: whether the states of all steps are wanted.
        """


def share(state: Any, count: int, what: str, meaning: str) -> tuple[Any, ...]:
    """The user's state taken apart, one for each of the layers inside; messages tell the rest."""
    if state is None or isinstance(state, str):
        return (state,) * count
    if not isinstance(state, (tuple, list)) or len(state) != count:
        kind = isinstance(state, (tuple, list))
        got = f"{len(state)} states" if kind else f"a {type(state).__name__}"
        raise StateError(f"{what} to be {meaning}, got {got}")
    return tuple(state)


def check_reset_to(owner: str, reset: Any, reset_to: Any) -> None:
    """Raises ArgumentError if a state after resets was given, and no resets."""
    if reset_to is not None and reset is None:
        raise ArgumentError(
            f"{owner}: got reset_to, the state after a reset, but no reset. "
            "Say by reset= which steps start afresh"
        )


def check_bool(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ArgumentTypeError(f"{name} should be of type bool, got: {type(value).__name__}")
    return value
