#!/usr/bin/env python3
"""Records a session of the release command in a pseudo-terminal and draws it as an animated SVG.

    cargo build --release
    pip install pyte
    benches/recording/record.py MODEL.thimble -o benches/recording/chat.svg

The session is real: bash and `thimble` run in the terminal, this script only types. Output keeps its timing; waits longer than
PAUSE seconds are cut to that. The SVG shows the last screen where animations are off.
"""

import argparse
import fcntl
import os
import pathlib
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time

import pyte

from draw import draw

ROOT = pathlib.Path(__file__).resolve().parents[2]
COLUMNS, ROWS = 108, 22
KEY = 0.05  # seconds for a typed character
READING = 1.2  # seconds before the next line is typed
PAUSE = 1.2  # longest wait that is kept
FRAME = 0.04  # output within so many seconds appears at once
LIMIT = 120  # seconds for one answer

SESSION = [
    "thimble chat --seed 4",
    "What is the capital of Norway?",
    "And of Sweden?",
    "What is photosynthesis, in one sentence?",
    "Tell me a short story about a fox.",
    "/stats",
    "/quit",
]


class Terminal:
    """A shell in a pseudo-terminal, and everything that it wrote with the time."""

    def __init__(self, environment):
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self.stream = pyte.ByteStream(self.screen)
        self.events = []
        self.master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        command = ["bash", "--norc", "--noprofile", "-i"]
        self.shell = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True, close_fds=True
        )
        os.close(slave)

    def read(self, seconds):
        """Takes what the terminal has to show within `seconds`; whether there was anything."""
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        data = os.read(self.master, 65536)
        self.events.append((time.monotonic(), data))
        self.stream.feed(data)
        return True

    def wait_for_prompt(self):
        """Reads until the cursor stands behind a prompt and nothing more comes."""
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            if not self.read(0.3) and self.screen.display[self.screen.cursor.y][: self.screen.cursor.x] in ("$ ", "> "):
                return
        raise SystemExit("no prompt after two minutes; the screen:\n" + "\n".join(self.screen.display))

    def type(self, line):
        """Types a line key by key."""
        for key in line + "\r":
            os.write(self.master, key.encode())
            until = time.monotonic() + KEY
            while (left := until - time.monotonic()) > 0:
                self.read(left)

    def close(self):
        os.killpg(self.shell.pid, signal.SIGHUP)
        self.shell.wait()
        os.close(self.master)


def record(thimble, model):
    """The session's output: times in seconds with bytes."""
    with tempfile.TemporaryDirectory() as home:
        models = pathlib.Path(home, "models")
        models.mkdir()
        os.symlink(model.resolve(), models / "smollm2-135m-instruct.thimble")
        environment = {
            "PATH": f"{thimble.resolve().parent}:{os.environ['PATH']}",
            "THIMBLE_HOME": home,
            "HOME": home,
            "PS1": "$ ",
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
            "INPUTRC": "/dev/null",
            "HISTFILE": "",
        }
        terminal = Terminal(environment)
        try:
            terminal.wait_for_prompt()
            for line in SESSION:
                terminal.type(line)
                terminal.wait_for_prompt()
                time.sleep(READING)
        finally:
            terminal.close()
        return terminal.events


def compressed(events):
    """The same output from second 0 on, without long waits."""
    shown, now, last = [], 0.0, events[0][0]
    for at, data in events:
        now += min(at - last, PAUSE)
        last = at
        shown.append((now, data))
    return shown


def frames(events):
    """Screens with the time of each: rows of (character, dim) and where the cursor is."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    for place, (at, data) in enumerate(events):
        # Dim text is all that pyte has no word for.
        stream.feed(data.replace(b"\x1b[2m", b"\x1b[90m"))
        following = events[place + 1][0] if place + 1 < len(events) else at + 1
        if int(following / FRAME) > int(at / FRAME):
            rows = []
            for row in range(ROWS):
                cells = [screen.buffer[row][column] for column in range(COLUMNS)]
                cells = [(cell.data, cell.fg == "brightblack") for cell in cells]
                while cells and cells[-1][0] == " ":
                    cells.pop()
                rows.append(cells)
            yield at, rows, (screen.cursor.x, screen.cursor.y)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, help="a .thimble file of SmolLM2-135M-Instruct")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True)
    parser.add_argument("--thimble", type=pathlib.Path, default=ROOT / "target/release/thimble")
    flags = parser.parse_args()
    for file in (flags.model, flags.thimble):
        if not file.is_file():
            parser.error(f"there is no {file}")
    if shutil.which("bash") is None:
        parser.error("bash is needed")
    events = compressed(record(flags.thimble, flags.model))
    title = f"SmolLM2-135M-Instruct, {flags.model.stat().st_size / 1e6:.0f} MB, {len(os.sched_getaffinity(0))} CPU cores, offline"
    flags.output.write_text(draw(title, list(frames(events)), COLUMNS))
    print(f"{flags.output}: {flags.output.stat().st_size} bytes, {events[-1][0]:.0f} seconds")


if __name__ == "__main__":
    main()
