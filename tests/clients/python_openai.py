"""The official Python client against a running server: THIMBLE_URL=http://127.0.0.1:8080 THIMBLE_KEY=... python_openai.py"""

import asyncio
import enum
import json
import threading
import unittest

import openai
import pydantic
from server import GREEDY, KEY, QUESTION, URL, WEATHER

client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY or "none", max_retries=0, timeout=120)
MODEL = client.models.list().data[0].id


def chat(**settings):
    return client.chat.completions.create(model=MODEL, **{"messages": QUESTION, **GREEDY, **settings})


def text_of(**settings):
    return chat(**settings).choices[0].message.content


class Models(unittest.TestCase):
    def test_lists_and_retrieves(self):
        model = client.models.retrieve(MODEL)
        self.assertEqual((model.id, model.object), (MODEL, "model"))
        with self.assertRaises(openai.NotFoundError) as caught:
            client.models.retrieve("no-such-model")
        self.assertEqual(caught.exception.code, "model_not_found")


class Chat(unittest.TestCase):
    def test_answers_with_its_usage(self):
        answer = chat()
        [choice] = answer.choices
        self.assertEqual((answer.object, choice.index, choice.message.role), ("chat.completion", 0, "assistant"))
        self.assertIn(choice.finish_reason, ("stop", "length"))
        self.assertTrue(answer.id.startswith("chatcmpl-"))
        usage = answer.usage
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
        self.assertTrue(0 < usage.completion_tokens <= 24)
        again = chat()
        self.assertEqual(again.choices[0].message.content, choice.message.content)
        self.assertGreater(again.usage.prompt_tokens_details.cached_tokens, 0)

    def test_limits(self):
        for name in ("max_tokens", "max_completion_tokens"):
            answer = chat(**{"max_tokens": openai.omit, "temperature": 0, name: 3})
            self.assertEqual((answer.choices[0].finish_reason, answer.usage.completion_tokens), ("length", 3))

    def test_seeds(self):
        texts = [text_of(temperature=1.5, seed=seed) for seed in (1, 1, 2, 3)]
        self.assertEqual(texts[0], texts[1])
        self.assertGreater(len(set(texts)), 1)

    def test_stops(self):
        whole = text_of()
        stop = whole[len(whole) // 2 :][:2]
        answer = chat(stop=[stop])
        self.assertEqual(answer.choices[0].message.content, whole[: whole.index(stop)])
        self.assertEqual(answer.choices[0].finish_reason, "stop")

    def test_several_answers(self):
        answer = chat(n=3, temperature=1.5, seed=5)
        self.assertEqual([choice.index for choice in answer.choices], [0, 1, 2])
        self.assertGreater(len({choice.message.content for choice in answer.choices}), 1)

    def test_log_probabilities(self):
        # Without a penalty, which models may recommend, the likeliest token is what it takes.
        answer = chat(logprobs=True, top_logprobs=3, extra_body={"repetition_penalty": 1})
        tokens = answer.choices[0].logprobs.content
        ended = answer.choices[0].finish_reason == "stop"
        self.assertIn(answer.usage.completion_tokens - len(tokens), (0, 1) if ended else (0,))
        for token in tokens:
            self.assertEqual(len(token.top_logprobs), 3)
            self.assertLessEqual(token.logprob, 0)
            self.assertAlmostEqual(token.logprob, token.top_logprobs[0].logprob, places=5)
        written = b"".join(bytes(token.bytes) for token in tokens).decode(errors="replace")
        self.assertEqual(written.strip(), answer.choices[0].message.content.strip())

    def test_streams_what_it_would_answer(self):
        with chat(stream=True, stream_options={"include_usage": True}) as stream:
            chunks = list(stream)
        self.assertEqual(len({chunk.id for chunk in chunks}), 1)
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        whole = chat()
        self.assertEqual(text, whole.choices[0].message.content)
        reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
        self.assertEqual([reason for reason in reasons if reason], [whole.choices[0].finish_reason])
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage.completion_tokens, whole.usage.completion_tokens)

    def test_a_stream_that_is_left_harms_nobody(self):
        expected = text_of()
        for _ in range(5):
            with chat(stream=True, max_tokens=200) as stream:
                next(iter(stream))
        self.assertEqual(text_of(), expected)

    def test_many_at_a_time_answer_as_alone(self):
        questions = [[{"role": "user", "content": f"Count to {number}."}] for number in range(6)]
        alone = [text_of(messages=question) for question in questions]
        together = [None] * len(questions)

        def ask(index):
            together[index] = text_of(messages=questions[index])

        threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(questions))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(together, alone)

    def test_the_client_without_threads(self):
        async def ask():
            async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY or "none") as waiting:
                return await waiting.chat.completions.create(model=MODEL, messages=QUESTION, **GREEDY)

        self.assertEqual(asyncio.run(ask()).choices[0].message.content, text_of())


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class Paint(pydantic.BaseModel):
    color: Color
    liters: int = pydantic.Field(ge=1, le=9)
    mat: bool


