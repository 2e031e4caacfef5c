"""A conversation."""

from __future__ import annotations

import os
import weakref
from typing import Optional, Union

from . import thimble_ffi as ffi
from ._answer import Answer, PieceQueue
from ._errors import translated_errors
from .thimble_ffi import Message, Stats

Path = Union[str, "os.PathLike[str]"]


class Chat:
    """A conversation with a model, on a thread of its own; see `Model.chat`."""

    def __init__(self, inner: ffi.Chat) -> None:
        self._chat: Optional[ffi.Chat] = inner
        self._answers: weakref.WeakSet[Answer] = weakref.WeakSet()

    @property
    def _inner(self) -> ffi.Chat:
        if self._chat is None:
            raise ValueError("the chat was closed")
        return self._chat

    def send(self, text: str) -> Answer:
        """Answers a message. Messages are answered in order.

        Iterating raises ContextFull if the message does not fit the context.
        """
        queue = PieceQueue()
        inner = self._inner
        return self._answer(queue, inner.send(text, queue))

    def retry(self) -> Answer:
        """Answers the last message again; the old answer stays until part of the new one is shown."""
        queue = PieceQueue()
        inner = self._inner
        return self._answer(queue, inner.retry(queue))

    def _answer(self, queue: PieceQueue, handle: ffi.Answer) -> Answer:
        answer = Answer(queue, self._inner, handle)
        self._answers.add(answer)
        return answer

    def cancel(self) -> None:
        """Stops the current answer and those that wait; what was shown of them stays in the history."""
        self._inner.cancel()

    @property
    def history(self) -> list[Message]:
        """The messages so far, oldest first, without an unfinished answer."""
        return self._inner.history()

    @property
    def unanswered(self) -> Optional[str]:
        """The journal's last message, if the program ended before any of its answer was shown."""
        return self._inner.unanswered()

    @property
    def stats(self) -> Stats:
        """Figures of the last answer."""
        return self._inner.stats()

    def save(self, path: Path) -> None:
        """Writes the conversation to a file, atomically."""
        with translated_errors():
            self._inner.save(os.fspath(path))

    def restore(self, path: Path) -> None:
        """Continues a conversation from a file that `save` or `thimble chat` wrote. Raises NotFound."""
        with translated_errors():
            self._inner.restore(os.fspath(path))

    def clear(self) -> None:
        """Stops all answers and begins a new conversation with the same instructions."""
        self._inner.clear()

    def pause(self) -> None:
        """Pauses; `resume` continues where it was."""
        self._inner.pause()

    def resume(self) -> None:
        """Ends a pause."""
        self._inner.resume()

    def save_power(self, save: bool) -> None:
        """Works with half the threads, or with all again. Answers do not depend on it."""
        self._inner.save_power(save)

    def free_memory(self) -> None:
        """Gives the session's memory back after the current answer, until the next message."""
        self._inner.free_memory()

    def close(self) -> None:
        """Stops all answers and frees everything. Answers that are still iterated end."""
        if self._chat is not None:
            self._chat.cancel()
        for answer in self._answers:
            answer._release()
        self._chat = None

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
