"""Compiles kernels, and keeps them on disk, for this user alone."""

from __future__ import annotations

import atexit
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import platformdirs

from openrnn.errors import BackendError

_HERE = Path(__file__).parent
_FLAGS = ("-std=c++17", "-O2", "-fPIC", "-shared", "-pthread", "-fno-math-errno", "-w")


def load(source: str) -> ctypes.CDLL:
    """The compiled kernel of this source: from the cache, or built now.

    Raises:
        BackendError: there is no compiler, it fails, or there is no place to build in.
    """
    command = compile_command()
    key = _key(source, command)
    try:
        folder = _cache_folder()
        kernel = folder / f"{key}.so"
        if not _is_whole(kernel):
            _build(source, command, kernel)
        return ctypes.CDLL(str(kernel))
    except OSError:  # the disk is full, or not ours to write to: build for this process alone
        kernel = _build_aside(source, command, key)
    try:
        return ctypes.CDLL(str(kernel))
    except OSError as error:
        raise BackendError(f"what {shlex.join(command)} made does not load: {error}") from error


def _build_aside(source: str, command: tuple[str, ...], key: str) -> Path:
    try:
        kernel = Path(_process_folder().name) / f"{key}.so"
        if not kernel.exists():
            _build(source, command, kernel)
        return kernel
    except OSError as error:
        raise BackendError(
            f"there is no folder to build a kernel in: {error}. "
            "Set OPENRNN_CACHE to a folder that you can write to"
        ) from error


@functools.cache
def _process_folder() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="openrnn-")
    atexit.register(folder.cleanup)  # left to itself it would warn at the end
    return folder


# --- the compiler --------------------------------------------------------------------------------


@functools.cache
def compile_command() -> tuple[str, ...]:
    """The compiler and its flags."""
    target = ("-mcpu=native",) if platform.machine() in ("aarch64", "arm64") else ("-march=native",)
    extra = shlex.split(os.environ.get("OPENRNN_CXXFLAGS", ""))
    return (*_compiler(), *_FLAGS, *target, *extra, f"-I{_HERE}")


def _compiler() -> tuple[str, ...]:
    chosen = os.environ.get("OPENRNN_CXX") or os.environ.get("CXX")
    if chosen:
        return tuple(shlex.split(chosen))
    for name in ("g++", "clang++"):
        if shutil.which(name):
            return (name,)
    if find_spec("ziglang"):
        return (sys.executable, "-m", "ziglang", "c++")
    raise BackendError(
        "a kernel needs a C++ compiler, and there is none. Install g++ (Debian, Ubuntu: apt "
        "install g++), or `pip install ziglang`, or name one in OPENRNN_CXX"
    )


@functools.cache
def _version(command: tuple[str, ...]) -> str:
    """What the compiler says of itself, and the processor that it compiles for."""
    try:
        said = subprocess.run(
            [*command, "--version"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise BackendError(
            f"the C++ compiler {shlex.join(command)} does not run: {error}"
        ) from error
    return said.stdout + _processor()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    return "\n".join(sorted({ln for ln in lines if ln.startswith(("flags", "Features", "model"))}))


def _key(source: str, command: tuple[str, ...]) -> str:
    parts = (
        source,
        *(header.read_text(encoding="utf-8") for header in sorted(_HERE.glob("*.h"))),
        shlex.join(command),
        _version(_compiler()),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _build(source: str, command: tuple[str, ...], kernel: Path) -> None:
    """Compiles beside the place, then moves there at once: another process sees all or nothing."""
    with tempfile.TemporaryDirectory(dir=kernel.parent, prefix="build-") as folder:
        text, library = Path(folder) / f"{kernel.stem}.cpp", Path(folder) / kernel.name
        text.write_text(source, encoding="utf-8")
        run = subprocess.run(
            [*command, str(text), "-o", str(library)],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if run.returncode != 0 or not library.exists():
            if shutil.disk_usage(folder).free < 1 << 20:
                raise OSError("no space left to compile in")
            raise BackendError(
                f"the C++ compiler failed on a generated kernel: {shlex.join(command)}\n"
                f"{run.stderr[-2000:]}"
            )
        digest = Path(folder) / "digest"
        digest.write_text(_digest(library))
        for path in (text, digest, library):  # whatever the umask
            path.chmod(0o700 if path == library else 0o600)
        os.replace(text, kernel.with_suffix(".cpp"))
        os.replace(digest, kernel.with_suffix(".sha256"))
        os.replace(library, kernel)


# --- the cache -----------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where kernels are kept: OPENRNN_CACHE, or the user's cache directory."""
    chosen = os.environ.get("OPENRNN_CACHE")
    return (
        Path(chosen).absolute()
        if chosen
        else Path(platformdirs.user_cache_dir("openrnn")) / "kernels"
    )


def _cache_folder() -> Path:
    folder = cache_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_ours(folder):
        raise PermissionError(f"{folder} belongs to another user, or others may write to it")
    return folder


def _is_ours(path: Path) -> bool:
    """Whether no other user can have written it."""
    if not hasattr(os, "getuid"):
        return True
    found = path.stat()
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _is_whole(kernel: Path) -> bool:
    """Whether a kernel is there, is ours, and is what was built."""
    expected = kernel.with_suffix(".sha256")
    if not (kernel.is_file() and expected.is_file() and _is_ours(kernel) and _is_ours(expected)):
        return False
    return expected.read_bytes() == _digest(kernel).encode()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
