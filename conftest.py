"""Runs the examples in docstrings, the README and the documentation as tests."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

# Keras reads this when it is imported; its own default is TensorFlow.
os.environ.setdefault("KERAS_BACKEND", "torch")
# Examples in docstrings that need a package of the extra io.
_PACKAGES = {f"openrnn.io.{name}": name for name in ("flax", "keras", "onnx")}

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/*.md"],  # docs/zh has the same code: tests/test_translations.py
    fixtures=["in_an_empty_folder"],
).pytest()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for module, package in _PACKAGES.items():
            if item.name.startswith(module) and find_spec(package) is None:
                reason = f"needs {package}, of the extra io"
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the code of a page may write files."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _torch_in_docstrings(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace["torch"] = torch
