"""The form of an answer: a type, a JSON Schema, choices, a regular expression or a grammar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Optional, cast

from ._errors import IncompleteAnswer
from ._schema import shape
from .thimble_ffi import AnswerFormat, Reply


class Form:
    """The form that an answer must have, and how its text becomes a value."""

    def __init__(
        self,
        schema: Any = None,
        choices: Optional[Sequence[str]] = None,
        regex: Optional[str] = None,
        lark: Optional[str] = None,
        gbnf: Optional[str] = None,
    ) -> None:
        given = {"schema": schema, "choices": choices, "regex": regex, "lark": lark, "gbnf": gbnf}
        named = [name for name, value in given.items() if value is not None]
        if len(named) > 1:
            raise ValueError(f"expected one form of the answer, found {' and '.join(named)}")
        # Type checkers do not understand how its variants are defined.
        kinds: Any = AnswerFormat
        found: Any = None
        self._parse: Callable[[str], Any] = lambda text: text
        if schema is not None:
            wanted = shape(schema)
            found, self._parse = kinds.JSON_SCHEMA(schema=wanted.text), wanted.parse
        elif choices is not None:
            found = kinds.CHOICES(choices=list(choices))
        elif regex is not None:
            found = kinds.REGEX(pattern=regex)
        elif lark is not None:
            found = kinds.LARK(grammar=lark)
        elif gbnf is not None:
            found = kinds.GBNF(grammar=gbnf)
        self.format = cast(Optional[AnswerFormat], found)

    def value(self, reply: Reply) -> Any:
        """The value of a reply: its text, or what the schema's type makes of it. Raises IncompleteAnswer."""
        if self.format is not None and not reply.complete:
            raise IncompleteAnswer(reply)
        return self._parse(reply.text)
