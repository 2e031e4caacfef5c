"""Writes dpo/: a small model with preference pairs and training steps as TRL makes them.

    pip install trl transformers torch && python3 dpo.py

`dpo/` has the form of a parity folder for `thimble-train parity`; `variants` holds steps with other losses.
"""

import json
import os
import pathlib

os.environ["OMP_NUM_THREADS"] = "1"

import datasets  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
import trl  # noqa: E402

import sft  # noqa: E402

OUT = pathlib.Path(__file__).parent / "dpo"
RATE = 2e-3
BETA = 0.1
SIZE = 4
# Messages before the answers, the chosen answer, the rejected one.
PAIRS = [
    ([("user", "What is two plus three?")], "Five.", "It is six, I think."),
    ([("system", "Be brief."), ("user", "Name a colour.")], "Blue.", "There are many colours, such as blue and green."),
    ([("user", "Hi"), ("assistant", "Hello!"), ("user", "Who made you?")], "People who like small models.", "No."),
    ([("user", "Count.")], "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, and so on.", "1, 2, 3."),
    ([("user", "Spell été")], "é t é\n\nThat is all.", "e t e"),
    ([("user", "One line?")], "Yes, one line.", "Two\nlines."),
    ([("user", "Which river is the longest?")], "The Nile, or the Amazon.", "The Thames, which is in London."),
    ([("user", "?")], "!", "?"),
    ([("user", "Write the end, please")], "Here: it ends a message.", "I do not know it."),
    ([("user", "Bye")], "Goodbye!", "Good"),
]
VARIANTS = [
    {"loss": "robust", "label_smoothing": 0.1},
    {"loss": "ipo"},
    {"loss": "sigmoid_norm"},
    {"loss": "sigmoid", "sft_weight": 0.3},
]


class Recorder(trl.DPOTrainer):
    """Keeps the loss of each step as it was computed."""

    losses = []

    def compute_loss(self, model, inputs, *args, **kwargs):
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if model.training:
            self.losses.append(float(loss.detach().double()))
        return loss


def answer(text):
    return [{"role": "assistant", "content": text}]


def rows():
    return [{"prompt": sft.messages(prompt), "chosen": answer(chosen), "rejected": answer(rejected)}
            for prompt, chosen, rejected in PAIRS]


def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


def train(wrapped, folder, steps, loss="sigmoid", label_smoothing=0.0, sft_weight=None):
    Recorder.losses = []
    model = load(folder)
    more = {"loss_weights": [1.0, sft_weight]} if sft_weight else {}
    config = trl.DPOConfig(
        output_dir="/tmp/dpo-golden", max_steps=steps, per_device_train_batch_size=SIZE, learning_rate=RATE,
        lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=1.0, optim="adamw_torch", logging_steps=1,
        max_length=None, report_to=[], save_strategy="no", use_cpu=True, beta=BETA, label_smoothing=label_smoothing,
        loss_type=[loss, "sft"] if sft_weight else loss, train_sampling_strategy="sequential", bf16=False,
        gradient_checkpointing=False, seed=0, disable_tqdm=True, dataloader_drop_last=True, **more,
    )
    data = datasets.Dataset.from_list(rows())
    # As many rows as whole batches, so that every step takes the next four pairs, round and round.
    data = datasets.concatenate_datasets([data, data])
    trainer = Recorder(model=model, args=config, train_dataset=data, processing_class=wrapped)
    encoded = [{key: row[key] for key in ("prompt_ids", "chosen_ids", "rejected_ids")}
               for row in trainer.train_dataset][: len(PAIRS)]
    trainer.train()
    logs = [log for log in trainer.state.log_history if "grad_norm" in log]
    figures = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen",
               "logps/rejected")
    taken = [{"step": step, "lr": RATE, "loss": loss, "grad_norm": float(log["grad_norm"]),
              **{name: log[name] for name in figures}} for step, (loss, log) in enumerate(zip(Recorder.losses, logs))]
    return model, encoded, taken


def log_probabilities(model, pair):
    def one(answer):
        ids = torch.tensor([pair["prompt_ids"] + answer])
        with torch.no_grad():
            logps = torch.log_softmax(model(ids).logits[0, :-1].double(), dim=-1)
        return float(sum(logps[at - 1, ids[0, at]] for at in range(len(pair["prompt_ids"]), ids.shape[1])))

    return {"chosen": one(pair["chosen_ids"]), "rejected": one(pair["rejected_ids"])}


def main():
    torch.manual_seed(1)
    torch.set_num_threads(1)
    wrapped = sft.tokenizer()
    folder = OUT / "model"
    config = transformers.LlamaConfig(
        vocab_size=len(wrapped), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=True, initializer_range=0.1,
        bos_token_id=wrapped.bos_token_id, eos_token_id=wrapped.eos_token_id, pad_token_id=wrapped.pad_token_id,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    wrapped.save_pretrained(folder)
    start = load(folder)
    after, encoded, steps = train(wrapped, folder, 5)
    pairs = [{**row, **ids, "reference_logps": log_probabilities(start, ids), "logps_after5": log_probabilities(after, ids)}
             for row, ids in zip(rows(), encoded)]
    variants = [{**variant, "steps": train(wrapped, folder, 3, **variant)[2]} for variant in VARIANTS]
    (folder / "generation_config.json").unlink(missing_ok=True)
    after.save_pretrained("/tmp/dpo-golden/after")
    (OUT / "after5.safetensors").write_bytes(pathlib.Path("/tmp/dpo-golden/after/model.safetensors").read_bytes())
    result = {
        "about": f"TRL {trl.__version__}, transformers {transformers.__version__}, torch {torch.__version__}, f32, CPU",
        "beta": BETA, "loss": "sigmoid",
        "optimizer": {"adamw": [0.9, 0.999], "epsilon": 1e-8, "weight_decay": 0.0, "clip": 1.0},
        "order": "sequential: step i takes pairs 4i..4i+3, and the first ones again behind the last",
        "pairs": pairs, "steps": steps, "variants": variants,
    }
    (OUT / "dpo.json").write_text(json.dumps(result, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
