"""Exports small random models of each family as ONNX graphs and compares their logits in onnxruntime with those of transformers.

    python3 families_against_onnxruntime.py THIMBLE MODEL      # MODEL lends its tokenizer; a .thimble or a GGUF file

Needs the packages numpy, onnx, onnxruntime, torch and transformers.
"""

import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import torch
import transformers

from against_onnxruntime import Model, log_softmax, thimble

# Behind the end of every original context and window.
PROMPT, DECODED = 150, 6
SHAPE = dict(hidden_size=96, intermediate_size=160, num_hidden_layers=5, num_attention_heads=6, num_key_value_heads=2,
             max_position_embeddings=512, rms_norm_eps=1e-5, tie_word_embeddings=True)
LLAMA3 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=64)
LINEAR = dict(rope_type="linear", rope_theta=10000.0, factor=2.5)
PLAIN = dict(rope_type="default", rope_theta=10000.0)
FAMILIES = [
    ("Llama", dict(rope_parameters=PLAIN)),
    ("Llama", dict(rope_parameters=LLAMA3, head_dim=64, tie_word_embeddings=False)),
    ("Llama", dict(rope_parameters=LINEAR, hidden_size=80, num_attention_heads=5, num_key_value_heads=1)),
    ("Llama", dict(rope_parameters=YARN)),
    ("Llama", dict(rope_parameters=dict(YARN, attention_factor=1.3, truncate=False), num_key_value_heads=6)),
    ("Qwen2", dict(rope_parameters=PLAIN)),
    ("Qwen2", dict(rope_parameters=PLAIN, use_sliding_window=True, sliding_window=20, max_window_layers=2)),
    ("Qwen3", dict(rope_parameters=PLAIN, head_dim=40)),
    ("SmolLM3", dict(rope_parameters=PLAIN, no_rope_layers=[1, 1, 1, 0, 1], pad_token_id=None)),
    ("Mistral", dict(rope_parameters=PLAIN, sliding_window=33, head_dim=24)),
]


def random_model(name, options, vocab, seed):
    torch.manual_seed(seed)
    config = getattr(transformers, name + "Config")(**{**SHAPE, "vocab_size": vocab, "bos_token_id": 1, "eos_token_id": 2, **options})
    config._attn_implementation = "eager"
    model = getattr(transformers, name + "ForCausalLM")(config).float().eval()
    for key, tensor in model.named_parameters():
        if key.endswith("norm.weight"):
            tensor.data.uniform_(0.5, 1.5)
        else:
            tensor.data.normal_(0, 0.3 if key.endswith("bias") else tensor.shape[-1] ** -0.5)
    return model


def main():
    right = True
    with tempfile.TemporaryDirectory() as base:
        base = pathlib.Path(base)
        thimble("export", sys.argv[2], "-o", base / "tokenizer")
        vocab = json.loads((base / "tokenizer/config.json").read_text())["vocab_size"]
        for number, (name, options) in enumerate(FAMILIES):
            model = random_model(name, options, vocab, number)
            ids = torch.randint(3, vocab, (1, PROMPT + DECODED))
            with torch.no_grad():
                wanted = model(ids).logits[0].double().numpy()
            source = base / "source"
            model.save_pretrained(source)
            for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
                shutil.copy(base / "tokenizer" / file, source)
            found = {}
            for dtype, file in (("f32", "model.onnx"), ("f16", "model_fp16.onnx"), ("q4", "model_q4.onnx")):
                thimble("export", source, "-o", base / dtype, "--to", "onnx", "--dtype", dtype)
                session = Model(base / dtype / "onnx" / file)
                tokens = ids.tolist()[0]
                logits, cache = session.forward([tokens[:PROMPT]], session.empty())
                rows = [logits[0]]
                for token in tokens[PROMPT:]:
                    logits, cache = session.forward([[token]], cache)
                    rows.append(logits[0])
                found[dtype] = np.concatenate(rows)
                shutil.rmtree(base / dtype)
            shutil.rmtree(source)
            error = abs(found["f32"] - wanted).max() / abs(wanted).max()
            wanted = log_softmax(wanted)
            kl = {dtype: (np.exp(wanted) * (wanted - log_softmax(found[dtype]))).sum(-1).mean() for dtype in ("f16", "q4")}
            right &= error < 1e-4 and kl["f16"] < 1e-3
            print(f"{name:8} f32 {error:.1e} of the largest logit; divergence of f16 {kl['f16']:.1e}, of q4 {kl['q4']:.1e}  {options}")
    sys.exit(not right)


if __name__ == "__main__":
    main()
