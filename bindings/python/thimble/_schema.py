"""Python types as JSON Schemas, and JSON values as those types."""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Generic, Literal, TypeVar, Union

T = TypeVar("T")
Read = Callable[[Any], Any]
JsonSchema = dict[str, Any]

#: `int | None`; Python 3.9 has only `Union`.
_UNIONS = {Union, getattr(types, "UnionType", Union)}
_SCALARS: dict[Any, tuple[str, Read]] = {
    bool: ("boolean", lambda value: value),
    int: ("integer", int),
    float: ("number", float),
    str: ("string", lambda value: value),
    type(None): ("null", lambda value: None),
}
_EXPECTED = (
    "expected bool, int, float, str, None, Any, Literal, an Enum, list, tuple, dict with str keys, Optional, Union, "
    "a dataclass, a TypedDict or a pydantic model"
)


class Shape(Generic[T]):
    """A type as a JSON Schema, with a function that reads values that validate against it."""

    def __init__(self, schema: JsonSchema, read: Callable[[Any], T]) -> None:
        self.schema = schema
        self.read = read

    @property
    def text(self) -> str:
        """The schema as JSON."""
        return json.dumps(self.schema, ensure_ascii=False)

    def parse(self, text: str) -> T:
        """The value of a JSON text that validates against the schema."""
        return self.read(json.loads(text))


def shape(kind: Any) -> Shape[Any]:
    """The shape of a type, or of a JSON Schema as a mapping or as text: its values are what `json.loads` returns.

    Raises TypeError for a type that JSON cannot express.
    """
    if isinstance(kind, str):
        kind = json.loads(kind)
    if isinstance(kind, Mapping):
        return Shape(dict(kind), lambda value: value)
    builder = _Builder()
    schema, read = builder.build(kind)
    if builder.definitions:
        schema = {**schema, "$defs": builder.definitions}
    return Shape(schema, read)


def parameters(hints: Mapping[str, Any], required: typing.Collection[str]) -> Shape[dict[str, Any]]:
    """The shape of an object with these types by name."""
    builder = _Builder()
    schema, read = builder.object(hints, required)
    if builder.definitions:
        schema = {**schema, "$defs": builder.definitions}
    return Shape(schema, read)


