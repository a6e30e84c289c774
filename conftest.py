"""Runs the examples in docstrings, the README and the documentation as tests."""

from typing import Any

import pytest
import torch
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser()], patterns=["README.md", "docs/*.md"]
).pytest()


@pytest.fixture(autouse=True)
def _torch_in_docstrings(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace["torch"] = torch
