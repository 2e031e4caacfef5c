"""Writes prompts.json: for each task the number of items and the SHA-256 of all contexts and continuations, rendered
by the task files of lm-evaluation-harness 0.4.11 on the rows of ../../../shared/data/eval.

    pip download --no-deps lm-eval==0.4.11 && unzip lm_eval-*.whl -d harness && pip install pyyaml jinja2
    python3 prompts.py harness ../../../shared/data/eval > prompts.json

An item is its contexts and continuations, each pair as context NUL continuation NUL (GSM8K: prompt NUL), and a line
feed."""

import hashlib
import importlib.util
import json
import os
import random
import re
import sys

import jinja2
import yaml

TASKS = os.path.join(sys.argv[1], "lm_eval", "tasks")
DATA = sys.argv[2]
environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
yaml.SafeLoader.add_constructor("!function", lambda loader, node: node.value)


def task_file(path):
    with open(os.path.join(TASKS, path)) as file:
        return yaml.safe_load(file)


def rows(path):
    with open(os.path.join(DATA, path)) as file:
        return [json.loads(line) for line in file]


def render(template, row):
    return environment.from_string(template).render(**row)


def preprocess(text):  # lm_eval/tasks/hellaswag/utils.py, which imports what is not needed here
    text = text.strip()
    text = text.replace(" [title]", ". ")
    text = re.sub("\\[.*?\\]", "", text)
    return text.replace("  ", " ")


def items():
    for task in ["arc_easy", "arc_challenge"]:
        text = task_file("arc/arc_easy.yaml")["doc_to_text"]
        for row in rows(f"{task}/test.jsonl"):
            yield task, [(render(text, row), " " + choice) for choice in row["choices"]]
    for row in rows("openbookqa/test.jsonl"):
        yield "openbookqa", [(row["question"], " " + choice) for choice in row["choices"]]
    config = task_file("super_glue/boolq/default.yaml")
    for row in rows("boolq/validation.jsonl"):
        context = render(config["doc_to_text"], row)
        yield "boolq", [(context, " " + choice) for choice in config["doc_to_choice"]]
    for row in rows("hellaswag/validation.jsonl"):
        context = row["activity_label"] + ": " + row["ctx_a"] + " " + row["ctx_b"].capitalize()
        yield "hellaswag", [(preprocess(context), " " + preprocess(ending)) for ending in row["endings"]]
    text = task_file("piqa/piqa.yaml")["doc_to_text"]
    for row in rows("piqa/validation.jsonl"):
        yield "piqa", [(render(text, row), " " + row[name]) for name in ["sol1", "sol2"]]
    text = task_file("sciq/sciq.yaml")["doc_to_text"]
    for row in rows("sciq/test.jsonl"):
        names = ["distractor1", "distractor2", "distractor3", "correct_answer"]
        yield "sciq", [(render(text, row), " " + row[name]) for name in names]
    path = os.path.join(TASKS, "winogrande", "preprocess_winogrande.py")
    spec = importlib.util.spec_from_file_location("winogrande", path)
    winogrande = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(winogrande)
    for row in rows("winogrande/validation.jsonl"):
        target = " " + winogrande.doc_to_target(row)
        yield "winogrande", [(context, target) for context in winogrande.doc_to_choice(row)]
    text = task_file("truthfulqa/truthfulqa_mc1.yaml")["doc_to_text"]
    for row in rows("truthfulqa/validation.jsonl"):
        choices = row["mc1_targets"]["choices"] + row["mc2_targets"]["choices"]
        yield "truthfulqa", [(render(text, row), " " + choice) for choice in choices]
    with open(os.path.join(TASKS, "mmlu/default/_default_template_yaml")) as file:
        config = yaml.safe_load(file)
    described = {}
    for name in os.listdir(os.path.join(TASKS, "mmlu/default")):
        subject = task_file(f"mmlu/default/{name}") if name.endswith(".yaml") else {}
        if "dataset_name" in subject:
            described[subject["dataset_name"]] = subject["description"]
    for row in rows("mmlu/test.jsonl"):
        context = described[row["subject"]] + render(config["doc_to_text"], row)
        yield "mmlu", [(context, " " + choice) for choice in config["doc_to_choice"]]
    for row in rows("lambada_openai/test.jsonl"):
        yield "lambada_openai", [(row["context"], " " + row["continuation"])]
    draw, examples = random.Random(1234), rows("gsm8k/train.jsonl")
    for row in rows("gsm8k/test.jsonl"):
        shots = "".join(f"Question: {s['question']}\nAnswer: {s['answer']}\n\n" for s in draw.sample(examples, 5))
        yield "gsm8k", [(shots + f"Question: {row['question']}\nAnswer:",)]


counts, digests = {}, {}
for task, pairs in items():
    counts[task] = counts.get(task, 0) + 1
    digest = digests.setdefault(task, hashlib.sha256())
    for pair in pairs:
        digest.update(("\0".join(pair) + "\0").encode())
    digest.update(b"\n")
print(json.dumps({task: [counts[task], digests[task].hexdigest()] for task in counts}, indent=1))
