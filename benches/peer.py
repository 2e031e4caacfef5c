"""What the benches beside llama.cpp share: where both programs are, how they are run, medians."""

import json
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent


def add_flags(parser, required=True):
    """The flags; those about llama.cpp are `required` unless a script can do without it."""
    parser.add_argument("--ours", type=pathlib.Path, required=True, help="a .thimble file")
    parser.add_argument("--theirs", type=pathlib.Path, required=required, help="a GGUF file of the same model")
    parser.add_argument("--thimble", type=pathlib.Path, default=HERE.parent / "target/release/thimble")
    parser.add_argument("--llama", type=pathlib.Path, required=required, help="folder of benches/build-llama.cpp.sh")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backend", default="cpu", help="where thimble runs; unless cpu, llama.cpp has its GPU backend run all")


def checked(flags):
    """The flags, once everything that they name is there."""
    for path in [flags.ours, flags.theirs, flags.thimble, flags.llama, getattr(flags, "before", None)]:
        if path is not None and not path.exists():
            sys.exit(f"there is no {path}: see the head of this script")
    return flags


def output(*command):
    """What a command prints; its complaint where it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"failed: {' '.join(map(str, command))}\n{done.stderr[-2000:]}")
    return done.stdout


def ours(flags, test, tokens, depth, threads):
    """Tokens per second of `thimble bench`, one round behind a warm-up."""
    words = ["--test", test, "--tokens", tokens, "--depth", depth, "--threads", threads, "--rounds", 1, "--json"]
    words += ["--backend", flags.backend]
    if getattr(flags, "kernels", None):
        words += ["--kernels", flags.kernels]
    return json.loads(output(flags.thimble, "bench", flags.ours, *words))[0]["tokens_per_second"]["median"]


def theirs(flags, test, tokens, depth, threads):
    """Tokens per second of `llama-bench`, one round behind its own warm-up."""
    what = ["-p", tokens, "-n", 0] if test == "prefill" else ["-p", 0, "-n", tokens]
    words = [*what, "-d", depth, "-t", threads, "-fa", 1, "-r", 1, "-o", "json"]
    words += ["-ngl", 0 if flags.backend == "cpu" else 99]
    return json.loads(output(flags.llama / "llama-bench", "-m", flags.theirs, *words))[0]["avg_ts"]


def spread(numbers):
    """Median and range."""
    return f"{statistics.median(numbers):.0f} ({min(numbers):.0f}–{max(numbers):.0f})"