class Shapes(unittest.TestCase):
    def test_parses_into_a_class(self):
        for temperature in (0, 1):
            answer = client.chat.completions.parse(
                model=MODEL, messages=QUESTION, response_format=Paint, temperature=temperature, max_tokens=100
            )
            self.assertIsInstance(answer.choices[0].message.parsed, Paint)

    def test_streams_a_class(self):
        with client.chat.completions.stream(
            model=MODEL, messages=QUESTION, response_format=Paint, max_tokens=100
        ) as stream:
            for _ in stream:
                pass
            self.assertIsInstance(stream.get_final_completion().choices[0].message.parsed, Paint)

    def test_json_of_any_kind(self):
        choice = chat(response_format={"type": "json_object"}, max_tokens=40).choices[0]
        if choice.finish_reason == "stop":
            self.assertIsInstance(json.loads(choice.message.content), dict)
        else:
            self.assertEqual((choice.finish_reason, choice.message.content.lstrip()[:1]), ("length", "{"))

    def test_a_schema_that_cannot_be_enforced_is_refused(self):
        schema = {"name": "x", "schema": {"not": {"type": "string"}}}
        with self.assertRaisesRegex(openai.BadRequestError, "not") as caught:
            chat(response_format={"type": "json_schema", "json_schema": schema})
        self.assertTrue(caught.exception.param.startswith("response_format"), caught.exception.param)


class Tools(unittest.TestCase):
    def test_a_round(self):
        only = {"type": "function", "function": {"name": "get_weather"}}
        for choice in ("required", only):
            answer = chat(tools=[WEATHER], tool_choice=choice, max_tokens=120).choices[0]
            self.assertEqual(answer.finish_reason, "tool_calls")
            call = answer.message.tool_calls[0]
            self.assertEqual((call.type, call.function.name), ("function", "get_weather"))
            self.assertIn(json.loads(call.function.arguments)["city"], ("Oslo", "Paris", "Lima"))
        results = [
            {"role": "tool", "tool_call_id": each.id, "content": "light rain"} for each in answer.message.tool_calls
        ]
        after = [*QUESTION, answer.message.to_dict(), *results]
        self.assertIsInstance(text_of(messages=after, tools=[WEATHER], tool_choice="none"), str)

    def test_a_stream_of_calls(self):
        with client.chat.completions.stream(
            model=MODEL, messages=QUESTION, tools=[WEATHER], tool_choice="required", max_tokens=120
        ) as stream:
            for _ in stream:
                pass
            answer = stream.get_final_completion().choices[0]
        self.assertEqual(answer.finish_reason, "tool_calls")
        self.assertIn("city", json.loads(answer.message.tool_calls[0].function.arguments))

    def test_none_calls_nothing(self):
        self.assertFalse(chat(tools=[WEATHER], tool_choice="none").choices[0].message.tool_calls)

    def test_a_result_without_its_call_is_refused(self):
        with self.assertRaises(openai.BadRequestError):
            chat(messages=[*QUESTION, {"role": "tool", "tool_call_id": "call_9", "content": "rain"}])


class Embeddings(unittest.TestCase):
    def test_both_encodings_are_the_same(self):
        texts = ["a red house", "a green house"]
        binary = client.embeddings.create(model=MODEL, input=texts)  # the client asks for base64
        numbers = client.embeddings.create(model=MODEL, input=texts, encoding_format="float")
        self.assertEqual([entry.index for entry in binary.data], [0, 1])
        for left, right in zip(binary.data, numbers.data):
            self.assertEqual(len(left.embedding), len(right.embedding))
            for a, b in zip(left.embedding, right.embedding):
                self.assertAlmostEqual(a, b, places=5)
        self.assertNotEqual(binary.data[0].embedding, binary.data[1].embedding)
        self.assertGreater(binary.usage.prompt_tokens, 2)
        one = client.embeddings.create(model=MODEL, input=texts[0])
        for a, b in zip(one.data[0].embedding, binary.data[0].embedding):
            self.assertAlmostEqual(a, b, places=5)

    def test_tokens(self):
        self.assertEqual(len(client.embeddings.create(model=MODEL, input=[[3, 4, 5], [6]]).data), 2)
        with self.assertRaises(openai.BadRequestError):
            client.embeddings.create(model=MODEL, input=[2**31])


