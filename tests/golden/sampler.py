"""Writes sampler.json: what transformers' logits processors make of random logits.

    pip install torch transformers numpy && OMP_NUM_THREADS=1 python3 sampler.py

Each case has the settings, the logits after bias and penalties, and the probabilities that a draw must
follow (0 for a token that must never come). transformers has no frequency and presence penalties: these are
`count * frequency + (count > 0) * presence`, as in OpenAI's API reference. A case is left out where a
probability lies so near a threshold that rounding decides.
"""

import json
import pathlib

import numpy
import torch
import transformers
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

VOCAB = 24


def penalties(settings, history, logits):
    window = settings.get("penalty_window")
    recent = history if window is None else history[len(history) - min(window, len(history)) :]
    processors = LogitsProcessorList()
    if settings.get("bias"):
        processors.append(SequenceBiasLogitsProcessor({(token,): value for token, value in settings["bias"]}))
    if "repetition_penalty" in settings and recent:
        processors.append(RepetitionPenaltyLogitsProcessor(settings["repetition_penalty"]))
    ids = torch.tensor([recent or [0]], dtype=torch.long)
    adjusted = processors(ids, torch.tensor([logits], dtype=torch.float32))[0]
    counts = torch.bincount(torch.tensor(recent, dtype=torch.long), minlength=VOCAB).float()
    adjusted = adjusted - counts * settings.get("frequency_penalty", 0.0)
    return adjusted - (counts > 0).float() * settings.get("presence_penalty", 0.0)


def probabilities(settings, adjusted):
    warpers = LogitsProcessorList([TemperatureLogitsWarper(settings["temperature"])])
    if "top_k" in settings:
        warpers.append(TopKLogitsWarper(settings["top_k"]))
    if "top_p" in settings:
        warpers.append(TopPLogitsWarper(settings["top_p"]))
    if "min_p" in settings:
        warpers.append(MinPLogitsWarper(settings["min_p"]))
    scores = warpers(torch.zeros((1, 1), dtype=torch.long), adjusted[None].clone())[0]
    return torch.softmax(scores.double(), -1)


def near_a_threshold(settings, adjusted):
    """Whether a change of one part in 10^4 in top-p or min-p changes which tokens remain."""
    kept = set()
    for factor in (1 - 1e-4, 1.0, 1 + 1e-4):
        moved = dict(settings)
        for name in ("top_p", "min_p"):
            if name in moved:
                moved[name] = min(moved[name] * factor, 1.0)
        kept.add(tuple((probabilities(moved, adjusted) > 0).tolist()))
    return len(kept) > 1


def main():
    rng = numpy.random.default_rng(20)
    grid = [
        {"temperature": 1.0},
        {"temperature": 0.6},
        {"temperature": 1.7},
        {"temperature": 1.0, "top_k": 1},
        {"temperature": 0.8, "top_k": 5},
        {"temperature": 1.2, "top_k": 40},
        {"temperature": 1.0, "top_p": 0.9},
        {"temperature": 0.7, "top_p": 0.5},
        {"temperature": 1.5, "top_p": 0.95},
        {"temperature": 1.0, "top_p": 0.01},
        {"temperature": 1.0, "min_p": 0.1},
        {"temperature": 1.6, "min_p": 0.05},
        {"temperature": 1.1, "top_k": 8, "top_p": 0.8},
        {"temperature": 1.3, "top_k": 12, "top_p": 0.9, "min_p": 0.1},
        {"temperature": 1.3, "top_p": 0.97, "min_p": 0.03},
        {"temperature": 1.0, "repetition_penalty": 1.3},
        {"temperature": 1.0, "repetition_penalty": 0.8, "penalty_window": 3},
        {"temperature": 1.0, "frequency_penalty": 0.4, "presence_penalty": 0.3},
        {"temperature": 0.9, "repetition_penalty": 1.1, "frequency_penalty": 0.2, "penalty_window": 5},
        {"temperature": 1.0, "bias": [[3, 2.5], [7, -1.5]]},
        {
            "temperature": 0.9,
            "bias": [[0, 1.0]],
            "repetition_penalty": 1.2,
            "presence_penalty": 0.5,
            "top_k": 10,
            "top_p": 0.9,
            "min_p": 0.02,
        },
    ]
    cases = []
    for settings in grid:
        wanted = 4
        while wanted:
            logits = numpy.float32(rng.normal(0.0, 2.0, VOCAB)).tolist()
            history = rng.integers(0, VOCAB, rng.integers(0, 12)).tolist()
            adjusted = penalties(settings, history, logits)
            if near_a_threshold(settings, adjusted):
                continue
            wanted -= 1
            case = {
                "settings": settings,
                "history": history,
                "logits": logits,
                "adjusted": adjusted.tolist(),
                "probabilities": probabilities(settings, adjusted).tolist(),
                "log_sum_exp": torch.logsumexp(torch.tensor(logits, dtype=torch.float64), -1).item(),
            }
            cases.append(case)
    about = f"sampler.py, transformers {transformers.__version__}, torch {torch.__version__}"
    lines = ",\n".join(json.dumps(case) for case in cases)
    out = pathlib.Path(__file__).with_name("sampler.json")
    out.write_text('{"made_by": %s, "cases": [\n%s\n]}\n' % (json.dumps(about), lines))


main()
