"""Runs the examples in docstrings, the README and the documentation as tests."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser()],
    patterns=["README.md", "docs/*.md"],  # docs/zh has the same code: tests/test_translations.py
    fixtures=["in_an_empty_folder"],
).pytest()


@pytest.fixture
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the code of a page may write files."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _torch_in_docstrings(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace["torch"] = torch
