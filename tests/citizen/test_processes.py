"""Several processes, DDP and FSDP2: one launch of ranks makes the checks of `rank_checks.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from filelock import FileLock

import openrnn
from openrnn.errors import BackendError

from .rank_checks import CHECKS
from .ranks import SIZES


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of each check a traceback, or nothing; from one launch, which pytest's workers share."""
    shared = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if shared else base) / "ranks"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            folder.mkdir()
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
            result = subprocess.run(
                [sys.executable, "-m", "tests.citizen.ranks", str(folder)],
                capture_output=True,
                text=True,
                env=environment,
                timeout=240,
                check=False,
            )
            (folder / "output.txt").write_text(result.stdout + result.stderr, encoding="utf-8")
    written = folder / "outcomes.json"
    assert written.exists(), (folder / "output.txt").read_text(encoding="utf-8")
    return json.loads(written.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def _marked(check: str) -> object:
    """The check, with the row and the column of the page of compatibility that it stands for."""
    kind, *ways = check.split(", ")
    rows = {"DDP": "DistributedDataParallel", "FSDP": "FSDP2"}
    is_kind = kind in ("RNN", "LSTM", "GRU", "Recurrent", "Stack")
    marks = [pytest.mark.feature(rows[way], kind) for way in ways if way in rows and is_kind]
    return pytest.param(check, marks=marks)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("check", [*map(_marked, CHECKS)])
def test_ranks_do_what_one_process_does(outcomes: dict[str, str], check: str, size: int) -> None:
    outcome = outcomes[f"{check}, {size} ranks"]
    assert not outcome, outcome


def test_a_weight_whose_memory_is_gone_is_an_error() -> None:
    """As it is where FSDP's hook on the output is lost; the kernel would read from nowhere."""
    layer = openrnn.LSTM(12, 6)
    output, _ = layer(torch.randn(4, 8, 12))
    layer.weight_hh_l0.untyped_storage().resize_(0)
    with pytest.raises(BackendError, match="has no memory now"):
        output.sum().backward()
