"""What kernels add up in float32 is as near to the truth as what torch adds up."""

from __future__ import annotations

import pytest
from benchmarks.accuracy import compare


# Of few rows, torch's sums step by step are short: ours over all rows are not to be worse.
@pytest.mark.parametrize("layer", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("shape", ["seed", "daily", "policy", "odd"])
def test_errors_of_gradients(layer: str, shape: str) -> None:
    found = compare(layer, shape)
    assert found.largest <= 2, found
    assert found.together <= 1.5, found