class Completions(unittest.TestCase):
    def complete(self, prompt, **settings):
        return client.completions.create(model=MODEL, prompt=prompt, **{"temperature": 0, "max_tokens": 8, **settings})

    def test_several_prompts(self):
        answer = self.complete(["The sea is", "A tree has"])
        self.assertEqual([choice.index for choice in answer.choices], [0, 1])
        alone = [self.complete(prompt).choices[0].text for prompt in ("The sea is", "A tree has")]
        self.assertEqual([choice.text for choice in answer.choices], alone)

    def test_echo_with_log_probabilities(self):
        prompt = "The sea is blue and the sky"
        answer = self.complete(prompt, echo=True, logprobs=2, max_tokens=0)
        [choice] = answer.choices
        self.assertEqual((choice.text, answer.usage.completion_tokens), (prompt, 0))
        scores = choice.logprobs
        self.assertEqual("".join(scores.tokens).lstrip(), prompt)
        self.assertIsNone(scores.token_logprobs[0])
        self.assertTrue(all(score <= 0 for score in scores.token_logprobs[1:]))
        self.assertEqual(len(scores.tokens), answer.usage.prompt_tokens)
        self.assertEqual(sorted(scores.text_offset), scores.text_offset)
        # The tokens that it draws have the scores that they have as a prompt.
        drawn = self.complete(prompt, echo=True, logprobs=2)
        shared = len(scores.tokens)
        self.assertEqual(drawn.choices[0].logprobs.tokens[:shared], scores.tokens)
        for a, b in zip(drawn.choices[0].logprobs.token_logprobs[1:shared], scores.token_logprobs[1:]):
            self.assertAlmostEqual(a, b, places=4)

    def test_tokens_as_prompts(self):
        for prompt, count in (([5, 6, 7], 1), ([[5, 6, 7], [8, 9]], 2)):
            self.assertEqual(len(self.complete(prompt).choices), count)
        self.assertEqual(self.complete([5, 6, 7]).usage.prompt_tokens, 3)

    def test_streams(self):
        with self.complete("The sea is", stream=True) as stream:
            text = "".join(choice.text for chunk in stream for choice in chunk.choices)
        self.assertEqual(text, self.complete("The sea is").choices[0].text)


class Errors(unittest.TestCase):
    def test_wrong_requests(self):
        cases = [
            ({"messages": []}, "messages"),
            ({"temperature": -1}, "temperature"),
            ({"top_p": 2}, "top_p"),
            ({"n": 0}, "n"),
            ({"max_tokens": 0}, "max_tokens"),
            ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
            ({"logprobs": True, "top_logprobs": 99}, "top_logprobs"),
            ({"messages": [{"role": "wizard", "content": "hm"}]}, "messages"),
            ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages"),
        ]
        for settings, param in cases:
            with self.subTest(settings), self.assertRaises(openai.BadRequestError) as caught:
                chat(**settings)
            self.assertEqual(caught.exception.type, "invalid_request_error")
            self.assertTrue((caught.exception.param or "").startswith(param), (settings, caught.exception.param))

    def test_a_prompt_beyond_the_context(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            chat(messages=[{"role": "user", "content": "many words " * 20_000}])
        self.assertEqual(caught.exception.code, "context_length_exceeded")

    def test_unknown_names(self):
        with self.assertRaises(openai.NotFoundError):
            client.chat.completions.create(model="no-such-model", messages=QUESTION)
        with self.assertRaises(openai.NotFoundError):
            client.post("/no/such/route", cast_to=object, body={})

    def test_a_body_that_is_too_large(self):
        with self.assertRaises(openai.APIStatusError) as caught:
            chat(messages=[{"role": "user", "content": "x" * 20_000_000}])
        self.assertEqual(caught.exception.status_code, 413)

    @unittest.skipUnless(KEY, "the server has no key")
    def test_wrong_keys(self):
        for key in ("wrong", KEY + "x", KEY[:-1]):
            with self.assertRaises(openai.AuthenticationError):
                client.with_options(api_key=key).models.list()

    def test_more_than_the_queue_holds(self):
        """check.sh starts the server with a short queue."""
        streams, refused = [], 0
        try:
            for _ in range(64):
                try:
                    streams.append(chat(stream=True, max_tokens=400, temperature=1, extra_body={"ignore_eos": True}))
                except openai.RateLimitError as error:
                    refused += 1
                    self.assertIn("retry-after", error.response.headers)
                    break
        finally:
            for stream in streams:
                stream.close()
        self.assertEqual(refused, 1)
        self.assertIsInstance(client.with_options(max_retries=5).chat.completions.create(
            model=MODEL, messages=QUESTION, **GREEDY).choices[0].message.content, str)


if __name__ == "__main__":
    unittest.main()
