#!/usr/bin/env python3
"""Predicts how much of the output head a screen would read: the rows' high bits first, the rest only where it can still matter.

    benches/screening.py HUGGING_FACE_FOLDER [--text FILE]

Needs torch and transformers. Takes the hidden states of the model's own answers (and of FILE), rounds the head to 8 bits in groups
of 32 as Thimble's q8 does, and bounds what the low bits of a row can add to a logit: the sum over groups of scale x half the
range of the low bits x sum of |x|. (Hoelder's inequality; Cauchy and Schwarz's with the norms of the low bits is weaker here.)
A panel of 16 rows is excluded when all of its upper bounds are below the k-th largest logit of the k rows that look best.

`rest at once` reads the low bits of all other panels; `group by group` reads them in descending order of sum of |x|, until a panel
is excluded. Shares are of the bytes of the head, scales included, means over hidden states. The threshold takes no reads here,
so a real screen reads a little more.
"""

import argparse
import pathlib

import numpy
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

GROUP, PANEL = 32, 16
QUESTIONS = [
    "Explain why the sky is blue.",
    "Write a short story about a fox and a farmer.",
    "How do I boil an egg?",
    "What is the capital of France, and what is it known for?",
]
# Bits of a weight with its part of the scale.
BITS, SCALE_BITS = 8, 0.5


def hidden_states(folder, text):
    """The head, `[vocab, hidden]`, and hidden states after the final norm."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    torch.manual_seed(0)
    states = []
    with torch.no_grad():
        for question in QUESTIONS:
            message = [{"role": "user", "content": question}]
            prompt = tokenizer.apply_chat_template(message, add_generation_prompt=True, return_tensors="pt", return_dict=False)
            answer = model.generate(prompt, max_new_tokens=90, do_sample=True, temperature=0.7, top_p=0.95)
            states.append(model.model(answer).last_hidden_state[0, prompt.shape[1] - 1 :])
        if text:
            tokens = tokenizer(text.read_text()[:3000], return_tensors="pt").input_ids
            states.append(model.model(tokens).last_hidden_state[0, 50:])
        return model.get_output_embeddings().weight.numpy(), torch.cat(states).numpy()


def quantized(head):
    """Codes and scales, `[vocab, groups, 32]` and `[vocab, groups]`."""
    groups = head.reshape(len(head), -1, GROUP)
    scales = (numpy.abs(groups).max(2) / 127).astype(numpy.float16).astype(numpy.float32)
    return numpy.rint(groups / numpy.maximum(scales, 1e-12)[..., None]).clip(-127, 127), scales


def shares(codes, scales, states, bits, k):
    """Panels not excluded by the high bits, and the shares read by both ways."""
    step = 1 << (BITS - bits)
    high = numpy.floor(codes / step) * step + (step - 1) / 2
    rows, groups = scales.shape
    first = (bits + SCALE_BITS) / (BITS + SCALE_BITS)
    left, at_once, stepwise = [], [], []
    for state in states.reshape(len(states), groups, GROUP):
        parts = numpy.einsum("gj,vgj->vg", state, high) * scales
        rests = numpy.einsum("gj,vgj->vg", state, codes - high) * scales
        estimate, exact = parts.sum(1), (parts + rests).sum(1)
        threshold = exact[numpy.argpartition(-estimate, k - 1)[:k]].min()
        largest = numpy.abs(state).sum(1)
        bounds = largest * scales * ((step - 1) / 2)
        bound, reads = bounds.sum(1), 0
        alive = numpy.ones(rows // PANEL, bool)
        for order, group in enumerate(numpy.argsort(-largest)):
            alive &= (estimate + bound >= threshold)[: len(alive) * PANEL].reshape(-1, PANEL).any(1)
            if order == 0:
                left.append(alive.mean())
            reads += alive.mean() / groups
            estimate, bound = estimate + rests[:, group], bound - bounds[:, group]
        at_once.append(first + left[-1] * (1 - first))
        stepwise.append(first + reads * (1 - first))
    return [float(numpy.mean(figure)) for figure in (left, at_once, stepwise)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--states", type=int, default=24, help="hidden states that are drawn at random")
    flags = parser.parse_args()
    head, states = hidden_states(flags.folder, flags.text)
    states = states[numpy.random.default_rng(0).choice(len(states), min(flags.states, len(states)), replace=False)]
    codes, scales = quantized(head)
    print("| high bits | k | panels left | rest at once | group by group |")
    print("|---|---|---|---|---|")
    for bits in (3, 4, 5, 6):
        for k in (1, 10, 40):
            left, at_once, stepwise = shares(codes, scales, states, bits, k)
            print(f"| {bits} | {k} | {left:.1%} | {at_once:.1%} | {stepwise:.1%} |", flush=True)


if __name__ == "__main__":
    main()
