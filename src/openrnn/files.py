"""Writing files and directories so that a reader sees the old or the new one, never a part."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openrnn.errors import ArgumentError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; it becomes `path` if the block ends without an error."""
    # The ending stays, as matplotlib tells the format by it.
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield an empty directory to write to; it takes the place of `path` if all went well."""
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    replaced = path.with_name(f".{os.getpid()}-{path.name}-replaced")
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            os.replace(path, replaced)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, all of it or nothing."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_writable(directory: Path, asked_by: str = "--out") -> None:
    """Make `directory` if need be; raise `ArgumentError` if no file can be written in it."""
    probe = directory / f".{os.getpid()}-probe"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ArgumentError(
            f"{asked_by}: expected a directory that can be written to, received '{directory}': "
            f"{error.strerror or error}; give another {asked_by}"
        ) from None


def check_writable_file(path: Path, example: str, asked_by: str = "--out") -> None:
    """Raise `ArgumentError` if the file `path` cannot be written; `example` is a name for one."""
    if path.is_dir():
        raise ArgumentError(
            f"{asked_by}: expected the name of a file, received the directory '{path}'; "
            f"give for example {asked_by} {path / example}"
        )
    check_writable(path.parent, asked_by)


def check_new_file(path: Path, example: str, *, overwrite: bool) -> None:
    """The same for --out beside --overwrite; also raise it if the file is there already."""
    if path.is_file() and not overwrite:
        raise ArgumentError(
            f"--out: expected the name of a new file, received '{path}', which is there already; "
            "give another --out, or --overwrite to replace it"
        )
    check_writable_file(path, example)
