#!/usr/bin/env python3
"""Writes the tables of the kernels' resources and parameters from what ptxas made.

    tables.py [--update] WORK OUTPUT ARCHITECTURE...     (called by build.sh)

WORK has kernels.ptx and, for each architecture, its cubin and the log of `ptxas -v`. OUTPUT gets parameters.json (offset and size of
each parameter, from the cubins' own lists) and resources.json. Where resources.json is there and would change, it is left as it is and
the script fails, unless it is called with --update.
"""
import json
import pathlib
import re
import struct
import sys

# Per multiprocessor (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"): threads, blocks, bytes of shared
# memory. All have 65,536 registers, and keep 1,024 bytes of shared memory per block for themselves.
LIMITS = {
    "sm_80": {"threads": 2048, "blocks": 32, "shared": 164 * 1024},
    "sm_89": {"threads": 1536, "blocks": 24, "shared": 100 * 1024},
    "sm_90a": {"threads": 2048, "blocks": 32, "shared": 228 * 1024},
}
REGISTERS = 65536
RESERVED_SHARED = 1024
REGISTER_UNIT = 256  # registers are allotted to a warp in these steps, and each warp
PARTITIONS = 4  # is in one of four parts of a multiprocessor, with a quarter of the registers
SHARED_UNIT = 128

# Dynamic shared memory of a launch, in bytes, at the sizes of SmolLM2-70M; kernels that are not named take none. The interpreter's tests
# check that the kernels use these and no more.
COLUMNS = 384
ATTENTION_BUFFERS = 4 * 64 * 64 * 2
DYNAMIC_SHARED = {
    **{f"attention_forward_{group}": ATTENTION_BUFFERS + 192 * 8 for group in (1, 2, 3, 4)},
    **{f"attention_backward_query_{group}": ATTENTION_BUFFERS + 128 * 8 for group in (1, 2, 3, 4)},
    "attention_backward_key": ATTENTION_BUFFERS + 2 * 64 * 16,
    "column_sums": 1024,
    "divergence_gradient": 256,
    "loss_sum": 128,
    "rms_norm_backward": 16 * COLUMNS,
    "softmax_gradient": 256,
    "square_sum": 128,
    "square_sum_total": 128,
}


def fail(problem):
    sys.exit(f"tables.py: {problem}")


def up(value, step):
    return -(-value // step) * step


def entries(ptx):
    """Threads of a block of each kernel of the PTX."""
    found = re.findall(r"\.entry (\w+)\([^)]*\)\s*\.maxntid (\d+)", ptx)
    if len(found) != ptx.count(".entry "):
        fail("expected __launch_bounds__ on every kernel")
    return {name: int(threads) for name, threads in found}


def usage(log):
    """Of each kernel, what `ptxas -v` says."""
    found = {}
    for part in log.split("Compiling entry function '")[1:]:
        name = part.split("'", 1)[0]
        number = lambda pattern: int((re.search(pattern, part) or [0, 0])[1])
        found[name] = {
            "registers": number(r"Used (\d+) registers"),
            "spill_stores": number(r"(\d+) bytes spill stores"),
            "spill_loads": number(r"(\d+) bytes spill loads"),
            "stack": number(r"(\d+) bytes stack frame"),
            "static_shared": number(r"(\d+) bytes smem"),
        }
    return found


def occupancy(limits, threads, registers, shared):
    """Blocks per multiprocessor and what limits them (as NVIDIA's cuda_occupancy.h counts)."""
    warps = REGISTERS // PARTITIONS // up(registers * 32, REGISTER_UNIT) * PARTITIONS
    by = {
        "blocks": limits["blocks"],
        "threads": limits["threads"] // threads,
        "registers": warps // -(-threads // 32),
        "shared": limits["shared"] // up(shared + RESERVED_SHARED, SHARED_UNIT),
    }
    limit = min(by, key=by.get)
    return by[limit], limit


def sections(elf):
    """Contents of an ELF file's sections by name."""
    header, = struct.unpack_from("<Q", elf, 40)
    size, count, names = struct.unpack_from("<HHH", elf, 58)
    heads = [struct.unpack_from("<IIQQQQIIQQ", elf, header + i * size) for i in range(count)]
    strings = heads[names][4]
    name = lambda at: elf[strings + at : elf.index(b"\0", strings + at)].decode()
    return {name(head[0]): elf[head[4] : head[4] + head[5]] for head in heads if head[1] != 8}


def parameters(info):
    """Offset and size of each parameter, from a kernel's section .nv.info.NAME: records of format, attribute and value."""
    KPARAM_INFO, WITH_SIZE = 0x17, 4
    found, at = {}, 0
    while at < len(info):
        form, attribute, value = struct.unpack_from("<BBH", info, at)
        at += 4
        if form == WITH_SIZE:
            if attribute == KPARAM_INFO:
                _, ordinal, offset, flags = struct.unpack_from("<IHHI", info, at)
                found[ordinal] = {"offset": offset, "size": flags >> 18}
            at += value
    return [found[ordinal] for ordinal in sorted(found)]


def write(path, table):
    rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in sorted(table.items()))
    path.write_text(f"{{\n{rows}\n}}\n")


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--update"]
    if len(arguments) < 3:
        sys.exit(__doc__)
    work, output, *architectures = arguments
    work, output = pathlib.Path(work), pathlib.Path(output)
    threads = entries((work / "kernels.ptx").read_text())
    if unknown := DYNAMIC_SHARED.keys() - threads.keys():
        fail(f"DYNAMIC_SHARED names what is no kernel: {sorted(unknown)}")

    lists, resources = {}, {name: {"threads": n, "dynamic_shared": DYNAMIC_SHARED.get(name, 0)} for name, n in threads.items()}
    for architecture in architectures:
        elf = sections((work / f"{architecture}.cubin").read_bytes())
        used = usage((work / f"{architecture}.log").read_text())
        for name in threads:
            found = parameters(elf[f".nv.info.{name}"])
            if lists.setdefault(name, found) != found:
                fail(f"the parameters of {name} differ between architectures")
            row = dict(used[name])
            if row["spill_stores"] or row["spill_loads"] or row["stack"]:
                fail(f"{name} spills on {architecture}: {row}")
            shared = row["static_shared"] + resources[name]["dynamic_shared"]
            limits = LIMITS[architecture]
            blocks, limit = occupancy(limits, threads[name], row["registers"], shared)
            row |= {"blocks": blocks, "limit": limit, "occupancy": round(blocks * threads[name] / limits["threads"], 3)}
            resources[name][architecture] = row

    golden = output / "resources.json"
    before = json.loads(golden.read_text()) if golden.exists() else {}
    changed = [name for name in sorted(before.keys() | resources.keys()) if before.get(name) != resources.get(name)]
    if before and changed and "--update" not in sys.argv:
        for name in changed:
            print(f"{name}:\n  was {json.dumps(before.get(name))}\n  is  {json.dumps(resources.get(name))}", file=sys.stderr)
        fail("resources change: call the script with --update if that is meant")
    write(output / "parameters.json", lists)
    write(golden, resources)


if __name__ == "__main__":
    main()
