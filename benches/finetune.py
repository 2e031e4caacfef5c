"""Tunes a model with LoRA on conversations, in turns with thimble-train and with PyTorch (transformers and PEFT).

    pip install torch transformers peft
    python3 benches/finetune.py --command target/release/thimble-train --model FOLDER --data conversations.jsonl

`--model` is a Hugging Face folder, `--data` JSON Lines with `messages`. Each turn is one epoch over the same conversations
in a process of its own, in the order A B A B. Printed as one JSON line: for each side `tokens_per_second`, the tokens of the
conversations over the time of the steps (padding counts as time, not as tokens), as the median over the turns, the turns
themselves, and `peak_rss_bytes` of the process, interpreter and libraries included.

The PyTorch side is what an experienced user writes: PEFT on all linear layers, f32, `sdpa` attention, micro-batches of
conversations of like length, padded to the longest and at most `--tokens` tokens with the padding, fused AdamW, gradients
clipped to 1.0. Both sides train `--rank` on all linear layers and take an optimizer step per about `--tokens` tokens.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time


def conversations(model, data, context):
    """Token ids of each conversation, rendered by the model's own template and cut to the context."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    rows = [json.loads(line)["messages"] for line in pathlib.Path(data).read_text().splitlines() if line.strip()]
    return [tokenizer.apply_chat_template(row, return_dict=False)[:context] for row in rows]


def micro_batches(rows, tokens):
    """Rows of like length, at most `tokens` tokens a batch with the padding."""
    batches, batch = [], []
    for row in sorted(rows, key=len):
        if batch and (len(batch) + 1) * len(row) > tokens:
            batches.append(batch)
            batch = []
        batch.append(row)
    return [*batches, batch]


def pytorch(args):
    import peft
    import torch
    import transformers

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    rows = conversations(args.model, args.data, args.context)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        args.model, dtype=torch.float32, attn_implementation="sdpa")
    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = peft.get_peft_model(model, peft.LoraConfig(
        r=args.rank, lora_alpha=2 * args.rank, target_modules=modules, task_type="CAUSAL_LM")).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    seconds, counted = [], 0
    for batch in micro_batches(rows, args.tokens):
        start = time.perf_counter()
        longest = max(map(len, batch))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in batch])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch])
        loss = model(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        seconds.append(time.perf_counter() - start)
        counted += sum(map(len, batch))
    print(json.dumps({"tokens": counted, "seconds": sum(seconds), "loss": loss.item()}))


def run(command):
    """Output and peak resident memory of a process."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {process.returncode}")
    return output, usage.ru_maxrss * 1024


def thimble(args, tokens):
    with tempfile.TemporaryDirectory() as home:
        folder = pathlib.Path(home) / "run"
        command = [
            args.command, "finetune", args.model, "--data", args.data, "--lora", str(args.rank), "--run", str(folder),
            "--threads", str(args.threads), "--quiet", "--epochs", "1", "--context", str(args.context),
            "--batch", str(max(1, args.tokens // args.context)),
        ]
        for override in args.set:
            command += ["--set", override]
        _, peak = run(command)
        events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        steps = [event for event in events if event.get("kind", event.get("event")) == "step"]
        return {"tokens": tokens, "seconds": sum(step["seconds"] for step in steps), "peak": peak}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--command", default="target/release/thimble-train")
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], help="a key of the recipe, KEY=VALUE")
    parser.add_argument("--pytorch", action="store_true", help="one turn of the PyTorch side")
    args = parser.parse_args()
    if args.pytorch:
        return pytorch(args)
    tokens = sum(map(len, conversations(args.model, args.data, args.context)))
    turns = {"thimble": [], "pytorch": []}
    for _ in range(args.turns):
        turns["thimble"].append(thimble(args, tokens))
        output, peak = run([sys.executable, *sys.argv, "--pytorch"])
        turns["pytorch"].append(json.loads(output.splitlines()[-1]) | {"peak": peak})
    report = {}
    for side, found in turns.items():
        speeds = [turn["tokens"] / turn["seconds"] for turn in found]
        report[side] = {
            "tokens_per_second": statistics.median(speeds),
            "turns": speeds,
            "peak_rss_bytes": max(turn["peak"] for turn in found),
        }
    report["ratio"] = report["thimble"]["tokens_per_second"] / report["pytorch"]["tokens_per_second"]
    print(json.dumps(report))


if __name__ == "__main__":
    main()
