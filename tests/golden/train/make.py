"""Writes a tiny Llama, ten batches and what PyTorch makes of them in f32, in the form of shared/reference/train.

    pip install torch transformers safetensors
    python3 make.py                    # writes the files beside this one
    python3 make.py --check FOLDER     # how far this PyTorch is from a folder of that form; writes nothing

`config.json` and `model.safetensors` are the model as transformers' LlamaForCausalLM takes it. `steps.json` has the
batches (a row has T + 1 tokens: inputs are the first T, targets the last T), the first loss and gradient norm, the
logits of the first row's last position, and ten steps of torch.optim.AdamW (learning rate, loss, gradient norm before
it is clipped). `gradients.safetensors` are those of the first batch before clipping, `after10.safetensors` the weights
after the ten steps. The heads together are wider than the hidden state. Made by torch 2.15.0 and transformers 5.23.0 on
one thread; another version may differ in the last bits.
"""

import argparse
import json
import math
import pathlib
import tempfile

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "vocab_size": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "torch_dtype": "float32",
    "attention_bias": False,
    "mlp_bias": False,
}
ROWS, CONTEXT, STEPS = 2, 16, 10
WARM_UP, PEAK, FLOOR = 2, 3e-3, 3e-4
BETAS, EPSILON, DECAY, CLIP = (0.9, 0.95), 1e-8, 0.1, 1.0
SEED = 20


def load(folder):
    """The model of `folder` in f32, every tensor of its file taken and none made up."""
    model, info = LlamaForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    stored = set(load_file(folder / "model.safetensors"))
    assert stored == {name for name, _ in model.named_parameters()}, "model.safetensors has other tensors"
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    config = json.loads((folder / "config.json").read_text())
    rope = getattr(model.config, "rope_parameters", None) or {"rope_theta": model.config.rope_theta}
    assert rope["rope_theta"] == config["rope_theta"], "transformers did not take the file's rope_theta"
    assert model.config.rms_norm_eps == config["rms_norm_eps"]
    return model.train()


def learning_rate(step):
    if step < WARM_UP:
        return PEAK * (step + 1) / WARM_UP
    return FLOOR + (PEAK - FLOOR) / 2 * (1 + math.cos(math.pi * (step - WARM_UP) / (STEPS - WARM_UP)))


def loss_and_logits(model, batch):
    rows = torch.tensor(batch)
    logits = model(rows[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
    return loss, logits


def run(folder, batches):
    """What PyTorch makes of the model of `folder`: steps.json's object, the gradients and the weights afterwards."""
    model = load(folder)
    named = dict(model.named_parameters())

    loss, logits = loss_and_logits(model, batches[0])
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in named.items()}
    first = dict(
        first_loss=loss.item(),
        first_gradient_norm=math.sqrt(sum(g.double().square().sum().item() for g in gradients.values())),
        last_position_logits_of_first_row=logits[0, -1].tolist(),
    )
    model.zero_grad()

    groups = [
        dict(params=[p for p in named.values() if p.dim() > 1], weight_decay=DECAY),
        dict(params=[p for p in named.values() if p.dim() == 1], weight_decay=0.0),
    ]
    optimizer = torch.optim.AdamW(groups, lr=PEAK, betas=BETAS, eps=EPSILON)
    trajectory = []
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        loss, _ = loss_and_logits(model, batch)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        trajectory.append(dict(
            step=step, learning_rate=learning_rate(step), loss=loss.item(), gradient_norm=norm.item()))
    adamw = dict(beta1=BETAS[0], beta2=BETAS[1], epsilon=EPSILON, weight_decay_on_matrices=DECAY, clip=CLIP)
    after = {name: p.detach().clone() for name, p in named.items()}
    return dict(batches=batches, **first, adamw=adamw, trajectory=trajectory), gradients, after


def random_weights(folder):
    """Norms about 1 with deviation 0.1, matrices about 0 with deviation 0.05, drawn in the order of their names."""
    draw = torch.Generator().manual_seed(SEED)
    shapes = {name: p.shape for name, p in LlamaForCausalLM(
        LlamaForCausalLM.config_class(**CONFIG)).named_parameters()}
    weights = {}
    for name in sorted(shapes):
        noise = torch.randn(shapes[name], generator=draw)
        weights[name] = 1 + 0.1 * noise if noise.dim() == 1 else 0.05 * noise
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def random_batches():
    """Rows that count upwards by 1 to 4, modulo the vocabulary, from a random token."""
    draw = torch.Generator().manual_seed(SEED + 1)

    def row():
        start = torch.randint(CONFIG["vocab_size"], (), generator=draw).item()
        stride = torch.randint(1, 5, (), generator=draw).item()
        return [(start + stride * i) % CONFIG["vocab_size"] for i in range(CONTEXT + 1)]

    return [[row() for _ in range(ROWS)] for _ in range(STEPS)]


def make(folder):
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1))
    random_weights(folder)
    steps, gradients, after = run(folder, random_batches())
    (folder / "steps.json").write_text(json.dumps(steps))
    save_file(gradients, folder / "gradients.safetensors")
    save_file(after, folder / "after10.safetensors")


def relative(found, expected):
    found, expected = torch.as_tensor(found).double(), torch.as_tensor(expected).double()
    return ((found - expected).norm() / expected.norm()).item()


def check(folder):
    """Relative differences, norm of the difference over norm; a step's are of its one number."""
    expected = json.loads((folder / "steps.json").read_text())
    steps, gradients, after = run(folder, expected["batches"])
    assert list(steps) == list(expected), (list(steps), list(expected))
    assert steps["adamw"] == expected["adamw"], expected["adamw"]

    def worst(found, file):
        stored = load_file(folder / file)
        assert stored.keys() == found.keys(), file
        value, name = max((relative(found[name], stored[name]), name) for name in stored)
        return {"relative": value, "tensor": name}

    def worst_step(key):
        pairs = list(zip(steps["trajectory"], expected["trajectory"], strict=True))
        return max(abs(a[key] - b[key]) / abs(b[key]) for a, b in pairs)

    logits = "last_position_logits_of_first_row"
    return {
        "first_loss": relative(steps["first_loss"], expected["first_loss"]),
        "first_gradient_norm": relative(steps["first_gradient_norm"], expected["first_gradient_norm"]),
        "logits": relative(steps[logits], expected[logits]),
        "worst_gradient": worst(gradients, "gradients.safetensors"),
        "worst_learning_rate": worst_step("learning_rate"),
        "worst_step_loss": worst_step("loss"),
        "worst_step_gradient_norm": worst_step("gradient_norm"),
        "worst_weight_after10": worst(after, "after10.safetensors"),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    parser.add_argument("--check", metavar="FOLDER", type=pathlib.Path)
    arguments = parser.parse_args()
    disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if arguments.check:
        print(json.dumps(check(arguments.check), indent=1))
    else:
        here = pathlib.Path(__file__).parent
        # Beside the finished files only when all are made.
        with tempfile.TemporaryDirectory(dir=here) as temporary:
            make(pathlib.Path(temporary))
            for file in pathlib.Path(temporary).iterdir():
                file.replace(here / file.name)
