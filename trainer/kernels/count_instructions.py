#!/usr/bin/env python3
"""Counts the machine instructions of kernels with tensor-core products, for the prediction of their speed.

    count_instructions.py OUTPUT.json sm_80=kernels.sm_80.cubin sm_89=kernels.sm_89.cubin ...

`nvdisasm` of the CUDA toolkit must be on PATH. For every kernel with HMMA instructions and every architecture the output
has the instructions of one pass through its inner loop and those outside it, by opcode and width:

    {"attention_forward_3": {"sm_89": {"loop": {"HMMA": 64, "LDSM.4": 32, ...}, "outside": {...}}}}

The inner loop is the loop with HMMA instructions that contains no other such loop; of several, the one with the most HMMA
and, of equals, the fewest instructions. Code that only some passes run, such as masks, lies behind forward branches: the path that is
counted has the most HMMA, of equals the most copies to shared memory (the next tile, in every pass but the last), and of
equals the fewest instructions. Everything outside counts once.
"""

import collections
import json
import re
import subprocess
import sys

SECTION = re.compile(r"\.text\.(\S+):")
LABEL = re.compile(r"(\.L_x_\d+):")
INSTRUCTION = re.compile(r"\s+/\*[0-9a-f]{4,6}\*/\s+(?:\{ )?(@!?U?P\S+\s+)?([A-Z][A-Z0-9_.]+)([^;]*);?")
TARGET = re.compile(r"\.L_x_\d+")
# Opcodes whose cost depends on the bytes that a thread moves, or the matrices that a warp loads.
WIDE = ("LDSM", "LDS", "STS", "LDG", "STG", "LDGSTS")


def named(opcode):
    """An opcode without the modifiers that do not change its cost: LDSM.16.MT88.4 is LDSM.4, MUFU.EX2 is MUFU."""
    base, *modifiers = opcode.split(".")
    if base in WIDE:
        width = [m for m in modifiers if m in ("2", "4", "64", "128")]
        return ".".join([base, *width[-1:]])
    return base


class Kernel:
    def __init__(self):
        self.code = []  # (opcode, predicated, branch target or None)
        self.labels = {}


def kernels(cubin):
    listing = subprocess.run(["nvdisasm", "-c", cubin], capture_output=True, text=True, check=True).stdout
    found, kernel = {}, None
    for line in listing.splitlines():
        if match := SECTION.match(line):
            kernel = found.setdefault(match[1], Kernel())
        elif kernel is None:
            continue
        elif match := LABEL.match(line):
            kernel.labels[match[1]] = len(kernel.code)
        elif match := INSTRUCTION.match(line):
            predicate, opcode, operands = match.groups()
            target = TARGET.search(operands) if opcode.split(".")[0] == "BRA" else None
            kernel.code.append((opcode, predicate is not None, target and target[0]))
    return found


def hmma(code):
    return sum(opcode.startswith("HMMA") for opcode, _, _ in code)


def loops(kernel):
    """First and last instruction of every loop with HMMA."""
    for last, (_, _, target) in enumerate(kernel.code):
        first = kernel.labels.get(target, last + 1)
        if first <= last and hmma(kernel.code[first : last + 1]):
            yield first, last


def path(kernel, first, last):
    """Instructions of the most frequent path from `first` to `last`."""
    best = {first: (0, 0, 0, None)}  # at each instruction: HMMA, copies and -instructions before it, and where from
    for at in range(first, last + 1):
        if at not in best:
            continue
        opcode, predicated, target = kernel.code[at]
        products, copies, cost, _ = best[at]
        value = (products + opcode.startswith("HMMA"), copies + opcode.startswith("LDGSTS"), cost - 1)
        branches = opcode.split(".")[0] in ("BRA", "EXIT", "RET")
        following = [] if branches and not predicated else [at + 1]
        if target is not None:
            following.append(kernel.labels[target])
        for to in following:
            if at < to <= last and (to not in best or best[to][:3] < value):
                best[to] = (*value, at)
    if last not in best:  # parts of it lie elsewhere
        return list(range(first, last + 1))
    steps, at = [], last
    while at is not None:
        steps.append(at)
        at = best[at][3]
    return steps


def count(kernel):
    found = list(loops(kernel))
    inner = [a for a in found if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in found)]
    if not inner:
        return None
    paths = [path(kernel, *loop) for loop in inner]
    at = max(range(len(inner)), key=lambda i: (hmma([kernel.code[step] for step in paths[i]]), -len(paths[i])))
    first, last = inner[at]
    tally = lambda steps: dict(sorted(collections.Counter(named(kernel.code[step][0]) for step in steps).items()))
    outside = [step for step in range(len(kernel.code)) if not first <= step <= last and kernel.code[step][0] != "NOP"]
    return {"loop": tally(paths[at]), "outside": tally(outside), "inner_loops": len(inner)}


def main():
    if len(sys.argv) < 3 or not all("=" in pair for pair in sys.argv[2:]):
        sys.exit(__doc__)
    table = {}
    for pair in sys.argv[2:]:
        architecture, cubin = pair.split("=", 1)
        for name, kernel in kernels(cubin).items():
            if counts := count(kernel):
                table.setdefault(name, {})[architecture] = counts
    if not table:
        sys.exit("count_instructions.py: expected kernels with HMMA instructions, found none")
    with open(sys.argv[1], "w") as file:
        rows = (f"  {json.dumps(name)}: {json.dumps(row, sort_keys=True)}" for name, row in sorted(table.items()))
        file.write("{\n" + ",\n".join(rows) + "\n}\n")
    for name, row in sorted(table.items()):
        per_hmma = ", ".join(
            f"{architecture} {sum(counts['loop'].values()) / counts['loop']['HMMA']:.2f}" for architecture, counts in row.items()
        )
        print(f"{name}: instructions per HMMA {per_hmma}")


if __name__ == "__main__":
    main()
