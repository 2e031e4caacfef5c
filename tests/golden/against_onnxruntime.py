"""Exports a model as ONNX graphs and holds them against `--exact` in onnxruntime: greedy tokens at f32, divergence of f16 and q4.

    python3 against_onnxruntime.py THIMBLE MODEL [FOLDER]      # MODEL: a .thimble or a GGUF file, or a Hugging Face folder

FOLDER keeps the exported folders f32, f16 and q4, or has them already. Needs the packages onnx, onnxruntime, transformers
and numpy.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from transformers import AutoTokenizer

TOKENS = 80
PROMPTS = [
    "The tide comes in because",
    "In 1969, 2 astronauts walked on the moon; 38 years later",
    "def fibonacci(n):\n",
    "Once upon a time there was a fox who",
    "The three largest cities of France are",
]
CHATS = ["Why is the sky blue?", "Write a haiku about the sea.", "What is 17 + 25?"]
TEXT = pathlib.Path(__file__).parents[2] / "converter/src/calibrate/default.txt"
WINDOWS, WINDOW = 4, 256


def thimble(*arguments):
    done = subprocess.run([sys.argv[1], *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


class Model:
    """A session with the inputs that optimum and transformers.js feed."""

    def __init__(self, path):
        onnx.checker.check_model(str(path), full_check=True)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.past = [i for i in self.session.get_inputs() if i.name.startswith("past_key_values.")]
        self.outputs = [o.name for o in self.session.get_outputs()]
        names = [f"past_key_values.{n // 2}.{('key', 'value')[n % 2]}" for n in range(len(self.past))]
        assert [i.name for i in self.past] == names
        assert self.outputs == ["logits"] + [name.replace("past_key_values", "present") for name in names]

    def empty(self, batch=1):
        kind = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        return [np.zeros((batch, i.shape[1], 0, i.shape[3]), kind[i.type]) for i in self.past]

    def forward(self, ids, cache, mask=None):
        """Logits of `ids`, [batch, tokens], and the cache with them."""
        ids = np.asarray(ids, np.int64)
        length = cache[0].shape[2] + ids.shape[1]
        mask = np.ones((len(ids), length), np.int64) if mask is None else mask
        positions = np.maximum(mask.cumsum(-1) - 1, 0)[:, -ids.shape[1]:]
        feed = {i.name: past for i, past in zip(self.past, cache)}
        feed |= {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        logits, *cache = self.session.run(self.outputs, feed)
        return logits, cache

    def greedy(self, prompt, tokens):
        ids, cache, found = [prompt], self.empty(), []
        for _ in range(tokens):
            logits, cache = self.forward(ids, cache)
            found.append(int(logits[0, -1].argmax()))
            ids = [[found[-1]]]
        return found


def log_softmax(logits):
    logits = logits.astype(np.float64)
    logits -= logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def check_greedy(model, tokenizer):
    greedy = ["--exact", "--temperature", "0", "--repetition-penalty", "1", "--tokens", TOKENS, "--json", "--lookup", "0"]
    cases = [(prompt, tokenizer(prompt)["input_ids"], []) for prompt in PROMPTS]
    if tokenizer.chat_template:
        for text in CHATS:
            chat = tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True)
            cases.append((text, list(getattr(chat, "input_ids", chat)), ["--chat"]))
    same = total = 0
    for text, ids, flags in cases:
        ours = json.loads(thimble("run", sys.argv[2], "--prompt", text, *greedy, *flags))["ids"]
        theirs = model.greedy(ids, len(ours))
        same += ours == theirs
        total += len(ours)
        if ours != theirs:
            first = next(i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b)
            print(f"  {text!r}: token {first} differs: {ours[first]}, onnxruntime {theirs[first]}")
    print(f"f32: {same} of {len(cases)} texts have the same {total} greedy tokens")
    return same == len(cases)


def check_padding(model, prompt):
    """Left padding, a prompt in two parts, and a batch change no logits."""
    alone, _ = model.forward([prompt], model.empty())
    padded, pad = np.zeros((2, len(prompt) + 3), np.int64), np.ones((2, len(prompt) + 3), np.int64)
    padded[0, 3:], pad[0, :3], padded[1] = prompt, 0, np.resize(prompt, len(prompt) + 3)
    batch, _ = model.forward(padded, model.empty(2), pad)
    _, cache = model.forward([prompt[:4]], model.empty())
    parts, _ = model.forward([prompt[4:]], cache)
    largest = abs(alone).max()
    errors = abs(batch[0, 3:] - alone[0]).max() / largest, abs(parts[0] - alone[0, 4:]).max() / largest
    print(f"f32: padded in a batch {errors[0]:.1e}, in two parts {errors[1]:.1e} of the largest logit")
    return max(errors) < 1e-4


def main():
    with tempfile.TemporaryDirectory() as base:
        base = pathlib.Path(sys.argv[3] if len(sys.argv) > 3 else base)
        files = {"f32": "model.onnx", "f16": "model_fp16.onnx", "q4": "model_q4.onnx"}
        for dtype in files:
            if not (base / dtype).exists():
                thimble("export", sys.argv[2], "-o", base / dtype, "--to", "onnx", "--dtype", dtype)
        tokenizer = AutoTokenizer.from_pretrained(base / "f32")
        ids = tokenizer(TEXT.read_text())["input_ids"][: WINDOWS * WINDOW]
        windows = [[ids[at : at + WINDOW]] for at in range(0, len(ids) - WINDOW + 1, WINDOW)]
        exact = Model(base / "f32" / "onnx" / files["f32"])
        right = check_greedy(exact, tokenizer) & check_padding(exact, ids[:12])
        reference = [log_softmax(exact.forward(window, exact.empty())[0]) for window in windows]
        del exact
        for dtype in ("f16", "q4"):
            model = Model(base / dtype / "onnx" / files[dtype])
            sums = agree = 0
            for window, wanted in zip(windows, reference):
                found = log_softmax(model.forward(window, model.empty())[0])
                sums += (np.exp(wanted) * (wanted - found)).sum(-1).mean() / len(windows)
                agree += (wanted.argmax(-1) == found.argmax(-1)).mean() / len(windows)
            print(f"{dtype}: mean divergence from f32 {sums:.2e} nats a token, same likeliest token {100 * agree:.1f}%")
        print("every graph passes onnx.checker")
        sys.exit(not right)


if __name__ == "__main__":
    main()
