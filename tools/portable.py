"""Checks generated kernels on processors that this machine is not.

Calls are recorded as they run here. The same C++, compiled for the target, then makes the same
calls, with one thread and with two, and what they give is compared. aarch64 runs under qemu-user;
x86-64 has no AVX, so vectors of 16 bytes; wide has what AVX-512 chooses, vectors of 64 bytes and
6 by 4 of them in a product, on AVX2. AVX-512 itself is compiled with it, and not run.
"""

from __future__ import annotations

import ctypes
import itertools
import shutil
import subprocess
import sys
import tempfile
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from openrnn import Recurrent, cells, ragged
from openrnn.backends.cpu import build, runtime, words

HEADERS = Path(build.__file__).parent
FLAGS = [*(set(build._FLAGS) - {"-fPIC", "-shared", "-w"}), "-Wno-subobject-linkage"]
REALS = {name: dtype for dtype, name in runtime.REAL.items()}
COMPILERS = {
    "aarch64": ["aarch64-linux-gnu-g++"],
    "x86-64": ["g++", "-march=x86-64"],
    "wide": ["g++", "-march=x86-64-v3", "-Wno-psabi"],
}
AVX512 = ["g++", "-march=x86-64-v4"]
EMULATOR = [shutil.which("qemu-aarch64") or "qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu"]
# H, B, T. The last has so much to multiply that two threads share one row.
SIZES = [*itertools.product((1, 7, 20, 45), (1, 3, 8, 17), (1, 2, 9)), (160, 1, 2)]
TOLERANCE = 512.0  # units in the last place of the largest number of an array

# Makes the calls of one file, see `Recorder`, and writes what memory is after each.
DRIVER = r"""
#include <cstdint>
#include <cstdio>
#include <vector>
typedef int64_t word;
extern "C" const char kernel[];
extern "C" word run(const word*, const void*);
static FILE *in, *out;
template <class T> std::vector<T> read(word count) {
  std::vector<T> found(count);
  return found.resize(fread(found.data(), sizeof(T), count, in)), found;
}
static word number() { return read<word>(1).at(0); }
int main(int, char** names) {
  in = fopen(names[1], "rb"), out = fopen(names[2], "wb");
  for (word calls = number(); calls > 0; calls--) {
    const auto words = read<word>(number()), inside = read<word>(words.size());
    const auto memory = read<char>(number());
    for (word threads = 1; threads <= 2; threads++) {
      auto own = memory;
      auto w = words;
      for (size_t i = 0; i < w.size(); i++)
        if (inside[i]) w[i] += reinterpret_cast<word>(own.data());
      w[2] = threads, run(w.data(), kernel);
      fwrite(own.data(), 1, own.size(), out);
    }
  }
  return fclose(out);
}
"""


# Its label, what the driver is given, memory before the call and after it, and the arrays in that.
Call = tuple[str, bytes, bytes, bytes, list[slice]]


class Recorder:
    """Stands before all that runs kernels, and keeps every call, by the source of its kernel."""

    def __init__(self) -> None:
        self.calls, self.label = defaultdict[str, list[Call]](list), ""
        self._sources = dict[int, str]()  # by the address of the kernel
        # Whatever was asked for its address: its size, and what holds it, by where it starts.
        self._memory = dict[int, tuple[int, Any]]()
        self._load, self._data_ptr = build.load, Tensor.data_ptr
        blank = words.Words.blank
        words.Words.blank = lambda *given: self._array_of(blank(*given))  # type: ignore[method-assign]
        ragged.array = lambda *given: self._array_of(array(*given))
        words.pool, build.load = lambda: (0, 0), self._loaded
        Tensor.data_ptr = lambda tensor: self._address(tensor)  # type: ignore[method-assign]
        for dtype in runtime.REAL:
            library = runtime.runtime(dtype)
            library.run = lambda *call, run=library.run: self._keep(run, *call)

    def _array_of(self, made: array[int]) -> array[int]:
        self._memory[made.buffer_info()[0]] = 8 * len(made), made
        return made

    def _address(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        self._memory[storage.data_ptr()] = storage.nbytes(), storage
        return self._data_ptr(tensor)

    def _loaded(self, source: str) -> ctypes.CDLL:
        library = self._load(source)
        if "const Kernel kernel" in source:
            self._sources[ctypes.addressof(ctypes.c_char.in_dll(library, "kernel"))] = source
        return library

    def _keep(self, run: Callable[[int, int], int], address: int, kernel: int) -> int:
        words, size = list(self._memory.pop(address)[1]), 0
        inside, starts = [0] * len(words), dict[int, int]()
        for place, word in enumerate(words):
            for start, (length, _) in self._memory.items():
                if start <= word < start + length:
                    if start not in starts:
                        starts[start], size = size, size + length
                    words[place], inside[place] = word - start + starts[start], 1

        def memory() -> bytes:
            return b"".join(ctypes.string_at(start, self._memory[start][0]) for start in starts)

        before = memory()
        has_run = run(address, kernel)
        given = array("q", [len(words), *words, *inside, size]).tobytes() + before
        ends = sorted({*itertools.compress(words, inside), size})
        arrays = [slice(*pair) for pair in itertools.pairwise(ends)]
        call = self.label, given, before, memory(), arrays
        self.calls[self._sources[kernel]].append(call)
        self._memory = {s: m for s, m in self._memory.items() if isinstance(m[1], array)}
        return has_run


class UserCell(cells.RNNCell):
    """With functions that the cells of the box lack."""

    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor]:
        a = F.linear(x, self.weight_ih, self.bias_ih) + F.linear(h, self.weight_hh)
        running, top = torch.softmax(a, dim=-1).cumsum(dim=-1), a.max(dim=-1, keepdim=True)[0]
        return (torch.erf(a) * running + torch.log(1.5 + a * a) - top / 9,)


