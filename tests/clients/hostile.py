#!/usr/bin/env python3
"""Claim: hostile clients neither change others' answers nor let the server's memory grow, and it listens on loopback only.

    hostile.py --thimble target/debug/thimble --model tiny.thimble [--attacks slow idle ...] [--requests 10000]

Starts a server of its own and attacks it; meanwhile a witness asks the same greedy question over and over. Prints a table,
and exits with 1 if an answer differed, a well-behaved client got none, memory grew beyond its bound, a hostile request got
anything but an error, or the server listened elsewhere. Linux only: it reads /proc.
"""

import argparse
import http.client
import json
import pathlib
import resource
import sys
import threading
import time

from attacks import ATTACKS, MEGABYTE
from process import QUESTION, Server, answer

MOST_GROWTH = 64 * MEGABYTE  # of memory during an attack; a body of 1 GB that is kept exceeds it
MOST_CREEP = 4 * MEGABYTE  # over many ordinary requests


class Witness(threading.Thread):
    """Asks until it is told to stop; keeps what differed."""

    def __init__(self, server, expected):
        super().__init__(daemon=True)
        self.server, self.expected = server, expected
        self.answers, self.faults, self.slowest, self.done = 0, [], 0.0, threading.Event()

    def run(self):
        while not self.done.is_set():
            begin = time.monotonic()
            try:
                found = answer(self.server, stream=self.answers % 2 == 1)
                if found != self.expected:
                    self.faults.append(f"expected {self.expected!r}, found {found!r}")
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.faults.append(f"no answer: {error!r}")
            self.answers += 1
            self.slowest = max(self.slowest, time.monotonic() - begin)


def under_attack(server, flags, expected, name):
    """A row of the table, and what was wrong."""
    witness = Witness(server, expected)
    peak, before, ended = [server.memory()], server.memory(), threading.Event()

    def watch():
        while not ended.wait(0.1):
            peak.append(server.memory())

    watcher = threading.Thread(target=watch, daemon=True)
    witness.start()
    watcher.start()
    faults, note = ATTACKS[name](server, flags)
    witness.done.set()
    witness.join(120)
    ended.set()
    watcher.join()
    growth = max(peak) - before
    if growth > MOST_GROWTH:
        faults.append(f"memory grew by {growth / MEGABYTE:.1f} MB, expected at most {MOST_GROWTH / MEGABYTE:.0f}")
    if witness.is_alive() or witness.answers == 0:
        faults.append("the witness waits for an answer without end")
    faults += [f"the witness: {fault}" for fault in witness.faults[:5]]
    row = f"| {name} | {witness.answers} | {len(witness.faults)} | {witness.slowest:.2f} | {growth / MEGABYTE:.1f} | {note} |"
    print(row, flush=True)
    return [f"{name}: {fault}" for fault in faults]


def many_requests(server, count):
    """Ordinary requests of all kinds from eight clients; memory after a fifth of them, and at the end."""
    text = {"prompt": "The sea", "max_tokens": 1}
    kinds = [
        ("/v1/chat/completions", {**QUESTION, "max_tokens": 1}),
        ("/v1/chat/completions", {**QUESTION, "max_tokens": 2, "stream": True, "temperature": 1}),
        ("/v1/completions", {**text, "logprobs": 2, "echo": True}),
        ("/v1/completions", {**text, "n": 2, "temperature": 1}),
        ("/v1/embeddings", {"input": ["one", "two"]}),
        ("/v1/chat/completions", {**QUESTION, "max_tokens": 4, "response_format": {"type": "json_object"}}),
        ("/v1/chat/completions", {"messages": 1}),
    ]
    faults = []

    def ask(client, number):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        for index in range(number):
            path, body = kinds[(client + index) % len(kinds)]
            # Other words each time: whatever is kept by request would grow.
            body = {**body, "user": f"{client}-{index}"}
            if "prompt" in body:
                body["prompt"] += f" {client} {index}"
            try:
                status, said = server.request("POST", path, body, connection)
            except (OSError, http.client.HTTPException) as error:
                status, said = 0, repr(error)
                connection.close()
            if status != (400 if body.get("messages") == 1 else 200):
                faults.append(f"{path}: status {status}, {said[:100]!r}")
        connection.close()

    def run(total):
        clients = [threading.Thread(target=ask, args=(client, total // 8)) for client in range(8)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        return server.memory()

    first = run(count // 5)
    last = run(count - count // 5)
    print(f"\nmemory after {count // 5} requests: {first / MEGABYTE:.1f} MB, after {count}: {last / MEGABYTE:.1f} MB")
    if last - first > MOST_CREEP:
        faults.append(f"memory grew by {(last - first) / MEGABYTE:.1f} MB over {count} requests")
    return faults[:10]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--thimble", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--attacks", nargs="*", choices=list(ATTACKS), default=list(ATTACKS))
    parser.add_argument("--requests", type=int, default=10_000, help="ordinary requests behind the attacks; 0 is none")
    parser.add_argument("--idle", type=int, default=2000, help="idle connections")
    parser.add_argument("--seconds", type=int, default=30, help="of the slow client")
    parser.add_argument("--serve", nargs=argparse.REMAINDER, default=[], help="further flags of `thimble serve`")
    flags = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 16384), most))
    server = Server(flags)
    faults = []
    try:
        expected = answer(server, stream=False)
        print("| attack | witness's answers | wrong | slowest, s | memory grew by at most, MB | |")
        print("|---|---|---|---|---|---|")
        for name in flags.attacks:
            faults += under_attack(server, flags, expected, name)
        if flags.requests:
            faults += many_requests(server, flags.requests)
        listening = server.listening()
        print(f"listens on {', '.join(listening)}")
        if listening != [f"0100007F:{server.port:04X}"]:
            faults.append(f"expected one socket on loopback, found {listening}")
        if server.metric("panics_total") != 0:
            faults.append("a request ended in a panic")
        if server.process.poll() is not None:
            faults.append(f"the server has ended with {server.process.returncode}")
    finally:
        code = server.stop()
    if code != 0:
        faults.append(f"expected the exit code 0 after SIGTERM, found {code}")
    for fault in faults:
        print(f"WRONG: {fault}", file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
