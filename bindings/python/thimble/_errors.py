"""Errors: a class only where a program would act differently."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import thimble_ffi as ffi


class ThimbleError(Exception):
    """The base class, raised itself for errors without a class of their own."""


class NotFound(ThimbleError):
    """There is no such file."""


class NotAModel(ThimbleError):
    """Another kind of file."""


class Damaged(ThimbleError):
    """A damaged model file."""


class TooLarge(ThimbleError):
    """The model needs more memory than the budget: a shorter context or a smaller model may fit."""

    def __init__(self, needed: int, budget: int) -> None:
        super().__init__(
            f"the model needs {needed} bytes, but the budget is {budget}; "
            "use a shorter context, a smaller model or a larger budget"
        )
        #: Bytes of the file and the state of one chat.
        self.needed = needed
        #: The most that was allowed.
        self.budget = budget


class ContextFull(ThimbleError):
    """The message does not fit the context."""


class IncompleteAnswer(ThimbleError):
    """An answer of a given form was cut off, by a limit or because it was stopped."""

    def __init__(self, reply: ffi.Reply) -> None:
        super().__init__(
            f"the answer ended early ({reply.finish.name.lower()}) after {reply.tokens} tokens: {reply.text!r}; "
            "a larger max_tokens or context may help"
        )
        #: The reply; its text is the partial value.
        self.reply = reply


def from_ffi(error: Any) -> ThimbleError:
    """The exception for an error from the native library."""
    # Type checkers do not understand how its variants are defined.
    kinds: Any = ffi.ApiError
    if isinstance(error, kinds.NotFound):
        return NotFound(f"there is no file {error.path}; check the path, or download the file")
    if isinstance(error, kinds.NotAModel):
        return NotAModel(
            f"{error.path} is not a .thimble file; use another file, or convert it with `thimble convert`"
        )
    if isinstance(error, kinds.Damaged):
        return Damaged(f"{error.path} is damaged ({error.reason}); copy or download it again")
    if isinstance(error, kinds.TooLarge):
        return TooLarge(error.needed, error.budget)
    if isinstance(error, kinds.ContextFull):
        return ContextFull(error.message)
    return ThimbleError(getattr(error, "message", "cancelled"))


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raises the package's exceptions instead of the native library's."""
    try:
        yield
    except ffi.ApiError as error:
        raise from_ffi(error) from None
