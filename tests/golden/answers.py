"""Extraction and comparison of GSM8K answers as lm-evaluation-harness 0.4.11 does them (RegexFilter, take_first,
exact_match with the task's regexes_to_ignore), on texts put together at random from what occurs in answers.
python3 answers.py > answers.json"""

import json
import random
import re

PIECES = [
    "#### ", "####", "### ", "#", " ", "\n", "18", "5", "-5", "-", "--3", "1,234", "$", "$20", "$1,000.50", ".", ",", "..",
    "The answer is ", "x = ", "3.14", "0.", ".5", "%", "\u00a3", "\u0663", "apples", "A", "#### 42", "#### -7.", "#### 1,000\n",
    "#### $12", "=<<16-3-4=9>>", "\t", "\u00a0", "12 - 5", "7.\n", "\u4e03", "\U0001f600 8",
]
IGNORE = [",", "\\$", "(?s).*#### ", "\\.$"]


def extract(pattern, group_select, text):
    match = re.compile(pattern).findall(text)
    if not match:
        return "[invalid]"
    match = match[group_select]
    if isinstance(match, tuple):
        match = [m for m in match if m]
        if not match:
            return "[invalid]"
        match = match[0]
    return match.strip()


def normalized(text):
    for pattern in IGNORE:
        text = re.sub(pattern, "", text)
    return text.lower()


draw = random.Random(7)
cases = []
for _ in range(1500):
    text = "".join(draw.choice(PIECES) for _ in range(draw.randrange(9)))
    strict = extract("#### (\\-?[0-9\\.\\,]+)", 0, text)
    flexible = extract("(-?[$0-9.,]{2,})|(-?[0-9]+)", -1, text)
    cases.append([text, strict, flexible, normalized(text)])
print("[")
print(",\n".join(json.dumps(case) for case in cases))
print("]")
