"""What a program asks of one answer: its form, log-probabilities, stop texts; chats that begin with messages."""

import asyncio
import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal, Optional, TypedDict

import pytest
from conftest import greedy, lively

from thimble import ContextFull, Finish, IncompleteAnswer, Model, Sampling, ThimbleError

QUESTION = "What is the capital of France?"


@dataclasses.dataclass
class City:
    """A city."""

    name: str
    people: int
    river: Optional[str]


class Verdict(TypedDict):
    mood: Literal["good", "bad"]
    sure: bool


def test_messages_come_before_the_first_answer(model: Model) -> None:
    first = model.chat(system="Be brief.", sampling=greedy(), max_tokens=12)
    said = first.send(QUESTION).reply.text
    then = first.send("And of Spain?").reply.text
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": said},
        {"role": "user", "content": "And of Spain?"},
    ]
    second = model.chat(messages=messages, sampling=greedy(), max_tokens=12)
    assert second.unanswered == "And of Spain?"
    assert second.ask() == then
    assert second.history == first.history
    assert model.chat(messages=first.history[:2], sampling=greedy(), system="Be brief.").history == first.history[:2]
    with pytest.raises(ThimbleError, match="message 2"):
        model.chat(messages=[{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])


def test_options_hold_for_one_answer(model: Model) -> None:
    chat = model.chat(sampling=lively(), max_tokens=30)
    short = chat.send(QUESTION, max_tokens=2).reply
    assert (short.tokens, short.finish, short.complete) == (2, Finish.LENGTH, False)
    assert chat.send(QUESTION).reply.tokens > 2
    whole = model.chat(sampling=lively(), max_tokens=30).send(QUESTION).reply.text
    middle = max(whole.split("\ufffd"), key=len)[-3:]
    for stopped in (
        model.chat(sampling=lively(), max_tokens=30).send(QUESTION, stop=[middle]).reply,
        model.chat(sampling=lively(), max_tokens=30, stop=[middle]).send(QUESTION).reply,
    ):
        assert stopped.text == whole[: whole.index(middle)]
        assert stopped.finish == Finish.STOP and stopped.complete
    with pytest.raises(ThimbleError, match="empty"):
        chat.send("x", stop=[""]).reply


def test_log_probabilities(model: Model) -> None:
    reply = model.complete("Once upon a time", sampling=greedy(), max_tokens=6, log_probabilities=3).reply
    assert len(reply.log_probabilities) == reply.tokens
    assert model.detokenize(token.token for token in reply.log_probabilities) == reply.text
    for token in reply.log_probabilities:
        assert token.token == token.alternatives[0].token and len(token.alternatives) == 3
        assert token.log_probability == token.alternatives[0].log_probability <= 0
    plain = model.complete("Once upon a time", sampling=greedy(), max_tokens=6).reply
    assert plain.text == reply.text and plain.log_probabilities == []
    answer = model.chat(sampling=greedy()).send(QUESTION, max_tokens=4, log_probabilities=0).reply
    assert len(answer.log_probabilities) == answer.tokens and answer.log_probabilities[0].alternatives == []
    scored = model.log_probabilities("The capital of France is", " Paris", alternatives=2)
    assert "".join(token.text for token in scored) == " Paris"
    assert all(math.isfinite(token.log_probability) and len(token.alternatives) == 2 for token in scored)


def test_sampling_settings(model: Model) -> None:
    options: dict[str, Any] = {"max_tokens": 1, "log_probabilities": 2}
    best, second = model.complete("a", sampling=greedy(), **options).reply.log_probabilities[0].alternatives
    banned = Sampling(temperature=0.0, repetition_penalty=1.0, logit_bias={best.token: -math.inf})
    assert model.complete("a", sampling=banned, **options).reply.log_probabilities[0].token == second.token
    # Nothing but the likeliest token is left, whatever the temperature.
    certain = Sampling(temperature=2.0, min_p=1.0, repetition_penalty=1.0, seed=3)
    text = model.complete("a", sampling=certain, max_tokens=8).reply.text
    assert text == model.complete("a", sampling=greedy(), max_tokens=8).reply.text
    with pytest.raises(ThimbleError, match="min-p"):
        model.chat(sampling=Sampling(min_p=2.0))


def test_tokens_become_text_again(model: Model) -> None:
    for text in ("", "a thimble", "é🙂"):
        assert model.detokenize(model.tokens(text)) == text
    with pytest.raises(ThimbleError, match="ids below"):
        model.detokenize([2**32 - 1])


def test_embeddings(model: Model) -> None:
    texts = ["A thimble protects a finger.", "Thimbles protect fingers.", "Rain is expected on Monday."]
    found = model.embed(texts)
    assert len(found) == 3 and all(math.isclose(sum(x * x for x in vector), 1, rel_tol=1e-4) for vector in found)
    assert list(model.embed(texts[0])) == list(found[0])
    assert memoryview(found[0]).format == "f"
    last = model.embed(texts[0], pooling="last")
    assert list(last) != list(found[0]) and len(last) == len(found[0])
    with pytest.raises(ValueError, match="pooling"):
        model.embed("a", pooling="first")  # type: ignore[call-overload]
    with pytest.raises(ContextFull):
        model.embed("word " * 10_000)


def test_an_answer_has_the_form(model: Model) -> None:
    # Wild sampling: only the form keeps the text together.
    chat = model.chat(sampling=lively(), max_tokens=400)
    verdict = chat.ask(QUESTION, schema=Verdict)
    assert verdict["mood"] in ("good", "bad") and isinstance(verdict["sure"], bool)
    assert chat.ask("And?", choices=["yes", "no"]) in ("yes", "no")
    year = chat.ask("When?", regex=r"(19|20)[0-9]{2}")
    assert len(year) == 4 and year.isdigit()
    assert chat.ask("How many?", lark='start: "a" ("b" | "c")') in ("ab", "ac")
    assert chat.ask("How many?", gbnf='root ::= "a" ("b" | "c")') in ("ab", "ac")
    numbered = chat.ask("How many?", schema={"type": "integer", "minimum": 10, "maximum": 99})
    assert 10 <= numbered <= 99
    assert chat.history[-1].text == str(numbered)
    pieces = "".join(chat.send("And?", choices=["perhaps", "never"]))
    assert pieces in ("perhaps", "never")
    said = model.complete("The weather is", sampling=lively(), choices=[" good", " bad"]).reply
    assert said.text in (" good", " bad") and said.complete


def test_a_value_that_the_limit_ends_is_an_error(model: Model) -> None:
    chat = model.chat(sampling=lively())
    with pytest.raises(IncompleteAnswer, match="3 tokens") as ended:
        chat.ask(QUESTION, regex="[a-z]{200}", max_tokens=3)
    assert ended.value.reply.finish == Finish.LENGTH and not ended.value.reply.complete
    assert chat.history[-1].text == ended.value.reply.text, "the partial value stays in the conversation"


def test_a_form_that_cannot_be_kept_is_refused_before_anything_is_generated(model: Model) -> None:
    chat = model.chat(sampling=lively())
    cases: list[tuple[dict[str, Any], str]] = [
        ({"schema": {"type": "object", "not": {"required": ["a"]}}}, "not"),
        ({"schema": {"type": 1}}, "schema|Schema"),
        ({"regex": "("}, "regular expression"),
        ({"choices": []}, "choice"),
        ({"lark": "start: other"}, "Lark"),
        ({"gbnf": "root"}, "GBNF"),
    ]
    for form, expected in cases:
        with pytest.raises(ThimbleError, match=expected):
            chat.ask(QUESTION, **form)
    assert chat.history == []
    with pytest.raises(ValueError, match="schema and choices"):
        chat.ask(QUESTION, schema=int, choices=["a"])  # type: ignore[call-overload]


def test_values_without_blocking(model: Model) -> None:
    async def ask(text: str) -> str:
        return await model.chat(sampling=lively()).ask_async(text, choices=["yes", "no"])

    async def both() -> list[str]:
        return list(await asyncio.gather(ask(QUESTION), ask("Really?")))

    assert set(asyncio.run(both())) <= {"yes", "no"}


def test_a_form_goes_on_in_another_session(model: Model) -> None:
    chat = model.chat(sampling=lively(), max_tokens=300)
    answer = chat.send(QUESTION, regex="[a-z]{60}")
    next(answer)
    chat.pause()
    chat.free_memory()
    chat.resume()
    assert answer.reply.complete
    assert len(answer.reply.text) == 60 and answer.reply.text.isalpha()


def weather(city: Literal["Paris", "Rome"], days: int = 1) -> str:
    """The weather in a city."""
    return f"sunny in {city} for {days} days"


def test_calls_name_tools_and_have_valid_arguments(model: Model) -> None:
    chat = model.chat(tools=[weather], sampling=lively(), max_tokens=300)
    reply = chat.send("Weather in Paris?", tool_choice=weather).reply
    assert reply.complete and reply.finish == Finish.STOP
    (call,) = reply.tool_calls
    arguments = json.loads(call.arguments)
    assert call.name == "weather" and arguments["city"] in ("Paris", "Rome") and isinstance(arguments.get("days", 1), int)
    result = chat.run_tool(call)
    assert result.call_id == call.id and result.content.startswith(f"sunny in {arguments['city']}")
    with pytest.raises(ThimbleError, match="wait"):
        chat.send("And in Rome?").reply
    with pytest.raises(ThimbleError, match="one result"):
        chat.send_tool_results([]).reply
    said = chat.send_tool_results([result], tool_choice="none").reply
    assert said.tool_calls == []
    assert [bool(message.tool_calls) for message in chat.history] == [False, True, False, False]
    assert chat.history[2].tool_results == [result] and chat.history[3].text == said.text
    # The same chat again, from OpenAI's form of its messages.
    function = {"name": call.name, "arguments": call.arguments}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Weather in Paris?"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": call.id, "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": call.id, "content": result.content},
    ]
    again = model.chat(tools=[weather], messages=messages, sampling=lively(), max_tokens=5)
    assert again.history[1].tool_calls == [call]
    assert again.retry().reply.text == again.history[-1].text
    # Text that looks like a call is no call where there are none.
    assert model.chat(sampling=lively(), max_tokens=5).send("x").reply.tool_calls == []


