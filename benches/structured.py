#!/usr/bin/env python3
"""Generates answers of given shapes with a real model and validates them with Python's jsonschema.

    cargo build --release -p thimble-grammar --example structured
    benches/structured.py MODEL.thimble --count 1000 --temperature 1

Each of the schemas in benches/schemas gets COUNT answers. An answer that a limit of tokens ended is counted, not validated.
Exits with 1 if any other answer does not parse or does not validate, or if fewer than half are complete. Requires
jsonschema (pip, or Debian's python3-jsonschema).
"""

import argparse
import collections
import json
import pathlib
import subprocess
import sys

import jsonschema

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a .thimble file with a chat template")
    parser.add_argument("--count", type=int, default=30, help="answers for each schema")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--program", default=ROOT / "target/release/examples/structured")
    parser.add_argument("--schemas", type=pathlib.Path, default=ROOT / "benches/schemas")
    args = parser.parse_args()

    paths = sorted(str(path) for path in args.schemas.glob("*.json"))
    schemas = {path: json.loads(pathlib.Path(path).read_text()) for path in paths}
    validators = {path: jsonschema.Draft202012Validator(schema) for path, schema in schemas.items()}
    command = [str(args.program), args.model, str(args.count), str(args.temperature), *paths]
    ends, invalid, answers = collections.Counter(), 0, collections.defaultdict(collections.Counter)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        for line in program.stdout:
            answer = json.loads(line)
            path, end, text = answer["schema"], answer["end"], answer["text"]
            ends[path, end] += 1
            if end != "stop":
                continue
            answers[path][text] += 1
            try:
                validators[path].validate(json.loads(text))
            except (ValueError, jsonschema.ValidationError) as error:
                invalid += 1
                print(f"INVALID {path}, seed {answer['seed']}: {text!r}: {error}", file=sys.stderr)
    if program.returncode:
        sys.exit(f"{command[0]} failed with {program.returncode}")
    print("| schema | complete | ended by the limit | different answers |\n|---|---|---|---|")
    for path in paths:
        complete = ends[path, "stop"]
        other = sum(count for (of, end), count in ends.items() if of == path and end != "stop")
        print(f"| {pathlib.Path(path).stem} | {complete} | {other} | {len(answers[path])} |")
    total, complete = sum(ends.values()), sum(count for (_, end), count in ends.items() if end == "stop")
    if 2 * complete < total:
        sys.exit(f"{complete} of {total} answers are complete: expected at least half, too few were validated")
    print(f"{invalid} of {complete} complete answers are invalid")
    sys.exit(1 if invalid else 0)


if __name__ == "__main__":
    main()
