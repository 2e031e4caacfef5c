#!/usr/bin/env python3
"""Counts instructions, bytes read from memory and barriers of a prompt and of decoding: figures that a busy machine cannot bend.

    cargo build --release -p thimble-cli -p thimble-host --example counts
    cargo run -p conformance --example counted_models -- FOLDER
    benches/counts.py FOLDER/q4.thimble FOLDER/q8.thimble --check      # against counts.json, within 2%, as the gate does
    benches/counts.py FOLDER/q4.thimble FOLDER/q8.thimble --update     # writes them there
    benches/counts.py MODEL.thimble                                    # those of any model

Needs valgrind, whose callgrind counts instructions. It knows neither AVX-512 nor AMX: the kernels are `scalar` and `avx2`, on
one thread. Barriers are those of two threads. Bytes are computed from the passes: weights and cached positions, each once in a
pass. The prompt has 32 tokens; four more are decoded.

Instructions depend on the compiler, so counts.json keeps them by its version. With a version that has none, --check compares
bytes and barriers alone, and prints what to do.
"""

import argparse
import concurrent.futures
import json
import pathlib
import re
import subprocess
import sys
import tempfile

GOLDEN = pathlib.Path(__file__).with_name("counts.json")
PROGRAM = pathlib.Path(__file__).parents[1] / "target/release/examples/counts"
KERNELS = ["scalar", "avx2"]
TOLERANCE = 0.02
# The functions of the program, by pass.
FUNCTIONS = {"prompt": "prompt_pass", "decode": "decode_passes"}


def instructions(program, model, kernels):
    """Instructions of each pass."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder, "out")
        command = ["valgrind", "--tool=callgrind", "--collect-atstart=no", f"--callgrind-out-file={out}"]
        command += [f"--toggle-collect=counts::{name}*" for name in FUNCTIONS.values()]
        done = subprocess.run([*command, program, model, kernels], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"cannot count {model} with {kernels}: {done.stderr}")
        inclusive = costs_of_calls(out.read_text())
    found = {}
    for name, function in FUNCTIONS.items():
        calls = inclusive.get(f"counts::{function}", [])
        if len(calls) != 1:
            sys.exit(f"expected one call of {function} in callgrind's output, found {len(calls)}")
        found[name] = calls[0]
    return found


def costs_of_calls(profile):
    """The inclusive costs of the calls of each function, in callgrind's format (its manual, "Callgrind Format Specification")."""
    names, costs, called, lines = {}, {}, None, iter(profile.splitlines())
    for line in lines:
        # A name is written where its number occurs first.
        if match := re.match(r"c?fn=(\(\d+\))(?: (.*))?$", line):
            number, name = match.groups()
            called = names.setdefault(number, name)
        elif line.startswith("calls="):
            costs.setdefault(called, []).append(int(next(lines).split()[-1]))
    return costs


def counted(program, models):
    """All figures: those that no compiler changes, and instructions."""
    passes, counts = {}, {}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        jobs = {
            (model.stem, kernels): pool.submit(instructions, program, model, kernels)
            for model in models
            for kernels in KERNELS
        }
        for model in models:
            done = subprocess.run([program, model], capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(f"cannot run {model}: {done.stderr}")
            passes[model.stem] = json.loads(done.stdout)
        for (model, kernels), job in jobs.items():
            counts.setdefault(model, {})[kernels] = job.result()
    return passes, counts


def show(passes, counts):
    print("| model | pass | instructions of a token, scalar | avx2 | bytes of a token | barriers of a pass |")
    print("|---|---|---|---|---|---|")
    for model, figures in passes.items():
        for name, figure in figures.items():
            tokens = figure["tokens"]
            each = [f"{counts[model][kernels][name] / tokens:,.0f}" for kernels in KERNELS]
            # A prompt of 32 tokens is one pass; each decoded token is one.
            barriers = figure["barriers"] / (1 if name == "prompt" else tokens)
            print(f"| {model} | {name} | {each[0]} | {each[1]} | {figure['bytes'] / tokens:,.0f} | {barriers:g} |")


def flat(tree, path=()):
    """The numbers of nested objects, by their path."""
    if not isinstance(tree, dict):
        return {" ".join(path): tree}
    return {key: value for name, part in tree.items() for key, value in flat(part, (*path, name)).items()}


def differences(expected, found):
    """Sentences on the figures that are not within the tolerance."""
    expected, found = flat(expected), flat(found)
    for name in sorted(expected.keys() | found.keys()):
        if name not in expected or name not in found:
            yield f"{name}: expected {expected.get(name, 'no figure')}, found {found.get(name, 'none')}"
        elif abs(found[name] - expected[name]) > TOLERANCE * expected[name]:
            change = found[name] / expected[name] - 1 if expected[name] else float("inf")
            yield f"{name}: expected {expected[name]:,}, found {found[name]:,} ({change:+.1%})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    parser.add_argument("--program", type=pathlib.Path, default=PROGRAM)
    parser.add_argument("--rustc", help="version that built the program; the default is rustc's")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true")
    action.add_argument("--update", action="store_true")
    flags = parser.parse_args()
    version = flags.rustc or subprocess.run(["rustc", "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
    passes, counts = counted(flags.program, flags.models)
    show(passes, counts)
    if not (flags.check or flags.update):
        return
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {"passes": {}, "instructions": {}}
    if flags.update:
        golden["passes"] = passes
        golden["instructions"][version] = counts
        GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")
        return
    wrong = list(differences(golden["passes"], passes))
    if version in golden["instructions"]:
        wrong += differences(golden["instructions"][version], counts)
    else:
        known = ", ".join(golden["instructions"])
        print(f"{GOLDEN.name} has instructions for rustc {known}, not for {version}: they are not compared.")
        print("To add those above, run this command with --update instead of --check, and commit the file.")
    if wrong:
        print(f"\nmore than {TOLERANCE:.0%} from {GOLDEN.name}:", *wrong, sep="\n    ")
        sys.exit("If the change is meant, run this command with --update instead of --check, and commit the file.")


if __name__ == "__main__":
    main()
