"""Times the first answer of a reopened chat: with keys and values from a file, and recomputed.

    pip install ./bindings/python
    python benches/reopen.py MODEL [--tokens 1500] [--rounds 5]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from thimble import Model, Sampling


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=1500, help="length of the conversation that is reopened")
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    greedy = Sampling(temperature=0.0, top_k=None, top_p=None, repetition_penalty=1.0, seed=None)
    with tempfile.TemporaryDirectory() as folder, Model.open(flags.model, context=2048) as model:
        journal, kv_file = Path(folder) / "chat", Path(folder) / "chat.kv"
        words = "The thimble is a small cup that one wears on a finger. "
        per_sentence = len(model.tokens(words))

        def first_piece(kv: "Path | None") -> "tuple[float, int]":
            """Milliseconds until the answer's first piece, and tokens that were not computed again."""
            with model.chat(journal=journal, kv_file=kv, sampling=greedy, max_tokens=4) as chat:
                start = time.perf_counter()
                answer = chat.send("And?")
                next(answer)
                took = (time.perf_counter() - start) * 1000
                return took, answer.reply.reused_tokens

        with model.chat(journal=journal, kv_file=kv_file, sampling=greedy, max_tokens=4) as chat:
            print(chat.send(words * (flags.tokens // per_sentence)).reply.prompt_tokens, "tokens")
            chat.free_memory()
            while not kv_file.exists():
                time.sleep(0.01)
        print(f"{kv_file.stat().st_size / 1e6:.1f} MB in the file")
        saved = journal.read_bytes()
        taken, computed = [], []
        for _ in range(flags.rounds):
            for times, kv in ((taken, kv_file), (computed, None)):
                while True:
                    try:
                        journal.write_bytes(saved)
                        took, reused = first_piece(kv)
                        break
                    except OSError:
                        time.sleep(0.05)
                assert (reused > 0) == (kv is not None), reused
                times.append(took)
        for what, times in (("from the file", taken), ("computed", computed)):
            print(f"{what:14} {statistics.median(times):8.1f} ms to the first piece")
        print(f"ratio {statistics.median(computed) / statistics.median(taken):.1f}")


if __name__ == "__main__":
    main()
