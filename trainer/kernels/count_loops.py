#!/usr/bin/env python3
"""Counts the instructions of each kernel's main loop from its machine code.

    count_loops.py CUBIN...     (needs nvdisasm)

Prints a JSON array: kernel, architecture, and by kind of instruction what one iteration issues on its most frequent path: from the head
of the innermost loop with tensor-core instructions to its end, along the branches with the most of them, then the most copies and then the
fewest other instructions (a tile that is not the last, needs no mask and no rescaling).
"""
import collections
import json
import re
import subprocess
import sys

KINDS = {  # by the pipe that executes them
    "mma": r"HMMA",
    "ldmatrix": r"LDSM",
    "shared": r"LDS|STS",
    "exp": r"MUFU",
    "fma": r"FFMA|FADD|FMUL|IMAD",
    "async_copy": r"LDGSTS|LDGDEPBAR|DEPBAR",
    "shuffle": r"SHFL",
    "global": r"LDG|STG|LD|ST",
    "alu": r"FMNMX|F2FP|LOP3|PLOP3|IADD3|ISETP|FSETP|FSEL|SEL|MOV|SHF|PRMT|LEA|IMNMX|VIADD|VIMNMX|SGXT|IABS|CS2R|S2R|R2P|P2R|HADD2|VOTE",
    "control": r"BRA|BAR|BSSY|BSYNC|WARPSYNC|NOP|EXIT|CALL|RET|BREAK|YIELD",
}


def kind_of(opcode):
    name = opcode.split(".")[0]
    for kind, pattern in KINDS.items():
        if re.fullmatch(pattern, name):
            return kind
    return "uniform" if name.startswith("U") or name in ("R2UR", "S2UR", "UR2R") else "other"


def functions(cubin):
    """Instructions of each function, as (opcode, predicated, target label or None), and labels' places."""
    text = subprocess.run(["nvdisasm", "-c", cubin], capture_output=True, text=True, check=True).stdout
    architecture = re.search(r"\.target\s+(\w+)", text)[1]
    code, labels, name = collections.defaultdict(list), collections.defaultdict(dict), None
    for line in text.splitlines():
        if match := re.match(r"\.text\.(\S+):", line):
            name = match[1]
        elif match := re.match(r"(\.L_x_\d+):", line):
            labels[name][match[1]] = len(code[name])
        elif match := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+\{?\s*(@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)(.*)", line):
            target = re.search(r"\.L_x_\d+", match[3]) if match[2].startswith("BRA") else None
            code[name].append((match[2], bool(match[1]), target and target[0]))
    return architecture, code, labels


def best_path(code, places, start, end):
    """Places of the path from `start` to the jump back at `end` with the most mma, then the most copies, then the fewest instructions."""
    best = {end: ((0, 0, -1), [end])}
    for at in range(end - 1, start - 1, -1):
        opcode, predicated, target = code[at]
        following = [at + 1] if target is None or predicated else []
        if target is not None:
            following.append(places[target])
        options = [best[place] for place in following if place > at and place in best]
        if options:
            (mma, copies, length), path = max(options, key=lambda option: option[0])
            best[at] = ((mma + opcode.startswith("HMMA"), copies + opcode.startswith("LDGSTS"), length - 1), [at] + path)
    return best[start][1] if start in best else None


def loops(cubin):
    architecture, code, labels = functions(cubin)
    for name, instructions in sorted(code.items()):
        found = None
        for end, (_, _, target) in enumerate(instructions):
            start = labels[name].get(target, end + 1)
            mma = sum(opcode.startswith("HMMA") for opcode, _, _ in instructions[start:end])
            if start <= end and mma and (found is None or mma > found[2] or (mma == found[2] and end - start < found[1] - found[0])):
                found = (start, end, mma)
        path = found and best_path(instructions, labels[name], found[0], found[1])
        if not path:
            continue
        counts = collections.Counter(kind_of(instructions[at][0]) for at in path)
        others = sorted({instructions[at][0] for at in path if kind_of(instructions[at][0]) == "other"})
        mma = counts.pop("mma")
        yield {"kernel": name, "architecture": architecture, "instructions": len(path), "mma": mma, **dict(sorted(counts.items())),
               "per_mma": round(len(path) / mma, 2), **({"unknown": others} if others else {})}


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    print(json.dumps([row for cubin in sys.argv[1:] for row in loops(cubin)], indent=1))
