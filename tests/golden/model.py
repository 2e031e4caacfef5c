"""Writes model.json: what tiny random Llamas make of some tokens, computed in float64 with numpy.

The weights are not stored: `weights` below and tests/tests/model/golden.rs make the same ones from the tensors'
names. They lie on the grids of the quantized encodings, so that one set of values holds for several encodings.

    python3 model.py > model.json
    python3 model.py --divergence > divergence.json   # of each model with coarser weights
    python3 model.py --check FOLDER     # against PyTorch's logits of the tiny Llama in shared/reference/train
"""

import json
import struct
import sys

import numpy as np

SHAPES = [
    dict(name="like 135M: 9/3 heads of 64", hidden=96, layers=2, heads=9, kv_heads=3, head_dim=64, ffn=160,
         tied=True, theta=100000.0, eps=1e-5),
    dict(name="like 70M: 6/2 heads of 64", hidden=64, layers=3, heads=6, kv_heads=2, head_dim=64, ffn=96,
         tied=True, theta=10000.0, eps=1e-6),
    dict(name="4/4 heads of 16, own head", hidden=64, layers=2, heads=4, kv_heads=4, head_dim=16, ffn=70,
         tied=False, theta=100000.0, eps=1e-5),
    dict(name="3/1 heads of 20, nothing a multiple of 32", hidden=60, layers=2, heads=3, kv_heads=1, head_dim=20,
         ffn=45, tied=True, theta=10000.0, eps=1e-5),
    dict(name="3/1 heads of 6, own head", hidden=18, layers=2, heads=3, kv_heads=1, head_dim=6, ffn=33,
         tied=False, theta=10000.0, eps=1e-5),
    dict(name="2/1 heads of 130", hidden=48, layers=1, heads=2, kv_heads=1, head_dim=130, ffn=64, tied=True,
         theta=500000.0, eps=1e-5),
    dict(name="15/1 heads of 8", hidden=32, layers=2, heads=15, kv_heads=1, head_dim=8, ffn=40, tied=True,
         theta=100000.0, eps=1e-5),
]
VOCAB = 275
TOKENS = 75


def random(seed, count):
    """SplitMix64."""
    with np.errstate(over="ignore"):
        x = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def seed(name):
    h = 7
    for b in name.encode():
        h = h * 31 % 1_000_003 + b
    return h


def weights(name, rows, columns, grid):
    numbers = random(seed(name), (rows or 1) * columns).reshape(rows or 1, columns)
    if rows is None:
        return (1.0 + ((numbers % np.uint64(64)).astype(np.float64) - 32.0) / 64.0)[0]
    # Every group of 32 reaches the ends of its grid, so that a quantizer finds the grid's step.
    at = np.arange(columns) % 32
    if grid == "bytes":
        n = (numbers % np.uint64(255)).astype(np.float64) - 127.0
        n = np.where(at == 0, np.where(n < 0, -127.0, 127.0), n)
        return n / 512.0
    n = (numbers % np.uint64(16)).astype(np.float64)
    n = np.where(at == 0, 0.0, np.where(at == 1, 15.0, n))
    return (n - 8.0) / 32.0


class Generated:
    def __init__(self, shape, grid):
        self.shape, self.grid = shape, grid

    def __call__(self, name):
        s = self.shape
        q, kv, h, f = s["heads"] * s["head_dim"], s["kv_heads"] * s["head_dim"], s["hidden"], s["ffn"]
        sizes = {"embed_tokens": (VOCAB, h), "lm_head": (VOCAB, h), "q_proj": (q, h), "k_proj": (kv, h),
                 "v_proj": (kv, h), "o_proj": (h, q), "gate_proj": (f, h), "up_proj": (f, h), "down_proj": (h, f)}
        part = name.split(".")[-1]
        rows, columns = sizes.get(part, (None, h))
        edge = part in ("embed_tokens", "lm_head")
        return weights(name + ".weight", rows, columns, "bytes" if edge else self.grid)


