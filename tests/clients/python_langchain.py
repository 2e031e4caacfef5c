"""langchain-openai against a running server: THIMBLE_URL=http://127.0.0.1:8080 THIMBLE_KEY=... python_langchain.py"""

import typing
import unittest

import pydantic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from server import GREEDY, KEY, URL

SERVER = {"base_url": f"{URL}/v1", "api_key": KEY or "none"}
QUESTION = "Name three colors of the rainbow."
City = typing.Literal["Oslo", "Paris", "Lima"]


@tool
def get_weather(city: City) -> str:
    """The weather in a city now."""
    return f"light rain in {city}"


class Paint(pydantic.BaseModel):
    """A bucket of paint."""

    color: typing.Literal["red", "green"]
    mat: bool


class LangChain(unittest.TestCase):
    def setUp(self):
        self.model = ChatOpenAI(model="default", **SERVER, **GREEDY)
        self.model.model_name = self.model.root_client.models.list().data[0].id

    def test_invokes_streams_and_batches(self):
        whole = self.model.invoke(QUESTION)
        self.assertEqual(whole.usage_metadata["output_tokens"], whole.usage_metadata["total_tokens"] - whole.usage_metadata["input_tokens"])
        self.assertEqual("".join(chunk.text for chunk in self.model.stream(QUESTION)), whole.text)
        self.assertEqual([answer.text for answer in self.model.batch([QUESTION] * 3)], [whole.text] * 3)

    def test_structured_output(self):
        self.model.max_tokens = 120
        for method in ("json_schema", "function_calling"):
            with self.subTest(method):
                self.assertIsInstance(self.model.with_structured_output(Paint, method=method).invoke(QUESTION), Paint)

    def test_a_round_with_a_tool(self):
        self.model.max_tokens = 120
        calling = self.model.bind_tools([get_weather], tool_choice="get_weather")
        messages = [HumanMessage("What is the weather in Oslo?")]
        answer = calling.invoke(messages)
        self.assertEqual({call["name"] for call in answer.tool_calls}, {"get_weather"})
        messages.append(answer)
        for call in answer.tool_calls:
            messages.append(ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]))
        self.assertIsInstance(self.model.bind_tools([get_weather], tool_choice="none").invoke(messages).text, str)

    def test_embeddings(self):
        # The check would count tokens with a table of another model's.
        embeddings = OpenAIEmbeddings(model=self.model.model_name, check_embedding_ctx_length=False, **SERVER)
        first, second = embeddings.embed_documents(["a red house", "a green house"])
        self.assertEqual(len(first), len(second))
        for a, b in zip(embeddings.embed_query("a red house"), first):
            self.assertAlmostEqual(a, b, places=5)

    def test_completions(self):
        complete = OpenAI(model=self.model.model_name, **SERVER, **GREEDY)
        self.assertEqual("".join(complete.stream("The sea is")), complete.invoke("The sea is"))


if __name__ == "__main__":
    unittest.main()
