#!/usr/bin/env python3
"""What pooled hidden states of a small decoder are good for, beside word overlap and BM25.

    benches/embeddings.py THIMBLE MODEL DATA [--texts N] [--work DIR]

DATA holds text/openstax/*.jsonl (textbooks: book, module, text) and eval/sciq, eval/boolq (questions with a passage). Three
tasks are made from it, with a fixed seed:

- section: two neighbouring paragraphs of the same section of a textbook, or paragraphs of two modules of the same book. AUC:
  how often a pair of neighbours is more similar than another pair.
- rank: two paragraphs of the same section (2), of the same book (1), or of different books (0). Spearman's correlation of
  the similarity with that number.
- question: SciQ's and BoolQ's questions with their passages. Retrieval@1: how often the own passage is the most similar one
  of all.

Each embedding also with the mean of all texts of its task subtracted (`--center`). Needs numpy. Prints a table in Markdown.
"""

import argparse
import collections
import json
import math
import pathlib
import random
import re
import subprocess
import tempfile

import numpy as np


def paragraphs(data):
    """By book, then by module: lists of sections, which are lists of paragraphs."""
    books = collections.defaultdict(list)
    for path in sorted((data / "text/openstax").glob("*.jsonl")):
        for line in path.open(encoding="utf-8"):
            row = json.loads(line)
            sections = [[]]
            for part in row["text"].split("\n\n"):
                if part.startswith("#"):
                    sections.append([])
                elif 200 <= len(part) <= 1200 and part[0].isupper():
                    sections[-1].append(part)
            sections = [section for section in sections if len(section) >= 2]
            if sections:
                books[row["book"]].append(sections)
    return {book: modules for book, modules in books.items() if len(modules) >= 5}


def neighbours(rng, modules):
    section = rng.choice(rng.choice(modules))
    at = rng.randrange(len(section) - 1)
    return section[at], section[at + 1]


def strangers(rng, a, b):
    """A paragraph of each of two different modules; `a` and `b` may be the same book's."""
    first = rng.choice(a)
    second = rng.choice([module for module in b if module is not first])
    return rng.choice(rng.choice(first)), rng.choice(rng.choice(second))


def pairs_of_sections(rng, books, count):
    names = sorted(books)
    pairs = []
    for index in range(count):
        modules = books[rng.choice(names)]
        pairs.append((neighbours(rng, modules), 1) if index % 2 else (strangers(rng, modules, modules), 0))
    return pairs


def pairs_of_ranks(rng, books, count):
    names = sorted(books)
    pairs = []
    for index in range(count):
        a, b = rng.sample(names, 2)
        pair = [lambda: strangers(rng, books[a], books[b]), lambda: strangers(rng, books[a], books[a]),
                lambda: neighbours(rng, books[a])][index % 3]()
        pairs.append((pair, index % 3))
    return pairs


def questions(rng, data, count):
    """Questions and their passages, each passage once."""
    out = []
    for path, passage in (("eval/sciq/test.jsonl", "support"), ("eval/boolq/validation.jsonl", "passage")):
        rows = [json.loads(line) for line in (data / path).open(encoding="utf-8")]
        found = {row[passage]: row["question"] for row in rows if 100 <= len(row[passage]) <= 1200}
        out.append((path.split("/")[1], rng.sample(sorted(found.items()), min(count, len(found)))))
    return out


def words(text):
    return re.findall(r"\w+", text.lower())


def overlap(a, b):
    """Jaccard's coefficient of the sets of words."""
    a, b = set(words(a)), set(words(b))
    return len(a & b) / max(1, len(a | b))


class Bm25:
    """Okapi BM25 with k1 = 1.2, b = 0.75 and Lucene's idf, over the texts of a task."""

    def __init__(self, texts):
        self.frequency = collections.Counter(word for text in texts for word in set(words(text)))
        self.texts, self.mean = len(texts), sum(len(words(text)) for text in texts) / len(texts)

    def __call__(self, query, text):
        found = collections.Counter(words(text))
        norm = 1.2 * (0.25 + 0.75 * sum(found.values()) / self.mean)
        return sum(math.log(1 + (self.texts - self.frequency[word] + 0.5) / (self.frequency[word] + 0.5))
                   * found[word] * 2.2 / (found[word] + norm) for word in set(words(query)) if word in found)


def embedded(flags, texts, pooling):
    """Unit vectors by text, as they are and centred."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", dir=flags.work, encoding="utf-8") as lines, \
            tempfile.NamedTemporaryFile("rb", suffix=".npy", dir=flags.work) as out:
        lines.writelines(json.dumps(dict(text=text)) + "\n" for text in texts)
        lines.flush()
        command = [flags.thimble, "embed", flags.model, "--input", lines.name, "--pooling", pooling, "--truncate",
                   "--context", "512", "--format", "npy"]
        subprocess.run(command, check=True, stdout=open(out.name, "wb"))
        plain = np.load(out.name)
    centred = plain - plain.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    return {"": dict(zip(texts, plain)), ", centred": dict(zip(texts, centred))}


def measures(flags, texts):
    """Functions of two texts by name."""
    bm25 = Bm25(texts)
    out = {"word overlap": overlap, "BM25": bm25}
    for pooling in ("mean", "last"):
        for kind, vectors in embedded(flags, texts, pooling).items():
            out[pooling + kind] = lambda a, b, vectors=vectors: float(vectors[a] @ vectors[b])
    return out


def ranks(values):
    """Ranks from 1; ties share their mean."""
    values = np.asarray(values)
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[place]


def auc(similarities, labels):
    labels = np.asarray(labels)
    positive = labels.sum()
    sum_of_ranks = ranks(similarities)[labels == 1].sum()
    return (sum_of_ranks - positive * (positive + 1) / 2) / (positive * (len(labels) - positive))


def spearman(similarities, labels):
    return np.corrcoef(ranks(similarities), ranks(labels))[0, 1]


def retrieval(similarity, rows):
    best = [max(rows, key=lambda row: similarity(question, row[0]))[0] for _, question in rows]
    return np.mean([found == passage for found, (passage, _) in zip(best, rows)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("thimble")
    parser.add_argument("model")
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--texts", type=int, default=300, help="pairs of a task, and questions of a data set")
    parser.add_argument("--work", default=None, help="folder for temporary files")
    flags = parser.parse_args()
    rng = random.Random(1)
    books = paragraphs(flags.data)
    table = collections.defaultdict(dict)
    for name, pairs, figure in (("section, AUC", pairs_of_sections(rng, books, flags.texts), auc),
                                ("rank, Spearman", pairs_of_ranks(rng, books, flags.texts), spearman)):
        texts = sorted({text for pair, _ in pairs for text in pair})
        for kind, similarity in measures(flags, texts).items():
            table[kind][name] = figure([similarity(*pair) for pair, _ in pairs], [label for _, label in pairs])
    for name, rows in questions(rng, flags.data, flags.texts):
        texts = sorted({text for row in rows for text in row})
        for kind, similarity in measures(flags, texts).items():
            table[kind][f"{name}, retrieval@1 of {len(rows)}"] = retrieval(similarity, rows)
    columns = list(next(iter(table.values())))
    print("| similarity | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for kind, figures in table.items():
        print(f"| {kind} | " + " | ".join(f"{figures[column]:.3f}" for column in columns) + " |")


if __name__ == "__main__":
    main()
