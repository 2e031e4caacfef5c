"""The shortest chat: `python chat.py MODEL MESSAGE`."""

import sys

from thimble import Model

with Model.open(sys.argv[1]) as model:
    chat = model.chat(system="You are a helpful assistant.")
    for piece in chat.send(sys.argv[2]):
        print(piece, end="", flush=True)
