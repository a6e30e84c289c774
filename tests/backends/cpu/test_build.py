"""Kernels on disk: whatever happens there, the result is right, or one error says what to do."""

from __future__ import annotations

import hashlib
import shutil
import stat
from pathlib import Path

import pytest

from .scripts import COMPARE, run, start

COMPILER = shutil.which("g++") or shutil.which("clang++")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")


def counting_compiler(folder: Path) -> tuple[str, Path]:
    """A compiler that notes each compilation in a file."""
    log, script = folder / "compilations", folder / "compiler"
    script.write_text(
        f'#!/bin/sh\ncase "$*" in *--version*) ;; *) echo x >> {log} ;; esac\n'
        f'exec {COMPILER} "$@"\n'
    )
    script.chmod(0o755)
    return str(script), log


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the kernels of the comparison; a test that changes it takes a copy."""
    cache = tmp_path_factory.mktemp("built") / "cache"
    assert run(COMPARE, OPENRNN_CACHE=str(cache))[0] == "right"
    return cache


def libraries(cache: Path) -> list[Path]:
    return sorted(cache.glob("*.so"))


def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    compiler, log = counting_compiler(tmp_path)
    cache = tmp_path / "cache"
    where = {"OPENRNN_CACHE": str(cache), "OPENRNN_CXX": compiler}
    assert run(COMPARE, **where)[0] == "right"
    count = len(log.read_text().splitlines())
    assert count == len(libraries(cache)) == 3, "the runtime, and one kernel each way"
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert run(COMPARE, **where)[0] == "right"
    assert len(log.read_text().splitlines()) == count


def test_two_processes_may_build_at_once(tmp_path: Path) -> None:
    processes = [start(COMPARE, OPENRNN_CACHE=str(tmp_path / "cache")) for _ in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert out.strip() == "right"
    assert not list((tmp_path / "cache").glob("build-*")), "nothing is left behind"


def damage_by_truncation(library: Path) -> None:
    library.write_bytes(library.read_bytes()[:1000])


def damage_by_other_content(library: Path) -> None:
    library.write_bytes(library.read_bytes() + b"more")


def damage_by_access_for_all(library: Path) -> None:
    content = b"whole, but written by anyone"
    library.write_bytes(content)
    library.with_suffix(".sha256").write_text(hashlib.sha256(content).hexdigest())
    library.chmod(0o777)


def damage_by_a_missing_digest(library: Path) -> None:
    library.with_suffix(".sha256").unlink()


@pytest.mark.parametrize(
    "damage",
    [
        damage_by_truncation,
        damage_by_other_content,
        damage_by_access_for_all,
        damage_by_a_missing_digest,
    ],
)
def test_a_damaged_library_is_built_anew(damage: object, built: Path, tmp_path: Path) -> None:
    assert callable(damage)
    cache = shutil.copytree(built, tmp_path / "cache")
    for library in libraries(cache):
        damage(library)
    (cache / "build-killed").mkdir()  # what a build that was killed leaves behind
    (cache / "build-killed" / "half.so").write_bytes(b"half")
    assert run(COMPARE, OPENRNN_CACHE=str(cache))[0] == "right"
    for library in libraries(cache):
        digest = library.with_suffix(".sha256").read_text()
        assert hashlib.sha256(library.read_bytes()).hexdigest() == digest
        assert library.stat().st_size > 1000


def test_a_folder_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    assert run(COMPARE, OPENRNN_CACHE=str(cache))[0] == "right"
    assert not libraries(cache)


def test_no_folder_to_write_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert run(COMPARE, OPENRNN_CACHE=str(tmp_path / "file" / "cache"))[0] == "right"


def test_a_full_disk(tmp_path: Path) -> None:
    script = f"""
import errno, os
replace = os.replace
def full(source, target):
    if str(target).startswith({str(tmp_path)!r}):
        raise OSError(errno.ENOSPC, "No space left on device")
    replace(source, target)
os.replace = full
{COMPARE}"""
    assert run(script, OPENRNN_CACHE=str(tmp_path / "cache"))[0] == "right"


MISSING = """
import logging, torch, openrnn
x = torch.randn(4, 3, 5)
cell = openrnn.LSTMCell(5, 6)
try:
    openrnn.Recurrent(cell, backend="cpu")(x)
except openrnn.BackendError as error:
    print(error)
logging.basicConfig(format="%(levelname)s %(message)s")
layer = openrnn.Recurrent(cell)
for _ in range(2):
    torch.testing.assert_close(layer(x), openrnn.Recurrent(cell, backend="eager")(x))
"""


def test_a_missing_compiler(tmp_path: Path) -> None:
    script = f"""
import importlib.util, shutil
shutil.which = lambda name: None
import openrnn.backends.cpu.build as build
build.find_spec = lambda name: None
{MISSING}"""
    out, err = run(script, OPENRNN_CACHE=str(tmp_path), OPENRNN_CXX="", CXX="")
    for word in ("g++", "ziglang", "OPENRNN_CXX"):
        assert word in out
    assert err.count("WARNING") == 1, "auto says once why it runs the eager loop"
    assert "needs a C++ compiler" in err


def test_a_compiler_that_fails(tmp_path: Path) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text(
        '#!/bin/sh\ncase "$*" in *--version*) exit 0 ;; esac\necho "no such flag" >&2; exit 1\n'
    )
    compiler.chmod(0o755)
    out, err = run(MISSING, OPENRNN_CACHE=str(tmp_path / "cache"), OPENRNN_CXX=str(compiler))
    assert "no such flag" in out
    assert str(compiler) in out
    assert err.count("WARNING") == 1


def test_a_compiler_that_is_not_there(tmp_path: Path) -> None:
    out, _ = run(MISSING, OPENRNN_CACHE=str(tmp_path / "cache"), OPENRNN_CXX="/nowhere/g++")
    assert "/nowhere/g++" in out
    assert "does not run" in out
