"""Exported layers, compiled and run."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

import openrnn

FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
MAIN = """\
#include <stdio.h>
#include <string.h>
{includes}

#define RUN(name, real, input_size, output_size)                        \\
    static void run_##name(FILE *in, FILE *out)                         \\
    {{                                                                   \\
        static name##_state state;                                      \\
        static real x[input_size], y[output_size];                      \\
        memset(&state, 255, sizeof state); /* NaN */                    \\
        name##_init(&state);                                            \\
        for (int t = 0; t < {steps}; t++) {{                             \\
            if (t == {reset})                                           \\
                name##_reset(&state);                                   \\
            if (fread(x, sizeof x, 1, in) == 1)                         \\
                name##_step(&state, x, y);                              \\
            fwrite(y, sizeof y, 1, out);                                \\
        }}                                                               \\
    }}
{runs}

int main(int count, char **arguments)
{{
    FILE *in = fopen(arguments[1], "rb"), *out = fopen(arguments[2], "wb");
{calls}
    fclose(in);
    return count == 3 ? fclose(out) : 1;
}}
"""
STEPS, RESET = 20, 13


def run(
    layers: Mapping[str, nn.Module], inputs: Mapping[str, Tensor], folder: Path
) -> dict[str, Tensor]:
    """What each layer gives for 20 steps, with a reset before step 13: one program runs all.

    Args:
        layers: by their names in C.
        inputs: to each (20, I), in the layer's dtype.
        folder: where the files go.
    """
    reals = {torch.float32: "float", torch.float64: "double"}
    runs, sources = [], []
    for name, layer in layers.items():
        files = openrnn.export_c(layer, folder, name, input_size=inputs[name].size(-1))
        sources.append(str(files.source))
        sizes = f"{name.upper()}_INPUT_SIZE, {name.upper()}_OUTPUT_SIZE"
        runs.append(f"RUN({name}, {reals[inputs[name].dtype]}, {sizes})")
    main = folder / "main.c"
    main.write_text(
        MAIN.format(
            includes="\n".join(f'#include "{name}.h"' for name in layers),
            runs="\n".join(runs),
            calls="\n".join(f"    run_{name}(in, out);" for name in layers),
            steps=STEPS,
            reset=RESET,
        )
    )
    for compiler in COMPILERS:
        compile_c(compiler, folder / compiler, str(main), *sources)
    (folder / "in").write_bytes(b"".join(inputs[name].numpy().tobytes() for name in layers))
    command = [folder / COMPILERS[0], folder / "in", folder / "out"]
    subprocess.run(command, check=True)
    return _read(layers, inputs, (folder / "out").read_bytes(), folder)


def compile_c(compiler: str, program: Path, *sources: str) -> None:
    command = [compiler, *FLAGS, "-O1", "-o", str(program), *sources, "-lm"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


def _read(
    layers: Mapping[str, nn.Module], inputs: Mapping[str, Tensor], data: bytes, folder: Path
) -> dict[str, Tensor]:
    found, start = {}, 0
    for name in layers:
        header = (folder / f"{name}.h").read_text()
        size = int(header.split("_OUTPUT_SIZE ")[1].split()[0])
        dtype = inputs[name].dtype
        end = start + STEPS * size * dtype.itemsize
        flat = torch.frombuffer(bytearray(data[start:end]), dtype=dtype)
        found[name] = flat.view(STEPS, size)
        start = end
    assert start == len(data)
    return found
