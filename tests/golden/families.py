"""Writes families.json: what transformers makes of some tokens with tiny random models of every family.

The weights are not stored: `weights` below and tests/tests/families.rs make the same ones from the tensors' names. They
are exact in f32, bf16 and q8. Sequences are longer than the contexts of pretraining and than the sliding windows.

    OMP_NUM_THREADS=1 python3 families.py > families.json     # needs torch and transformers 5

With a folder as the argument, the models are written there instead, for against_llama_cpp_families.py.
"""

import json
import pathlib
import sys

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

VOCAB = 320
# Tokens of the prompt, and those decoded after it.
PROMPT, DECODED = 112, 8

LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)


def yarn(**more):
    return dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=48) | more


def model(name, kind, seed, hidden, heads, kv_heads, head_dim, ffn, layers=4, **more):
    classes = dict(llama="Llama", qwen2="Qwen2", qwen3="Qwen3", mistral="Mistral", ministral="Ministral",
                   smollm3="SmolLM3")
    config = dict(architectures=[classes[kind] + "ForCausalLM"], model_type=kind, hidden_act="silu", hidden_size=hidden,
                  intermediate_size=ffn, num_hidden_layers=layers, num_attention_heads=heads,
                  num_key_value_heads=kv_heads, vocab_size=VOCAB, max_position_embeddings=256, rms_norm_eps=1e-5,
                  rope_theta=10000.0, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=None)
    if head_dim:
        config["head_dim"] = head_dim
    return dict(name=name, seed=seed, config=config | more)


FULL, SLIDING = "full_attention", "sliding_attention"
MODELS = [
    # `rope_scaling` beside `rope_theta` is the spelling of transformers 4, `rope_parameters` that of 5.
    model("Llama 3, tied", "llama", 1, 96, 6, 2, 16, 70, rope_theta=500000.0, rope_scaling=LLAMA3),
    model("Llama 3, own head, type spelled out anew", "llama", 2, 66, 3, 1, 22, 96, layers=5, tie_word_embeddings=False,
          rope_parameters=LLAMA3 | dict(rope_theta=300000.0, factor=32.0, low_freq_factor=1.5, high_freq_factor=6.0)),
    model("Llama, linear", "llama", 3, 48, 2, 2, 24, 64, rope_scaling=dict(type="linear", factor=4.0)),
    model("Llama, YaRN", "llama", 4, 64, 4, 2, 16, 96, rope_scaling=yarn()),
    model("Llama, YaRN with every key", "llama", 5, 96, 3, 1, 32, 70, rope_theta=50000.0,
          rope_scaling=yarn(factor=2.5, beta_fast=20.0, beta_slow=2.0, truncate=False, mscale=0.8, mscale_all_dim=0.5)),
    model("Qwen2", "qwen2", 6, 64, 4, 2, None, 96, rope_theta=1000000.0, use_sliding_window=False, sliding_window=32,
          max_window_layers=2),
    model("Qwen2, windows from layer 2 on", "qwen2", 7, 60, 3, 1, None, 45, layers=5, use_sliding_window=True,
          sliding_window=20, max_window_layers=2, tie_word_embeddings=False),
    model("Qwen2, YaRN", "qwen2", 8, 96, 6, 2, None, 64, rope_scaling=yarn(attention_factor=1.3)),
    model("Qwen3", "qwen3", 9, 64, 4, 2, 24, 96, rope_theta=1000000.0, attention_bias=False),
    model("Qwen3, YaRN, own head", "qwen3", 10, 48, 3, 1, 34, 70, layers=6, tie_word_embeddings=False,
          rope_parameters=yarn(rope_theta=1000000.0)),
    model("Qwen3, layers of both kinds", "qwen3", 11, 64, 2, 1, 32, 64, use_sliding_window=True, sliding_window=17,
          layer_types=[SLIDING, FULL, SLIDING, FULL]),
    model("SmolLM3", "smollm3", 12, 64, 4, 1, None, 96, layers=6, rope_theta=5000000.0),
    model("SmolLM3, every third layer, windows there", "smollm3", 13, 96, 4, 2, None, 70, layers=6,
          no_rope_layer_interval=3, use_sliding_window=True, sliding_window=24),
    model("SmolLM3, YaRN, a list of layers", "smollm3", 14, 48, 2, 2, None, 64, layers=5, no_rope_layers=[1, 0, 0, 1, 1],
          rope_scaling=yarn()),
    model("Mistral", "mistral", 15, 64, 4, 2, 18, 96, sliding_window=33),
    model("Mistral without a window", "mistral", 16, 96, 4, 2, None, 70, sliding_window=None, tie_word_embeddings=False),
    model("Ministral, three windows, then none", "ministral", 17, 64, 4, 2, 16, 96, layers=6, sliding_window=31,
          layer_types=[SLIDING, SLIDING, SLIDING, FULL, SLIDING, SLIDING], rope_theta=1000000.0),
]


def random(seed, count):
    """SplitMix64."""
    with np.errstate(over="ignore"):
        x = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def weights(seed, name, shape):
    h = seed
    for b in name.encode():
        h = h * 31 % 1_000_003 + b
    numbers = random(h, int(np.prod(shape))).reshape(shape)
    if name.endswith("norm.weight"):
        return 1.0 + ((numbers % np.uint64(64)).astype(np.float64) - 32.0) / 64.0
    n = (numbers % np.uint64(255)).astype(np.float64) - 127.0
    if len(shape) == 2:
        # Every group of 32 reaches an end of the grid, so that a quantizer finds the grid's step.
        n = np.where(np.arange(shape[1]) % 32 == 0, np.where(n < 0, -127.0, 127.0), n)
    return n / 512.0


def tokens(seed, count=PROMPT + DECODED):
    return (random(1000 + seed, count) % np.uint64(VOCAB)).astype(int).tolist()


def build(entry):
    folder = pathlib.Path(__file__).parent / "families.tmp"
    folder.mkdir()
    try:
        # Through a file, as any config.json.
        (folder / "config.json").write_text(json.dumps(entry["config"]))
        config = AutoConfig.from_pretrained(folder)
    finally:
        (folder / "config.json").unlink()
        folder.rmdir()
    network = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(torch.tensor(weights(entry["seed"], name, tuple(parameter.shape))))
    return network


def golden():
    lines = []
    for entry in MODELS:
        network, ids = build(entry), tokens(entry["seed"])
        shapes = {name: list(p.shape) for name, p in network.named_parameters()}
        with torch.no_grad():
            # In f64, but for the frequencies, which transformers computes in f32.
            logits = network.double()(torch.tensor([ids])).logits[0]
        rows = {key: [float(f"{x:.6g}") for x in logits[at].tolist()] for key, at in (("prompt", PROMPT - 1), ("last", -1))}
        lines.append(json.dumps(entry | dict(tensors=shapes, tokens=ids, prompt_tokens=PROMPT) | rows))
        print(entry["name"], "largest logit", float(logits.abs().max()), file=sys.stderr)
    print("[\n" + ",\n".join(lines) + "\n]")


if __name__ == "__main__":
    golden()
