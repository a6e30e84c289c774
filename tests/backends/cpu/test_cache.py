"""The folder of kernels in odd states, and surroundings that are not the usual ones."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

import openrnn
from openrnn.backends.cpu import build

from .scripts import COMPARE, run

COMPILER = shutil.which("g++") or shutil.which("clang++")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")


class Place:
    """A cache, with a compiler that counts, and a source that no other test has."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._log, self._patch, self._folder = folder / "compilations", monkeypatch, folder
        self.compiler(
            f'case "$*" in *--version*) ;; *) echo x >> {self._log} ;; esac\nexec {COMPILER} "$@"'
        )
        self.use(folder / "cache")
        self._source = f'extern "C" int answer() {{ return 42; }}  // {folder.name}\n'

    def compiler(self, script: str) -> None:
        """Takes a shell script as the compiler."""
        path = self._folder / f"compiler{len(list(self._folder.iterdir()))}"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        self._patch.setenv("OPENRNN_CXX", str(path))
        build.compile_command.cache_clear()

    def use(self, cache: Path) -> None:
        self.cache = cache
        self._patch.setenv("OPENRNN_CACHE", str(cache))

    def again(self) -> None:
        """Goes on in a copy, as another process would: of one path this one loads one library."""
        self.use(shutil.copytree(self.cache, self.cache.with_name(self.cache.name + "+")))

    def answer(self) -> int:
        return int(build.load(self._source).answer())

    @property
    def library(self) -> Path:
        (found,) = self.cache.glob("*.so")
        return found

    @property
    def compilations(self) -> int:
        return len(self._log.read_text().splitlines()) if self._log.exists() else 0


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    yield Place(tmp_path, monkeypatch)
    build.compile_command.cache_clear()


@pytest.fixture
def _shared_group() -> Iterator[None]:
    """What new files are made with where each user has a group of their own."""
    before = os.umask(0o002)
    yield
    os.umask(before)


# --- what is found in the folder -----------------------------------------------------------------


def test_what_is_whole_is_not_built_again(place: Place) -> None:
    assert place.answer() == 42
    place.again()
    assert place.answer() == 42
    assert place.compilations == 1


@pytest.mark.usefixtures("_shared_group")
def test_files_are_private_whatever_the_umask(place: Place) -> None:
    """Else they would be taken for another's, and built again in each process."""
    assert place.answer() == 42
    for path in (place.cache, *place.cache.iterdir()):
        assert not path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH), path
    place.again()
    assert place.answer() == 42
    assert place.compilations == 1


def _truncate(library: Path) -> None:
    library.write_bytes(library.read_bytes()[:1000])


def _change(library: Path) -> None:
    library.write_bytes(library.read_bytes() + b"more")


def _open_to_group(library: Path) -> None:
    library.chmod(0o770)


def _open_to_all(library: Path) -> None:
    library.chmod(0o707)


def _open_digest(library: Path) -> None:
    library.with_suffix(".sha256").chmod(0o606)


def _no_digest(library: Path) -> None:
    library.with_suffix(".sha256").unlink()


def _no_text_as_digest(library: Path) -> None:
    library.with_suffix(".sha256").write_bytes(b"\xff\xfe\x00")


def _half_moved(library: Path) -> None:
    """A build that was killed between two of its files, and one that was killed before."""
    library.unlink()
    folder = library.parent / "build-killed"
    folder.mkdir()
    (folder / library.name).write_bytes(b"half")


@pytest.mark.parametrize(
    "damage",
    [
        *(_truncate, _change, _open_to_group, _open_to_all),
        *(_open_digest, _no_digest, _no_text_as_digest, _half_moved),
    ],
)
def test_what_is_not_whole_or_not_ours_is_built_again(
    place: Place, damage: Callable[[Path], None]
) -> None:
    assert place.answer() == 42
    place.again()  # so that nothing is damaged that this process runs
    damage(place.library)
    assert place.answer() == 42
    assert place.compilations == 2
    place.again()
    assert place.answer() == 42
    assert place.compilations == 2, "what was built is whole"


# --- folders -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_folder_that_others_may_write_to(place: Place, mode: int) -> None:
    place.cache.mkdir()
    place.cache.chmod(mode)
    assert place.answer() == 42
    assert not list(place.cache.iterdir())


