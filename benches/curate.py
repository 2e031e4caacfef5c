#!/usr/bin/env python3
"""Signatures of MinHash per core, beside datatrove's own step on the same text; and whether the words are the same.

    cargo build --release -p thimble-curate --example minhash_bench
    benches/curate.py FILE.jsonl... [--rounds 3] [--documents 200] [--words]

Needs datatrove 0.10.1, spaCy 3.8, tokenizers and xxhash 3.8. The two take turns, each on one thread. datatrove is given the
first documents of each file, because it is slow; both speeds are bytes of text per second of making signatures alone.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import tempfile
import time

from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
from datatrove.utils.hashing import HashConfig
from datatrove.utils.text import simplify_text
import xxhash

EXAMPLE = os.path.join(os.path.dirname(__file__), "..", "target", "release", "examples", "minhash_bench")


def ours(mode, files):
    return subprocess.run([EXAMPLE, mode, *files], check=True, capture_output=True, text=True).stdout


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--documents", type=int, default=200, help="of each file, for datatrove")
    parser.add_argument("--words", action="store_true", help="compare the words of all documents instead")
    flags = parser.parse_args()
    config = MinhashConfig(hash_config=HashConfig(precision=64, hash_fc="xxhash"))
    signer = MinhashDedupSignature(tempfile.mkdtemp(), config)
    texts = {name: [json.loads(line)["text"] for line in open(name)] for name in flags.files}

    if flags.words:
        differ = total = 0
        for line in ours("words", flags.files).splitlines():
            name, number, count, digest = line.rsplit(" ", 3)
            words = signer.word_tokenizer.word_tokenize(simplify_text(texts[name][int(number)]))
            total += 1
            if (len(words), xxhash.xxh64(" ".join(words).encode()).hexdigest()) != (int(count), digest):
                differ += 1
                print("differs:", name, number)
        print(f"{differ} of {total} documents differ")
        return

    some = [text for rows in texts.values() for text in rows[: flags.documents]]
    bytes_of_some = sum(len(text.encode()) for text in some)
    signer.get_shingles("the first call loads the tokenizer")
    speeds = {"thimble": [], "datatrove": []}
    for _ in range(flags.rounds):
        seconds, size = re.match(r"([\d.]+) s, (\d+) bytes", ours("signatures", flags.files)).groups()
        speeds["thimble"].append(int(size) / float(seconds) / 1e6)
        begin = time.perf_counter()
        for text in some:
            shingles = signer.get_shingles(text)
            if shingles.size:
                signer.get_signature(shingles)
        speeds["datatrove"].append(bytes_of_some / (time.perf_counter() - begin) / 1e6)
    for name, values in speeds.items():
        print(f"{name}: {statistics.median(values):.2f} MB/s ({min(values):.2f} to {max(values):.2f})")
    print(f"ratio {statistics.median(speeds['thimble']) / statistics.median(speeds['datatrove']):.1f}")


main()