BOX = ("LSTM", "GRU", "RNN", "PeepholeLSTM", "MinGRU", "QRNN")
CELLS: dict[str, Callable[[int, int], Any]] = {
    **{name: getattr(cells, f"{name}Cell") for name in BOX},
    # A norm of one feature multiplies what is left of a number less itself, by up to 1 / √eps.
    "LayerNormLSTM": lambda i, h: cells.LayerNormLSTMCell(i, h, eps=0.1),
    "RNN relu": lambda i, h: cells.RNNCell(i, h, nonlinearity="relu"),
    "RHN": lambda i, h: cells.RHNCell(i, h, depth=3),
    "sLSTM": lambda i, h: cells.SLSTMCell(i, h, num_heads=1 + (h % 2 == 0)),
    "user's cell": UserCell,
}


def call_cell(recorder: Recorder, factory: Callable[[int, int], Any]) -> None:
    """Calls of all sizes without gradients and with them; T = 2 runs in reverse, 9 is ragged."""
    for dtype, (hidden, rows, steps) in itertools.product(runtime.REAL, SIZES):
        recorder.label = f"{dtype}, H={hidden}, B={rows}, T={steps}"
        cell = factory(5, hidden).to(dtype)
        layer = Recurrent(cell, reverse=steps == 2, backend="cpu")
        input: Any = torch.randn(steps, rows, 5, dtype=dtype, requires_grad=True)
        if steps == 9:
            lengths = 9 - torch.arange(rows) % 9
            input = pack_padded_sequence(input, lengths, enforce_sorted=False)
        given = [1 + torch.rand(rows, n, dtype=dtype) for n in cell.state_sizes.values()]
        state = None if rows in (1, 8) else given if len(given) > 1 else given[0]
        with torch.no_grad():
            layer(input, state)
        output, last = layer(input, state)
        results = [output] if isinstance(output, Tensor) else [output.data]
        results += [last] if isinstance(last, Tensor) else last
        torch.autograd.backward(results, [torch.randn_like(r) for r in results])


class Target:
    """Compiles for a target, and runs what it has compiled."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder, self.emulator = folder, EMULATOR if name == "aarch64" else []
        commands = [[*COMPILERS[name], f"-I{folder}"], [*AVX512, f"-I{HEADERS}"]]
        self.commands = commands[: 1 + (name == "wide")]
        for file in ("vectors.h", "fingerprint.h", "runtime.cpp"):
            text = (HEADERS / file).read_text(encoding="utf-8")
            if name == "wide":  # its choices, but no instruction: those are behind #ifdef
                text = text.replace("defined(__AVX512F__)", "1").replace('asm("" : "+v"(v));', "")
            (folder / file).write_text(text, encoding="utf-8")
        text = "typedef {} real;\n#include <runtime.cpp>\n"
        self.shared = {real: self._object(real, text.format(real)) for real in REALS}
        self.driver = self._object("driver", DRIVER)

    def _object(self, name: str, source: str) -> str:
        text = self.folder / f"{name}.cc"
        text.write_text(source.replace('"vectors.h"', "<vectors.h>"), encoding="utf-8")
        for place, command in enumerate(self.commands):
            subprocess.run([*command, *FLAGS, "-c", text, "-o", f"{text}.{place}"], check=True)
        return f"{text}.0"

    def outcome(self, source: str, calls: list[Call]) -> Iterator[tuple[float, str]]:
        """How far apart each array is after each call, and the label of the call."""
        real = source.split()[1]
        objects = [self.shared[real], self._object("kernel", source), self.driver]
        program, given, made = (self.folder / name for name in ("program", "given", "made"))
        subprocess.run([*self.commands[0], *objects, "-pthread", "-o", program], check=True)
        given.write_bytes(array("q", [len(calls)]).tobytes() + b"".join(call[1] for call in calls))
        subprocess.run([*self.emulator, program, given, made], check=True)
        with made.open("rb") as file:
            for (label, _, before, after, arrays), _ in itertools.product(calls, (1, 2)):
                found = file.read(len(after))
                for part in arrays:
                    yield apart(before[part], after[part], found[part], REALS[real]), label


def apart(before: bytes, after: bytes, found: bytes, dtype: torch.dtype) -> float:
    """In units in the last place of the largest number; what is only read must not change."""
    if before == after:
        return 0.0 if found == before else float("inf")
    ours, theirs = (torch.frombuffer(bytearray(b), dtype=dtype).double() for b in (after, found))
    most, unit = (ours - theirs).abs().max(), ours.abs().max() * torch.finfo(dtype).eps
    return float((most / unit).nan_to_num(nan=float("inf"))) if most != 0 else 0.0


@click.command(help=__doc__)
@click.option("--target", type=click.Choice([*COMPILERS]), required=True)
@click.option("--only", type=click.Choice([*CELLS]), help="A cell to check alone.")
def main(target: str, only: str | None) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)  # new memory is NaN: nothing is right by chance
    recorder, failed = Recorder(), False
    with tempfile.TemporaryDirectory(prefix="portable-") as folder:
        there = Target(target, Path(folder))
        for name in [only] if only else CELLS:
            recorder.calls.clear()
            call_cell(recorder, CELLS[name])
            worst, label = max(a for pair in recorder.calls.items() for a in there.outcome(*pair))
            failed |= (wrong := worst > TOLERANCE)
            counts = (
                f"{len(recorder.calls)} kernels, {sum(map(len, recorder.calls.values()))} calls"
            )
            verdict = f"at most {worst:.3g} units in the last place apart ({label})"
            click.echo(f"{'FAILED' if wrong else 'ok':6} {name:13} {counts}: {verdict}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
