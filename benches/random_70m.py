#!/usr/bin/env python3
"""Writes a Hugging Face folder with random weights in the shape of SmolLM2-70M: a model for benches, the same for both programs.

    thimble export smollm2-135m-instruct -o tokenizer          # for its tokenizer.json
    benches/random_70m.py --tokenizer tokenizer -o random-70m
    thimble convert random-70m -o q4.thimble --quant q4        # ours
    thimble convert random-70m -o q4_0.gguf --type Q4_0        # llama.cpp's

Needs numpy. The weights are normal, with standard deviations at which activations neither grow nor vanish and the
predictions are far from uniform; the same seed gives the same bytes.
"""

import argparse
import json
import math
import pathlib
import shutil
import struct

import numpy

SHAPE = {
    "vocab_size": 49152,
    "hidden_size": 384,
    "num_hidden_layers": 32,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 1024,
    "max_position_embeddings": 8192,
}


def tensors(shape):
    """Names, shapes and standard deviations, in the order of the file; 0 is a norm of ones."""
    hidden, ffn = shape["hidden_size"], shape["intermediate_size"]
    kv = hidden // shape["num_attention_heads"] * shape["num_key_value_heads"]
    yield "model.embed_tokens.weight", (shape["vocab_size"], hidden), 0.1
    # What is written to the residual stream adds up over the layers.
    last = 1 / math.sqrt(2 * shape["num_hidden_layers"])
    for layer in range(shape["num_hidden_layers"]):
        start = f"model.layers.{layer}."
        yield start + "input_layernorm.weight", (hidden,), 0
        for name, rows, columns, scale in [
            ("self_attn.q_proj", hidden, hidden, 1),
            ("self_attn.k_proj", kv, hidden, 1),
            ("self_attn.v_proj", kv, hidden, 1),
            ("self_attn.o_proj", hidden, hidden, last),
            ("mlp.gate_proj", ffn, hidden, 1),
            ("mlp.up_proj", ffn, hidden, 1),
            ("mlp.down_proj", hidden, ffn, last),
        ]:
            yield f"{start}{name}.weight", (rows, columns), scale / math.sqrt(columns)
        yield start + "post_attention_layernorm.weight", (hidden,), 0
    yield "model.norm.weight", (hidden,), 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True, help="folder with a tokenizer.json of 49,152 tokens")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    flags = parser.parse_args()
    flags.output.mkdir(parents=True, exist_ok=True)
    for name in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"]:
        if (flags.tokenizer / name).exists():
            shutil.copy(flags.tokenizer / name, flags.output / name)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5}
    config |= {"rope_theta": 100000.0, "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2}
    (flags.output / "config.json").write_text(json.dumps(config | SHAPE, indent=1))
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _ in tensors(SHAPE):
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = numpy.random.default_rng(flags.seed)
    with open(flags.output / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, shape, deviation in tensors(SHAPE):
            values = random.standard_normal(shape, numpy.float32) * deviation if deviation else numpy.ones(shape)
            file.write(values.astype("<f2").tobytes())
    print(f"wrote {flags.output} ({at / 1e6:.1f} MB of weights)")


if __name__ == "__main__":
    main()
