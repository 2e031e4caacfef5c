"""Chat with a small language model in one file, offline.

>>> from thimble import Model
>>> with Model.open("smollm2.thimble") as model:
...     chat = model.chat(system="Be brief.")
...     for piece in chat.send("What is a thimble?"):
...         print(piece, end="", flush=True)

`async for` works as well. Objects may be used from any thread. A loop that is left early stops the answer
unless something else holds it; `with` stops it in any case.
"""

from ._answer import Answer
from ._chat import Chat
from ._errors import ContextFull, Damaged, NotAModel, NotFound, ThimbleError, TooLarge
from ._model import Model
from .thimble_ffi import Backend, Finish, KvCache, Message, ModelInfo, Reply, Sampling, Stats

__all__ = [
    "Answer",
    "Backend",
    "Chat",
    "ContextFull",
    "Damaged",
    "Finish",
    "KvCache",
    "Message",
    "Model",
    "ModelInfo",
    "NotAModel",
    "NotFound",
    "Reply",
    "Sampling",
    "Stats",
    "ThimbleError",
    "TooLarge",
]
