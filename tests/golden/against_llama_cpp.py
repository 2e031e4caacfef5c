"""Holds thimble's GGUF files against llama.cpp: llama-cpp-python has to load them and continue prompts with the same
greedy tokens, tokenizers have to agree, and where a build's llama-quantize is given, its blocks have to be ours.

    LLAMA_CPP_LIB_PATH=... python3 against_llama_cpp.py THIMBLE SOURCE [LLAMA_QUANTIZE]

needs the packages gguf and llama-cpp-python; SOURCE is a GGUF file, a Hugging Face folder or a .thimble file.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from gguf import GGUFReader
from llama_cpp import Llama

PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):\n    ",
    "In 1969, 2 astronauts walked on the moon; 38 years later",
    "<|im_start|>user\nName three colours.<|im_end|>\n<|im_start|>assistant\n",
]
TYPES = ["F16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "Q4_K"]
TOKENS = 24


def thimble(*arguments):
    done = subprocess.run([sys.argv[1], *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def tensors(path):
    return {t.name: (t.tensor_type.name, np.array(t.data).tobytes()) for t in GGUFReader(path).tensors}


def greedy(model, ids):
    model.reset()
    out = []
    for token in model.generate(ids, temp=0.0, repeat_penalty=1.0):
        out.append(token)
        if len(out) == TOKENS:
            return out


def forced(model, ids, answer):
    """Where llama.cpp, led along our answer, likes another token best, and by how much (a difference of logits)."""
    model.reset()
    model.eval(ids + answer[:-1])
    logits = model.scores[len(ids) - 1 : len(ids) + len(answer) - 1]
    gaps = logits.max(-1) - logits[np.arange(len(answer)), answer]
    return [gap for gap in gaps.tolist() if gap > 0]


def load(path):
    return Llama(str(path), n_ctx=256, n_threads=1, logits_all=True, verbose=False)


def main():
    source, quantize = sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for kind in TYPES:
            gguf, exact, back = folder / f"{kind}.gguf", folder / "exact.gguf", folder / "model.thimble"
            thimble("convert", source, "-o", gguf, "--to", "gguf", "--type", kind)
            # The same weights, back in thimble, and as floats: llama.cpp rounds activations to 8 bits beside
            # quantized weights, which turns near ties around.
            thimble("convert", gguf, "-o", back)
            thimble("convert", gguf, "-o", exact, "--type", "F16" if kind == "F16" else "F32")
            rounding, floats = load(gguf), load(exact)
            same = ids_same = 0
            gaps = []
            for prompt in PROMPTS:
                ours = json.loads(thimble("run", back, "--prompt", prompt, "--temperature", 0, "--tokens", TOKENS,
                                          "--json", "--context", 256, "--exact"))
                ids = floats.tokenize(prompt.encode(), add_bos=False, special=True)
                ids_same += ids == ours["prompt_ids"]
                same += greedy(floats, ids) == ours["ids"]
                gaps += forced(rounding, ids, ours["ids"])
            count = TOKENS * len(PROMPTS)
            print(f"{kind:5} {gguf.stat().st_size:>10} bytes: {ids_same} of {len(PROMPTS)} prompts have the same ids; "
                  f"{same} of {len(PROMPTS)} continuations are equal in float arithmetic; with llama.cpp's own "
                  f"kernels {count - len(gaps)} of {count} tokens, the others within {max(gaps, default=0):.2f} of "
                  "the best logit", flush=True)
            if quantize and kind not in ("F16", "Q4_K"):
                theirs = folder / "theirs.gguf"
                args = ["--pure", "--token-embedding-type", "q8_0", folder / "F16.gguf", theirs, kind, 1]
                subprocess.run([quantize, *map(str, args)], check=True, capture_output=True)
                thimble("convert", folder / "F16.gguf", "-o", folder / "ours.gguf", "--type", kind)
                ours, theirs = tensors(folder / "ours.gguf"), tensors(theirs)
                equal = sum(ours[name] == theirs[name] for name in ours)
                print(f"      {equal} of {len(ours)} tensors equal llama-quantize's", flush=True)


main()
