"""Writes the models and the predictions of the C++ library that the tests of `fasttext` hold the reader against.

    python3 make.py

needs the package fasttext-wheel, and numpy before 2. The words are made up; nothing else is in the models.
"""

import json
import pathlib
import random
import tempfile

import fasttext

HERE = pathlib.Path(__file__).parent
WORDS = dict(sea="tide gull salt harbour Küste море 海 波", hill="peak snow ridge goat größe гора 山 岩")
COMMON = "the of and a in 的 и 1984 café 😀".split()
MODELS = {
    "softmax.bin": dict(loss="softmax", wordNgrams=2, bucket=60),
    "tree.bin": dict(loss="hs", minn=2, maxn=4, bucket=80),
    "one_against_all.bin": dict(loss="ova", wordNgrams=3, bucket=60),
    "sampled.bin": dict(loss="ns", wordNgrams=2, minn=1, maxn=2, bucket=50),
    "pruned.ftz": dict(loss="hs", wordNgrams=2, minn=2, maxn=3, bucket=400, dim=5),
}


def lines(labels):
    draw = random.Random(1)
    for _ in range(240):
        kind = draw.choice(list(WORDS))
        words = [draw.choice(WORDS[kind].split() + COMMON) for _ in range(draw.randint(3, 12))]
        yield f"__label__{kind}{draw.randrange(labels // 2)} " + " ".join(words) + "\n"


def texts():
    draw = random.Random(2)
    every = " ".join(WORDS.values()).split() + COMMON + ["unseen", "été", "</s>", "__label__sea0", "__label__other", "x"]
    yield from ["", " ", "</s>", "__label__sea0", "tide", "\ufffd", "a" * 300, "tide\tgull\x0bsalt\x0cpeak\rsnow\x00ridge"]
    for _ in range(20):
        yield draw.choice([" ", "  ", "\t"]).join(draw.choice(every) for _ in range(draw.randint(1, 14)))


def main():
    expected = {}
    for name, options in MODELS.items():
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.writelines(lines(6))
            file.flush()
            model = fasttext.train_supervised(file.name, **dict(dict(dim=4, epoch=30, lr=0.5, thread=1, verbose=0), **options))
            if name.endswith(".ftz"):
                model.quantize(file.name, cutoff=300, qnorm=True, dsub=2, verbose=0)
        model.save_model(str(HERE / name))
        model = fasttext.load_model(str(HERE / name))
        expected[name] = [
            dict(text=text, predictions=[[label, round(p, 7)] for p, label in model.f.predict(text + "\n", -1, 0.0, "strict")])
            for text in texts()
        ]
    (HERE / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
