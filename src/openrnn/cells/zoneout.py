"""Zoneout: units that now and then keep their old value."""

from __future__ import annotations

import torch
from torch import Tensor


def zoneout(new: Tensor, old: Tensor, probability: float, training: bool) -> Tensor:
    """The next state, where each unit keeps its old value with this probability.

        d = 1 with this probability, else 0        in training, drawn for each row and unit
        d = the probability                        in evaluation: the expectation

        result = d ⊙ old + (1 - d) ⊙ new

    Args:
        new: what the state would be, (B, H).
        old: what the state was, (B, H).
        probability: 0 to 1.
        training: draw, or take the expectation.

    Source: Krueger et al., "Zoneout: regularizing RNNs by randomly preserving hidden activations",
    2016.
    """
    if training:
        return torch.where(torch.rand_like(new) < probability, old, new)
    return probability * old + (1 - probability) * new
