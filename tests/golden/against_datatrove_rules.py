"""Holds the rules of `thimble-train curate rules` against datatrove's filters, and counts what is decided otherwise.

    python3 against_datatrove_rules.py THIMBLE_TRAIN FILE.jsonl...     # documents with a field `text`

needs the packages datatrove (0.10 or later) and spacy. Words are those of spaCy there; ours differ from them in rare
cases, which are printed with the measured value and the threshold. More than 1 in 100 is a failure.
"""

import json
import random
import subprocess
import sys
import tempfile

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter, FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter,
)

FILTERS = {
    "gopher-quality": GopherQualityFilter(),
    "gopher-repetition": GopherRepetitionFilter(),
    "c4": C4QualityFilter(),
    "fineweb": FineWebQualityFilter(),
}
PROSE = ("The tide comes in because the moon pulls at the sea, and it goes out again six hours later. "
         "Fishermen have known that for a very long time, and they plan their days with it. ")


def adversarial():
    draw = random.Random(3)
    words = PROSE.split()
    yield from ["", " ", "\n", "\n\n\n", "a", ".", "…", "- a\n" * 100, "• point and the of\n" * 60, "# " * 80 + PROSE]
    yield from [PROSE, PROSE * 5, PROSE * 100, PROSE + "\n" + PROSE, (PROSE + "\n\n") * 4, (PROSE.strip() + "\n") * 3]
    yield from [PROSE.replace(".", "..."), PROSE.replace(" ", " ... "), PROSE.replace("e", "…"), PROSE.upper() * 3]
    yield from ["人人生而自由，在尊嚴和權利上一律平等。" * 20, "सभी मनुष्यों को गौरव। " * 30, "\u2028".join([PROSE] * 3)]
    yield from [PROSE + "lorem ipsum dolor sit.", PROSE + "\nUse of cookies is fine here.\n" + PROSE + "{", "x" * 5000]
    yield from [PROSE * 2 + "[1][edit][citation needed] Ends here[2].", "\r\n".join([PROSE] * 6), "\x1c".join(words)]
    yield from ["1 2 3 4 5 6 7 8 9 0 " * 30, "\u00a0".join(words * 4), "the be to of and that have with " * 10]
    for _ in range(300):
        lines = []
        for _ in range(draw.randint(1, 30)):
            line = " ".join(draw.choice(words) for _ in range(draw.randint(0, 25)))
            lines.append(line + draw.choice(["", ".", "...", "!", "…", " ", "\"", "?", ":"]))
        if draw.random() < 0.3:
            lines += draw.sample(lines, draw.randint(0, len(lines)))
        yield draw.choice(["\n", "\n\n", "\n\n\n"]).join(lines)


def reference(name, text):
    """Whether datatrove keeps the text, the reason, and the text that is left."""
    document = Document(text=text, id="0")
    try:
        result = FILTERS[name].filter(document)
    except (ZeroDivisionError, ValueError):
        # It divides by the number of words, lines or characters, and there are none.
        return None
    keep, reason = result if isinstance(result, tuple) else (result, None)
    return bool(keep), reason, document.text


def main():
    train, *paths = sys.argv[1:]
    groups = {"adversarial": list(adversarial())}
    for path in paths:
        with open(path) as file:
            groups[path] = [json.loads(line)["text"] for line in file]
    failed = False
    for group, texts in groups.items():
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
            file.writelines(json.dumps(dict(text=text)) + "\n" for text in texts)
            file.flush()
            for name in FILTERS:
                command = [train, "curate", "rules", "--rules", name, "--json", file.name]
                lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
                assert len(lines) == len(texts)
                other = compared = removed = 0
                for text, line in zip(texts, map(json.loads, lines)):
                    theirs = reference(name, text)
                    if theirs is None:
                        continue
                    compared += 1
                    removed += not theirs[0]
                    ours = (line["keep"], line.get("reason"), line.get("text", text))
                    same = ours[:2] == theirs[:2] and (not ours[0] or name != "c4" or ours[2] == theirs[2])
                    if not same:
                        other += 1
                        print(f"  {name}: {text[:50]!r}: {ours[:2]} {line.get('value')} {line.get('threshold')}, "
                              f"datatrove: {theirs[:2]}")
                print(f"{group}: {name}: {compared} compared, datatrove removes {removed}, {other} decided otherwise")
                failed |= other * 100 > compared
    sys.exit("more than 1 in 100 documents is decided otherwise" if failed else 0)


if __name__ == "__main__":
    main()
