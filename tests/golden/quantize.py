"""Writes quantize.txt: what ggml's reference quantizers make of blocks of 32 numbers.

    python3 quantize.py .../libggml-base.so > quantize.txt      # a build of llama.cpp
"""

import ctypes
import sys

import numpy as np

SIZES = {"q4_0": 18, "q4_1": 20, "q5_0": 22, "q5_1": 24, "q8_0": 34}


def blocks():
    rng = np.random.default_rng(11)
    yield np.zeros(32)
    yield -np.zeros(32)
    yield np.full(32, 0.75)
    yield np.full(32, -3.0)
    yield np.where(np.arange(32) % 2, 1.0, -1.0)
    yield np.arange(32) - 8.0
    yield (np.arange(32) - 15.5) / 16
    yield np.where(np.arange(32) == 17, -2.5, 0.0)
    yield np.where(np.arange(32) < 3, [[0.0]], [[-0.0]])[0]
    for scale in [1.0, 0.02, 5e4, 1e-4, 1e-7, 1e-20, 1e-36]:
        yield rng.normal(0, scale, 32)
        yield rng.uniform(0, scale, 32)
        yield rng.standard_t(2, 32) * scale
    # On grids, where the nearest code is a tie.
    for step in [0.25, 0.1]:
        yield np.round(rng.normal(0, 4, 32) * 2) / 2 * step


def main():
    ggml = ctypes.CDLL(sys.argv[1])
    print("# Blocks of numbers (little-endian f32) and what ggml's quantize_row_*_ref makes of them, in hex; - where")
    print("# a scale is not finite. Columns: numbers, " + ", ".join(SIZES) + ". Made by quantize.py.")
    for block in blocks():
        numbers = block.astype("<f4")
        columns = [numbers.tobytes().hex()]
        for kind, size in SIZES.items():
            out = ctypes.create_string_buffer(size)
            row = (ctypes.c_float * 32)(*numbers)
            getattr(ggml, f"quantize_row_{kind}_ref")(row, out, ctypes.c_int64(32))
            halves = 2 if kind.endswith("1") else 1
            finite = np.isfinite(np.frombuffer(out.raw[: 2 * halves], "<f2").astype(float)).all()
            columns.append(out.raw.hex() if finite else "-")
        print(*columns)


main()
