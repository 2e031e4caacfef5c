"""Chat with a small language model in one file, offline.

>>> from thimble import Model
>>> with Model.open("smollm2.thimble") as model:
...     chat = model.chat(system="Be brief.")
...     for piece in chat.send("What is a thimble?"):
...         print(piece, end="", flush=True)

An answer of a given form, as a value:

>>> @dataclass
... class City:
...     name: str
...     country: str
>>> chat.ask("Where is the Eiffel Tower?", schema=City)
City(name='Paris', country='France')

`async for` works as well. Objects may be used from any thread. A loop that is left early stops the answer.
"""

from ._answer import Answer, Completion
from ._chat import Chat
from ._errors import ContextFull, Damaged, IncompleteAnswer, NotAModel, NotFound, ThimbleError, TooLarge
from ._model import Model
from .thimble_ffi import (
    Adapter,
    Backend,
    Finish,
    KvCache,
    Message,
    ModelInfo,
    Reply,
    Sampling,
    Stats,
    TokenLogProbability,
    ToolCall,
    ToolDefinition,
    ToolResult,
)

__all__ = [
    "Adapter",
    "Answer",
    "Backend",
    "Chat",
    "Completion",
    "ContextFull",
    "Damaged",
    "Finish",
    "IncompleteAnswer",
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
    "TokenLogProbability",
    "TooLarge",
    "ToolCall",
    "ToolDefinition",
    "ToolResult",
]
