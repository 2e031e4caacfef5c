"""Python types as JSON Schemas, tools from functions, messages of other libraries. No model is needed."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Optional, TypedDict, Union

import pytest

import thimble.thimble_ffi as ffi
from thimble import Message, ToolCall, ToolDefinition
from thimble._messages import read
from thimble._schema import shape
from thimble._tools import ToolBox, choice


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    """A place on a map."""

    x: float
    y: Annotated[float, "north"]
    label: Optional[str] = None
    tags: list[str] = field(default_factory=list)


@dataclass
class Tree:
    value: int
    children: list[Tree]


class Movie(TypedDict):
    title: str
    year: int


class Sequel(Movie, total=False):
    of: Movie


def test_scalars_and_containers() -> None:
    for kind, schema, text, value in [
        (int, {"type": "integer"}, "3", 3),
        (float, {"type": "number"}, "3", 3.0),
        (bool, {"type": "boolean"}, "true", True),
        (None, {"type": "null"}, "null", None),
        (Any, {}, '{"a": 1}', {"a": 1}),
        (list[int], {"type": "array", "items": {"type": "integer"}}, "[1, 2]", [1, 2]),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}, '{"a": 1}', {"a": 1}),
        (Literal["a", 2], {"enum": ["a", 2]}, '"a"', "a"),
        (Color, {"enum": ["red", "blue"]}, '"blue"', Color.BLUE),
        (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}, "null", None),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}, "[1, 2]", (1, 2)),
        (Annotated[str, "a name"], {"type": "string", "description": "a name"}, '"x"', "x"),
    ]:
        found = shape(kind)
        assert found.schema == schema
        assert found.parse(text) == value and type(found.parse(text)) is type(value)
    pair = shape(tuple[str, Color])
    assert pair.parse('["a", "red"]') == ("a", Color.RED)
    assert pair.schema["minItems"] == 2 and pair.schema["items"] is False


def test_classes_are_read_with_their_members() -> None:
    found = shape(Point)
    point = found.schema["$defs"]["Point"]
    assert found.schema["$ref"] == "#/$defs/Point"
    assert point["required"] == ["x", "y"] and point["additionalProperties"] is False
    assert point["description"] == "A place on a map."
    assert point["properties"]["y"] == {"type": "number", "description": "north"}
    assert found.parse('{"x": 1, "y": 2}') == Point(1.0, 2.0)
    assert found.parse('{"x": 1, "y": 2, "label": "a", "tags": ["b"]}') == Point(1.0, 2.0, "a", ["b"])
    assert shape(Tree).parse('{"value": 1, "children": [{"value": 2, "children": []}]}') == Tree(1, [Tree(2, [])])
    assert shape(Movie).parse('{"title": "a", "year": 1}') == {"title": "a", "year": 1}
    sequel = shape(Sequel).schema["$defs"]["Sequel"]
    assert sequel["required"] == ["title", "year"]
    assert shape(list[Color]).parse('["red"]') == [Color.RED]


def test_a_union_is_read_as_the_member_that_fits() -> None:
    union = shape(Union[Point, Tree, int, str, None])
    assert union.parse('{"x": 1, "y": 2}') == Point(1.0, 2.0)
    assert union.parse('{"value": 1, "children": []}') == Tree(1, [])
    for text, value in [("1", 1), ('"1"', "1"), ("null", None)]:
        assert union.parse(text) == value
    assert shape(Union[bool, int]).parse("1") == 1 and shape(Union[bool, int]).parse("true") is True
    assert shape(Union[int, bool]).parse("true") is True


def test_a_schema_is_taken_as_it_is() -> None:
    schema = {"type": "array", "items": {"type": "string"}}
    for given in (schema, json.dumps(schema)):
        assert shape(given).schema == schema
        assert shape(given).parse('["a"]') == ["a"]


def test_what_json_lacks_is_refused() -> None:
    for kind in (set, complex, dict[int, str], bytes, object()):
        with pytest.raises(TypeError, match="has no JSON Schema"):
            shape(kind)


def test_pydantic_models_validate_themselves() -> None:
    pydantic = pytest.importorskip("pydantic")
    city: Any = pydantic.create_model("City", name=(str, ...), people=(int, ...))
    trip: Any = pydantic.create_model("Trip", cities=(list[city], ...))
    made = shape(trip).parse('{"cities": [{"name": "Paris", "people": 2}]}')
    assert made == trip(cities=[city(name="Paris", people=2)])
    many = shape(list[trip])
    assert many.schema["items"]["properties"]["cities"]["items"] == {"$ref": "#/$defs/City"}
    assert "City" in many.schema["$defs"]
    assert many.parse('[{"cities": []}]') == [trip(cities=[])]
    with pytest.raises(pydantic.ValidationError):
        shape(trip).parse('{"cities": 1}')


def distance(start: Point, end: Point, unit: Literal["km", "mi"] = "km") -> float:
    """The distance between two places.

    Straight, not by road.
    """
    return abs(end.x - start.x) if unit == "km" else -1.0


def test_functions_are_tools() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    openai = {"type": "function", "function": {"name": "weather", "description": "w", "parameters": schema}}
    own = ToolDefinition(name="own", description="", parameters="{}")
    box = ToolBox([distance, openai, own])
    assert [tool.name for tool in box.definitions] == ["distance", "weather", "own"]
    first = box.definitions[0]
    assert first.description == "The distance between two places.\n\nStraight, not by road."
    parameters = json.loads(first.parameters)
    assert parameters["required"] == ["start", "end"]
    assert parameters["properties"]["unit"] == {"enum": ["km", "mi"]}
    assert json.loads(box.definitions[1].parameters) == schema
    call = ToolCall(id="1", name="distance", arguments='{"start": {"x": 1, "y": 0}, "end": {"x": 4, "y": 0}}')
    assert (box.run(call).call_id, box.run(call).content) == ("1", "3.0")
    with pytest.raises(LookupError, match="weather"):
        box.run(ToolCall(id="2", name="weather", arguments="{}"))

    def named(city: str) -> Point:
        return Point(1, 2, city)

    content = ToolBox([named]).run(ToolCall(id="3", name="named", arguments='{"city": "Paris"}')).content
    assert json.loads(content) == {"x": 1, "y": 2, "label": "Paris", "tags": []}

    def untyped(city): ...  # type: ignore[no-untyped-def]

    def variable(*cities: str) -> None: ...

    for wrong in (untyped, variable):
        with pytest.raises(TypeError, match=wrong.__name__):
            ToolBox([wrong])


def test_a_choice_of_tools() -> None:
    kinds: Any = ffi.ToolChoice
    assert choice(None) is None
    assert choice("auto") == kinds.AUTO() and choice("required") == kinds.REQUIRED() and choice("none") == kinds.DISABLED()
    assert choice(distance) == choice("distance") == kinds.NAMED(name="distance")


def test_messages_of_other_libraries() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    system, messages = read(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": None, "tool_calls": [call, call]},
            {"role": "tool", "tool_call_id": "c", "content": "sunny"},
            {"role": "tool", "tool_call_id": "d", "content": "rainy"},
            Message(from_user=False, text="Sunny."),
        ],
        None,
    )
    assert system == "Be brief."
    assert [message.from_user for message in messages] == [True, False, True, False]
    assert messages[0].text == "Hi"
    assert messages[1].tool_calls[0] == ToolCall(id="c", name="weather", arguments='{"city": "Paris"}')
    assert [result.content for result in messages[2].tool_results] == ["sunny", "rainy"]
    cases: list[tuple[list[dict[str, Any]], str]] = [
        ([{"role": "wizard", "content": ""}], "role"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "expected text"),
        ([{"role": "user", "content": "a"}, {"role": "system", "content": "b"}], "system"),
        ([{"role": "assistant", "tool_calls": [{}]}], "name"),
    ]
    for wrong, expected in cases:
        with pytest.raises(ValueError, match=expected):
            read(wrong, None)
    with pytest.raises(ValueError, match="one system message"):
        read([{"role": "system", "content": "a"}], "b")
