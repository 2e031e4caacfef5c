"""Writes words.json: words and MinHash signatures of texts of our own, as datatrove makes them.

Run: python words.py > words.json, with datatrove 0.10.1, spaCy 3.8, tokenizers and xxhash 3.8 installed.
"""

import json
import random

from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
from datatrove.utils.hashing import HashConfig
from datatrove.utils.text import simplify_text
from datatrove.utils.word_tokenizers import load_word_tokenizer

TEXTS = [
    "I can't, I won't; and they cannot either. It's cold, isn't it? She'd've said so, y'all.",
    "wont dont cant hed shell well were id ill its whos thats mustve ima gonna gotta notve",
    "At 10am the 3.5 km² field cost £1,000.50 (or 12€), 7kg, 20 mph, 5GB and 100°C.",
    "a≠b, x≮y≯z and 3≠q; ©2024 Thimble® → ☃☃ and 🙂🙃 text🙂more",
    "Crème BRÛLÉE, naïve façade, ΟΔΟΣ Ελλάδα, ЁЖ и Йод, İstanbul, ﬁne ½ ² ①",
    "中文没有空格，但是有标点。日本語のテキスト、ひらがな。 한국어 문장입니다. नमस्ते दुनिया।",
    "‘single’ “double” «guillemets» ‘s dog‘s ‚low‘ ·dot· ¿que? ¡ya! ⟦x⟧ 『y』 § 5 §6",
    "snake_case and kebab-case, http://example.org/a?b=c#d, e-mail@example.org, C++ and C#",
    "٣٫٥ كم و ٤ كغ، ७७ किलो, 7² 8³ 0x1F 1e10 v1.2.3 $5 US$6 50%",
    "one\u00a0two\u2003three\u200bfour\u0085five\u001fsix\tseven\r\neight a \u0301 b e\u0301",
    "‘ s and ‘s and (‘s) ‘‘s‘ ≮space≯",
    "",
    "too short",
]


def pieces():
    """Texts of random characters, so that rules meet that nobody thought of."""
    dice = random.Random(7)
    alphabet = list("aeiosntdlmgk0159 =<>+-.,'’‘€£¥©®°→☃🙂²³½§µжгмкبم中あ́·¿;~$_")
    endings = ["nt", "ve", "ll", "km", "am", "s", "d", "’s", "'s"]
    for _ in range(60):
        yield "".join(dice.choice(alphabet + endings) for _ in range(dice.randrange(5, 120)))


def main():
    tokenizer = load_word_tokenizer("en")
    hashes = HashConfig(precision=64, hash_fc="xxhash")
    signer = MinhashDedupSignature("/tmp", MinhashConfig(n_grams=3, num_buckets=2, hashes_per_bucket=3, hash_config=hashes))
    rows = []
    for text in [*TEXTS, *pieces()]:
        shingles = signer.get_shingles(text)
        signature = sum(signer.get_signature(shingles), []) if shingles.size else None
        rows.append({"text": text, "words": tokenizer.word_tokenize(simplify_text(text)), "signature": signature})
    print(json.dumps(rows, ensure_ascii=False, indent=0))


main()
