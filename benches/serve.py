#!/usr/bin/env python3
"""Claim: `thimble serve` answers 16 clients at once with more tokens per second than llama.cpp's server.

    cargo build --release -p thimble-cli --features serve
    benches/build-llama.cpp.sh LLAMA                  # once: llama-server is among what it builds
    benches/serve.py --ours M.thimble --theirs M.gguf --llama LLAMA
    benches/serve.py --ours M.thimble                 # thimble alone

Each client sends prompts of its own, of 20 to 600 words, one behind the other, and reads the answers as streams: greedy,
with a fixed number of tokens, so that both servers get the same prompts and write the same number of tokens. Each round
starts the servers in turns (A B A B), each warmed up by one request per slot. No prompt begins as another one does, so that
no cache of prefixes helps.

Prints a table in Markdown: tokens of answers per second of all clients together, then milliseconds to the first token and
between tokens, p50 and p99 over all requests of all rounds; and the ratios.
"""

import argparse
import http.client
import json
import pathlib
import socket
import statistics
import subprocess
import sys
import threading
import time

import peer

WORDS = "the sea was calm and a small boat went out to look for fish while people on shore waited and talked about the weather".split()
LENGTHS = [20, 40, 80, 150, 300, 600]


def prompt(client, index, round_number):
    """A text whose first words no other one has."""
    length = LENGTHS[(client * 5 + index) % len(LENGTHS)]
    words = [WORDS[(client * 7 + index * 3 + at * at) % len(WORDS)] for at in range(length)]
    return f"{round_number} {client} {index}: " + " ".join(words)


class Figures:
    """What one run of all clients took, seconds."""

    def __init__(self):
        self.tokens, self.first, self.between, self.seconds = 0, [], [], 0.0

    def add(self, other):
        self.tokens += other.tokens
        self.seconds += other.seconds
        self.first += other.first
        self.between += other.between


class Server:
    """A server that runs until the end of a `with`."""

    def __init__(self, name, words, port, health):
        self.name, self.words, self.port, self.health = name, [str(word) for word in words], port, health

    def __enter__(self):
        self.process = subprocess.Popen(self.words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            try:
                connection.request("GET", self.health)
                if connection.getresponse().status == 200:
                    return self
            except OSError:
                pass
            finally:
                connection.close()
            time.sleep(0.1)
        self.process.kill()
        sys.exit(f"{self.name} does not answer: {' '.join(self.words)}")

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ours(flags):
    port = free_port()
    words = [flags.thimble, "serve", flags.ours, "--port", port, "--parallel", flags.clients]
    words += ["--context", flags.context, "--threads", flags.threads, "--quiet"]
    return Server("thimble", words, port, "/health")


def theirs(flags):
    port = free_port()
    words = [flags.llama / "llama-server", "-m", flags.theirs, "--port", port, "-np", flags.clients]
    words += ["-c", flags.context * flags.clients, "-t", flags.threads, "-tb", flags.threads, "-fa", "on"]
    return Server("llama.cpp", words, port, "/health")


def complete(port, text, tokens, figures):
    """One streamed answer; its times go into `figures`."""
    body = {"prompt": text, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True}
    body["stream_options"] = {"include_usage": True}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    begin = last = time.perf_counter()
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise RuntimeError(f"status {response.status}: {response.read()[:300]!r}")
    written = None
    pieces = 0
    for line in response:
        if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
            continue
        now = time.perf_counter()
        event = json.loads(line[6:])
        if "error" in event:
            raise RuntimeError(str(event["error"]))
        written = (event.get("usage") or {}).get("completion_tokens", written)
        if event["choices"] and event["choices"][0]["text"]:
            (figures.between if pieces else figures.first).append(now - (last if pieces else begin))
            last = now
            pieces += 1
    connection.close()
    if written != tokens:
        raise RuntimeError(f"expected {tokens} tokens, found {written}: the runs do not compare")
    figures.tokens += written


def run(server, flags, round_number):
    """All clients at once, each with its requests."""
    figures = [Figures() for _ in range(flags.clients)]
    failures = []

    def client(number, count, name):
        try:
            for index in range(count):
                complete(server.port, prompt(number, index, name), flags.tokens, figures[number])
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            failures.append(f"{server.name}: {error}")

    def together(count, name):
        clients = [threading.Thread(target=client, args=(number, count, name)) for number in range(flags.clients)]
        begin = time.perf_counter()
        for each in clients:
            each.start()
        for each in clients:
            each.join()
        if failures:
            sys.exit("\n".join(failures[:3]))
        return time.perf_counter() - begin

    together(1, f"warm-up {round_number}")
    figures[:] = [Figures() for _ in range(flags.clients)]
    seconds = together(flags.requests, f"round {round_number}")
    whole = Figures()
    for each in figures:
        whole.add(each)
    whole.seconds = seconds
    return whole


def percentile(seconds, part):
    """Nearest rank, in milliseconds."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] * 1000


def row(name, rounds):
    """Figures of all rounds, and the cells of the table."""
    rates = [each.tokens / each.seconds for each in rounds]
    whole = Figures()
    for each in rounds:
        whole.add(each)
    times = [percentile(part, at) for part in (whole.first, whole.between) for at in (0.5, 0.99)]
    cells = " | ".join(f"{value:.0f}" if value >= 100 else f"{value:.1f}" for value in times)
    print(f"| {name} | {peer.spread(rates)} | {cells} |", flush=True)
    return [statistics.median(rates), *times]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    peer.add_flags(parser, required=False)
    parser.set_defaults(rounds=3)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=4, help="of each client, in a round")
    parser.add_argument("--tokens", type=int, default=64, help="of each answer")
    parser.add_argument("--context", type=int, default=1024, help="of each slot")
    parser.add_argument("--threads", type=int, default=2)
    flags = peer.checked(parser.parse_args())
    if (flags.theirs is None) != (flags.llama is None):
        parser.error("expected --theirs and --llama together, or neither")
    flags.thimble = pathlib.Path(flags.thimble).resolve()
    contestants = {"thimble": ours} | ({"llama.cpp": theirs} if flags.theirs else {})
    results = {name: [] for name in contestants}
    for round_number in range(flags.rounds):
        for name, start in contestants.items():
            with start(flags) as server:
                results[name].append(run(server, flags, round_number))
    print(f"{flags.clients} clients, {flags.requests} answers of {flags.tokens} tokens each, {flags.rounds} rounds, {flags.threads} threads\n")
    print("| server | tokens/s | first token p50, ms | p99 | between tokens p50, ms | p99 |")
    print("|---|---|---|---|---|---|")
    rows = [row(name, rounds) for name, rounds in results.items()]
    if len(rows) == 2:
        print("| ratio | " + " | ".join(f"{left / right:.2f}" for left, right in zip(*rows)) + " |")


if __name__ == "__main__":
    main()
