"""Holds `thimble embed` in exact mode against the hidden states of transformers.

    python3 embeddings_against_transformers.py THIMBLE FOLDER     # FOLDER: a model as transformers writes it

needs the packages torch and transformers.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModel, AutoTokenizer

SENTENCE = "The tide comes in because the moon pulls at the sea, and it goes out again six hours later. "
TEXTS = ["a", "The cat sat on the mat.", "def add(a, b):\n    return a + b\n", "grün € 😀 中文 naïve", SENTENCE * 8,
         # Several batches.
         SENTENCE * 60]


def embed(thimble, model, pooling, lines):
    command = [thimble, "embed", model, "--exact", "--pooling", pooling, "--input", lines]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return [torch.tensor(json.loads(line)["embedding"], dtype=torch.float64) for line in done.stdout.splitlines()]


def main():
    thimble, folder = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as base:
        file, lines = pathlib.Path(base) / "model.thimble", pathlib.Path(base) / "texts.jsonl"
        subprocess.run([thimble, "convert", folder, "-o", file, "--quant", "f32"], check=True)
        lines.write_text("".join(json.dumps(dict(text=text)) + "\n" for text in TEXTS))
        ours = {pooling: embed(thimble, file, pooling, lines) for pooling in ("mean", "last")}
    for index, text in enumerate(TEXTS):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            states = model(ids).last_hidden_state[0].double()
        for pooling, pooled in dict(mean=states.mean(0), last=states[-1]).items():
            expected = pooled / pooled.norm()
            worst = (ours[pooling][index] - expected).abs().max().item()
            cosine = (ours[pooling][index] @ expected).item()
            print(f"{ids.shape[1]:5} tokens, {pooling}: largest difference {worst:.1e}, 1 - cosine {1 - cosine:.1e}")
            assert worst < 1e-5, text


main()
