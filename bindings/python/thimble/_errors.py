"""Why a call did not do what was asked: a class only where a program would do something different."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import thimble_ffi as ffi


class ThimbleError(Exception):
    """Any of them; as it is, one that has no class of its own."""


class NotFound(ThimbleError):
    """There is no such file."""


class NotAModel(ThimbleError):
    """A file of another kind."""


class Damaged(ThimbleError):
    """A file of the right kind, and not whole."""


class TooLarge(ThimbleError):
    """More memory than the budget: a shorter context or a smaller model may fit."""

    def __init__(self, needed: int, budget: int) -> None:
        super().__init__(f"the model needs {needed} bytes, and the budget is {budget}")
        #: Bytes of the file and the state of one chat.
        self.needed = needed
        #: The most that was allowed.
        self.budget = budget


class ContextFull(ThimbleError):
    """A message that the context has no room for."""


def from_engine(error: Any) -> ThimbleError:
    """The exception for an error from the native library."""
    # Its variants are made in a way that type checkers do not follow.
    kinds: Any = ffi.ApiError
    if isinstance(error, kinds.NotFound):
        return NotFound(f"there is no file {error.path}")
    if isinstance(error, kinds.NotAModel):
        return NotAModel(f"{error.path} is not a .thimble file")
    if isinstance(error, kinds.Damaged):
        return Damaged(f"{error.path} is damaged: {error.reason}")
    if isinstance(error, kinds.TooLarge):
        return TooLarge(error.needed, error.budget)
    if isinstance(error, kinds.ContextFull):
        return ContextFull(error.message)
    return ThimbleError(getattr(error, "message", "cancelled"))


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raises the package's exceptions in place of those of the native library."""
    try:
        yield
    except ffi.ApiError as error:
        raise from_engine(error) from None
