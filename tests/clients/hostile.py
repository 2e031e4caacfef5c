"""Claim: hostile clients neither change others' answers nor let the server's memory grow, and it listens on loopback only.

    hostile.py --thimble target/debug/thimble --model tiny.thimble [--attacks slow idle ...] [--requests 10000]

Starts a server of its own and attacks it; meanwhile a witness asks the same greedy question over and over. Prints a table,
and exits with 1 if an answer differed, a well-behaved client got none, memory grew beyond its bound, a hostile request got
anything but an error, or the server listened elsewhere. Linux only: it reads /proc.
"""

import argparse
import collections
import http.client
import json
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

QUESTION = {"messages": [{"role": "user", "content": "Name three colors."}], "temperature": 0, "max_tokens": 16}
# An answer that ends only with its client.
ENDLESS = {**QUESTION, "messages": [{"role": "user", "content": "Write."}], "max_tokens": 100_000, "ignore_eos": True}
MEGABYTE = 1 << 20
MOST_GROWTH = 64 * MEGABYTE  # of memory during an attack; a body of 1 GB that is kept exceeds it
MOST_CREEP = 4 * MEGABYTE  # over many ordinary requests


class Server:
    """A running `thimble serve` on loopback."""

    def __init__(self, flags):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        words = [flags.thimble, "serve", flags.model, "--port", self.port, "--quiet", *flags.serve]
        self.process = subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while True:
            try:
                status, _ = self.request("GET", "/health")
                if status == 200:
                    return
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                sys.exit("expected a server that answers /health within 60 s, found none: its errors are above")
            time.sleep(0.05)

    def connect(self, timeout=60):
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def request(self, method, path, body=None, connection=None):
        """Status and body of a response, on a connection of its own unless one is given."""
        used = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            used.request(method, path, None if body is None else json.dumps(body), headers)
            response = used.getresponse()
            return response.status, response.read()
        finally:
            if connection is None:
                used.close()

    def memory(self):
        """Resident bytes."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) * 1024

    def metric(self, name):
        text = self.request("GET", "/metrics")[1].decode()
        return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"thimble_{name} "))

    def listening(self):
        """The addresses that the process listens on, as /proc has them: hexadecimal address and port."""
        sockets = set()
        for entry in pathlib.Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                sockets.add(str(entry.readlink()))
            except OSError:
                continue  # closed since
        found = []
        for table in ("tcp", "tcp6"):
            for line in pathlib.Path(f"/proc/{self.process.pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                    found.append(fields[1])
        return found

    def stop(self):
        """The exit code after SIGTERM."""
        self.process.terminate()
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return "none: it did not end within 60 s"


def answer(server, stream):
    """The text that the witness gets, whole or as a stream."""
    status, body = server.request("POST", "/v1/chat/completions", {**QUESTION, "stream": stream})
    if status != 200:
        raise OSError(f"status {status}: {body[:200]!r}")
    if not stream:
        return json.loads(body)["choices"][0]["message"]["content"]
    events = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")]
    if events[-1] != b"[DONE]":
        raise OSError("the stream ended early")
    choices = [choice for event in events[:-1] for choice in json.loads(event)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


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


# --- attacks: each returns what it found wrong, and a note


def post(body, extra=b""):
    text = json.dumps(body).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + extra
    return head + b"Content-Length: %d\r\n\r\n" % len(text) + text


def read_all(connection, most=MEGABYTE):
    """What comes until the end, a reset, or `most` bytes; None if time is up."""
    read = b""
    try:
        while len(read) < most:
            piece = connection.recv(65536)
            if not piece:
                break
            read += piece
    except ConnectionError:
        pass
    except TimeoutError:
        return None
    return read


def slow(server, flags):
    """A byte a second: of a head, and of a body."""
    request = post(QUESTION)
    body_at = request.index(b"\r\n\r\n") + 4
    connections = []
    for number in range(40):
        connection = server.connect()
        sent = body_at if number % 2 else 0
        connection.sendall(request[:sent])
        connections.append((connection, sent))
    closed = 0
    for second in range(flags.seconds):
        time.sleep(1)
        for connection, sent in connections:
            try:
                connection.send(request[sent + second : sent + second + 1])
            except OSError:
                closed += 1
    for connection, _ in connections:
        connection.close()
    return [], f"40 clients for {flags.seconds} s; writes to closed connections: {closed}"


def idle(server, flags):
    """2,000 connections that say nothing."""
    connections = [server.connect() for _ in range(flags.idle)]
    time.sleep(flags.seconds / 3)
    faults = []
    try:
        answer(server, stream=False)
    except (OSError, http.client.HTTPException) as error:
        faults.append(f"no answer beside idle connections: {error!r}")
    kept = 0
    for connection in connections:
        connection.setblocking(False)
        try:
            connection.recv(1)
        except BlockingIOError:
            kept += 1
        except OSError:
            pass
        connection.close()
    return faults, f"{flags.idle} connections, {kept} still open after {flags.seconds / 3:.0f} s"


def half_closed(server, flags):
    """Clients that end their half of a connection in a request, behind it, or in the middle of a stream."""
    request = post({**ENDLESS, "stream": True})
    answered = 0
    for number in range(60):
        connection = server.connect(timeout=5)
        connection.sendall(request[: len(request) // 2] if number % 3 == 0 else request)
        if number % 3 == 1:
            connection.recv(200)
        connection.shutdown(socket.SHUT_WR)
        answered += bool(connection.recv(1) if number % 3 else b"")
        connection.close()
    return waits_for_free_slots(server), f"60 clients, {answered} had the beginning of an answer"


def waits_for_free_slots(server):
    """Nobody reads any more: slots have to become free. 30 s are generous, and the witness uses one at times."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if server.metric("busy_slots") <= 1 and server.metric("waiting_jobs") <= 1:
            return []
        time.sleep(0.1)
    return [f"{server.metric('busy_slots'):.0f} slots still work for clients that left"]


