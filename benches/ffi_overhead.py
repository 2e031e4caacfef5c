#!/usr/bin/env python3
"""Claim: passing a token to Python through the FFI costs less than 5% of its time at 500 tokens a second.

    cargo build --release -p thimble-cli
    cargo run -p conformance --example tiny_model -- tiny.thimble
    pip install bindings/python
    benches/ffi_overhead.py --model tiny.thimble

The worker's clock runs while a listener is called, because the next token waits for it. So `thimble run`, which passes the
text to nobody, and the binding generate the same greedy text on one thread, in turns; the difference of their decoding times,
divided by the number of pieces, is the cost of a piece. A tiny model makes it visible: its tokens take tens of microseconds,
not milliseconds. The results are medians of the rounds; 5% of a token's time at 500 tokens per second are 100 us.

`listener` is a callback that does nothing: the FFI overhead alone. `for` is `for piece in model.complete(...)`, where a second
thread takes the pieces while the worker's thread makes the next one, and both want the interpreter's lock.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import threading

from thimble import Model, Sampling, thimble_ffi

HERE = pathlib.Path(__file__).resolve().parent
PROMPT = "hello"
#: As the binding sets it.
LOOKUP = 4
#: A token's time at 500 tokens a second, in microseconds.
TOKEN = 2000


class Discard(thimble_ffi.Listener):
    """Hears everything and does nothing with it."""

    def __init__(self):
        self.pieces = 0
        self.ended = threading.Event()

    def on_piece(self, text):
        self.pieces += 1

    def on_reasoning(self, text):
        pass

    def on_progress(self, done, of):
        pass

    def on_end(self, reply):
        self.reply = reply
        self.ended.set()

    def on_error(self, error):
        raise SystemExit(error)


def command(flags):
    """Text, decoding seconds of `thimble run`, and nothing handed over."""
    words = ["--prompt", PROMPT, "--temperature", 0, "--max-tokens", flags.tokens, "--context", flags.context]
    words = [flags.thimble, "run", flags.model, *words, "--threads", 1, "--lookup", LOOKUP, "--json"]
    done = subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True)
    out = json.loads(done.stdout)
    return out["text"], out["stats"]["decode_seconds"], 0


def listener(model, flags):
    """The same through a listener."""
    discard = Discard()
    options = thimble_ffi.CompletionOptions(max_tokens=flags.tokens, sampling=greedy())
    completion = model._inner.complete(PROMPT, options, discard)
    discard.ended.wait()
    del completion
    return discard.reply.text, discard.reply.seconds, discard.pieces


def loop(model, flags):
    """The same through the package's iterator."""
    answer = model.complete(PROMPT, max_tokens=flags.tokens, sampling=greedy())
    pieces = sum(1 for _ in answer)
    return answer.reply.text, answer.reply.seconds, pieces


def greedy():
    return Sampling(temperature=0.0, top_k=None, top_p=None, repetition_penalty=1.0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--thimble", type=pathlib.Path, default=HERE.parent / "target/release/thimble")
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=15)
    flags = parser.parse_args()
    for path in [flags.model, flags.thimble]:
        if not path.exists():
            sys.exit(f"there is no {path}: see the head of this script")
    rounds = []
    with Model.open(flags.model, threads=1, context=flags.context) as model:
        for _ in range(flags.rounds):
            alone = command(flags)
            through = [listener(model, flags), loop(model, flags)]
            assert all(text == alone[0] for text, _, _ in through), "the texts differ"
            rounds.append([(seconds - alone[1]) / pieces * 1e6 for _, seconds, pieces in through] + [alone[1]])
    print(f"{flags.model.name}, {through[0][2]} pieces, {statistics.median(r[2] for r in rounds) * 1e3:.1f} ms without")
    print("| way | us a token | range | of 2 ms |")
    print("|---|---|---|---|")
    for index, name in enumerate(["listener", "for"]):
        costs = [round[index] for round in rounds]
        median = statistics.median(costs)
        print(f"| {name} | {median:.1f} | {min(costs):.1f}–{max(costs):.1f} | {median / TOKEN:.2%} |")


if __name__ == "__main__":
    main()
