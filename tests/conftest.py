"""What holds for every test: fixed seeds, and memory that is NaN until it is written."""

import os
from collections.abc import Iterator

import hypothesis
import pytest
import torch

# One thread for each of pytest's workers: more would wait for each other.
torch.set_num_threads(1)

# Continuous integration tries the same examples each time; OPENRNN_EXAMPLES asks for others.
hypothesis.settings.register_profile("same", derandomize=True)
if "OPENRNN_EXAMPLES" not in os.environ:
    hypothesis.settings.load_profile("same")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _poison_memory() -> Iterator[None]:
    """In deterministic mode torch fills empty tensors with NaN."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)
