"""Compares a real model with a random adapter against the PEFT library: log-likelihoods in the exact mode, merged and not.

    OMP_NUM_THREADS=1 python3 against_peft.py MODEL_FOLDER THIMBLE        # needs torch, transformers 5 and peft

MODEL_FOLDER is a Hugging Face folder, THIMBLE the command. Each continuation's log-likelihood must be within 1e-4 per token.
For SmolLM2-135M-Instruct and an adapter of rank 16 on every projection, logits were within 6.3e-5 of PEFT's (the largest is 29).
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import peft
import torch
import transformers

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LINES = [
    ("The capital of France is", " Paris, which lies on the Seine."),
    ("In the beginning", " there was a plain text file of forty lines."),
    ("Water boils at", " one hundred degrees Celsius at sea level."),
]
BOUND = 1e-4


def likelihoods(network, tokenizer):
    """Sum of log-probabilities and number of tokens of each continuation."""
    for context, continuation in LINES:
        ids, start = tokenizer(context + continuation).input_ids, len(tokenizer(context).input_ids)
        with torch.no_grad():
            rows = network(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        yield sum(rows[at - 1, ids[at]].item() for at in range(start, len(ids))), len(ids) - start


def main():
    folder, thimble = sys.argv[1:]
    torch.manual_seed(1)
    network = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    network = peft.get_peft_model(network, peft.LoraConfig(r=16, lora_alpha=32, target_modules=ALL, task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.02)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    expected = list(likelihoods(network, tokenizer))
    with network.disable_adapter():
        plain = list(likelihoods(network, tokenizer))
    worst = 0.0
    with tempfile.TemporaryDirectory() as home:
        home = pathlib.Path(home)
        network.save_pretrained(home / "peft")
        lines = [json.dumps(dict(context=context, continuation=continuation)) for context, continuation in LINES]
        (home / "lines.jsonl").write_text("\n".join(lines) + "\n")

        def run(*arguments):
            return subprocess.run([thimble, *map(str, arguments)], check=True, capture_output=True, text=True).stdout

        run("convert", home / "peft", "-o", home / "x.adapter", "--base", folder)
        run("convert", folder, "-o", home / "plain.thimble")
        run("convert", folder, "-o", home / "merged.thimble", "--merge", home / "x.adapter", "--quant", "f32")
        score = ["score", "--exact", "--input", home / "lines.jsonl"]
        adapted = run(*score, home / "plain.thimble", "--adapter", home / "x.adapter")
        merged = run(*score, home / "merged.thimble")
        for name, output in (("adapter", adapted), ("merged", merged)):
            for line, (likelihood, tokens), (before, _) in zip(output.splitlines(), expected, plain):
                found = json.loads(line)
                assert found["tokens"] == tokens, (found, tokens)
                off = abs(found["loglikelihood"] - likelihood) / tokens
                worst = max(worst, off)
                print(f"{name}: {found['loglikelihood']:.6f}, PEFT {likelihood:.6f}, without {before:.6f}; off by {off:.1e} per token")
    if worst > BOUND:
        sys.exit(f"off by {worst:.1e} per token, expected at most {BOUND:.0e}")


if __name__ == "__main__":
    main()