def huge(server, flags):
    """Bodies of 1 GB: with their length, without, and with a false one; heads of 64 MB."""
    faults, taken = [], []
    block = b" " * MEGABYTE
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    ways = {
        "with its length": (head + b"Content-Length: 1073741824\r\n\r\n", block, 1024),
        "in chunks": (head + b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n" % MEGABYTE + block + b"\r\n", 1024),
        "with a false length": (head + b"Content-Length: 18446744073709551615\r\n\r\n", block, 1024),
        "as a head": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", b"x" * MEGABYTE, 64),
        "as many heads": (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X: y\r\n" * 100_000, 64),
    }
    for name, (begin, piece, count) in ways.items():
        connection = server.connect(timeout=20)
        sent = 0
        try:
            connection.sendall(begin)
            for _ in range(count):
                connection.sendall(piece)
                sent += len(piece)
        except (ConnectionError, TimeoutError):
            pass
        taken.append(sent // MEGABYTE)
        if sent >= count * len(piece):
            faults.append(f"all of a request {name} was taken")
        response = read_all(connection)
        if response and not response.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")):
            faults.append(f"a request {name}: expected an error, found {response[:80]!r}")
        connection.close()
    return faults, "MB taken of each: " + ", ".join(map(str, taken))


MALFORMED = [
    b"\r\n\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
    b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
    b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    b"DELETE /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    bytes(range(256)) * 16,
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
]
MALFORMED_JSON = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"x"',
    b"\xff\xfe",
    b'{"messages": "hello"}',
    b'{"messages": [{}]}',
    b'{"messages": [{"role": "user", "content": {"a": 1}}]}',
    b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
    b"[" * 200_000,
    b'{"a":' * 100_000,
    b'{"messages": [], "temperature": 1e999}',
    b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": -1}',
    b'{"messages": [{"role": "user", "content": "x"}], "n": 1e9}',
    b'{"messages": [{"role": "user", "content": "x"}], "seed": "x"}',
    b'{"messages": [{"role": "user", "content": "x"}], "logit_bias": {"x": 1}}',
    b'{"messages": [{"role": "user", "content": "x"}], "logit_bias": {"999999999999": 1}}',
    b'{"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_schema"}}',
    b'{"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}}}',
    b'{"messages": [{"role": "user", "content": "x"}], "tools": [{}]}',
    b'{"messages": [{"role": "user", "content": "x"}], "stop": [""]}',
    b'{"messages": [{"role": "user", "content": "x"}], "stream_options": 7, "stream": true}',
]


def malformed(server, flags):
    """HTTP and JSON that are none: each gets an error in words, or the end of the connection."""
    faults, codes = [], collections.Counter()
    for path in (b"/v1/chat/completions", b"/v1/completions", b"/v1/embeddings"):
        head = b"POST " + path + b" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
        requests = [head + b"Content-Length: %d\r\n\r\n" % len(body) + body for body in MALFORMED_JSON]
        for request in requests + (MALFORMED if path == b"/v1/completions" else []):
            connection = server.connect(timeout=10)
            try:
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # refused before its end
            response = read_all(connection)
            connection.close()
            code = response[9:12].decode(errors="replace") if response else "closed"
            codes["no end" if response is None else code] += 1
            if response is None or response and not response.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")):
                shown = request[:60] + request[-80:]
                faults.append(f"expected an error for {shown!r}, found {response[:100] if response is not None else 'no end'!r}")
    return faults, ", ".join(f"{code}: {count}" for code, count in sorted(codes.items()))


def killed(server, flags):
    """Processes that are killed while they read endless answers, and clients that never read."""
    code = "import sys, socket; s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
    code += "s.sendall(bytes.fromhex(sys.argv[2]))\nwhile s.recv(100): print(flush=True)"
    request = post({**ENDLESS, "stream": True}).hex()
    for _ in range(4):
        words = [sys.executable, "-c", code, str(server.port), request]
        clients = [subprocess.Popen(words, stdout=subprocess.PIPE) for _ in range(8)]
        clients[0].stdout.readline()  # one of them is answered
        for client in clients:
            client.send_signal(signal.SIGKILL)
            client.wait()
            client.stdout.close()
    # These go without a word: a reset instead of an end.
    for _ in range(20):
        connection = server.connect()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.sendall(bytes.fromhex(request))
        connection.close()
    return waits_for_free_slots(server), "32 processes, 20 resets"


ATTACKS = {attack.__name__: attack for attack in (slow, idle, half_closed, huge, malformed, killed)}


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
