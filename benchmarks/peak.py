"""The most that one core can do: fused multiplications and additions that wait for nothing."""

from __future__ import annotations

import ctypes
import time

from benchmarks.timing import threads
from openrnn.backends.cpu import build

_WIDE = 24  # chains, where there are 32 vector registers
_CHAINS = 12  # where there are 16: more than two units of latency four or five need
_ROUNDS = 1_000_000


def _each(line: str) -> str:
    """The line for each chain."""
    first = [line.format(i=i) for i in range(_CHAINS)]
    others = [line.format(i=i) for i in range(_CHAINS, _WIDE)]
    return "\n".join([*first, "#ifdef WIDE", *others, "#endif"])


_SOURCE = f"""
#include <stdint.h>
#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#if defined(__AVX512F__) || defined(__aarch64__)
#define WIDE
#endif
typedef float vec __attribute__((vector_size(BYTES)));

extern "C" double flops_of_a_round() {{
  int chains = {_CHAINS};
#ifdef WIDE
  chains = {_WIDE};
#endif
  return 2.0 * chains * (BYTES / sizeof(float));
}}

extern "C" float run(int64_t rounds, float seed) {{
  const vec times = seed * 0.5f - vec{{}}, plus = seed - vec{{}};
{_each("  vec a{i} = plus + {i}.0f;")}
  for (int64_t i = 0; i < rounds; ++i) {{
{_each("    a{i} = a{i} * times + plus;")}
  }}
  vec sum = {{}};
{_each("  sum += a{i};")}
  return sum[0];
}}
"""


def measure(repetitions: int = 200) -> float:
    """GFLOP/s of one core in float32, the best of several runs."""
    library = build.load(_SOURCE)
    library.run.argtypes = [ctypes.c_int64, ctypes.c_float]
    library.run.restype = ctypes.c_float
    library.flops_of_a_round.restype = ctypes.c_double
    best = float("inf")
    with threads(1):
        for _ in range(repetitions):
            start = time.perf_counter()
            library.run(_ROUNDS, 1.0)
            best = min(best, time.perf_counter() - start)
    return float(library.flops_of_a_round()) * _ROUNDS / best / 1e9
