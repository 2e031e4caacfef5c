"""Writes sft/: a small model with conversations, masks, bins and training steps as TRL and transformers make them.

    pip install trl transformers torch && python3 sft.py

`sft/` has the form of a parity folder for `thimble-train parity`. `sft/templates.json` has the tokens and masks of the
templates in ../templates, into which this script puts {% generation %} marks around what an answer adds.
"""

import json
import os
import pathlib

os.environ["OMP_NUM_THREADS"] = "1"

import datasets  # noqa: E402
import tokenizers  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
import trl  # noqa: E402

HERE = pathlib.Path(__file__).parent
OUT = HERE / "sft"
TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You help.<|im_end|>\n' }}{% endif %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{{ '\n' }}{% else %}{{ message['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<bos>", "<eos>", "<|begin_of_text|>",
           "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<start_of_turn>", "<end_of_turn>", "<|system|>",
           "<|user|>", "<|assistant|>", "<|end|>"]
TURNS = [
    [("user", "What is two plus three?"), ("assistant", "Five.")],
    [("system", "Be brief."), ("user", "Name a colour."), ("assistant", "Blue, the colour of the sky at noon.")],
    [("user", "Hi"), ("assistant", "Hello!"), ("user", "Who made you?"), ("assistant", "People who like small models.")],
    [("user", "Count."), ("assistant", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, and so on without an end.")],
    [("user", "Spell été"), ("assistant", "é t é\n\nThat is all.")],
    [("user", "One line?"), ("assistant", " Leading and trailing spaces. ")],
    [("system", "You know rivers."), ("user", "Which is the longest?"), ("assistant", "The Nile, or the Amazon.")],
    [("user", "?"), ("assistant", "!")],
]
# How each template's assistant message is marked: the text around the answer in its source, and bos and eos.
MARKED = {
    "chatml": ("<s>", "<|im_end|>"),
    "smollm2": ("<|im_start|>", "<|im_end|>"),
    "llama3": ("<|begin_of_text|>", "<|eot_id|>"),
    "gemma": ("<bos>", "<eos>"),
    "mistral": ("<s>", "</s>"),
    "phi3": ("<s>", "<|endoftext|>"),
    "zephyr": ("<s>", "</s>"),
    "thinking": ("", "<|im_end|>"),
}
PATCHES = {
    "chatml": [("+ message['content'] + '<|im_end|>' + '\\n'}}", "}}{% if message['role'] == 'assistant' %}{% generation %}"
                "{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}"
                "{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}")],
    "smollm2": [("+ message['content'] + '<|im_end|>' + '\n'}}", "}}{% if message['role'] == 'assistant' %}{% generation %}"
                 "{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}"
                 "{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}")],
    "llama3": [("{{ content }}", "{% if message['role'] == 'assistant' %}"
                "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% generation %}"
                "{{ message['content'] | trim + '<|eot_id|>' }}{% endgeneration %}{% else %}{{ content }}{% endif %}")],
    "gemma": [("+ message['content'] | trim + '<end_of_turn>\n' }}", "}}{% if message['role'] == 'assistant' %}{% generation %}"
               "{{ message['content'] | trim + '<end_of_turn>' }}{% endgeneration %}{% else %}"
               "{{ message['content'] | trim + '<end_of_turn>' }}{% endif %}{{ '\n' }}")],
    "mistral": [("{{- ' ' + message['content'] + eos_token}}",
                 "{% generation %}{{- ' ' + message['content'] + eos_token}}{% endgeneration %}")],
    "phi3": [("{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}",
              "{{'<|assistant|>\n'}}{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}{{ '\n' }}")],
    "zephyr": [("{{ '<|assistant|>\n'  + message['content'] + eos_token }}",
                "{{- '<|assistant|>\n' }}{% generation %}{{- message['content'] + eos_token }}{% endgeneration %}{{- '' }}")],
    "thinking": [("{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}",
                  "{{- '<|im_start|>' + message.role + '\\n' }}{%- if message.role == 'assistant' %}{% generation %}"
                  "{{- content + '<|im_end|>' }}{% endgeneration %}{%- else %}{{- content + '<|im_end|>' }}{%- endif %}"
                  "{{- '\\n' }}")],
}


def messages(turns):
    return [{"role": role, "content": content} for role, content in turns]


def tokenizer():
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Digits(individual_digits=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])
    model.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=320, special_tokens=SPECIAL, show_progress=False,
                                             initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model.train_from_iterator([content for turns in TURNS for _, content in turns] * 2, trainer)
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=model, bos_token="<|im_start|>",
                                                   eos_token="<|im_end|>", pad_token="<|endoftext|>")
    wrapped.chat_template = TEMPLATE
    return wrapped


def encoded(wrapped, turns, **more):
    out = wrapped.apply_chat_template(messages(turns), tokenize=True, return_dict=True,
                                      return_assistant_tokens_mask=True, **more)
    return out["input_ids"], out["assistant_masks"]


