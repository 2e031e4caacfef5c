"""A journal survives kill -9: nothing that was shown is lost."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

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
sampling = Sampling(temperature=1.2, top_k=None, top_p=None, repetition_penalty=1.1, seed=seed)
chat = model.chat(sampling=sampling, max_tokens=12, journal=journal)
for number in range(1000):
    text = f"message {seed}.{number}"
    answer = chat.send(text)
    show("open" if number == 0 else "user", text)
    for piece in answer:
        show("piece", piece)
"""


def test_nothing_shown_is_lost(path: Path, tmp_path: Path) -> None:
    journal = tmp_path / "chat.jsonl"
    moments = random.Random(6)
    longest = 0.0
    kept: list[tuple[str, str]] = []
    cut_in_answer = 0
    for round in range(ROUNDS):
        command = [sys.executable, "-c", CHILD, str(path), str(journal), str(round)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            # Up to here only Python started.
            first = child.stdout.readline()
            time.sleep(moments.uniform(0, 0.6))
            child.kill()
            lines = (first + child.stdout.read()).splitlines(keepends=True)
        shown: list[tuple[str, str]] = []
        for line in lines:
            if not line.endswith("\n"):
                continue
            kind, text = json.loads(line)
            if kind == "piece":
                user, answer = shown[-1]
                shown[-1] = (user, answer + text)
            else:
                shown.append((text, ""))
        with Model.open(path) as model:
            chat = model.chat(sampling=lively(), journal=journal)
            texts = [message.text for message in chat.history]
            unanswered = chat.unanswered
        found = list(zip(texts[::2], texts[1::2]))
        # Turns of rounds before may have been forgotten once the context was full: never the newest.
        begin = next((i for i, turn in enumerate(found) if turn[0] == shown[0][0]), len(found))
        assert begin == 0 or found[:begin] == kept[-begin:]
        new = found[begin:]
        for number, (user, answer) in enumerate(shown):
            if not answer:
                # On its way: in the history with more than was shown, or to be sent again.
                assert unanswered == user or number < len(new) or number == len(shown) - 1
                continue
            assert new[number][0] == user
            whole = new[number][1]
            assert whole == answer if number < len(shown) - 1 else whole.startswith(answer)
        cut_in_answer += bool(shown[-1][1])
        kept = found
        longest = max(longest, len(lines))
    assert cut_in_answer > 0 and longest > 3, "the moments fell into answers"
