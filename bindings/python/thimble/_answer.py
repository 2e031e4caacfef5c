"""What a model says, piece by piece."""

from __future__ import annotations

import asyncio
import atexit
import functools
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Optional, Union

from . import thimble_ffi as ffi
from ._errors import ThimbleError, from_ffi
from .thimble_ffi import Reply

Heard = Union[str, Reply, ThimbleError]


#: What must be stopped before the interpreter shuts down.
_live: weakref.WeakSet[Union[ffi.Chat, ffi.Completion]] = weakref.WeakSet()
#: Milliseconds that interpreter shutdown waits for the workers: enough for several tokens.
_PATIENCE = 10_000


def watched(maker: Union[ffi.Chat, ffi.Completion]) -> None:
    """Stops answers at interpreter shutdown: no worker's thread may call into it after that."""
    _live.add(maker)


@atexit.register
def _stop() -> None:
    for maker in list(_live):
        maker.cancel()
    ffi.wait_until_idle(_PATIENCE)


class PieceQueue(ffi.Listener):
    """Keeps what the worker's thread sends until it is read."""

    def __init__(self) -> None:
        self._heard: deque[Heard] = deque()
        self._ready = threading.Condition()
        self._wakers: list[Callable[[], None]] = []

    def _put(self, heard: Heard) -> None:
        with self._ready:
            self._heard.append(heard)
            self._ready.notify_all()
            wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()

    def on_piece(self, text: str) -> None:
        self._put(text)

    def on_reasoning(self, text: str) -> None:
        pass

    def on_progress(self, done: int, of: int) -> None:
        pass

    def on_end(self, reply: Reply) -> None:
        self._put(reply)

    def on_error(self, error: ffi.ApiError) -> None:
        self._put(from_ffi(error))

    def _next(self) -> Heard:
        # The end stays, so that every reader finds it.
        return self._heard.popleft() if isinstance(self._heard[0], str) else self._heard[0]

    def take(self) -> Heard:
        """Waits for the next event and returns it."""
        with self._ready:
            while not self._heard:
                self._ready.wait()
            return self._next()

    async def take_async(self) -> Heard:
        """The same without blocking the event loop."""
        loop = asyncio.get_running_loop()
        while True:
            with self._ready:
                if self._heard:
                    return self._next()
                event = asyncio.Event()
                self._wakers.append(functools.partial(_wake, loop, event))
            await event.wait()


def _wake(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    try:
        loop.call_soon_threadsafe(event.set)
    except RuntimeError:
        # The loop is closed: nobody waits there any more.
        pass


class _Loop(Iterator[str], AsyncIterator[str]):
    """A loop over an answer: leaving the loop drops this and stops the answer, even if others hold the answer."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def __next__(self) -> str:
        return next(self._answer)

    async def __anext__(self) -> str:
        return await self._answer.__anext__()

    def __del__(self) -> None:
        if self._answer._end is None:
            self._answer.close()


class Answer(Iterator[str], AsyncIterator[str]):
    """The pieces of an answer, in order, as they are made; for `for` and for `async for`.

    A loop that is left early stops the answer, and so does the end of a `with` (for loops that are left by an exception:
    its traceback holds the loop). `next` takes one piece and lets the answer go on for as long as this object is there.
    """

    def __init__(self, queue: PieceQueue, keep: object, handle: Union[ffi.Answer, ffi.Completion]) -> None:
        self._queue = queue
        self._handle = handle
        # Dropping it stops the answer.
        self._keep: Optional[object] = keep
        self._end: Optional[Union[Reply, ThimbleError]] = None

    def _release(self) -> None:
        """Its chat was closed: another chat may open the journal, even if nobody reads the end here."""
        self._keep = None

    def _piece(self, heard: Heard) -> Optional[str]:
        """A piece, or None at the end."""
        if isinstance(heard, str):
            return heard
        self._end = heard
        self._keep = None
        if isinstance(heard, ThimbleError):
            raise heard
        return None

    def __iter__(self) -> Iterator[str]:
        return _Loop(self)

    def __next__(self) -> str:
        piece = None if self._end is not None else self._piece(self._queue.take())
        if piece is None:
            raise StopIteration
        return piece

    def __aiter__(self) -> AsyncIterator[str]:
        return _Loop(self)

    async def __anext__(self) -> str:
        piece = None if self._end is not None else self._piece(await self._queue.take_async())
        if piece is None:
            raise StopAsyncIteration
        return piece

    @property
    def reply(self) -> Reply:
        """Waits for the end and returns the whole answer with its figures. Raises ThimbleError if it failed."""
        for _ in self:
            pass
        if isinstance(self._end, Reply):
            return self._end
        assert self._end is not None
        raise self._end

    async def reply_async(self) -> Reply:
        """`reply` without blocking the event loop."""
        async for _ in self:
            pass
        return self.reply

    def close(self) -> None:
        """Stops the answer, paused or not: at most one more token is computed; `reply` has what was made."""
        self._handle.cancel()

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self._handle.cancel()


class Completion(Answer):
    """The pieces of a completion."""

    def __init__(self, queue: PieceQueue, completion: ffi.Completion) -> None:
        super().__init__(queue, completion, completion)
        self._completion = completion

    def pause(self) -> None:
        """Pauses; `resume` continues where it was."""
        self._completion.pause()

    def resume(self) -> None:
        """Ends a pause."""
        self._completion.resume()

    def save_power(self, save: bool) -> None:
        """Works with half the threads, or with all again. The text does not depend on it."""
        self._completion.save_power(save)
