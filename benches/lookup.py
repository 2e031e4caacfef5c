#!/usr/bin/env python3
"""Claim: prompt lookup shortens answers that repeat their prompt, and never changes them.

    benches/lookup.py MODEL.thimble [--program target/release/thimble] [--threads 1] [--rounds 3] [--drafts 0 4 8]

The model answers two editing prompts, two summarizing ones and two that have nothing to repeat, with the likeliest token each
time. Seconds are those of the answer, without the prompt: medians of interleaved rounds. The texts must not differ.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

LIBRARY = (
    "The libary opens at nine in the morning and closes at six in the evening. On Sundays it opens at ten. Visitors can borow "
    "up to eight books for four weeks, and they can extend a loan twice if nobody else has asked for the book. Children under "
    "twelve need a card that a parent has signed. The reading room on the first floor has twenty desks with lamps and sockets, "
    "and a quiet corner with armchairs by the window."
)
FERRY = (
    "The ferry between the island and the mainland carried 41,000 passengers in the first half of the year, 6,000 more than a "
    "year before. The operator explains the increase by the new timetable, which has a crossing every forty minutes instead of "
    "every hour, and by the repair of the bridge, which kept many drivers off the road. Fares stay as they are until December. "
    "The council has asked for a second ship during the summer; the operator wants to decide after the holidays."
)
FUNCTION = (
    "def total_price(items, discount):\n    total = 0\n    for item in items:\n        total = total + item.price * item.count\n"
    "    if discount > 0:\n        total = total - total * discount / 100\n    return total"
)
PROMPTS = {
    "edit: spelling": f"Correct the spelling of this text and write it out in full, otherwise unchanged:\n\n{LIBRARY}",
    "edit: code": f"Rename the parameter `items` to `basket` and write out the whole function:\n\n{FUNCTION}",
    "summary: ferry": f"Summarize this text in three sentences:\n\n{FERRY}",
    "summary: library": f"Summarize this text in a list of the most important points:\n\n{LIBRARY}",
    "new: story": "Write a story about a lighthouse keeper and a storm.",
    "new: advice": "How do I prepare for a long hike in the mountains?",
}


def answer(flags, prompt, drafts):
    """The answer's text, tokens, seconds and accepted draft tokens."""
    words = [flags.program, "run", flags.model, "--chat", "--temperature", "0", "--max-tokens", flags.tokens, "--json"]
    words += ["--threads", flags.threads, "--lookup", drafts, "--prompt", prompt]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"failed: thimble run\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout)
    stats = found["stats"]
    return found["text"], stats["decode_tokens"], stats["decode_seconds"], stats["accepted_draft_tokens"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    root = pathlib.Path(__file__).resolve().parent.parent
    parser.add_argument("--program", type=pathlib.Path, default=root / "target/release/thimble")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=128, help="most tokens of an answer")
    parser.add_argument("--drafts", type=int, nargs="+", default=[0, 4, 8], help="values of --lookup; the first is the basis")
    flags = parser.parse_args()
    heads = ["prompt", "tokens", "accepted", *(f"s with `--lookup {drafts}`" for drafts in flags.drafts), "speed"]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for name, prompt in PROMPTS.items():
        rounds = [[answer(flags, prompt, drafts) for drafts in flags.drafts] for _ in range(flags.rounds)]
        texts = {text for answers in rounds for text, *_ in answers}
        if len(texts) != 1:
            sys.exit(f"{name}: expected the same answer with and without drafts, found {len(texts)}: {texts}")
        seconds = [statistics.median(answers[i][2] for answers in rounds) for i in range(len(flags.drafts))]
        speed = " / ".join(f"{seconds[0] / other:.2f}" for other in seconds[1:])
        accepted = " / ".join(str(found[3]) for found in rounds[0][1:])
        cells = [name, str(rounds[0][0][1]), accepted, *(f"{s:.2f}" for s in seconds), speed]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
