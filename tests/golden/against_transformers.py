"""Exports a model to a Hugging Face folder and holds it against transformers: ids, chats and log-likelihoods.

    python3 against_transformers.py THIMBLE MODEL      # MODEL: a .thimble or a GGUF file

needs the packages torch and transformers.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXTS = [
    "The tide comes in because the moon pulls at the sea.",
    "In 1969, 2 astronauts walked on the moon; 38 years later  3.14159",
    "  leading\n\n\ntrailing   \n tab\tand\r\n it's we'll DON'T",
    "grün € 😀 中文 naïve",
    "<|im_start|>user\nHello<|im_end|>\n",
    "def fibonacci(n):\n    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)\n",
]
PAIRS = [
    ("The capital of France is", " Paris, and the capital of Spain is Madrid."),
    ("Water boils at a hundred degrees", " Celsius at sea level, and at less on a mountain."),
    ("def add(a, b): return", " a + b"),
]
CHAT = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": " it's me\n"}]


def thimble(*arguments, stdin=""):
    done = subprocess.run([sys.argv[1], *map(str, arguments)], capture_output=True, text=True, input=stdin)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def main():
    with tempfile.TemporaryDirectory() as base:
        folder, model_file = pathlib.Path(base) / "hf", pathlib.Path(base) / "model.thimble"
        thimble("export", sys.argv[2], "-o", folder)
        thimble("convert", folder, "-o", model_file)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        same = 0
        for text in TEXTS:
            ids = json.loads(thimble("tokens", model_file, "--json", stdin=text))["ids"]
            theirs = tokenizer(text)["input_ids"]
            same += ids == theirs and tokenizer.decode(theirs, clean_up_tokenization_spaces=False) == text
        print(f"{type(tokenizer).__name__}: {same} of {len(TEXTS)} texts have the same ids and come back")
        if tokenizer.chat_template:
            print("chat:", repr(tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)))
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        lines = "".join(json.dumps(dict(context=c, continuation=t)) + "\n" for c, t in PAIRS)
        scores = thimble("score", model_file, "--exact", "--input", "-", stdin=lines).splitlines()
        worst = 0.0
        for (context, continuation), line in zip(PAIRS, scores):
            ours = json.loads(line)
            ids, start = tokenizer(context + continuation)["input_ids"], len(tokenizer(context)["input_ids"])
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
            theirs = sum(logits[i - 1, ids[i]].item() for i in range(start, len(ids)))
            assert len(ids) - start == ours["tokens"], (context, continuation)
            worst = max(worst, abs(theirs - ours["loglikelihood"]) / ours["tokens"])
        print(f"largest difference of a log-likelihood: {worst:.2e} a token")


main()
