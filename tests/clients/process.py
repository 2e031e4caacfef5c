"""A server that the tests start, and what they watch of its process. Linux only: it reads /proc."""

import http.client
import json
import pathlib
import socket
import subprocess
import sys
import time

QUESTION = {"messages": [{"role": "user", "content": "Name three colors."}], "temperature": 0, "max_tokens": 16}


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
