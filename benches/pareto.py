#!/usr/bin/env python3
"""Size against divergence: llama.cpp's quantized files and Thimble's of the same model, by the same code.

    cargo build --release -p thimble-cli --features full
    benches/pareto.py SOURCE --text TEXT [--calibrate CALIBRATION_TEXT] [--work DIR] [--windows N]

SOURCE is a Hugging Face folder or a GGUF file; its values in an F16 GGUF file are the original for every contestant. The peer comes from
its PyPI source package (benches/build-llama.cpp.sh, about ten minutes once). For each of its types there is one file of
ours that may not be larger: `thimble convert --target-bytes` with the size of the peer's file. All divergences are
weights alone (`--exact`: f32 activations for both) on the same windows of TEXT; the last column is our file as it runs.
Prints a table in Markdown; DIR/pareto.json has all figures. Finished files and figures in DIR are used again.
"""

import argparse
import hashlib
import json
import pathlib
import subprocess
import sys

PEER_TYPES = ["Q8_0", "Q6_K", "Q5_K_M", "Q5_0", "Q4_K_M", "Q4_0"]
HERE = pathlib.Path(__file__).resolve().parent


def run(command, log):
    """Runs a command with its output in a file; says where to look if it fails."""
    with open(log, "w") as out:
        done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=out, text=True)
    if done.returncode != 0:
        sys.exit(f"failed: {' '.join(map(str, command))}\nsee {log}:\n{pathlib.Path(log).read_text()[-2000:]}")
    return done.stdout


def digest(file):
    """SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


class Contest:
    """One source, one text, one folder of files."""

    def __init__(self, flags):
        self.flags = flags
        self.work = flags.work
        self.work.mkdir(parents=True, exist_ok=True)
        # A bare name would be looked for along PATH.
        flags.thimble = flags.thimble.resolve()
        if not flags.thimble.exists():
            sys.exit(f"there is no {flags.thimble}: run `cargo build --release -p thimble-cli --features full`, or give --thimble")
        self.same_contest()
        self.figures_file = self.work / "pareto.json"
        self.figures = json.loads(self.figures_file.read_text()) if self.figures_file.exists() else {}
        self.peer = flags.llama or self.work / "llama.cpp"

    def same_contest(self):
        """Figures and files of another contest are not taken for this one's."""
        flags = self.flags
        files = sorted(flags.source.iterdir()) if flags.source.is_dir() else [flags.source]
        files += [flags.text] + ([] if flags.calibrate == "default" else [pathlib.Path(flags.calibrate)])
        about = {file.name: digest(file) for file in files if file.is_file()}
        about |= {"windows": flags.windows, "window": flags.window, "calibrate": flags.calibrate}
        known = self.work / "contest.json"
        if not known.exists() and any(entry.name != "llama.cpp" for entry in self.work.iterdir()):
            sys.exit(f"{self.work} is not empty and holds no contest.json: name another --work")
        if known.exists() and json.loads(known.read_text()) != about:
            sys.exit(f"{self.work} holds another contest (source, text, windows or calibration): name another --work")
        known.write_text(json.dumps(about, indent=1))

    def convert(self, source, target, *options):
        """A file made by `thimble convert`, unless it is there."""
        if not target.exists():
            run([self.flags.thimble, "convert", source, "-o", target, *options], f"{target}.log")
        return target

    def divergence(self, name, model, exact):
        """Figures of `thimble divergence`, unless they are known."""
        key = f"{name} {'exact' if exact else 'as run'}"
        if key not in self.figures:
            command = [self.flags.thimble, "divergence", model, "--against", self.original, "--input", self.flags.text]
            command += ["--windows", self.flags.windows, "--window", self.flags.window, "--json"]
            out = run(command + (["--exact"] if exact else []), self.work / f"{name}.divergence.log")
            self.figures[key] = json.loads(out)
            self.figures_file.write_text(json.dumps(self.figures, indent=1))
        return self.figures[key]

    def prepare(self):
        """The original that both begin with, as a reference for divergences, and the peer's tool."""
        self.f16 = self.convert(self.flags.source, self.work / "original-f16.gguf", "--to", "gguf", "--type", "F16")
        self.original = self.convert(self.f16, self.work / "original.thimble", "--quant", "f32")
        self.quantize = self.peer / "llama-quantize"
        if not self.quantize.exists():
            print("building llama.cpp (about ten minutes) ...", file=sys.stderr)
            run([HERE / "build-llama.cpp.sh", self.peer], self.work / "llama.cpp.log")

    def against(self, kind):
        """One type of the peer, and our answer to it."""
        peer = self.work / f"peer-{kind}.gguf"
        if not peer.exists():
            part = peer.with_suffix(".part")
            run([self.quantize, self.f16, part, kind], f"{peer}.log")
            part.rename(peer)
        # In f32, so that what the peer's blocks mean is compared and nothing else.
        wide = self.work / f"peer-{kind}.thimble"
        key = f"peer-{kind} exact"
        if key not in self.figures:
            self.convert(peer, wide, "--quant", "f32")
        theirs = self.divergence(f"peer-{kind}", wide, exact=True)
        wide.unlink(missing_ok=True)
        size = peer.stat().st_size
        target = ["--target-bytes", str(size), "--calibrate", self.flags.calibrate]
        target += ["--sensitivities", self.work / "sensitivities.json"]
        ours = self.convert(self.f16, self.work / f"ours-{kind}.thimble", *target)
        exact = self.divergence(f"ours-{kind}", ours, exact=True)
        as_run = self.divergence(f"ours-{kind}", ours, exact=False)
        return {"type": kind, "size": size, "theirs": theirs, "our size": ours.stat().st_size, "ours": exact, "run": as_run}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("--text", type=pathlib.Path, required=True, help="the text that divergences are measured on")
    parser.add_argument("--calibrate", default="default", help="calibration text, another one than --text")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("pareto"))
    parser.add_argument("--thimble", type=pathlib.Path, default=HERE.parent / "target/release/thimble")
    parser.add_argument("--llama", type=pathlib.Path, help="folder of benches/build-llama.cpp.sh [default: WORK/llama.cpp]")
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--types", nargs="+", default=PEER_TYPES)
    contest = Contest(parser.parse_args())
    contest.prepare()
    print("| llama.cpp | MB | mean KL | 99th | same top | our MB | mean KL | 99th | same top | as run | smaller and closer |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    lost = []
    for kind in contest.flags.types:
        row = contest.against(kind)
        won = row["our size"] <= row["size"] and row["ours"]["kl"]["mean"] < row["theirs"]["kl"]["mean"]
        lost += [] if won else [kind]
        cells = [kind]
        for size, figures in [("size", "theirs"), ("our size", "ours")]:
            kl, top = row[figures]["kl"], row[figures]["top_1_agreement"]
            cells += [f"{row[size] / 1e6:.1f}", f"{kl['mean']:.5f}", f"{kl['percentile_99']:.4f}", f"{top:.1%}"]
        cells += [f"{row['run']['kl']['mean']:.5f}", "yes" if won else "no"]
        print("|", " | ".join(cells), "|", flush=True)
    if lost:
        sys.exit(f"not smaller and closer than: {', '.join(lost)}")


if __name__ == "__main__":
    main()
