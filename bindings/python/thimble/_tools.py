"""Functions that a model may call."""

from __future__ import annotations

import dataclasses
import inspect
import json
import typing
from collections.abc import Callable, Mapping
from typing import Any, Optional, Union

from ._schema import parameters
from .thimble_ffi import ToolCall, ToolChoice, ToolDefinition, ToolResult

#: A function, a definition, or OpenAI's form of one.
Tool = Union[Callable[..., Any], ToolDefinition, Mapping[str, Any]]
#: "auto", "required", "none", or a tool: the function or its name.
Choice = Union[str, Callable[..., Any]]


class ToolBox:
    """The tools of a chat: their definitions, and the functions behind them."""

    def __init__(self, tools: typing.Iterable[Tool]) -> None:
        self.definitions: list[ToolDefinition] = []
        self._functions: dict[str, Callable[[dict[str, Any]], Any]] = {}
        for tool in tools:
            if isinstance(tool, ToolDefinition):
                self.definitions.append(tool)
            elif isinstance(tool, Mapping):
                self.definitions.append(_from_openai(tool))
            else:
                self._add(tool)

    def _add(self, function: Callable[..., Any]) -> None:
        hints = typing.get_type_hints(function, include_extras=True)
        accepted = inspect.signature(function).parameters.values()
        for parameter in accepted:
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise TypeError(f"{function.__name__}: expected parameters with names, found {parameter}")
            if parameter.name not in hints:
                raise TypeError(f"{function.__name__}: the parameter {parameter.name} has no type")
        required = {parameter.name for parameter in accepted if parameter.default is parameter.empty}
        shape = parameters({parameter.name: hints[parameter.name] for parameter in accepted}, required)
        description = inspect.getdoc(function) or ""
        self.definitions.append(_definition(function.__name__, description, shape.text))
        self._functions[function.__name__] = lambda arguments: function(**shape.read(arguments))

    def run(self, call: ToolCall) -> ToolResult:
        """Runs the function that a call names. Raises what it raises, and LookupError if there is none."""
        function = self._functions.get(call.name)
        if function is None:
            raise LookupError(f"the tool {call.name} has no function here: return a ToolResult of your own")
        return ToolResult(call_id=call.id, content=_content(function(json.loads(call.arguments))))


def choice(chosen: Optional[Choice]) -> Optional[ToolChoice]:
    """What the native library expects."""
    kinds: Any = ToolChoice
    if chosen is None:
        return None
    if callable(chosen):
        return typing.cast(ToolChoice, kinds.NAMED(chosen.__name__))
    named = {"auto": kinds.AUTO, "required": kinds.REQUIRED, "none": kinds.DISABLED}.get(chosen)
    return typing.cast(ToolChoice, named() if named else kinds.NAMED(chosen))


def _definition(name: str, description: str, schema: str) -> ToolDefinition:
    return ToolDefinition(name=name, description=description, parameters=schema)


def _from_openai(tool: Mapping[str, Any]) -> ToolDefinition:
    function = tool.get("function", tool)
    if "name" not in function:
        raise ValueError(f'expected a tool like {{"type": "function", "function": {{"name": ...}}}}, found {tool}')
    schema = function.get("parameters", {"type": "object", "properties": {}})
    return _definition(function["name"], function.get("description", ""), json.dumps(schema))


def _content(value: Any) -> str:
    """What a tool returned, as the model reads it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return str(value)
