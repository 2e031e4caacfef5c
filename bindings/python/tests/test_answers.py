"""What a program asks of one answer: its form, log-probabilities, stop texts; chats that begin with messages."""

import asyncio
import dataclasses
import math
import subprocess
import sys
from pathlib import Path
from typing import Literal, Optional, TypedDict

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
    options = {"max_tokens": 1, "log_probabilities": 2}
    best, second = model.complete("a", sampling=greedy(), **options).reply.log_probabilities[0].alternatives  # type: ignore[arg-type]
    banned = Sampling(temperature=0.0, repetition_penalty=1.0, logit_bias={best.token: -math.inf})
    assert model.complete("a", sampling=banned, **options).reply.log_probabilities[0].token == second.token  # type: ignore[arg-type]
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
    for form, expected in [
        ({"schema": {"type": "object", "not": {"required": ["a"]}}}, "not"),
        ({"schema": {"type": 1}}, "schema|Schema"),
        ({"regex": "("}, "regular expression"),
        ({"choices": []}, "choice"),
        ({"lark": "start:"}, "Lark"),
        ({"gbnf": "root"}, "GBNF"),
    ]:
        with pytest.raises(ThimbleError, match=expected):
            chat.ask(QUESTION, **form)  # type: ignore[call-overload]
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


@pytest.mark.parametrize("name", ["values"])
def test_examples(path: Path, name: str) -> None:
    script = Path(__file__).parents[1] / "examples" / f"{name}.py"
    subprocess.run([sys.executable, script, path], check=True, timeout=300)
