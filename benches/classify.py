#!/usr/bin/env python3
"""The speed of fastText classification on one core: ours, the C++ library's, and datatrove's pipeline.

    benches/classify.py THIMBLE_TRAIN MODEL DOCUMENTS.jsonl [--rounds N]

MODEL is a .bin or .ftz file. Ours is the whole command `curate classify`, which reads the documents too. The library's time
is that of its predictions alone, through its Python package (fasttext-wheel, with numpy before 2). datatrove's is its
fastText filter between its reader of JSON Lines and nothing. Rounds alternate; the best of each is printed, in Markdown.
"""

import argparse
import json
import subprocess
import tempfile
import time

import fasttext


def ours(args):
    command = [args.thimble_train, "curate", "classify", "--model", args.model, "--threads", "1", args.documents]
    subprocess.run(command, check=True, capture_output=True)


def datatrove(args):
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline.filters import FastTextClassifierFilter
    from datatrove.pipeline.readers import JsonlReader

    label = fasttext.load_model(args.model).labels[0].removeprefix("__label__")
    with tempfile.TemporaryDirectory() as logs:
        folder, _, name = args.documents.rpartition("/")
        pipeline = [
            JsonlReader(folder or ".", glob_pattern=name),
            FastTextClassifierFilter(args.model, keep_labels=[(label, 0.5)], newline_replacement=" "),
        ]
        LocalPipelineExecutor(pipeline, tasks=1, workers=1, logging_dir=logs).run()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("thimble_train")
    parser.add_argument("model")
    parser.add_argument("documents")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-datatrove", action="store_true")
    args = parser.parse_args()
    with open(args.documents) as file:
        texts = [json.loads(line)["text"].replace("\n", " ") for line in file]
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    model = fasttext.load_model(args.model)

    def library(_):
        for text in texts:
            model.f.predict(text + "\n", -1, 0.0, "strict")

    contenders = {"thimble-train curate classify": ours, "the C++ library": library}
    if not args.no_datatrove:
        contenders["datatrove's pipeline"] = datatrove
    best = {}
    for _ in range(args.rounds):
        for name, run in contenders.items():
            begin = time.perf_counter()
            run(args)
            seconds = time.perf_counter() - begin
            best[name] = min(best.get(name, seconds), seconds)
    print(f"{len(texts)} documents, {megabytes:.1f} MB\n\n| | seconds | documents/s | MB/s |\n|---|---|---|---|")
    for name, seconds in best.items():
        print(f"| {name} | {seconds:.2f} | {len(texts) / seconds:.0f} | {megabytes / seconds:.1f} |")


if __name__ == "__main__":
    main()
