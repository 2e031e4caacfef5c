"""Writes hub/: made-up rows of every task, once as JSON Lines (as in ../shared/data/eval) and once as parquet with the
field names and types of the hub's data sets, so that both can be read as the same items.

    pip install pyarrow && python3 hub.py"""

import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

OUT = pathlib.Path(__file__).parent / "hub"
TEXTS = pa.list_(pa.string())


def write(task, split, repository, config, rows, schema):
    """rows: pairs of the row in JSON Lines and the hub's."""
    folder = OUT / "folder" / task
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(line) + "\n" for line, _ in rows]
    (folder / f"{split}.jsonl").write_text("".join(lines))
    folder = OUT / "parquet" / repository / config / split
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist([row for _, row in rows], schema=pa.schema(schema))
    # Small row groups, so that a file has several.
    pq.write_table(table, folder / "0000.parquet", row_group_size=2, compression="snappy")


def arc(question, choices, labels, gold, field="question"):
    line = {"id": "x", "question": question, "choices": choices, "gold": gold}
    row = {"id": "x", field: question, "choices": {"text": choices, "label": labels}, "answerKey": labels[gold]}
    return line, row


ARC = [
    arc("Which of these is wet?", ["sand", "rain", "a stone"], ["A", "B", "C"], 1),
    arc("What is 2 + 2?", ["3", "4", "5", "22"], ["1", "2", "3", "4"], 1),
    arc("Who \u00e9crit?", ["nobody", "somebody"], ["A", "B"], 0),
]
CHOICES = pa.struct([("text", TEXTS), ("label", TEXTS)])
for task, config in [("arc_easy", "ARC-Easy"), ("arc_challenge", "ARC-Challenge")]:
    schema = [("id", pa.string()), ("question", pa.string()), ("choices", CHOICES), ("answerKey", pa.string())]
    write(task, "test", "allenai/ai2_arc", config, ARC, schema)
rows = [arc("To keep warm, wear", ["wool", "nothing", "ice", "wind"], list("ABCD"), 0, "question_stem")]
schema = [("id", pa.string()), ("question_stem", pa.string()), ("choices", CHOICES), ("answerKey", pa.string())]
write("openbookqa", "test", "allenai/openbookqa", "main", rows, schema)

rows = [
    ({"question": q, "answer": a, "passage": p}, {"question": q, "passage": p, "idx": 0, "label": int(a)})
    for q, a, p in [("is snow cold", True, "Snow -- Snow is frozen water."), ("is fire cold", False, "Fire.")]
]
schema = [("question", pa.string()), ("passage", pa.string()), ("idx", pa.int32()), ("label", pa.int64())]
write("boolq", "validation", "aps/super_glue", "boolq", rows, schema)

row = {
    "ind": 3, "activity_label": "Baking", "ctx_a": "A man [title] bakes.", "ctx_b": "he THEN", "ctx": "",
    "endings": ["eats [step]  it.", "is a loaf.", "sings.", "flies."], "source_id": "s", "split": "val",
    "split_type": "indomain", "label": "0",
}
schema = [(k, TEXTS if k == "endings" else pa.int32() if k == "ind" else pa.string()) for k in row]
write("hellaswag", "validation", "Rowan/hellaswag", "default", [(row, row)] * 3, schema)

row = {"goal": "How to open a tin?", "sol1": "With an opener.", "sol2": "With a feather.", "label": 0}
schema = [(k, pa.int64() if k == "label" else pa.string()) for k in row]
write("piqa", "validation", "baber/piqa", "plain_text", [(row, row)], schema)

row = {
    "question": "What do plants need?", "distractor3": "noise", "distractor1": "sugar", "distractor2": "iron bars",
    "correct_answer": "light", "support": " Plants grow in light.",
}
write("sciq", "test", "allenai/sciq", "default", [(row, row)], [(k, pa.string()) for k in row])

row = {"sentence": "Ann thanked Bea because _ had helped.", "option1": "Ann", "option2": "Bea", "answer": "2"}
write("winogrande", "validation", "allenai/winogrande", "winogrande_xl", [(row, row)], [(k, pa.string()) for k in row])

targets = {"choices": ["Yes.", "No.", "Yes and no."], "labels": [1, 0, 0]}
more = {"choices": ["Yes.", "It is.", "No."], "labels": [1, 1, 0]}
row = {"question": "Is water wet?", "mc1_targets": targets, "mc2_targets": more}
TARGETS = pa.struct([("choices", TEXTS), ("labels", pa.list_(pa.int32()))])
schema = [("question", pa.string()), ("mc1_targets", TARGETS), ("mc2_targets", TARGETS)]
write("truthfulqa", "validation", "truthfulqa/truthful_qa", "multiple_choice", [(row, row)], schema)

rows = [
    {"question": " What is prime? ", "subject": "number_theory", "choices": ["4", "6", "7", "8"], "answer": 2},
    {"question": "Who?", "subject": "world_history", "choices": ["a", "b", "c", "d"], "answer": 0},
]
schema = [("question", pa.string()), ("subject", pa.string()), ("choices", TEXTS), ("answer", pa.int64())]
write("mmlu", "test", "cais/mmlu", "all", [(row, row) for row in rows], schema)

schema = [("question", pa.string()), ("answer", pa.string())]
for split, count in [("train", 30), ("test", 4)]:
    rows = [{"question": f"{split} {i} and {i}?", "answer": f"It is {2 * i}.\n#### {2 * i}"} for i in range(count)]
    write("gsm8k", split, "openai/gsm8k", "main", [(row, row) for row in rows], schema)

rows = [
    ({"context": a, "continuation": b}, {"text": f"{a} {b}"})
    for a, b in [("The cat sat on the", "mat"), ("Two words  and", "\n\nmore")]
]
write("lambada_openai", "test", "EleutherAI/lambada_openai", "default", rows, [("text", pa.string())])
