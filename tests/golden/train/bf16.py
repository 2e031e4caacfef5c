"""Writes a small Llama with heads of 64 and ten steps of it in PyTorch, in f32 and in bf16, to bf16/ beside this file.

    pip install torch transformers safetensors
    python3 bf16.py

In bf16 the model and its activations are bf16, the masters and the optimizer f32: every step rounds the masters to the
model's weights, and widens its gradients. This is done twice, with two implementations of attention (eager, sdpa), so that
their distance is a measure of the noise; their distance to the f32 run is another.

`config.json` and `model.safetensors` (bf16, exact) are the start. `steps.json` has batches, hyperparameters and the losses
of each run; `update-f32.safetensors` and `update-bf16.safetensors` the changes of the weights after the last step, of the
eager run, as bf16. `noise` in `steps.json` are distances (norm of the difference over the norm) of losses and updates.
"""

import json
import pathlib
import tempfile

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

from make import BETAS, CLIP, DECAY, EPSILON, learning_rate

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "vocab_size": 100,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "torch_dtype": "bfloat16",
    "attention_bias": False,
    "mlp_bias": False,
}
ROWS, CONTEXT, STEPS, SEED = 4, 48, 10, 22


def start():
    """Norms about 1 with deviation 0.1, matrices about 0 with deviation 0.08, all of them bf16 numbers."""
    draw = torch.Generator().manual_seed(SEED)
    shapes = {name: p.shape for name, p in LlamaForCausalLM(LlamaConfig(**CONFIG)).named_parameters()}
    weights = {}
    for name in sorted(shapes):
        noise = torch.randn(shapes[name], generator=draw)
        weights[name] = (1 + 0.1 * noise if noise.dim() == 1 else 0.08 * noise).bfloat16()
    return weights


def random_batches():
    """Rows that count upwards by 1 to 4, modulo the vocabulary, from a random token."""
    draw = torch.Generator().manual_seed(SEED + 1)

    def row():
        first = torch.randint(CONFIG["vocab_size"], (), generator=draw).item()
        stride = torch.randint(1, 5, (), generator=draw).item()
        return [(first + stride * i) % CONFIG["vocab_size"] for i in range(CONTEXT + 1)]

    return [[row() for _ in range(ROWS)] for _ in range(STEPS)]


def run(weights, batches, dtype, attention):
    """The losses, and the changes of the weights."""
    config = LlamaConfig(**CONFIG)
    config._attn_implementation = attention
    model = LlamaForCausalLM(config).to(dtype).train()
    named = dict(model.named_parameters())
    masters = {name: weights[name].float().requires_grad_() for name in named}
    groups = [
        dict(params=[p for p in masters.values() if p.dim() > 1], weight_decay=DECAY),
        dict(params=[p for p in masters.values() if p.dim() == 1], weight_decay=0.0),
    ]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate(0), betas=BETAS, eps=EPSILON)
    losses = []
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        with torch.no_grad():
            for name, p in named.items():
                p.copy_(masters[name])
        rows = torch.tensor(batch)
        logits = model(rows[:, :-1]).logits.float()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        model.zero_grad()
        loss.backward()
        for name, p in named.items():
            masters[name].grad = p.grad.float()
        torch.nn.utils.clip_grad_norm_(masters.values(), CLIP)
        optimizer.step()
        losses.append(loss.item())
    return losses, {name: (masters[name].detach() - weights[name].float()) for name in named}


def distance(found, expected):
    found, expected = [torch.as_tensor(x).double() for x in (found, expected)]
    return ((found - expected).norm() / expected.norm()).item()


def flat(update):
    return torch.cat([update[name].flatten() for name in sorted(update)])


def make(folder):
    weights, batches = start(), random_batches()
    runs = {
        "f32": run(weights, batches, torch.float32, "eager"),
        "bf16": run(weights, batches, torch.bfloat16, "eager"),
        "bf16_sdpa": run(weights, batches, torch.bfloat16, "sdpa"),
    }
    noise = {
        f"{a} to {b}": dict(
            losses=distance(runs[a][0], runs[b][0]), update=distance(flat(runs[a][1]), flat(runs[b][1])))
        for a, b in (("bf16", "f32"), ("bf16_sdpa", "f32"), ("bf16_sdpa", "bf16"))
    }
    adamw = dict(beta1=BETAS[0], beta2=BETAS[1], epsilon=EPSILON, weight_decay_on_matrices=DECAY, clip=CLIP)
    steps = dict(
        batches=batches,
        adamw=adamw,
        learning_rates=[learning_rate(step) for step in range(STEPS)],
        losses={name: losses for name, (losses, _) in runs.items()},
        noise=noise,
    )
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1))
    (folder / "steps.json").write_text(json.dumps(steps))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for name in ("f32", "bf16"):
        update = {tensor: change.bfloat16() for tensor, change in runs[name][1].items()}
        save_file(update, folder / f"update-{name}.safetensors")
    print(json.dumps(noise, indent=1))


if __name__ == "__main__":
    disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    to = pathlib.Path(__file__).parent / "bf16"
    to.mkdir(exist_ok=True)
    # Beside the finished files only when all are made.
    with tempfile.TemporaryDirectory(dir=to) as temporary:
        make(pathlib.Path(temporary))
        for file in pathlib.Path(temporary).iterdir():
            file.replace(to / file.name)
