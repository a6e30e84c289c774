"""The kernels under sanitizers: no access out of bounds, and nothing undefined in C++."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from .scripts import start

# Runs the cells whose names are put in, forward and backward, and others in 8 bits; prints "right"
# at the end.
SCRIPT = """
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence
import openrnn
from openrnn.backends.cpu import packed
from tests.cells.box import BOX, as_given, random_states
from tests.contract.evaluate import evaluate

torch.manual_seed(0)
torch.set_num_threads(2)
packed._LEAST_BYTES = 0  # weights of small layers stay packed too


def compare(cell, x, batch, reverse=False):
    state = as_given(random_states(cell, batch))
    layers = [openrnn.Recurrent(cell, reverse=reverse, backend=b) for b in ("cpu", "eager")]
    actual, expected = (evaluate(layer, x, state, torch.float32) for layer in layers)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        for _ in range(3):
            layers[0](x, state)


for name in {names}:
    cell = BOX[name](5, 6)
    for steps, batch in ((7, 9), (7, 1), (1, 9), (1, 1), (7, 0)):
        compare(cell, torch.randn(steps, batch, 5), batch)
    compare(cell, torch.randn(7, 9, 5), 9, reverse=True)
    ragged = pack_sequence([torch.randn(n, 5) for n in (3, 6, 1, 6, 2)], enforce_sorted=False)
    for reverse in (False, True):
        compare(cell, ragged, 5, reverse)
for name in {int8}:
    small = openrnn.quantize(openrnn.Recurrent(BOX[name](5, 6), backend="cpu"))
    with torch.no_grad():
        for steps, batch in ((7, 9), (7, 9), (7, 1), (1, 9), (7, 0)):
            assert small(torch.randn(steps, batch, 5))[0].isfinite().all()
        small(torch.randn(6, 3, 5), lengths=[2, 6, 1])
print("right")
"""
# What is left out concerns addresses, which the first one watches too, and is slow to compile.
FLAGS = (
    "-O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all "
    "-fno-sanitize=null,object-size,pointer-overflow"
)
# In two processes, which share the time: only one builds the products in 8 bits.
NAMES = (
    (("LSTMCell", "LayerNormLSTMCell", "LSTMPCell", "QRNNCell fo", "SLSTMCell 2 heads"), ()),
    (("GRUCell", "RHNCell"), ("QRNNCell fo", "RHNCell")),
)


def sanitizer() -> str | None:
    """The library that has to be in a process before all others."""
    if shutil.which("g++") is None:
        return None
    command = ["g++", "-print-file-name=libasan.so"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return said if Path(said).is_absolute() else None  # a bare name says that there is none


def test_nothing_is_out_of_bounds_or_undefined(tmp_path: Path) -> None:
    library = sanitizer()
    if library is None:
        pytest.skip("there is no g++, or it has no libasan")
    environment = {
        "LD_PRELOAD": library,
        "ASAN_OPTIONS": "detect_leaks=0",  # Python and torch free little at their end
        "PYTHONMALLOC": "malloc",  # what Python hands to a kernel is watched too
        "OPENRNN_CACHE": str(tmp_path / "cache"),
        "OPENRNN_CXX": "env -u LD_PRELOAD g++",  # the compiler itself need not be watched
        "OPENRNN_CXXFLAGS": FLAGS,
    }
    scripts = [
        SCRIPT.replace("{names}", repr(names)).replace("{int8}", repr(int8))
        for names, int8 in NAMES
    ]
    processes = [start(script, **environment) for script in scripts]
    # Both are read to their end, so that none is left running where the other has failed.
    said = [process.communicate(timeout=300) for process in processes]
    for process, (out, err) in zip(processes, said, strict=True):
        assert process.returncode == 0, err[-3000:]
        assert out.strip() == "right"
