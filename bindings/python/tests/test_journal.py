"""A journal survives kill -9: nothing that was shown is lost."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Optional

from conftest import lively

from thimble import Model

ROUNDS = 20

#: Talks for ever, with a line on standard output for whatever it shows.
CHILD = """
import json, sys
from thimble import Model, Sampling

def show(kind, text):
    sys.stdout.write(json.dumps([kind, text]) + "\\n")
    sys.stdout.flush()

path, journal, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
model = Model.open(path)
sampling = Sampling(temperature=1.2, top_k=None, top_p=1.0, repetition_penalty=1.1, seed=seed)
chat = model.chat(sampling=sampling, max_tokens=12, journal=journal)
for number in range(1000):
    text = f"message {seed}.{number}"
    show("user", text)
    answer = chat.send(text)
    show("sent", "")
    for piece in answer:
        show("piece", piece)
"""


def test_nothing_shown_is_lost(path: Path, tmp_path: Path) -> None:
    journal = tmp_path / "chat.jsonl"
    moments = random.Random(6)
    longest = 0.0
    kept: list[tuple[str, str]] = []
    before: Optional[str] = None
    cut_in_answer = 0
    for seed in range(ROUNDS):
        command = [sys.executable, "-c", CHILD, str(path), str(journal), str(seed)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            # Up to here only Python started.
            first = child.stdout.readline()
            time.sleep(moments.uniform(0, 0.6))
            child.kill()
            lines = (first + child.stdout.read()).splitlines(keepends=True)
        shown: list[tuple[str, str]] = []
        sent = False
        for line in lines:
            if not line.endswith("\n"):
                continue
            kind, text = json.loads(line)
            if kind == "piece":
                user, answer = shown[-1]
                shown[-1] = (user, answer + text)
            elif kind == "user":
                shown.append((text, ""))
            sent = kind != "user"
        with Model.open(path) as model:
            chat = model.chat(sampling=lively(), journal=journal)
            texts = [message.text for message in chat.history]
            unanswered = chat.unanswered
        found = list(zip(texts[::2], texts[1::2]))
        expected = kept + shown
        if not found or found[-1][0] != expected[-1][0]:
            # Of its answer nothing was shown: it waits for one, unless `send` had not yet returned.
            user, answer = expected.pop()
            assert answer == "" and unanswered in ((user,) if sent else (user, before, None))
        # The oldest give way once the context is full; what is there is complete.
        assert bool(expected) == bool(found) and len(found) <= len(expected)
        expected = expected[len(expected) - len(found) :]
        assert found[:-1] == expected[:-1]
        for (message, whole), (user, answer) in zip(found[-1:], expected[-1:]):
            assert message == user and whole.startswith(answer)
        cut_in_answer += bool(shown and shown[-1][1])
        kept, before = found, unanswered
        longest = max(longest, len(lines))
    assert cut_in_answer > 0 and longest > 3, "the moments fell into answers"
