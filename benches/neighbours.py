#!/usr/bin/env python3
"""Claim: beside busy neighbours decoding loses its share of the processor, not more.

    benches/neighbours.py --ours M.thimble --theirs M.gguf --llama LLAMA --busy 2

See speed.py for the files. As many processes as --busy says do nothing but count, without a pause, on the cores that
both programs use with all their threads. With as many neighbours as threads, the fair share is one half.
"""

import argparse
import os
import statistics
import subprocess
import sys

import peer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    peer.add_flags(parser)
    parser.add_argument("--busy", type=int, default=os.cpu_count())
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--tokens", type=int, default=64, help="enough for some seconds, beside a scheduler that moves threads")
    flags = peer.checked(parser.parse_args())
    case = ("decode", flags.tokens, 0, flags.threads)
    speeds = {}
    for busy in [0, flags.busy]:
        neighbours = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        try:
            rounds = [(peer.ours(flags, *case), peer.theirs(flags, *case)) for _ in range(flags.rounds)]
        finally:
            for neighbour in neighbours:
                neighbour.kill()
                neighbour.wait()
        speeds[busy] = list(zip(*rounds))
    print("| program | alone | with busy neighbours | kept |")
    print("|---|---|---|---|")
    for index, name in enumerate(["thimble", "llama.cpp"]):
        alone, beside = speeds[0][index], speeds[flags.busy][index]
        kept = statistics.median(beside) / statistics.median(alone)
        print(f"| {name} | {peer.spread(alone)} | {peer.spread(beside)} | {kept:.0%} |")


if __name__ == "__main__":
    main()
