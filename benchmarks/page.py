"""The page with all tables, the processor's name and the date."""

from __future__ import annotations

import datetime
import platform
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import openrnn
from benchmarks.table import Table

PAGE = Path(__file__).parent / "results" / "layers.md"


def write(
    path: Path, tables: Sequence[Table], means: Sequence[str], peak: float, warning: str | None
) -> None:
    """Writes all tables as Markdown, the means behind the first; a warning comes before them."""
    lines = [
        f"# openrnn {openrnn.__version__} beside torch {torch.__version__}",
        "",
        f"{processor()}, {datetime.date.today().isoformat()}. Medians of alternating repetitions.",
        f"One core does {peak:.1f} GFLOP/s of fused multiplications and additions in float32.",
    ]
    if peers := ", ".join(_versions("onnxruntime", "jax", "flax")):
        lines.append(f"Beside them: {peers}.")
    if warning:
        lines += ["", f"**{warning}**"]
    for index, table in enumerate(tables):
        lines += ["", f"## {table.title}", "", *table.markdown()]
        if index == 0 and means:
            lines += ["", "Geometric means:", "", *(f"- {line}" for line in means)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _versions(*packages: str) -> list[str]:
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """The processor's name, as the system has it."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"model name\s*:\s*(.+)", text)
    return found.group(1).strip() if found else platform.machine()
