"""Whatever goes wrong, a writer leaves whole files or none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import openrnn
from openrnn.errors import ArgumentError
from openrnn.io import to_onnx

LAYER = openrnn.GRU(2, 3)


def write_onnx(folder: Path) -> None:
    pytest.importorskip("onnx", reason="needs onnx, of the extra io")
    to_onnx(LAYER, folder / "model.onnx")


def write_c(folder: Path) -> None:
    openrnn.export_c(LAYER, folder, overwrite=True)


WRITERS: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "to_onnx": (write_onnx, {"model.onnx"}),
    "export_c": (write_c, {"model.h", "model.c"}),
}
writers = pytest.mark.parametrize("writer", WRITERS)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@writers
def test_files_that_are_there_are_replaced_as_a_whole(writer: str, tmp_path: Path) -> None:
    write, names = WRITERS[writer]
    for name in names:
        (tmp_path / name).write_text("old")
    write(tmp_path)
    found = contents(tmp_path)
    assert set(found) == names
    assert b"old" not in found.values()


@writers
@pytest.mark.parametrize("there", [False, True], ids=["new", "there"])
@pytest.mark.parametrize("last", [False, True], ids=["first file", "last file"])
def test_a_full_disk(
    writer: str, there: bool, last: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a file is written when there is no room any more."""
    write, names = WRITERS[writer]
    for name in names if there else ():
        (tmp_path / name).write_text("old")
    before = contents(tmp_path)
    begun: list[Path] = []

    def until_full(write: Callable[..., Any]) -> Callable[..., Any]:
        def write_half(path: Path, data: Any, *args: Any, **options: Any) -> None:
            begun.append(path)
            full = len(begun) == (len(names) if last else 1)
            write(path, data[: len(data) // 2] if full else data, *args, **options)
            if full:
                raise OSError(28, "No space left on device", str(path))

        return write_half

    for name in ("write_text", "write_bytes"):
        monkeypatch.setattr(Path, name, until_full(getattr(Path, name)))
    with pytest.raises(OSError, match="No space left on device"):
        write(tmp_path)
    assert begun
    assert contents(tmp_path) == before


@writers
def test_a_folder_that_cannot_be_written_to(writer: str, tmp_path: Path) -> None:
    write, _ = WRITERS[writer]
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ArgumentError, match="expected a directory that can be written to"):
        write(tmp_path / "file")
    with pytest.raises(ArgumentError, match="expected a directory that can be written to"):
        write(tmp_path / "file" / "below")
    assert contents(tmp_path) == {"file": b"mine"}


@writers
def test_a_folder_that_is_not_there_is_made(writer: str, tmp_path: Path) -> None:
    write, names = WRITERS[writer]
    write(tmp_path / "new" / "below")
    assert set(contents(tmp_path / "new" / "below")) == names
