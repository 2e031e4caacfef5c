"""Adapters: a LoRA folder of random matrices, converted for the model by the command."""

import json
import random
import struct
import subprocess
from pathlib import Path

import pytest
from conftest import greedy

from thimble import Model, NotFound, Sampling, ThimbleError

PROMPT = "Once upon a time"


def write_lora(folder: Path, hidden: int, rank: int) -> None:
    """A folder as the PEFT library writes it, for the first layer's queries."""
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": ["q_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    source = random.Random(7)
    header, data = {}, b""
    for matrix, shape in (("A", [rank, hidden]), ("B", [hidden, rank])):
        numbers = [source.uniform(-1, 1) for _ in range(rank * hidden)]
        begin, data = len(data), data + struct.pack(f"<{len(numbers)}f", *numbers)
        header[f"{name}{matrix}.weight"] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_an_adapter_changes_what_the_model_says(model: Model, path: Path, thimble: str, tmp_path: Path) -> None:
    folder, file = tmp_path / "lora", tmp_path / "random.adapter"
    folder.mkdir()
    write_lora(folder, len(model.embed("a")), 4)
    subprocess.run([thimble, "convert", folder, "-o", file, "--base", path], check=True, capture_output=True)
    adapter = model.open_adapter(file)
    assert adapter.rank() == 4 and adapter.bytes() == file.stat().st_size

    def scores(*adapters: object) -> list[float]:
        options = {"sampling": greedy(), "max_tokens": 3, "log_probabilities": 0}
        reply = model.complete(PROMPT, adapters=adapters, **options).reply  # type: ignore[arg-type]
        return [token.log_probability for token in reply.log_probabilities]

    base, adapted = scores(), scores(adapter)
    assert base != adapted
    assert scores((adapter, 0.0)) == base
    # Two sessions of one model, each with its own.
    chats = [model.chat(sampling=Sampling(seed=1), max_tokens=12, adapters=adapters) for adapters in ((), (adapter,))]
    answers = [chat.send(PROMPT) for chat in chats]
    for answer, adapters in zip(answers, ((), (adapter,))):
        alone = model.chat(sampling=Sampling(seed=1), max_tokens=12, adapters=adapters).send(PROMPT).reply
        assert answer.reply.text == alone.text
    assert scores() == base
    with pytest.raises(ThimbleError):
        model.chat(adapters=[adapter] * 9)


def test_what_is_no_adapter_is_refused(model: Model, path: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        model.open_adapter(tmp_path / "none")
    with pytest.raises(ThimbleError, match="adapter"):
        model.open_adapter(path)
