"""What hostile clients do. Each attack gets a Server and the flags, and returns what it found wrong, and a note."""

import collections
import http.client
import json
import signal
import socket
import subprocess
import sys
import time

from process import QUESTION, answer

MEGABYTE = 1 << 20
# An answer that ends only with its client.
ENDLESS = {**QUESTION, "messages": [{"role": "user", "content": "Write."}], "max_tokens": 100_000, "ignore_eos": True}


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
# Wrong on every path; the second list only where there are messages: other paths ignore what they do not know.
MALFORMED_JSON = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"x"',
    b"\xff\xfe",
    b"[" * 200_000,
    b'{"a":' * 100_000,
]
MALFORMED_CHATS = [
    b'{"messages": "hello"}',
    b'{"messages": [{}]}',
    b'{"messages": [{"role": "user", "content": {"a": 1}}]}',
    b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
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
        chat = path == b"/v1/chat/completions"
        bodies = MALFORMED_JSON + (MALFORMED_CHATS if chat else [])
        requests = [head + b"Content-Length: %d\r\n\r\n" % len(body) + body for body in bodies]
        for request in requests + (MALFORMED if chat else []):
            connection = server.connect(timeout=5)
            try:
                connection.sendall(request)
            except OSError:
                pass  # refused before its end
            response = read_all(connection)
            if response is None:
                # It waits for more: there is none.
                connection.shutdown(socket.SHUT_WR)
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
