"""Holds the GGUF files of every family against llama.cpp, in both directions.

    python3 against_llama_cpp_families.py THIMBLE FOLDER

writes every model of families.py twice below FOLDER: as thimble's GGUF file of its Hugging Face folder, and with the
package gguf, independently of thimble. thimble has to continue both with the same greedy tokens. Where the package
llama-cpp-python is installed, so has llama.cpp, in windows that its architectures can hold. Needs torch,
transformers 5, gguf and safetensors.
"""

import json
import pathlib
import subprocess
import sys

import numpy as np
from gguf import GGUFReader, GGUFWriter, RopeScalingType
from safetensors.numpy import save_file

import families

try:
    from llama_cpp import Llama
except ImportError:
    Llama = None

PROMPT = "the cat and the dog went to the market in 1969, 2 by 2, and bought a hat"
TOKENS = 16
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def vocabulary():
    """That of tests/tests/tiny/tokenizer.rs."""
    plain = [b for b in range(256) if 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or 0xAE <= b]
    letters = [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]
    pairs = [(a, b) for a in map(chr, range(97, 123)) for b in map(chr, range(97, 123))]
    tokens = SPECIAL + letters
    pairs = pairs[: families.VOCAB - len(tokens)]
    return tokens + [a + b for a, b in pairs], [f"{a} {b}" for a, b in pairs]


def hugging_face(entry, network, folder):
    folder.mkdir(parents=True)
    tokens, merges = vocabulary()
    added = [dict(id=i, content=t, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
             for i, t in enumerate(SPECIAL)]
    level = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    tokenizer = dict(version="1.0", truncation=None, padding=None, added_tokens=added, normalizer=None,
                     pre_tokenizer=level, post_processor=None, decoder=level,
                     model=dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None,
                                end_of_word_suffix=None, fuse_unk=False, byte_fallback=False,
                                vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    (folder / "config.json").write_text(json.dumps(entry["config"]))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps(dict(eos_token="<|im_end|>")))
    weights = {name: p.detach().numpy().copy() for name, p in network.named_parameters()}
    save_file(weights, folder / "model.safetensors")


NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
         "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
         "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
         "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def permuted(weight, heads):
    """llama.cpp's order of the rows of Q and K (`LlamaModel.permute` of its converter)."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def gguf(network, path):
    """The file that llama.cpp's converter would write."""
    config = network.config
    kind = config.model_type
    architecture = {"mistral": "llama", "ministral": "llama"}.get(kind, kind)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    out = GGUFWriter(path, architecture)
    out.add_name("Tiny")
    out.add_block_count(config.num_hidden_layers)
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_key_length(head_dim)
    out.add_value_length(head_dim)
    out.add_rope_dimension_count(head_dim)
    out.add_vocab_size(config.vocab_size)
    rope = config.rope_parameters
    out.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] in ("linear", "yarn"):
        out.add_rope_scaling_type(RopeScalingType(rope["rope_type"]))
        out.add_rope_scaling_factor(rope["factor"])
    rotary = network.model.rotary_emb
    if rope["rope_type"] == "yarn":
        out.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        out.add_rope_scaling_attn_factors(rotary.attention_scaling / (0.1 * np.log(rope["factor"]) + 1))
    if rope["rope_type"] == "llama3":
        plain = 1.0 / rope["rope_theta"] ** (np.arange(0, head_dim, 2) / head_dim)
        out.add_tensor("rope_freqs.weight", (plain / rotary.inv_freq.numpy()).astype(np.float32))
    tokens, merges = vocabulary()
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list(tokens)
    out.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    out.add_token_merges(merges)
    out.add_bos_token_id(1)
    out.add_eos_token_id(2)
    out.add_add_bos_token(False)
    for name, parameter in network.named_parameters():
        weight = parameter.detach().numpy()
        if kind not in ("qwen2", "qwen3") and ".q_proj." in name:
            weight = permuted(weight, config.num_attention_heads)
        if kind not in ("qwen2", "qwen3") and ".k_proj." in name:
            weight = permuted(weight, config.num_key_value_heads)
        stem, end = name.rsplit(".", 1)
        if stem.startswith("model.layers."):
            _, _, layer, part = stem.split(".", 3)
            name = f"blk.{layer}.{NAMES[part]}.{end}"
        else:
            name = f"{NAMES[stem]}.{end}"
        out.add_tensor(name, np.ascontiguousarray(weight, dtype=np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def run(*arguments):
    done = subprocess.run([sys.argv[1], *map(str, arguments)], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None, done.stderr.strip()


def ours(path, work):
    """The prompt's ids, and thimble's greedy continuation of a source."""
    converted = work / "m.thimble"
    written, error = run("convert", path, "-o", converted)
    if written is None:
        sys.exit(f"{path}: {error}")
    text, error = run("run", converted, "--prompt", PROMPT, "--temperature", 0, "--tokens", TOKENS, "--json", "--exact")
    if text is None:
        sys.exit(f"{path}: {error}")
    answer = json.loads(text)
    return answer["prompt_ids"], answer["ids"]


def llama_cpps(path):
    model = Llama(str(path), n_ctx=256, n_threads=1, verbose=False)
    ids = model.tokenize(PROMPT.encode(), add_bos=False, special=True)
    out = []
    for token in model.generate(ids, temp=0.0, repeat_penalty=1.0):
        out.append(token)
        if len(out) == TOKENS:
            return ids, out


def main():
    folder = pathlib.Path(sys.argv[2])
    for index, entry in enumerate(families.MODELS):
        work = folder / str(index)
        network = families.build(entry)
        hugging_face(entry, network, work / "hf")
        written, reason = run("convert", work / "hf", "--to", "gguf", "-o", work / "ours.gguf")
        if written is None:
            print(entry["name"], "- not in GGUF:", reason.splitlines()[-1])
            continue
        expected = ours(work / "hf", work)
        assert ours(work / "ours.gguf", work) == expected, entry["name"]
        windows = "sliding_window" in (work / "ours.gguf").read_bytes()[:4096].decode("latin-1")
        gguf(network, work / "theirs.gguf")
        if not windows:
            assert ours(work / "theirs.gguf", work) == expected, entry["name"]
        numbers = [{t.name: np.array(t.data) for t in GGUFReader(work / f).tensors} for f in ("ours.gguf", "theirs.gguf")]
        assert numbers[0].keys() == numbers[1].keys(), entry["name"]
        assert all(np.allclose(numbers[0][n], numbers[1][n], rtol=1e-5, atol=0) for n in numbers[0]), entry["name"]
        if Llama and not windows:
            for file in ("ours.gguf", "theirs.gguf"):
                assert llama_cpps(work / file) == expected, (entry["name"], file)
        print(entry["name"], "- the same", "but the window, which llama.cpp ignores" if windows else "")


main()
