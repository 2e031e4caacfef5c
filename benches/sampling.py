"""Measures sampling settings of chat answers: instructions followed (IFEval), loops, and answers that come to an end.

    python benches/sampling.py thimble model.thimble ifeval/test.jsonl OUT [--every 3] [--tokens 320] [SETTING...]

A SETTING is a line of flags of `thimble run`, for example "--temperature 0.2 --repetition-penalty 1.1"; the default is the
list below. IFEval's data is the published JSON Lines file; its scorer is lm-evaluation-harness's own (`pip install
lm-eval nltk langdetect immutabledict`, and NLTK's `punkt_tab`). Texts go to OUT/SETTING.jsonl and are made once.
"""

import argparse
import json
import re
import statistics
import subprocess
from pathlib import Path

SETTINGS = [
    f"--temperature {t} --top-p {p} --repetition-penalty {r}"
    for t, p in [(0, 1), (0.2, 0.9), (0.7, 0.95)]
    for r in (1, 1.1, 1.05, 1.15)
]

# Short questions with one answer: what a penalty must not spoil.
FACTS = [
    ("What is 2+2?", r"\b(4|four)\b"),
    ("What is 3+5?", r"\b(8|eight)\b"),
    ("What is 10-4?", r"\b(6|six)\b"),
    ("What is 3 times 3?", r"\b(9|nine)\b"),
    ("How many days are in a week?", r"\b(7|seven)\b"),
    ("How many months are in a year?", r"\b(12|twelve)\b"),
    ("How many legs does a spider have?", r"\b(8|eight)\b"),
    ("How many minutes are in an hour?", r"\b(60|sixty)\b"),
    ("What is the capital of France?", r"\bParis\b"),
    ("What is the capital of Norway?", r"\bOslo\b"),
    ("What is the capital of Japan?", r"\bTokyo\b"),
    ("What is the capital of Italy?", r"\bRome\b"),
    ("What is the capital of Spain?", r"\bMadrid\b"),
    ("What is the capital of Germany?", r"\bBerlin\b"),
    ("What is the capital of Egypt?", r"\bCairo\b"),
    ("What is the largest planet in the solar system?", r"\bJupiter\b"),
    ("Which planet is closest to the sun?", r"\bMercury\b"),
    ("What is the chemical symbol of gold?", r"\bAu\b"),
    ("What is the chemical formula of water?", r"H2O|H₂O"),
    ("What gas do plants take in for photosynthesis?", r"(?i)carbon dioxide|CO2|CO₂"),
    ("Who wrote Romeo and Juliet?", r"Shakespeare"),
    ("Who painted the Mona Lisa?", r"Leonardo|da Vinci"),
    ("In which year did the Second World War end?", r"\b1945\b"),
    ("What is the opposite of hot?", r"(?i)\bcold\b"),
    ("What is the plural of mouse?", r"(?i)\bmice\b"),
    ("What color is the sky on a clear day?", r"(?i)\bblue\b"),
    ("Is ice colder than steam? Answer yes or no.", r"(?i)^\W*yes\b"),
    ("Which animal is known as man's best friend?", r"(?i)\bdogs?\b"),
    ("Repeat the word banana three times.", r"(?i)(banana\W+){2}banana"),
    ("Count from 1 to 10.", r"1\W+2\W+3\W+4\W+5\W+6\W+7\W+8\W+9\W+10"),
    ("List the letters A, B, C, D, E separated by commas.", r"A, B, C, D, E"),
    ("Spell the word cat with a hyphen between letters.", r"(?i)c-a-t"),
]


def answer(command, model, prompt, setting, tokens):
    flags = ["--chat", "--json", "--prompt", "-", "--threads", "1", "--seed", "1", "--max-tokens", str(tokens)]
    run = [command, "run", model, *flags, *setting.split()]
    return json.loads(subprocess.run(run, input=prompt.encode(), capture_output=True, check=True).stdout)


def loops(ids):
    """Whether the answer ends in the same passage three times: a period of at most 80 tokens that covers at least 24."""
    for period in range(1, 81):
        span = max(3 * period, 24)
        if len(ids) >= span and all(a == b for a, b in zip(ids[-span:-period], ids[-span + period:])):
            return True
    return False


def repeated(ids, n=4):
    """The share of n-grams that stood in the answer before."""
    grams = [tuple(ids[i:i + n]) for i in range(len(ids) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def followed(items, texts):
    """IFEval's strict and loose accuracies over prompts and over instructions, in percent."""
    from lm_eval.tasks.ifeval import utils
    results = [utils.process_results(item, [text]) for item, text in zip(items, texts)]
    percent = lambda values: 100 * statistics.mean(values)
    instructions = lambda kind: percent([x for r in results for x in r[f"inst_level_{kind}_acc"]])
    prompts = lambda kind: percent([r[f"prompt_level_{kind}_acc"] for r in results])
    return prompts("strict"), instructions("strict"), prompts("loose"), instructions("loose")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command")
    parser.add_argument("model")
    parser.add_argument("ifeval", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--every", type=int, default=3, help="take every Nth prompt")
    parser.add_argument("--tokens", type=int, default=320)
    options = parser.parse_args()
    items = [json.loads(line) for line in options.ifeval.read_text().splitlines()][::options.every]
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"{len(items)} prompts of IFEval, {len(FACTS)} short questions, at most {options.tokens} tokens")
    print("| setting | IFEval prompts, instructions (strict) | (loose) | stopped | loop | repeated 4-grams | facts |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for setting in options.settings or SETTINGS:
        path = options.out / (re.sub(r"[^\w.]+", "_", setting).strip("_") + f"-{options.every}-{options.tokens}.jsonl")
        prompts = [question for question, _ in FACTS] + [item["prompt"] for item in items]
        with path.open("a+") as file:
            file.seek(0)
            made = [json.loads(line) for line in file]
            for prompt in prompts[len(made):]:
                made.append(answer(options.command, options.model, prompt, setting, options.tokens))
                file.write(json.dumps(made[-1]) + "\n")
                file.flush()
        short, long = made[:len(FACTS)], made[len(FACTS):]
        right = sum(bool(re.search(pattern, m["text"])) for (_, pattern), m in zip(FACTS, short))
        share = lambda values: 100 * statistics.mean(values)
        try:
            score = followed(items, [m["text"] for m in long])
        except ImportError:  # without the scorer the rest is told
            score = (float("nan"),) * 4
        print(
            f"| {setting} | {score[0]:.1f}, {score[1]:.1f} | {score[2]:.1f}, {score[3]:.1f} "
            f"| {share([m['finish_reason'] == 'stop' for m in long]):.0f}% | {share([loops(m['ids']) for m in long]):.0f}% "
            f"| {share([repeated(m['ids']) for m in long]):.1f}% | {right} of {len(FACTS)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
