"""Writes adapters.json and the folders in adapters/: what PEFT makes of some tokens with adapters on models of families.py.

Each folder is an adapter as PEFT saves it: of every matrix, of some with rank-stabilized scale and a rank of its own for one
kind, and in bf16. adapters.json has for each case the name of the model, the adapters with their weights, and the logits in f64
after the prompt and after the last token of families.json.

    OMP_NUM_THREADS=1 python3 adapters.py        # needs torch, transformers 5 and peft

Made by torch 2.15.0, transformers 5.24.0 and peft 0.21.2.
"""

import json
import pathlib
import shutil

import numpy as np
import peft
import torch
from families import MODELS, PROMPT, build, random, tokens

FOLDER = pathlib.Path(__file__).parent / "adapters"
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ADAPTERS = {
    "all": dict(seed=1, options=dict(r=3, lora_alpha=6.0, target_modules=ALL)),
    "stabilized": dict(seed=2, options=dict(
        r=2, lora_alpha=1.5, use_rslora=True, target_modules=["q_proj", "v_proj", "up_proj", "down_proj"],
        rank_pattern={"up_proj": 5})),
    "bf16": dict(seed=3, options=dict(r=1, lora_alpha=0.5, target_modules=ALL), dtype=torch.bfloat16),
}
CASES = [
    ("Llama 3, tied", [("all", 1.0)]),
    ("Llama 3, tied", [("bf16", 1.0)]),
    ("Llama 3, tied", [("all", 0.5), ("bf16", -2.0)]),
    ("Qwen2, YaRN", [("stabilized", 1.0)]),
]
MODEL_OF = {"all": "Llama 3, tied", "bf16": "Llama 3, tied", "stabilized": "Qwen2, YaRN"}


def fill(network, seed):
    """Gives A and B numbers; PEFT begins with a B of zeros."""
    with torch.no_grad():
        for index, (name, parameter) in enumerate(sorted(network.named_parameters())):
            if "lora_" in name:
                numbers = random(seed * 1000 + index, parameter.numel()).astype(np.float64) / 2.0**64 - 0.5
                size = 2.0 / parameter.shape[1] ** 0.5
                parameter.copy_(torch.tensor(numbers * size).reshape(parameter.shape))


def entry_of(model):
    return next(entry for entry in MODELS if entry["name"] == model)


def main():
    torch.set_num_threads(1)
    shutil.rmtree(FOLDER, ignore_errors=True)
    for name, adapter in ADAPTERS.items():
        config = peft.LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, bias="none", **adapter["options"])
        network = peft.get_peft_model(build(entry_of(MODEL_OF[name])), config)
        fill(network, adapter["seed"])
        network.to(adapter.get("dtype", torch.float32)).save_pretrained(FOLDER / name)
        (FOLDER / name / "README.md").unlink()
        # The base model's folder was a temporary one.
        saved = FOLDER / name / "adapter_config.json"
        saved.write_text(json.dumps(json.loads(saved.read_text()) | dict(base_model_name_or_path=None), indent=2) + "\n")
    cases = []
    for model, weighted in CASES:
        entry = entry_of(model)
        network = build(entry)
        for index, (name, _) in enumerate(weighted):
            if index == 0:
                network = peft.PeftModel.from_pretrained(network, FOLDER / name, adapter_name=name)
            else:
                network.load_adapter(FOLDER / name, adapter_name=name)
        if [weight for _, weight in weighted] != [1.0]:
            names, weights = zip(*weighted)
            network.add_weighted_adapter(list(names), list(weights), "mixed", combination_type="cat")
            network.set_adapter("mixed")
        network = network.double().eval()
        with torch.no_grad():
            logits = network(torch.tensor([tokens(entry["seed"])])).logits[0]
            with network.disable_adapter():
                plain = network(torch.tensor([tokens(entry["seed"])])).logits[0]
        print(model, weighted, "logits moved by", float((logits - plain).abs().max()), "of", float(plain.abs().max()))
        rows = {key: [float(f"{x:.6g}") for x in logits[at].tolist()] for key, at in (("prompt", PROMPT - 1), ("last", -1))}
        cases.append(json.dumps(dict(model=model, adapters=weighted) | rows))
    pathlib.Path(__file__).with_suffix(".json").write_text("[\n" + ",\n".join(cases) + "\n]\n")


if __name__ == "__main__":
    main()
