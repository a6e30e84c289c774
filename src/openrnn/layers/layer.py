"""What every layer over time does around its own work: read the user's input, write the result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from openrnn.errors import ArgumentTypeError
from openrnn.sequence import Sequence


class Layer(nn.Module, ABC):
    """A module over whole sequences: `output, state = layer(input, state)`."""

    batch_first: bool

    def forward(
        self, input: Tensor | PackedSequence, state: Any = None
    ) -> tuple[Tensor | PackedSequence, Any]:
        sequence = Sequence.read(input, batch_first=self.batch_first, owner=type(self).__name__)
        output, state = self.scan(sequence, state)
        return output.write(), state

    @abstractmethod
    def scan(self, sequence: Sequence, state: Any, parameters: Any = None) -> tuple[Sequence, Any]:
        """The layer's own work, on a sequence with time first.

        Args:
            sequence: the input.
            state: the initial state as the user gave it; zeros where it is None.
            parameters: what the layer's cells read in place of their own parameters, nested as
                the state is, or None.
        """


def check_bool(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ArgumentTypeError(f"{name} should be of type bool, got: {type(value).__name__}")
    return value
