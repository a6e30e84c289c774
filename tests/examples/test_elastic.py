"""The elastic example: a rank is killed, all go on, and the end is that of a run without that."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import CliRunner
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

EXAMPLE = Path(__file__).parents[2] / "examples" / "elastic.py"
STEPS = ("--steps", "30", "--every", "10")


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("elastic", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def torchrun(folder: Path, *more: str) -> list[str]:
    """What two ranks print."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["--max-restarts=1", str(EXAMPLE), *STEPS, "--checkpoints", str(folder), *more]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    result = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Those of the last checkpoint."""
    file = folder / "weights.pt"
    dcp_to_torch_save(folder / "000030", file)
    return torch.load(file)["model"]  # type: ignore[no-any-return]


def whole(example: ModuleType, ranks: int = 2) -> tuple[dict[str, torch.Tensor], float]:
    """Weights and error of a run that nobody killed, its ranks one after the other."""
    torch.manual_seed(0)
    model = example.Model()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for step in range(1, 31):
        optimizer.zero_grad()
        for rank in range(ranks):
            x, lengths, means = example.make_part(step, example.BATCH, rank, ranks)
            ((model(x, lengths) - means).square().sum() / example.BATCH).backward()
        optimizer.step()
    errors = [example.evaluate(model, rank, ranks) for rank in range(ranks)]
    return model.state_dict(), sum(error * count for error, count in errors) / example.TEST


def test_a_killed_rank_costs_the_steps_since_the_last_checkpoint(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = torchrun(tmp_path, "--kill", "25")
    monkeypatch.setattr(example.dist, "all_reduce", lambda total: None)
    expected, error = whole(example)
    assert lines == [
        *("step 10", "step 20", "going on after step 20", "step 30"),
        f"mean absolute error {error:.4f}, of 1001 sequences",
    ]
    found = weights(tmp_path)
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-6, atol=1e-7)


def test_one_process(example: ModuleType, tmp_path: Path) -> None:
    """It needs no launcher, goes on by itself, and keeps two checkpoints."""
    folder = tmp_path / "checkpoints"
    arguments = [*STEPS, "--checkpoints", str(folder)]
    first = CliRunner().invoke(example.main, arguments, catch_exceptions=False)
    again = CliRunner().invoke(example.main, arguments, catch_exceptions=False)
    assert again.output.splitlines()[0] == "going on after step 30"
    assert again.output.splitlines()[-1] == first.output.splitlines()[-1]
    assert sorted(path.name for path in folder.iterdir()) == ["000020", "000030"]


def test_each_sequence_is_tested_once(example: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    model = example.Model()
    monkeypatch.setattr(example.dist, "all_reduce", lambda total: None)
    expected, count = example.evaluate(model, 0, 1)
    assert count == example.TEST
    parts = [example.evaluate(model, rank, 3) for rank in range(3)]
    assert sum(part for _, part in parts) == count
    assert sum(error * part for error, part in parts) / count == pytest.approx(expected, rel=1e-6)
