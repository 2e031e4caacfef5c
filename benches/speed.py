#!/usr/bin/env python3
"""Claim: prompts and answers are computed several times as fast as by llama.cpp.

    cargo build --release -p thimble-cli           # with --features gpu for --backend gpu
    benches/build-llama.cpp.sh LLAMA                  # once: from its PyPI source package
    benches/speed.py --ours M.thimble --theirs M.gguf --llama LLAMA

    VULKAN=ON benches/build-llama.cpp.sh LLAMA        # with its Vulkan backend, which takes glslc and Vulkan's headers
    benches/speed.py ... --backend gpu --threads 1    # both on the GPU

    benches/speed.py --ours M.thimble --before OLD    # a change: thimble beside OLD, the command built before it

LLAMA may be any folder with a llama-bench in it, a distribution's as well; its Vulkan backend takes a driver made of
software only where GGML_VK_VISIBLE_DEVICES names it, ours where it is the only one.

Both programs run on the same threads with the same number of tokens, in turns (A B A B), each round a process of its
own that warms up first. A test is prefill:TOKENS into an empty context, or decode:DEPTH, 64 tokens behind DEPTH others.
Prints medians with their ranges, tokens per second, and the ratio of the medians, as a table in Markdown.
"""

import argparse
import pathlib
import statistics

import peer

TESTS = ["prefill:512", "prefill:4096", "decode:0", "decode:1024", "decode:8000"]
DECODED = 64


def other(flags, case):
    """One round of what thimble is compared with."""
    if flags.before is None:
        return peer.theirs(flags, *case)
    return peer.ours(argparse.Namespace(**{**vars(flags), "thimble": flags.before}), *case)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    peer.add_flags(parser, required=False)
    parser.add_argument("--before", type=pathlib.Path, help="another build of thimble, in place of llama.cpp")
    parser.add_argument("--kernels", help="instruction set of thimble's kernels")
    parser.add_argument("--tests", nargs="+", default=TESTS)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    flags = parser.parse_args()
    if flags.before is None and (flags.theirs is None or flags.llama is None):
        parser.error("expected --theirs and --llama, or --before")
    if flags.before:
        flags.before = flags.before.resolve()
    flags = peer.checked(flags)
    files = [flags.ours] if flags.before else [flags.ours, flags.theirs]
    print(" beside ".join(f"{path.name} ({path.stat().st_size / 1e6:.1f} MB)" for path in files), end="\n\n")
    print(f"| test | threads | thimble | {'before' if flags.before else 'llama.cpp'} | ratio |")
    print("|---|---|---|---|---|")
    for test in flags.tests:
        kind, number = test.split(":")
        tokens, depth = (int(number), 0) if kind == "prefill" else (DECODED, int(number))
        for threads in flags.threads:
            case = (kind, tokens, depth, threads)
            rounds = [(peer.ours(flags, *case), other(flags, case)) for _ in range(flags.rounds)]
            a, b = zip(*rounds)
            ratio = statistics.median(a) / statistics.median(b)
            name = f"{kind} {number}" if kind == "prefill" else f"decode at {number}"
            print(f"| {name} | {threads} | {peer.spread(a)} | {peer.spread(b)} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
