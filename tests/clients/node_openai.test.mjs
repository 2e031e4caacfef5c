// The official Node client against a running server: THIMBLE_URL=http://127.0.0.1:8080 THIMBLE_KEY=... node --test

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const { THIMBLE_URL: url, THIMBLE_KEY: key } = process.env;
assert.ok(url, "expected THIMBLE_URL, the address of a running `thimble serve`: see check.sh");
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key || "none", maxRetries: 0, timeout: 120_000 });
const model = (await client.models.list()).data[0].id;
const messages = [{ role: "user", content: "Name three colors of the rainbow." }];
const greedy = { model, messages, temperature: 0, max_tokens: 24 };
const textOf = async (settings) => (await client.chat.completions.create({ ...greedy, ...settings })).choices[0].message.content;

test("a chat, and the same as a stream", async () => {
    const whole = await client.chat.completions.create(greedy);
    assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);
    const stream = await client.chat.completions.create({ ...greedy, stream: true, stream_options: { include_usage: true } });
    let text = "";
    let usage = null;
    for await (const chunk of stream) {
        text += chunk.choices[0]?.delta.content ?? "";
        usage = chunk.usage ?? usage;
    }
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
});

test("the helper for streams", async () => {
    const runner = client.chat.completions.stream(greedy);
    assert.equal(await runner.finalContent(), await textOf());
});

test("a stream that is aborted", async () => {
    const expected = await textOf();
    const stream = await client.chat.completions.create({ ...greedy, max_tokens: 200, stream: true });
    for await (const chunk of stream) {
        assert.ok(chunk.id);
        stream.controller.abort();
    }
    assert.equal(await textOf(), expected);
});

test("an answer of a schema", async () => {
    const schema = { type: "object", properties: { mat: { type: "boolean" } }, required: ["mat"], additionalProperties: false };
    const response_format = { type: "json_schema", json_schema: { name: "paint", schema, strict: true } };
    assert.equal(typeof JSON.parse(await textOf({ response_format })).mat, "boolean");
});

test("a round with a tool, by the helper", async () => {
    const asked = [];
    const tool = {
        type: "function",
        function: {
            name: "get_weather",
            parse: JSON.parse,
            parameters: {
                type: "object",
                properties: { city: { type: "string", enum: ["Oslo", "Paris", "Lima"] } },
                required: ["city"],
                additionalProperties: false,
            },
            function: ({ city }) => {
                asked.push(city);
                return `light rain in ${city}`;
            },
        },
    };
    // A named tool ends the helper after its first call.
    const tool_choice = { type: "function", function: { name: "get_weather" } };
    const runner = client.chat.completions.runTools({ ...greedy, max_tokens: 120, tools: [tool], tool_choice });
    await runner.done();
    assert.ok(asked.length > 0 && asked.every((city) => ["Oslo", "Paris", "Lima"].includes(city)));
    assert.equal(runner.messages.at(-1).role, "tool");
});

test("embeddings", async () => {
    const binary = await client.embeddings.create({ model, input: ["a red house", "a green house"] });
    const numbers = await client.embeddings.create({ model, input: "a red house", encoding_format: "float" });
    assert.equal(binary.data.length, 2);
    for (const [at, value] of numbers.data[0].embedding.entries()) {
        assert.ok(Math.abs(value - binary.data[0].embedding[at]) < 1e-5);
    }
});

test("completions with echo and log-probabilities", async () => {
    const answer = await client.completions.create({ model, prompt: "The sea is", echo: true, logprobs: 1, max_tokens: 0 });
    assert.equal(answer.choices[0].text, "The sea is");
    assert.equal(answer.choices[0].logprobs.token_logprobs[0], null);
});

test("errors have their classes", async () => {
    await assert.rejects(client.chat.completions.create({ ...greedy, temperature: -1 }), OpenAI.BadRequestError);
    await assert.rejects(client.chat.completions.create({ ...greedy, model: "no-such-model" }), OpenAI.NotFoundError);
    await assert.rejects(client.models.retrieve("no-such-model"), OpenAI.NotFoundError);
    if (key) await assert.rejects(client.withOptions({ apiKey: "wrong" }).models.list(), OpenAI.AuthenticationError);
    const streams = [];
    await assert.rejects(async () => {
        for (let count = 0; count < 64; count += 1) {
            streams.push(await client.chat.completions.create({ ...greedy, max_tokens: 400, ignore_eos: true, stream: true }));
        }
    }, OpenAI.RateLimitError);
    for (const stream of streams) stream.controller.abort();
});
