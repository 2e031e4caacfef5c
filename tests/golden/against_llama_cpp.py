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


def main():
    source, quantize = sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for kind in TYPES:
            gguf = folder / f"{kind}.gguf"
            thimble("convert", source, "-o", gguf, "--to", "gguf", "--type", kind)
            # The same weights through the other way around.
            thimble("convert", gguf, "-o", folder / "model.thimble")
            model = Llama(str(gguf), n_ctx=256, n_threads=1, verbose=False)
            same = ids_same = 0
            for prompt in PROMPTS:
                ours = json.loads(thimble("run", folder / "model.thimble", "--prompt", prompt, "--temperature", 0,
                                          "--tokens", TOKENS, "--json", "--context", 256))
                ids = model.tokenize(prompt.encode(), add_bos=False, special=True)
                ids_same += ids == ours["prompt_ids"]
                theirs = greedy(model, ids)
                agree = next((i for i, (a, b) in enumerate(zip(theirs, ours["ids"])) if a != b), TOKENS)
                same += agree == TOKENS
                if agree < TOKENS:
                    print(f"  {kind}: {prompt!r} differs from token {agree} on")
            line = f"{kind:5} {gguf.stat().st_size:>10} bytes: {same} of {len(PROMPTS)} continuations of {TOKENS} "
            line += f"tokens equal, {ids_same} prompts' ids"
            if quantize and kind not in ("F16", "Q4_K"):
                theirs = folder / "theirs.gguf"
                args = ["--pure", "--token-embedding-type", "q8_0", folder / "F16.gguf", theirs, kind, 1]
                subprocess.run([quantize, *map(str, args)], check=True, capture_output=True)
                thimble("convert", folder / "F16.gguf", "-o", folder / "ours.gguf", "--type", kind)
                ours, theirs = tensors(folder / "ours.gguf"), tensors(theirs)
                equal = sum(ours[name] == theirs[name] for name in ours)
                line += f"; {equal} of {len(ours)} tensors equal llama-quantize's"
            print(line, flush=True)


main()
