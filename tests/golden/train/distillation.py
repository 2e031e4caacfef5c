"""Writes what PyTorch makes of a distillation step in f32: distillation.json and distillation.safetensors.

    pip install torch transformers safetensors
    python3 distillation.py            # writes the files beside this one

The teacher is `model.safetensors`, the student `after10.safetensors`, the batch the first of `steps.json`. Every fifth
target has weight 0, the others one over their number. `distillation.json` has the weights and the sum of KL(teacher ||
student) in nats over the targets of weight other than 0, `distillation.safetensors` the gradient of the weighted sum
with respect to the student. Made by torch 2.15.0 and transformers 5.24.0 on one thread.
"""

import json
import pathlib

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

HERE = pathlib.Path(__file__).parent


def main():
    torch.set_num_threads(1)
    teacher, student = (
        LlamaForCausalLM.from_pretrained(HERE, dtype=torch.float32, attn_implementation="eager") for _ in range(2))
    student.load_state_dict(load_file(HERE / "after10.safetensors"), strict=False)
    rows = torch.tensor(json.loads((HERE / "steps.json").read_text())["batches"][0])[:, :-1]
    used = torch.tensor([index % 5 != 0 for index in range(rows.numel())])
    weights = used / used.sum()
    with torch.no_grad():
        expected = teacher(rows).logits.flatten(0, 1).log_softmax(-1)
    found = student(rows).logits.flatten(0, 1).log_softmax(-1)
    divergence = (expected.exp() * (expected - found)).sum(-1)
    (divergence * weights).sum().backward()
    gradients = {name: parameter.grad.contiguous() for name, parameter in student.named_parameters()}
    save_file(gradients, HERE / "distillation.safetensors")
    result = {"weights": weights.tolist(), "divergence": divergence[used].double().sum().item()}
    (HERE / "distillation.json").write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
