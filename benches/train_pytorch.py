"""Trains a Llama on random tokens with plain PyTorch and prints one JSON line: the peer of `thimble-train`.

    pip install torch
    python3 benches/train_pytorch.py --threads 2
    python3 benches/train_pytorch.py --threads 2 --compile
    python3 benches/train_pytorch.py --config '{"hidden": 192, "heads": 6, "kv_heads": 2, "ffn": 512}'
    python3 benches/train_pytorch.py --device cuda --dtype bf16 --compile --hidden 384 --layers 32 --heads 6 \\
        --kv-heads 2 --head-dim 64 --ffn 1024 --vocab 49152 --batch 4 --accumulate 8 --context 8192 --peak-tflops 989

What an experienced user writes, in the manner of nanoGPT: fused QKV, RoPE by halves as in transformers,
`scaled_dot_product_attention`, a tied head, `cross_entropy` over whole logits, gradients clipped to 1.0, fused AdamW
with decay on matrices only. On CUDA: autocast to bf16 over f32 weights (which so are the masters),
a bf16 residual stream and TF32 for what stays in f32.

`tokens_per_second` and `step_seconds` are medians over the measured steps; a step is the forward and backward passes of
all its micro-batches, the clip and the optimizer. `step_cpu_seconds` is the processor time of all threads in a step.
`peak_rss_bytes` is the process's VmHWM, `peak_rss_added_bytes` that less the resident memory before the model was made
(PyTorch itself), and `steady_peak_rss_added_bytes` the same over the measured steps alone, so without what compiling
took (null where the kernel lets no process reset VmHWM). MFU needs --peak-tflops: `mfu_causal` counts attention
by its causal half, `mfu_whole` as the full square.
"""

import argparse
import contextlib
import json
import math
import os
import pathlib
import statistics
import sys
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Shape:
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    context: int

    def matrix_parameters(self):
        """Weights that every token is multiplied by: the linears and the tied head."""
        qkv = self.hidden * (self.heads + 2 * self.kv_heads) * self.head_dim
        attention = qkv + self.hidden * self.heads * self.head_dim
        return self.layers * (attention + 3 * self.hidden * self.ffn) + self.vocab * self.hidden

    def flops_per_token(self, whole):
        """Forward and backward: 6 per weight, and Q K^T and P V over the context or its causal half."""
        square = 12 * self.layers * self.heads * self.head_dim * self.context
        return 6 * self.matrix_parameters() + (square if whole else square // 2)


class RmsNorm(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden))

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), 1e-5)


def rotate(x, cos, sin):  # [batch, heads, context, head_dim]
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Attention(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.sizes = [s.heads * s.head_dim, s.kv_heads * s.head_dim, s.kv_heads * s.head_dim]
        self.head_dim, self.group = s.head_dim, s.heads // s.kv_heads
        self.qkv = nn.Linear(s.hidden, sum(self.sizes), bias=False)
        self.out = nn.Linear(self.sizes[0], s.hidden, bias=False)

    def forward(self, x, cos, sin):
        batch, context, _ = x.shape
        q, k, v = (
            part.view(batch, context, -1, self.head_dim).transpose(1, 2)
            for part in self.qkv(x).split(self.sizes, -1)
        )
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.group > 1)
        return self.out(y.transpose(1, 2).reshape(batch, context, -1))


class Ffn(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.gate = nn.Linear(s.hidden, s.ffn, bias=False)
        self.up = nn.Linear(s.hidden, s.ffn, bias=False)
        self.down = nn.Linear(s.ffn, s.hidden, bias=False)

    def forward(self, x):
        # One fused product and its halves took 3% longer for a step on a CPU.
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Layer(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.attention_norm, self.attention = RmsNorm(s.hidden), Attention(s)
        self.ffn_norm, self.ffn = RmsNorm(s.hidden), Ffn(s)

    def forward(self, x, cos, sin):
        x = x + self.attention(self.attention_norm(x), cos, sin)
        return x + self.ffn(self.ffn_norm(x))


class Llama(nn.Module):
    def __init__(self, s, compute):
        super().__init__()
        self.compute = compute
        self.embedding = nn.Embedding(s.vocab, s.hidden)
        self.layers = nn.ModuleList(Layer(s) for _ in range(s.layers))
        self.norm = RmsNorm(s.hidden)
        self.head = nn.Linear(s.hidden, s.vocab, bias=False)
        self.head.weight = self.embedding.weight
        angles = torch.outer(torch.arange(s.context), 10000.0 ** (-torch.arange(0, s.head_dim, 2) / s.head_dim))
        self.register_buffer("cos", angles.cos().to(compute), persistent=False)
        self.register_buffer("sin", angles.sin().to(compute), persistent=False)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02)

    def forward(self, tokens, targets):
        """The mean cross-entropy in nats of `targets` after `tokens`, both `[batch, context]`."""
        x = self.embedding(tokens).to(self.compute)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))


def memory(field):
    """A field of /proc/self/status in bytes, such as VmRSS or VmHWM; None where there is no such file."""
    try:
        with open("/proc/self/status") as file:
            line = next(line for line in file if line.startswith(field + ":"))
    except (OSError, StopIteration):
        return None
    return int(line.split()[1]) * 1024


