"""Small programs for processes of their own, where what is cached in this one does not count."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
# Prints "right" if the kernel's results are those of the eager loop.
COMPARE = """
import torch, openrnn
torch.manual_seed(0)
cell, x = openrnn.LSTMCell(5, 6), torch.randn(4, 3, 5)
expected = openrnn.Recurrent(cell, backend="eager")(x)
actual = openrnn.Recurrent(cell, backend="cpu")(x)
torch.testing.assert_close(actual, expected)
print("right")
"""


def start(script: str, **environment: str) -> subprocess.Popen[str]:
    if "OPENRNN_CACHE" in environment:  # a folder of its own, where all is built: quickly
        environment = {"OPENRNN_CXXFLAGS": "-O0", **environment}
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(script: str, **environment: str) -> tuple[str, str]:
    """What a program that must succeed prints, and what it says on the error stream."""
    process = start(script, **environment)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    return out.strip(), err
