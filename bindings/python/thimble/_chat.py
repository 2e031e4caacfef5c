"""A conversation."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Sequence
from typing import Any, Optional, TypeVar, Union, overload

from . import thimble_ffi as ffi
from ._answer import Answer, PieceQueue
from ._errors import ThimbleError, translated_errors
from ._format import Form
from ._tools import Choice, ToolBox, choice
from .thimble_ffi import Message, Reply, Stats, ToolCall, ToolResult

Path = Union[str, "os.PathLike[str]"]
T = TypeVar("T")


class Chat:
    """A conversation with a model, on a thread of its own; see `Model.chat`."""

    def __init__(self, inner: ffi.Chat, tools: ToolBox) -> None:
        self._chat: Optional[ffi.Chat] = inner
        self._tools = tools
        self._answers: weakref.WeakSet[Answer] = weakref.WeakSet()

    @property
    def _inner(self) -> ffi.Chat:
        if self._chat is None:
            raise ValueError("the chat was closed")
        return self._chat

    def send(
        self,
        text: str,
        *,
        schema: Any = None,
        choices: Optional[Sequence[str]] = None,
        regex: Optional[str] = None,
        lark: Optional[str] = None,
        gbnf: Optional[str] = None,
        max_tokens: Optional[int] = None,
        stop: Sequence[str] = (),
        tool_choice: Optional[Choice] = None,
        log_probabilities: Optional[int] = None,
    ) -> Answer:
        """Answers a message. Messages are answered in order.

        schema, choices, regex, lark, gbnf: the form of the answer, one of them; see `ask`. max_tokens: longest answer. stop:
        texts that end it. tool_choice: whether it calls tools: "auto", "required", "none", or one of the functions.
        log_probabilities: how many of the likeliest tokens `reply.log_probabilities` has beside each token, 0 to 20.

        Iterating raises ContextFull if the message does not fit the context.
        """
        options = ffi.AnswerOptions(
            format=Form(schema, choices, regex, lark, gbnf).format,
            max_tokens=max_tokens,
            stop=list(stop),
            tool_choice=choice(tool_choice),
            log_probabilities=log_probabilities,
        )
        return self._send(text, options)

    def _send(self, text: Optional[str], options: ffi.AnswerOptions) -> Answer:
        queue = PieceQueue()
        inner = self._inner
        handle = inner.retry(queue, options) if text is None else inner.send(text, queue, options)
        return self._answer(queue, handle)

    def retry(self) -> Answer:
        """Answers the last message again, or for the first time where `unanswered` has it.

        The old answer stays until part of the new one is shown.
        """
        return self._send(None, ffi.AnswerOptions())

    @overload
    def ask(self, text: Optional[str] = None, *, schema: type[T], max_tokens: Optional[int] = None) -> T: ...

    @overload
    def ask(self, text: Optional[str] = None, *, schema: object, max_tokens: Optional[int] = None) -> Any: ...

    @overload
    def ask(
        self,
        text: Optional[str] = None,
        *,
        choices: Optional[Sequence[str]] = None,
        regex: Optional[str] = None,
        lark: Optional[str] = None,
        gbnf: Optional[str] = None,
        max_tokens: Optional[int] = None,
    ) -> str: ...

    def ask(
        self,
        text: Optional[str] = None,
        *,
        schema: Any = None,
        choices: Optional[Sequence[str]] = None,
        regex: Optional[str] = None,
        lark: Optional[str] = None,
        gbnf: Optional[str] = None,
        max_tokens: Optional[int] = None,
    ) -> Any:
        """Waits for an answer of a given form and returns its value.

        text: without it, the last message is answered (again). schema: a dataclass, a TypedDict, a pydantic model or another
        type that JSON has, and the value is of that type; or a JSON Schema. choices: one of these texts. regex: a text that
        matches as a whole. lark, gbnf: a text of a grammar. Without any of them, the value is the answer's text.

        Raises IncompleteAnswer if a limit ended the value early, and ThimbleError for a form that is not supported.
        """
        form = Form(schema, choices, regex, lark, gbnf)
        options = ffi.AnswerOptions(format=form.format, max_tokens=max_tokens)
        return form.value(self._send(text, options).reply)

    @overload
    async def ask_async(
        self, text: Optional[str] = None, *, schema: type[T], max_tokens: Optional[int] = None
    ) -> T: ...

    @overload
    async def ask_async(
        self, text: Optional[str] = None, *, schema: object, max_tokens: Optional[int] = None
    ) -> Any: ...

    @overload
    async def ask_async(
        self,
        text: Optional[str] = None,
        *,
        choices: Optional[Sequence[str]] = None,
        regex: Optional[str] = None,
        lark: Optional[str] = None,
        gbnf: Optional[str] = None,
        max_tokens: Optional[int] = None,
    ) -> str: ...

    async def ask_async(
        self,
        text: Optional[str] = None,
        *,
        schema: Any = None,
        choices: Optional[Sequence[str]] = None,
        regex: Optional[str] = None,
        lark: Optional[str] = None,
        gbnf: Optional[str] = None,
        max_tokens: Optional[int] = None,
    ) -> Any:
        """`ask` without blocking the event loop."""
        form = Form(schema, choices, regex, lark, gbnf)
        options = ffi.AnswerOptions(format=form.format, max_tokens=max_tokens)
        return form.value(await self._send(text, options).reply_async())

    def run_tool(self, call: ToolCall) -> ToolResult:
        """Runs the function of `tools` that a call names. Raises what it raises, and LookupError if there is none."""
        return self._tools.run(call)

    def send_tool_results(
        self, results: Iterable[ToolResult], *, tool_choice: Optional[Choice] = None, max_tokens: Optional[int] = None
    ) -> Answer:
        """Continues after tool calls: the model reads what the tools returned."""
        queue = PieceQueue()
        options = ffi.AnswerOptions(tool_choice=choice(tool_choice), max_tokens=max_tokens)
        inner = self._inner
        return self._answer(queue, inner.send_tool_results(list(results), queue, options))

    def run_tools(self, text: str, *, rounds: int = 8, tool_choice: Optional[Choice] = None) -> Reply:
        """Answers a message and runs the functions that the model calls, until it answers without a call.

        rounds: the most answers with calls. tool_choice: for the first answer; later ones decide for themselves. An exception
        of a function ends it. Raises ThimbleError after too many rounds.
        """
        reply = self.send(text, tool_choice=tool_choice).reply
        for _ in range(rounds):
            if not reply.tool_calls:
                return reply
            reply = self.send_tool_results([self.run_tool(call) for call in reply.tool_calls]).reply
        if not reply.tool_calls:
            return reply
        raise ThimbleError(f"the model still calls tools after {rounds} rounds")

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
        """The last message if it has no answer: of `messages`, or of the journal. `retry` and `ask` answer it."""
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
