"""Fills the tables of docs/compatibility.md: a ✓ where the tests of a feature passed.

A test says for which row it stands, `@pytest.mark.feature("torch.export")`; the column is its
parameter `name`, `case` or `kind`, or told: `@pytest.mark.feature("hooks", "RNN", "LSTM")`. What a
test sees refused is `@pytest.mark.refused("TorchScript")`. What the rows say stands in the page.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "compatibility.md"
COLUMNS = (
    *(("RNN",), ("LSTM",), ("GRU",)),
    ("RNNCell", "LSTMCell", "GRUCell"),
    *(("Recurrent",), ("Stack",)),
)
KINDS = {kind for column in COLUMNS for kind in column}
LIBRARIES = ("torch", "onnx", "onnxruntime", "onnxscript", "keras", "flax")
_FEATURE = re.compile(rf"^\| (\*\*(.+?)\*\*:.*?) (?:\|[^|]*){{{len(COLUMNS)}}}\|$", re.MULTILINE)
_REFUSED = re.compile(r"^\| \*\*(.+?)\*\* \|", re.MULTILINE)
_VERSIONS = re.compile(r"^Versions: .*\.$", re.MULTILINE)


class Features:
    """A plugin of pytest: which kinds have tests of a feature, and whether all of them passed.

    kinds: by feature.
    refused: what tests see refused.
    failures: what did not pass, skipped tests too.
    """

    def __init__(self) -> None:
        self.kinds: defaultdict[str, set[str]] = defaultdict(set)
        self.refused: set[str] = set()
        self.failures: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            for mark in item.iter_markers("feature"):
                feature, *told = mark.args
                self.kinds[feature] |= set(told) or _kinds_of(item)
            self.refused |= {mark.args[0] for mark in item.iter_markers("refused")}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome != "passed":
            self.failures.append(f"{report.nodeid} {report.outcome}")


def _kinds_of(item: Any) -> set[str]:
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    values = [parameters[name] for name in ("name", "case", "kind") if name in parameters]
    return {getattr(value, "__name__", value) for value in values} & KINDS


def collect(*options: str) -> Features:
    """Collects the tests that are marked and, unless the options say otherwise, runs them."""
    features = Features()
    tests = sorted((ROOT / "tests").rglob("test_*.py"))
    marked = [str(path) for path in tests if re.search(r"\b(feature|refused)\(", path.read_text())]
    chosen = ["-m", "feature or refused", "-p", "no:cacheprovider", "-p", "no:xdist"]
    code = pytest.main([*chosen, "--rootdir", str(ROOT), *options, *marked], plugins=[features])
    if code != pytest.ExitCode.OK:
        features.failures.append(f"pytest: {code.name}")  # type: ignore[union-attr]
    return features


def filled(page: str, kinds: Mapping[str, set[str]], refused: set[str]) -> str:
    """The page with its marks, and the versions that constraints.txt pins.

    Raises:
        ValueError: a row without a test, a test without a row, or some cells without a test.
    """
    rows = {
        "feature": ({name for _, name in _FEATURE.findall(page)}, {n for n in kinds if kinds[n]}),
        "refused": (set(_REFUSED.findall(page)), refused),
    }
    for mark, (told, tested) in rows.items():
        if told != tested:
            raise ValueError(
                f"the rows of {PAGE.name} and the tests marked as {mark} differ: "
                f"rows without a test {sorted(told - tested)}, tests without a row "
                f"{sorted(tested - told)}"
            )

    def row(match: re.Match[str]) -> str:
        text, name = match.groups()
        marks = []
        for column in COLUMNS:
            has = [kind in kinds[name] for kind in column]
            if any(has) and not all(has):
                raise ValueError(f"{name!r} has tests for some of {', '.join(column)} only")
            marks.append("✓" if all(has) else "–")
        return f"| {text} | {' | '.join(marks)} |"

    return _VERSIONS.sub(f"Versions: {', '.join(pinned())}.", _FEATURE.sub(row, page))


def pinned() -> list[str]:
    text = (ROOT / "constraints.txt").read_text()
    pins = dict(re.findall(r"^(\w+)==([\d.]+)", text, re.MULTILINE))
    return [f"{name} {pins[name]}" for name in LIBRARIES]


def main() -> int:
    there = [f"{name} {version(name).partition('+')[0]}" for name in LIBRARIES]
    if there != pinned():
        print(f"expected {pinned()}, as constraints.txt has it, found {there}", file=sys.stderr)
        return 1
    features = collect("-q")
    if features.failures:
        print("Nothing is written:", *features.failures, sep="\n  ", file=sys.stderr)
        return 1
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(filled(page, features.kinds, features.refused), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