class _Builder:
    """Builds the schema of one type; classes become definitions, so that a type may contain itself."""

    def __init__(self) -> None:
        self.definitions: JsonSchema = {}
        self._named: dict[Any, tuple[str, Read]] = {}

    def build(self, kind: Any) -> tuple[JsonSchema, Read]:
        """The schema of a type and the function that reads its values."""
        if kind is None:
            kind = type(None)
        if kind is Any or kind is object:
            return {}, lambda value: value
        if kind in _SCALARS:
            name, read = _SCALARS[kind]
            return {"type": name}, read
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin is not None:
            return self._generic(kind, origin, arguments)
        if isinstance(kind, type):
            if issubclass(kind, enum.Enum):
                return {"enum": [member.value for member in kind]}, kind
            if hasattr(kind, "model_json_schema") and hasattr(kind, "model_validate"):
                return self._pydantic(kind)
            if dataclasses.is_dataclass(kind) or _is_typed_dict(kind):
                return self._class(kind)
            if kind is list:
                return {"type": "array"}, lambda value: value
            if kind is dict:
                return {"type": "object"}, lambda value: value
        raise TypeError(f"{kind!r} has no JSON Schema: {_EXPECTED}")

    def object(self, hints: Mapping[str, Any], required: typing.Collection[str]) -> tuple[JsonSchema, Read]:
        """The schema of an object with these types by name."""
        built = {name: self.build(hint) for name, hint in hints.items()}
        schema: JsonSchema = {
            "type": "object",
            "properties": {name: schema for name, (schema, _) in built.items()},
            "required": [name for name in hints if name in required],
            "additionalProperties": False,
        }
        return schema, lambda value: {name: built[name][1](member) for name, member in value.items()}

    def _generic(self, kind: Any, origin: Any, arguments: tuple[Any, ...]) -> tuple[JsonSchema, Read]:
        if origin is typing.Annotated:
            schema, read = self.build(arguments[0])
            described = [note for note in arguments[1:] if isinstance(note, str)]
            return ({**schema, "description": " ".join(described)} if described else schema), read
        # `Required` and `NotRequired` of a TypedDict, which Python 3.9 lacks.
        if getattr(origin, "_name", None) in ("Required", "NotRequired", "ReadOnly"):
            return self.build(arguments[0])
        if origin is Literal:
            return {"enum": list(arguments)}, lambda value: value
        if origin in _UNIONS:
            return self._union(arguments)
        if origin is list or (origin is tuple and len(arguments) == 2 and arguments[1] is ...):
            schema, read = self.build(arguments[0])
            return {"type": "array", "items": schema}, lambda value: origin(map(read, value))
        if origin is tuple and arguments:
            built = [self.build(argument) for argument in arguments]
            schema = {
                "type": "array",
                "prefixItems": [schema for schema, _ in built],
                "items": False,
                "minItems": len(built),
            }
            return schema, lambda value: tuple(read(item) for (_, read), item in zip(built, value))
        if origin is dict and arguments[0] is str:
            schema, read = self.build(arguments[1])
            schema = {"type": "object", "additionalProperties": schema}
            return schema, lambda value: {name: read(member) for name, member in value.items()}
        raise TypeError(f"{kind!r} has no JSON Schema: {_EXPECTED}")

    def _union(self, members: tuple[Any, ...]) -> tuple[JsonSchema, Read]:
        built = [self.build(member) for member in members]

        def read(value: Any) -> Any:
            for schema, member in built:
                if _validates(value, self._resolved(schema)):
                    return member(value)
            raise ValueError(f"{value!r} is none of {members}")

        return {"anyOf": [schema for schema, _ in built]}, read

    def _resolved(self, schema: JsonSchema) -> JsonSchema:
        name = schema.get("$ref", "").rpartition("/")[2]
        return typing.cast(JsonSchema, self.definitions[name]) if name else schema

    def _class(self, kind: Any) -> tuple[JsonSchema, Read]:
        if kind not in self._named:
            name = self._name(kind.__name__)
            # Before its members, which may contain it.
            self._named[kind] = (name, lambda value: self._named[kind][1](value))
            self.definitions[name] = {}
            hints = typing.get_type_hints(kind, include_extras=True)
            if dataclasses.is_dataclass(kind):
                fields = [field for field in dataclasses.fields(kind) if field.init]
                hints = {field.name: hints[field.name] for field in fields}
                required = {
                    field.name
                    for field in fields
                    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
                }
            else:
                required = set(kind.__required_keys__)
            schema, members = self.object(hints, required)
            if kind.__doc__ and not kind.__doc__.startswith(f"{kind.__name__}("):
                schema["description"] = kind.__doc__.strip()
            self.definitions[name] = schema
            self._named[kind] = (name, lambda value: kind(**members(value)))
        name, _ = self._named[kind]
        return {"$ref": f"#/$defs/{name}"}, lambda value: self._named[kind][1](value)

    def _pydantic(self, kind: Any) -> tuple[JsonSchema, Read]:
        schema = kind.model_json_schema()
        # Their references start at the root of the whole schema.
        for name, definition in schema.pop("$defs", {}).items():
            if self.definitions.setdefault(name, definition) != definition:
                raise TypeError(f"two types are called {name}: rename one of them")
        return schema, kind.model_validate

    def _name(self, name: str) -> str:
        number = 2
        unique = name
        while unique in self.definitions:
            unique, number = f"{name}{number}", number + 1
        return unique


def _is_typed_dict(kind: Any) -> bool:
    return issubclass(kind, dict) and hasattr(kind, "__required_keys__")


def _validates(value: Any, schema: JsonSchema) -> bool:
    """Whether a value, which validates against one member of a union, may belong to this one."""
    if "enum" in schema:
        return value in schema["enum"]
    kinds: dict[str, Any] = {
        "boolean": bool,
        "integer": int,
        "number": (int, float),
        "string": str,
        "null": type(None),
        "array": list,
        "object": dict,
    }
    kind = schema.get("type")
    if kind is None:
        return True
    if not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "boolean"):
        return False
    if kind == "object" and "properties" in schema:
        return set(schema.get("required", ())) <= set(value) <= set(schema["properties"])
    return True