def test_tools_run_until_the_model_answers(model: Model) -> None:
    called: list[str] = []

    def note(text: Literal["a", "b"]) -> None:
        """Notes a text."""
        called.append(text)

    chat = model.chat(tools=[note], sampling=lively(), max_tokens=300)
    reply = chat.run_tools("Note something.", tool_choice="required")
    assert reply.tool_calls == [] and called and set(called) <= {"a", "b"}

    def broken(text: str) -> None:
        """Raises."""
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        model.chat(tools=[broken], sampling=lively()).run_tools("Go.", tool_choice=broken)


def test_tools_that_cannot_be_offered_are_refused(model: Model) -> None:
    cases: list[tuple[list[Any], str]] = [
        ([weather, weather], "two tools"),
        ([{"name": "bad name", "parameters": {"type": "object"}}], "name"),
    ]
    for tools, expected in cases:
        with pytest.raises(ThimbleError, match=expected):
            model.chat(tools=tools)
    with pytest.raises(ThimbleError, match="no tools"):
        model.chat().send("x", tool_choice="required").reply
    with pytest.raises(ThimbleError, match="other"):
        model.chat(tools=[weather]).send("x", tool_choice="other").reply
    unsupported = {"name": "f", "parameters": {"type": "object", "not": {"required": ["a"]}}}
    with pytest.raises(ThimbleError, match="not"):
        model.chat(tools=[unsupported]).send("x").reply


def test_calls_come_back_from_a_journal(model: Model, tmp_path: Path) -> None:
    journal = tmp_path / "chat.jsonl"
    with model.chat(tools=[weather], sampling=lively(), max_tokens=300, journal=journal) as chat:
        reply = chat.send("Weather?", tool_choice="required").reply
        before = chat.history
    with model.chat(tools=[weather], sampling=lively(), max_tokens=5, journal=journal) as chat:
        assert chat.history == before and chat.history[-1].tool_calls == reply.tool_calls
        said = chat.send_tool_results([chat.run_tool(call) for call in reply.tool_calls], tool_choice="none").reply
        whole = chat.history
        assert whole[-1].text == said.text
    with model.chat(journal=journal) as chat:
        assert chat.history == whole


@pytest.mark.parametrize("name", ["values", "tools"])
def test_examples(path: Path, name: str) -> None:
    script = Path(__file__).parents[1] / "examples" / f"{name}.py"
    subprocess.run([sys.executable, script, path], check=True, timeout=300)
