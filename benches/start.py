#!/usr/bin/env python3
"""Claim: a process has its first token within 30 ms, in less than half of llama.cpp's memory.

    benches/start.py --ours M.thimble --theirs M.gguf --llama LLAMA

See speed.py for the files. A round starts `thimble run` and llama.cpp's `llama-simple` with the same short prompt, one token to
generate and both files in the page cache, and waits for the end of the process; memory is its peak resident set.
`--context` is what ours reserves; llama-simple takes no more than it needs.
"""

import argparse
import os
import statistics
import subprocess
import time

import peer

PROMPT = "The capital of Norway is"


def measured(command):
    """Seconds from start to end, and megabytes."""
    start = time.monotonic()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"failed: {' '.join(map(str, command))}")
    return seconds, usage.ru_maxrss / 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    peer.add_flags(parser)
    parser.add_argument("--context", type=int, default=2048)
    flags = peer.checked(parser.parse_args())
    ours = [flags.thimble, "run", flags.ours, "--prompt", PROMPT, "--tokens", 1, "--temperature", 0]
    ours += ["--context", flags.context]
    theirs = [flags.llama / "llama-simple", "-m", flags.theirs, "-n", 1, PROMPT]
    measured(ours), measured(theirs)
    rounds = [(measured(ours), measured(theirs)) for _ in range(flags.rounds)]
    print("| program | start to end, ms | peak resident, MB |")
    print("|---|---|---|")
    medians = []
    for name, figures in zip(["thimble", "llama.cpp"], zip(*rounds)):
        seconds, megabytes = zip(*figures)
        medians.append((statistics.median(seconds), statistics.median(megabytes)))
        print(f"| {name} | {peer.spread([s * 1e3 for s in seconds])} | {statistics.median(megabytes):.1f} |")
    (our_time, our_memory), (their_time, their_memory) = medians
    print(f"| ratio | {their_time / our_time:.1f} times sooner | {our_memory / their_memory:.2f} |")


if __name__ == "__main__":
    main()
