"""Messages as other libraries write them: mappings with `role` and `content`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Optional, Union

from .thimble_ffi import Message, ToolCall, ToolResult

#: A message, or a mapping with `role` and `content` as OpenAI's API has them.
MessageLike = Union[Message, Mapping[str, Any]]


def read(messages: Iterable[MessageLike], system: Optional[str]) -> tuple[Optional[str], list[Message]]:
    """The system message and the others. Raises ValueError for a role or content that is not text."""
    found: list[Message] = []
    for number, message in enumerate(messages, 1):
        if isinstance(message, Message):
            found.append(message)
            continue
        role = message.get("role")
        text = _text(message.get("content"), number)
        if role in ("system", "developer"):
            if found or number > 1 or system is not None:
                raise ValueError(f"message {number}: expected one system message, before all others")
            system = text
        elif role == "user":
            found.append(Message(from_user=True, text=text))
        elif role == "assistant":
            calls = [_call(call, number) for call in message.get("tool_calls") or ()]
            reasoning = message.get("reasoning_content") or ""
            found.append(Message(from_user=False, text=text, reasoning=reasoning, tool_calls=calls))
        elif role == "tool":
            result = ToolResult(call_id=str(message.get("tool_call_id", "")), content=text)
            if found and found[-1].tool_results:
                found[-1].tool_results.append(result)
            else:
                found.append(Message(from_user=True, text="", tool_results=[result]))
        else:
            raise ValueError(f"message {number}: expected the role system, user, assistant or tool, found {role!r}")
    return system, found


def _text(content: Any, number: int) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = list(content)
    if not all(isinstance(part, Mapping) and part.get("type") == "text" for part in parts):
        raise ValueError(f"message {number}: expected text, found {content!r}")
    return "".join(part["text"] for part in parts)


def _call(call: Mapping[str, Any], number: int) -> ToolCall:
    function = call.get("function", {})
    if "name" not in function:
        raise ValueError(f"message {number}: expected a call of a function with a name, found {call!r}")
    arguments = function.get("arguments", "{}")
    return ToolCall(id=call.get("id", ""), name=function["name"], arguments=arguments)
