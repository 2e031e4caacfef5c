"""Writes what PyTorch makes of small models of each family: loss and gradients, in f32.

    pip install torch transformers safetensors
    python3 families.py                # writes families.json and families.safetensors beside this file

`families.json` has for each case the `config.json` that transformers writes, a batch (a row has T + 1 tokens: inputs
are the first T, targets the last T) and the mean loss. `families.safetensors` has the gradients as `CASE/TENSOR`.
Weights follow a rule that `trainer/tests/options.rs` repeats, see `weight`. Made by torch 2.15.0 and transformers 5.24.0
on one thread; another version may differ in the last bits.
"""

import json
import pathlib

import numpy
import torch
import transformers
from safetensors.torch import save_file

CONTEXT, ROWS = 24, 2
SIZES = dict(
    vocab_size=24, hidden_size=12, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, head_dim=8, max_position_embeddings=64, rms_norm_eps=1e-5, bos_token_id=0,
    eos_token_id=0, pad_token_id=None, attn_implementation="eager",
)


def rope(theta, kind="default", **scaling):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=theta, **scaling))


YARN = dict(max_position_embeddings=2048, **rope(
    100.0, "yarn", factor=4.0, original_max_position_embeddings=512))
# The class's prefix and its options.
CASES = {
    # Wavelengths 6, 20, 63 and 199: kept, interpolated, and two divided.
    "llama3": ("Llama", dict(tie_word_embeddings=True, **rope(
        100.0, "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32))),
    "linear": ("Llama", dict(tie_word_embeddings=False, **rope(1e4, "linear", factor=4.0))),
    "yarn": ("Llama", dict(tie_word_embeddings=True, **YARN)),
    # Heads of hidden / heads: the class has no head_dim.
    "qwen2": ("Qwen2", dict(tie_word_embeddings=True, head_dim=6, **rope(1e4))),
    "qwen3": ("Qwen3", dict(tie_word_embeddings=True, **rope(1e6))),
    "smollm3": ("SmolLM3", dict(
        tie_word_embeddings=True, num_hidden_layers=4, no_rope_layers=[1, 1, 1, 0], head_dim=6, **rope(1e4))),
    "mistral": ("Mistral", dict(tie_word_embeddings=False, sliding_window=5, **rope(1e4))),
    # Everything at once: norms of heads, YaRN, and a window in the second layer.
    "mixed": ("Qwen3", dict(
        tie_word_embeddings=False, use_sliding_window=True, sliding_window=7, max_window_layers=1, **YARN)),
}


def weight(name, shape):
    """Numbers in 0..1 of a congruential generator, seeded by the name's FNV-1a hash; then centred and scaled."""
    mask, state = (1 << 64) - 1, 0xCBF29CE484222325
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001B3 & mask
    numbers = numpy.empty(shape).reshape(-1)
    for i in range(numbers.size):
        state = (state * 6364136223846793005 + 1442695040888963407) & mask
        numbers[i] = (state >> 33) / (1 << 31)
    numbers = (numbers - 0.5) * 0.6
    if name.endswith("norm.weight"):
        numbers += 1.0
    return torch.from_numpy(numbers.astype(numpy.float32)).reshape(shape)


def run(prefix, options, batch):
    config = getattr(transformers, prefix + "Config")(**{**SIZES, **options})
    model = getattr(transformers, prefix + "ForCausalLM")(config).float().train()
    named = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(weight(name, parameter.shape))
    rows = torch.tensor(batch)
    logits = model(rows[:, :-1], use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
    loss.backward()
    config.architectures = [prefix + "ForCausalLM"]
    return config.to_diff_dict(), loss.item(), {name: p.grad.clone() for name, p in named.items()}


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    draw = torch.Generator().manual_seed(20)
    batch = torch.randint(SIZES["vocab_size"], (ROWS, CONTEXT + 1), generator=draw).tolist()
    cases, gradients = {}, {}
    for name, (prefix, options) in CASES.items():
        config, loss, found = run(prefix, options, batch)
        cases[name] = dict(config=config, loss=loss)
        gradients |= {f"{name}/{tensor}": gradient for tensor, gradient in found.items()}
    here = pathlib.Path(__file__).parent
    (here / "families.json").write_text(json.dumps(dict(batch=batch, cases=cases), indent=1) + "\n")
    save_file(gradients, here / "families.safetensors")
    (here / "families.safetensors").chmod(0o644)


if __name__ == "__main__":
    main()