def test_a_folder_of_another_user(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert place.answer() == 42
    before = {path: path.stat().st_mtime_ns for path in place.cache.iterdir()}
    monkeypatch.setattr(os, "getuid", lambda: place.cache.stat().st_uid + 1)
    assert place.answer() == 42
    assert place.compilations == 2, "not theirs, but one of our own"
    assert {path: path.stat().st_mtime_ns for path in place.cache.iterdir()} == before


def test_a_relative_folder(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.cache.mkdir(mode=0o700)
    monkeypatch.chdir(place.cache)
    monkeypatch.setenv("OPENRNN_CACHE", ".")
    assert place.answer() == 42
    assert place.compilations == 1, "built once, there"


@pytest.mark.parametrize("name", ["replace", "write_text"])
def test_no_space_in_the_cache(place: Place, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    owner = os if name == "replace" else Path
    original = getattr(owner, name)

    def full(first: Path, *args: object, **options: object) -> object:
        if first.is_relative_to(place.cache):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(first, *args, **options)

    monkeypatch.setattr(owner, name, full)
    assert place.answer() == 42
    assert not list(place.cache.iterdir()), "nothing half done stays"


def test_no_space_anywhere(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(openrnn.BackendError, match=r"No space left.*OPENRNN_CACHE"):
        place.answer()


# --- surroundings --------------------------------------------------------------------------------


def test_a_compiler_whose_library_does_not_load(place: Place) -> None:
    """One for another processor, say."""
    place.compiler(
        'case "$*" in *--version*) exit 0 ;; esac\nfor last; do :; done\necho rubbish > "$last"'
    )
    with pytest.raises(openrnn.BackendError):
        place.answer()


def test_a_private_folder_goes_without_a_word(tmp_path: Path) -> None:
    """Also where Python reports what is not closed."""
    (tmp_path / "file").touch()
    script = f"import warnings; warnings.simplefilter('error')\n{COMPARE}"
    out, err = run(script, OPENRNN_CACHE=str(tmp_path / "file" / "cache"))
    assert out == "right"
    assert "Warning" not in err


CELL = """
import torch, openrnn
class Cell(torch.nn.Module):
    state_sizes = {names}
    def forward(self, x, state):
        first, second = state
        σ = torch.sigmoid(first)
        return σ * second + x[:, :1], second + σ
x, state = torch.randn(3, 2, 5), (torch.randn(2, 6), torch.randn(2, 6))
actual, expected = (openrnn.Recurrent(Cell(), backend=b)(x, state) for b in ("cpu", "eager"))
torch.testing.assert_close(actual, expected)
print("right")
"""


def test_names_beyond_ascii_where_the_locale_has_none(tmp_path: Path) -> None:
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    program = tmp_path / "program.py"  # Python reads files as UTF-8, but not its own arguments
    program.write_text(CELL.replace("{names}", '{"h": 6, "c": 6}'), encoding="utf-8")
    script = f"import runpy; runpy.run_path({str(program)!r})"
    assert run(script, OPENRNN_CACHE=str(tmp_path / "cache"), **locale)[0] == "right"


def test_names_that_would_end_a_comment(tmp_path: Path) -> None:
    """Names of states stand in the source, where a backslash would take the next line too."""
    script = CELL.replace("{names}", repr({"h\\": 6, "c\nint": 6}))
    assert run(script, OPENRNN_CACHE=str(tmp_path))[0] == "right"


def test_workers_of_a_data_loader() -> None:
    """They are forked from a process whose threads have worked."""
    script = """
import torch, openrnn
torch.set_num_threads(2)
layer, x = openrnn.Recurrent(openrnn.LSTMCell(5, 13), backend="cpu"), torch.randn(4, 7, 9, 5)
def work(x):
    x = x.clone().requires_grad_()
    output = layer(x)[0]
    return output.detach(), *torch.autograd.grad(output.sum(), [x, *layer.parameters()])
expected = [work(each) for each in x]
class Data(torch.utils.data.Dataset):
    def __len__(self):
        return len(x)
    def __getitem__(self, index):
        return work(x[index])
loader = torch.utils.data.DataLoader(
    Data(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=100
)
for ours, theirs in zip(expected, loader, strict=True):
    assert all(map(torch.equal, ours, theirs))
print("right")
"""
    assert run(script)[0] == "right"