class Recorder(trl.SFTTrainer):
    """Keeps each micro-batch's share of the step's loss, and its targets."""

    shares = []

    def compute_loss(self, model, inputs, *args, **kwargs):
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        self.shares.append((float(loss.detach().double()), int((inputs["labels"][:, 1:] != -100).sum())))
        return loss


def train(wrapped, folder):
    Recorder.shares = []
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    data = datasets.Dataset.from_list([{"messages": messages(turns)} for turns in TURNS])
    config = trl.SFTConfig(
        output_dir="/tmp/sft-golden", max_steps=5, per_device_train_batch_size=4, learning_rate=1e-3,
        lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=1.0, optim="adamw_torch", logging_steps=1,
        assistant_only_loss=True, packing=False, max_length=None, report_to=[], save_strategy="no", use_cpu=True,
        train_sampling_strategy="sequential", bf16=False, gradient_checkpointing=False, seed=0, disable_tqdm=True,
    )
    trainer = Recorder(model=model, args=config, train_dataset=data, processing_class=wrapped)
    trainer.train()
    norms = [log["grad_norm"] for log in trainer.state.log_history if "grad_norm" in log]
    steps = [{"step": step, "lr": 1e-3, "loss": loss, "loss_exact": loss, "grad_norm": float(norm), "loss_tokens": targets}
             for step, ((loss, targets), norm) in enumerate(zip(Recorder.shares, norms))]
    return model, steps


def templates():
    """Tokens and masks of each template with marks."""
    cases = {}
    for name, (bos, eos) in MARKED.items():
        source = (HERE.parent / "templates" / f"{name}.jinja").read_text()
        marked = source
        for old, new in PATCHES[name]:
            assert old in marked, (name, old)
            marked = marked.replace(old, new)
        wrapped = tokenizer()
        wrapped.bos_token, wrapped.eos_token = bos or None, eos
        chats = []
        for turns in TURNS:
            try:
                plain = wrapped.apply_chat_template(messages(turns), chat_template=source, tokenize=True, return_dict=True)
                ids, mask = encoded(wrapped, turns, chat_template=marked)
            except Exception as error:  # the template refuses a system message
                assert "System role" in str(error), (name, error)
                continue
            assert plain["input_ids"] == ids, (name, wrapped.decode(plain["input_ids"]), wrapped.decode(ids))
            chats.append({"messages": messages(turns), "input_ids": ids, "mask": mask})
        cases[name] = {"bos": bos, "eos": eos, "chats": chats}
    return cases


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    folder = OUT / "model"
    wrapped = tokenizer()
    config = transformers.LlamaConfig(
        vocab_size=320, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=256, tie_word_embeddings=True, bos_token_id=1,
        eos_token_id=2, pad_token_id=0, initializer_range=0.1, rms_norm_eps=1e-5)
    model = transformers.LlamaForCausalLM(config).float()
    model.save_pretrained(folder)
    wrapped.save_pretrained(folder)
    examples = []
    for turns in TURNS:
        ids, mask = encoded(wrapped, turns)
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        nll = -sum(logits[at - 1, ids[at]].item() for at in range(1, len(ids)) if mask[at])
        text = wrapped.apply_chat_template(messages(turns), tokenize=False)
        examples.append({"messages": messages(turns), "text": text, "input_ids": ids, "mask": mask, "nll_sum": nll,
                         "loss_tokens": sum(mask[1:])})
    size = 96
    table = datasets.Dataset.from_dict({"input_ids": [example["input_ids"] for example in examples],
                                        "index": [[at] * len(example["input_ids"]) for at, example in enumerate(examples)]})
    packed = trl.data_utils.pack_dataset(table, size, "bfd")
    bins = [{"examples": list(dict.fromkeys(row["index"])), "lengths": row["seq_lengths"]} for row in packed]
    trained, steps = train(wrapped, folder)
    trained.save_pretrained(OUT / "after")
    (OUT / "after" / "model.safetensors").rename(OUT / "after5.safetensors")
    for left in (OUT / "after").iterdir():
        left.unlink()
    (OUT / "after").rmdir()
    (folder / "generation_config.json").unlink(missing_ok=True)
    about = f"TRL {trl.__version__}, transformers {transformers.__version__}, torch {torch.__version__}, f32, CPU"
    sft = {"about": about, "optimizer": {"adamw": [0.9, 0.999], "epsilon": 1e-8, "weight_decay": 0.0, "lr": 1e-3,
                                         "schedule": "constant", "clip": 1.0},
           "examples": examples, f"packed_bfd_{size}": bins, "steps_assistant_only": steps}
    (OUT / "sft.json").write_text(json.dumps(sft, ensure_ascii=False, separators=(",", ":")) + "\n")
    (OUT / "templates.json").write_text(json.dumps(templates(), ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
