"""Writes what PyTorch and PEFT make of low-rank adapters on small models: loss, gradients, and three AdamW steps, in f32.

    pip install torch transformers peft safetensors
    python3 adapters.py        # reads families.json; writes adapters.json and adapters.safetensors beside this file, and ../peft

`adapters.json` has for each case the model (a case of `families.json`), rank, alpha, adapted modules, the mean loss of
the batch of `families.json` and those of the steps. `adapters.safetensors` has `CASE/gradient/TENSOR` and
`CASE/after/TENSOR`. Weights follow the rule of `families.py`, by the names of the PEFT library. `../peft` is the first case's
adapter before the steps, as PEFT saves it. Made by torch 2.15.0, transformers 5.24.0 and peft 0.21.2 on one thread.
"""

import json
import pathlib
import shutil

import peft
import torch
from families import CASES, SIZES, weight
from safetensors.torch import save_file
import transformers

HERE = pathlib.Path(__file__).parent
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ADAPTERS = {
    "all": dict(model="qwen2", rank=4, alpha=6.0, modules=ALL),
    "some": dict(model="mixed", rank=3, alpha=6.0, modules=["q_proj", "v_proj", "up_proj", "down_proj"]),
}
STEPS, RATE = 3, 1e-2


def build(case):
    prefix, options = CASES[case["model"]]
    config = getattr(transformers, prefix + "Config")(**{**SIZES, **options})
    base = getattr(transformers, prefix + "ForCausalLM")(config).float()
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            parameter.copy_(weight(name, parameter.shape))
    lora = peft.LoraConfig(
        r=case["rank"], lora_alpha=case["alpha"], target_modules=case["modules"], lora_dropout=0.0, bias="none",
        task_type="CAUSAL_LM", base_model_name_or_path="small")
    model = peft.get_peft_model(base, lora).train()
    named = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            name = name.replace(".default", "")
            named[name] = parameter
            with torch.no_grad():
                parameter.copy_(weight(name, parameter.shape))
    return model, named


def loss_of(model, rows):
    logits = model(rows[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    rows = torch.tensor(json.loads((HERE / "families.json").read_text())["batch"])
    cases, tensors = {}, {}
    for name, case in ADAPTERS.items():
        model, named = build(case)
        if name == "all":
            shutil.rmtree(HERE.parent / "peft", ignore_errors=True)
            model.save_pretrained(HERE.parent / "peft")
            (HERE.parent / "peft" / "README.md").unlink()
        optimizer = torch.optim.AdamW(named.values(), lr=RATE, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
        losses = []
        for step in range(STEPS):
            optimizer.zero_grad()
            loss = loss_of(model, rows)
            loss.backward()
            losses.append(loss.item())
            if step == 0:
                tensors |= {f"{name}/gradient/{key}": p.grad.clone() for key, p in named.items()}
            optimizer.step()
        tensors |= {f"{name}/after/{key}": p.detach().clone() for key, p in named.items()}
        cases[name] = dict(case, losses=losses)
    (HERE / "adapters.json").write_text(json.dumps(cases, indent=1) + "\n")
    save_file(tensors, HERE / "adapters.safetensors")
    for file in [HERE / "adapters.safetensors", *(HERE.parent / "peft").iterdir()]:
        file.chmod(0o644)


if __name__ == "__main__":
    main()