def reset_peak_memory():
    """Sets VmHWM to the present VmRSS. Says whether the kernel allowed it."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return False
    return True


def less(a, b):
    return None if a is None or b is None else a - b


def arguments():
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    numbers = dict(hidden=256, layers=6, heads=8, kv_heads=4, head_dim=32, ffn=704, vocab=4096, batch=8, context=256,
                   accumulate=1, threads=os.cpu_count(), steps=20, warmup=3, seed=0)
    for name, default in numbers.items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=default)
    parser.add_argument("--compile", action="store_true", help="torch.compile the model")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="of the computation; weights are f32")
    parser.add_argument("--peak-tflops", type=float, help="of the device, dense, in --dtype; adds mfu")
    parser.add_argument("--config", help="a JSON object, or a file with one, of values for these options")
    config = parser.parse_args().config
    if config is not None:
        try:
            values = json.loads(config if config.lstrip().startswith("{") else pathlib.Path(config).read_text())
        except (OSError, ValueError) as error:
            parser.error(f"--config: expected a JSON object or a file with one: {error}")
        known = vars(parser.parse_args([]))
        if unknown := sorted(set(values) - set(known)):
            parser.error(f"--config: unknown keys {unknown}; known are {sorted(known)}")
        parser.set_defaults(**values)
    a = parser.parse_args()
    for name in numbers:
        least = 0 if name in ("seed", "warmup") else 1
        if not isinstance(getattr(a, name), int) or getattr(a, name) < least:
            parser.error(f"{name}: expected a whole number of at least {least}, found {getattr(a, name)!r}")
    if a.heads % a.kv_heads or a.head_dim % 2:
        parser.error("heads must be a multiple of kv_heads, and head_dim even")
    if a.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch found no CUDA device")
    return a


def train(a):
    on_cuda = a.device == "cuda"
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    if on_cuda:
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        torch.zeros(1, device="cuda")
    reset_peak_memory()
    rss_before = memory("VmRSS")

    shape = Shape(a.hidden, a.layers, a.heads, a.kv_heads, a.head_dim, a.ffn, a.vocab, a.context)
    compute = torch.bfloat16 if a.dtype == "bf16" else torch.float32
    model = Llama(shape, compute).to(a.device)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [dict(params=matrices, weight_decay=0.1), dict(params=vectors, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=3e-4, betas=(0.9, 0.95), eps=1e-8, fused=True)
    loss_of = torch.compile(model, dynamic=False) if a.compile else model

    def autocast():
        return torch.autocast(a.device, compute) if a.dtype == "bf16" else contextlib.nullcontext()

    def batch():
        rows = torch.randint(a.vocab, (a.batch, a.context + 1))
        if on_cuda:
            rows = rows.pin_memory().to(a.device, non_blocking=True)
        return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()

    def step():
        total = 0.0
        for _ in range(a.accumulate):
            with autocast():
                loss = loss_of(*batch()) / a.accumulate
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    losses, seconds, cpu_seconds = [], [], []
    warmup_peak, was_reset = None, False
    for index in range(a.warmup + a.steps):
        if index == a.warmup:
            warmup_peak = memory("VmHWM")
            was_reset = reset_peak_memory()
            if on_cuda:
                torch.cuda.reset_peak_memory_stats()
        start, cpu_start = time.perf_counter(), time.process_time()
        losses.append(step().item())  # waits for the device
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
        if not math.isfinite(losses[-1]):
            sys.exit(f"step {index}: the loss is {losses[-1]}")

    measured = sorted(seconds[a.warmup :])
    median = statistics.median(measured)
    last_peak = memory("VmHWM")
    peak = None if last_peak is None else max(warmup_peak, last_peak)
    steady_peak = last_peak if was_reset else None
    speed = a.batch * a.context * a.accumulate / median
    report = dict(
        tokens_per_second=round(speed, 1), step_seconds=median, step_seconds_least=measured[0],
        step_seconds_most=measured[-1], step_cpu_seconds=statistics.median(cpu_seconds[a.warmup :]), steps=a.steps,
        warmup_seconds=sum(seconds[: a.warmup]), peak_rss_bytes=peak, peak_rss_added_bytes=less(peak, rss_before),
        steady_peak_rss_added_bytes=less(steady_peak, rss_before),
        loss_first=losses[0], loss_last=losses[-1], parameters=sum(p.numel() for p in model.parameters()),
        torch=torch.__version__, threads=torch.get_num_threads(), compile=a.compile, device=a.device, dtype=a.dtype,
        batch=a.batch, accumulate=a.accumulate, **vars(shape))
    if on_cuda:
        report.update(device_name=torch.cuda.get_device_name(), peak_device_bytes=torch.cuda.max_memory_allocated())
    if a.peak_tflops:
        for name, whole in [("mfu_causal", False), ("mfu_whole", True)]:
            report[name] = round(speed * shape.flops_per_token(whole) / (a.peak_tflops * 1e12), 4)
    return report


if __name__ == "__main__":
    print(json.dumps(train(arguments())))
