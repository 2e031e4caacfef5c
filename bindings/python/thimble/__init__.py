"""Chat with a small language model in one file, offline.

    from thimble import Chat, Model

    with Model.open("smollm2.thimble") as model:
        chat = Chat(model)
        for piece in chat.send("What is a thimble?"):
            print(piece, end="", flush=True)
"""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator
from typing import Optional, Union

from . import thimble_ffi as _ffi
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

Path = Union[str, "os.PathLike[str]"]


class Model:
    """A model file that was opened. Several chats may use it at once, from any thread."""

    def __init__(self, inner: _ffi.Model) -> None:
        self._inner: Optional[_ffi.Model] = inner

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        budget_bytes: Optional[int] = None,
        context: Optional[int] = None,
        threads: Optional[int] = None,
        kv_cache: Optional[KvCache] = None,
    ) -> Model:
        """Opens a .thimble file; ApiError.TooLarge where file and state of a chat take more than budget_bytes."""
        options = _ffi.ModelOptions(
            budget_bytes=budget_bytes, context=context, threads=threads, kv_cache=kv_cache
        )
        return cls(_ffi.Model.open(os.fspath(path), options))

    @property
    def inner(self) -> _ffi.Model:
        """The model across the border; ValueError once it was closed."""
        if self._inner is None:
            raise ValueError("the model was closed")
        return self._inner

    @property
    def info(self) -> ModelInfo:
        """What there is to know about the model and how it runs."""
        return self.inner.info()

    def tokens(self, text: str) -> list[int]:
        """The ids of a text."""
        return self.inner.tokens(text)

    def verify(self) -> None:
        """Compares every byte of the file with its checksums; ApiError.Damaged where one differs."""
        self.inner.verify()

    def close(self) -> None:
        """Lets go of the file; chats that use it keep it until they end."""
        self._inner = None

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Ear(_ffi.Listener):
    """Puts what it hears into a queue."""

    def __init__(self) -> None:
        self.heard: queue.SimpleQueue[object] = queue.SimpleQueue()

    def on_piece(self, text: str) -> None:
        self.heard.put(text)

    def on_progress(self, done: int, of: int) -> None:
        pass

    def on_end(self, reply: Reply) -> None:
        self.heard.put(reply)

    def on_error(self, error: ApiError) -> None:
        self.heard.put(error)


class Answer(Iterator[str]):
    """The pieces of an answer, as they are made. An answer that is dropped before its end is stopped."""

    def __init__(self, chat: Chat, ear: _Ear) -> None:
        self._chat = chat
        self._ear = ear
        self._reply: Optional[Reply] = None

    def __next__(self) -> str:
        if self._reply is not None:
            raise StopIteration
        heard = self._ear.heard.get()
        if isinstance(heard, str):
            return heard
        if isinstance(heard, Reply):
            self._reply = heard
            raise StopIteration
        raise heard  # an ApiError

    @property
    def reply(self) -> Reply:
        """The whole answer with its figures; reads what is left of it first."""
        for _ in self:
            pass
        assert self._reply is not None
        return self._reply

    def close(self) -> None:
        """Stops the answer."""
        if self._reply is None:
            self._chat.cancel()

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Chat:
    """A conversation with a model, on a thread of its own."""

    def __init__(
        self,
        model: Model,
        *,
        system: Optional[str] = None,
        sampling: Optional[Sampling] = None,
        max_tokens: Optional[int] = None,
        journal: Optional[Path] = None,
    ) -> None:
        options = _ffi.ChatOptions(
            system=system,
            sampling=sampling,
            max_tokens=max_tokens,
            journal=None if journal is None else os.fspath(journal),
        )
        self._inner = _ffi.Chat(model.inner, options)

    def send(self, text: str) -> Answer:
        """Answers a message: `for piece in chat.send("Hello")`."""
        ear = _Ear()
        self._inner.send(text, ear)
        return Answer(self, ear)

    def retry(self) -> Answer:
        """Answers the last message once more."""
        ear = _Ear()
        self._inner.retry(ear)
        return Answer(self, ear)

    def cancel(self) -> None:
        """Stops the answer at hand and those that wait."""
        self._inner.cancel()

    @property
    def history(self) -> list[Message]:
        """What was said so far, oldest first."""
        return self._inner.history()

    @property
    def stats(self) -> Stats:
        """Figures of the last answer."""
        return self._inner.stats()

    def save(self, path: Path) -> None:
        """Writes the conversation to a file."""
        self._inner.save(os.fspath(path))

    def restore(self, path: Path) -> None:
        """Goes on with a saved conversation."""
        self._inner.restore(os.fspath(path))

    def clear(self) -> None:
        """Begins anew, with the same instructions."""
        self._inner.clear()

    def pause(self) -> None:
        """Lets work wait."""
        self._inner.pause()

    def resume(self) -> None:
        """Ends a pause."""
        self._inner.resume()

    def free_memory(self) -> None:
        """Gives the session's memory back until the next message."""
        self._inner.free_memory()
