"""What all kernels share, runtime.cpp: products, memory, and the threads they run on."""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from openrnn.backends.cpu import build
from openrnn.backends.cpu.buffers import LARGE

REAL = {torch.float32: "float", torch.float64: "double"}
HALF = (torch.float16, torch.bfloat16)  # they are stored; what is computed is float32
_SOURCE = Path(__file__).with_name("runtime.cpp")


def runtime(dtype: torch.dtype, *, int8: bool = False) -> ctypes.CDLL:
    """The library for this dtype, built at its first use; `int8`: with products in 8 bits."""
    return built(dtype, int8)


@lru_cache(maxsize=2 * len(REAL))
def built(dtype: torch.dtype, int8: bool) -> ctypes.CDLL:
    """See `runtime`."""
    head = f"typedef {REAL[dtype]} real;\n" + "#define OPENRNN_INT8\n" * int8
    library = build.load(head + _SOURCE.read_text(encoding="utf-8"))
    size, pointer = ctypes.c_int64, ctypes.c_void_p
    library.run.argtypes = (pointer, pointer)
    library.run.restype = size
    library.packed_size_of.argtypes = (pointer,)
    library.packed_size_of.restype = size
    library.pack_weights.argtypes = (pointer, pointer, pointer)
    library.pack_weights.restype = None
    left, right = (pointer, size, size), (pointer, size, size)
    library.matmul_of.argtypes = (size, size, size, *left, *right, pointer, size, pointer)
    library.matmul_of.restype = None
    if int8:
        library.int8_linear_of.argtypes = (size, size, size, *(pointer,) * 4)
        library.int8_linear_of.restype = None
    library.advise.argtypes = (pointer, size)
    library.advise.restype = None
    return library


def pool() -> tuple[int, int]:
    """torch's own pool of threads, GNU OpenMP's: a second one would compete with it.

    It is two functions: what runs something on its threads, and what tells how many these are; 0
    where there is none.

    A forked child has none: the pool's threads are not copied, and it would wait for them forever.
    """
    return (0, 0) if _FORKED else _entries()


_FORKED: list[int] = []  # the process, if it is a fork of one that had imported this
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _FORKED.append(os.getpid()))


@lru_cache(maxsize=1)
def _entries() -> tuple[int, int]:
    for path in sorted(Path(torch.__file__).parent.glob("lib/libgomp*.so*")):
        library = ctypes.CDLL(str(path))
        run, size = (
            ctypes.cast(function, ctypes.c_void_p).value or 0
            for function in (library.GOMP_parallel, library.omp_get_num_threads)
        )
        return run, size
    return 0, 0


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Memory that is about to be written, of torch's own."""
    tensor = torch.empty(shape, dtype=dtype, device="cpu")  # whatever the default is
    if tensor.nbytes >= LARGE:  # large pages are faster to get
        runtime(dtype).advise(tensor.data_ptr(), tensor.nbytes)
    return tensor


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a b, the same for any number of threads; what is not of our dtypes is left to torch."""
    if a.dim() != 2 or b.dim() != 2 or a.dtype not in REAL or a.dtype != b.dtype:
        return torch.matmul(a, b)
    (rows, depth), columns = a.shape, b.size(1)
    if 0 in (rows, depth, columns):
        return a.new_zeros(rows, columns)
    result = empty((rows, columns), a.dtype)
    runtime(a.dtype).matmul_of(
        *(rows, depth, columns),
        *(a.data_ptr(), *a.stride()),
        *(b.data_ptr(), *b.stride()),
        *(result.data_ptr(), torch.get_num_threads(), pool()[0]),
    )
    return result