def hidden_states(s, w, tokens):
    """The residual stream after the final norm, `[tokens, hidden]`."""
    d, group = s["head_dim"], s["heads"] // s["kv_heads"]

    def norm(x, weight):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + s["eps"]) * weight

    angles = np.outer(np.arange(len(tokens)), s["theta"] ** (-np.arange(0, d, 2) / d))
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]

    def rotate(x):  # [tokens, heads, d]; Hugging Face's halves
        a, b = x[..., : d // 2], x[..., d // 2 :]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    x = w("model.embed_tokens")[tokens]
    for layer in range(s["layers"]):
        p = f"model.layers.{layer}."
        n = norm(x, w(p + "input_layernorm"))
        q = rotate((n @ w(p + "self_attn.q_proj").T).reshape(len(tokens), -1, d))
        k = rotate((n @ w(p + "self_attn.k_proj").T).reshape(len(tokens), -1, d))
        v = (n @ w(p + "self_attn.v_proj").T).reshape(len(tokens), -1, d)
        k, v = k.repeat(group, 1), v.repeat(group, 1)
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(d)
        scores = np.where(np.tri(len(tokens), dtype=bool), scores, -np.inf)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        attended = np.einsum("hqk,khd->qhd", scores, v).reshape(len(tokens), -1)
        x = x + attended @ w(p + "self_attn.o_proj").T
        n = norm(x, w(p + "post_attention_layernorm"))
        gate, up = n @ w(p + "mlp.gate_proj").T, n @ w(p + "mlp.up_proj").T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w(p + "mlp.down_proj").T
    return norm(x, w("model.norm"))


def forward(s, w, tokens):
    """Logits, `[tokens, vocab]`."""
    head = w("model.embed_tokens") if s["tied"] else w("lm_head")
    return hidden_states(s, w, tokens) @ head.T


def embedding(pooled):
    return [round(x, 7) for x in (pooled / np.linalg.norm(pooled)).tolist()]


def golden():
    shapes = []
    for index, s in enumerate(SHAPES):
        tokens = (random(100 + index, TOKENS) % np.uint64(VOCAB)).astype(int)
        entry = dict(s, vocab=VOCAB, tokens=tokens.tolist())
        for grid in ("bytes", "nibbles"):
            logits = forward(s, Generated(s, grid), tokens)
            sums = np.log(np.exp(logits).sum(-1))
            scored = logits[np.arange(TOKENS - 1), tokens[1:]] - sums[:-1]
            states = hidden_states(s, Generated(s, grid), tokens)
            entry[grid] = dict(last_logits=[round(x, 6) for x in logits[-1].tolist()],
                               token_logprobs=[round(x, 6) for x in scored.tolist()],
                               mean_embedding=embedding(states.mean(0)), last_embedding=embedding(states[-1]))
        shapes.append(json.dumps(entry))
    print("[\n" + ",\n".join(shapes) + "\n]")


def divergence():
    shapes = {}
    for index, s in enumerate(SHAPES):
        tokens = (random(100 + index, TOKENS) % np.uint64(VOCAB)).astype(int)
        # Two windows, each alone.
        windows = [tokens[:40], tokens[40:]]
        kl, same, targets = [], [], []
        fine = Generated(s, "bytes")

        def coarse(name):
            w = fine(name)
            return np.floor(w * 512 / 3) * 3 / 512 if w.ndim == 2 else w

        for window in windows:
            p, q = (forward(s, w, window)[:-1] for w in (fine, coarse))
            same += (p.argmax(-1) == q.argmax(-1)).tolist()
            p, q = (x - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True))
                    - x.max(-1, keepdims=True) for x in (p, q))
            kl += (np.exp(p) * (p - q)).sum(-1).tolist()
            at = np.arange(len(window) - 1)
            targets += np.stack([p[at, window[1:]], q[at, window[1:]]], -1).tolist()
        kl, targets = np.array(kl), np.array(targets)
        shapes[s["name"]] = dict(
            positions=len(kl),
            kl=dict(mean=kl.mean(), standard_error=kl.std(ddof=1) / np.sqrt(len(kl)), median=np.median(kl),
                    percentile_90=np.percentile(kl, 90), percentile_99=np.percentile(kl, 99), maximum=kl.max()),
            top_1_agreement=np.mean(same),
            perplexity=np.exp(-targets[:, 1].mean()),
            reference_perplexity=np.exp(-targets[:, 0].mean()),
            log_probability_difference=np.abs(targets[:, 0] - targets[:, 1]).mean())
    print(json.dumps(shapes, indent=1))


def check(folder):
    with open(folder + "/model.safetensors", "rb") as file:
        data = file.read()
    length = struct.unpack("<Q", data[:8])[0]
    header, data = json.loads(data[8 : 8 + length]), data[8 + length :]

    def tensor(name):
        entry = header[name + ".weight"]
        begin, end = entry["data_offsets"]
        return np.frombuffer(data[begin:end], "<f4").reshape(entry["shape"]).astype(np.float64)

    c = json.load(open(folder + "/config.json"))
    s = dict(layers=c["num_hidden_layers"], heads=c["num_attention_heads"], kv_heads=c["num_key_value_heads"],
             head_dim=c["head_dim"], tied=c["tie_word_embeddings"], theta=c["rope_theta"], eps=c["rms_norm_eps"])
    steps = json.load(open(folder + "/steps.json"))
    expected = np.array(steps["last_position_logits_of_first_row"])
    # A row has its inputs and, one further, its targets.
    logits = forward(s, tensor, np.array(steps["batches"][0][0][:-1]))[-1]
    print("largest logit", np.abs(expected).max(), "largest difference from PyTorch", np.abs(logits - expected).max())


if sys.argv[1:2] == ["--check"]:
    check(sys.argv[2])
elif sys.argv[1:2] == ["--divergence"]:
    divergence()
else:
    golden()
