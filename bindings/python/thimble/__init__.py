"""Chat with a small language model in one file, offline.

>>> from thimble import Model
>>> with Model.open("smollm2.thimble") as model:
...     chat = model.chat(system="Be brief.")
...     for piece in chat.send("What is a thimble?"):
...         print(piece, end="", flush=True)

`async for` works as well. Objects may be used from any thread. A loop that is left early stops the answer.
"""

from ._answer import Answer
from ._chat import Chat
from ._model import Model
from .thimble_ffi import ApiError, Finish, KvCache, Message, ModelInfo, Reply, Sampling, Stats

__all__ = [
    "Answer",
    "ApiError",
    "Chat",
    "Finish",
    "KvCache",
    "Message",
    "Model",
    "ModelInfo",
    "Reply",
    "Sampling",
    "Stats",
]
