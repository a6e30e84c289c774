"""Products of large matrices, which are taken in blocks, and these in pieces."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from openrnn.backends.cpu.runtime import matmul
from tests.contract.evaluate import rms

# Few depths and many; few rows and many, which are taken in deep blocks; an odd rest of each.
SIZES = [(6, 70, 130), (530, 300, 70), (100, 1100, 1030), (530, 700, 1030), (601, 1900, 70)]
LAYOUTS = {"rows": lambda m: m, "columns": lambda m: m.T.contiguous().T}


def error(found: Tensor, exact: Tensor) -> float:
    return rms(found.double() - exact)


@pytest.mark.parametrize("right", LAYOUTS)
@pytest.mark.parametrize("left", LAYOUTS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_product(sizes: tuple[int, int, int], left: str, right: str) -> None:
    rows, depth, columns = sizes
    a, b = torch.randn(rows, depth).double(), torch.randn(depth, columns).double()
    a, b = LAYOUTS[left](a), LAYOUTS[right](b)
    exact = a @ b
    torch.testing.assert_close(matmul(a, b), exact, rtol=1e-12, atol=1e-12)
    a, b = a.float(), b.float()
    exact = a.double() @ b.double()
    found = matmul(a, b)
    assert error(found, exact) <= 2 * error(a @ b, exact)
    torch.set_num_threads(2)
    try:
        assert torch.equal(matmul(a, b), found)
    finally:
        torch.set_num_threads(1)
