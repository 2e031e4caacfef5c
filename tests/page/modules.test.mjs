// The page's storage and its reader of server-sent events, without a browser.

import assert from "node:assert/strict";
import test from "node:test";
import { events } from "../../runtime/serve/page/api.js";
import { Store, exported, newConversation, titleOf } from "../../runtime/serve/page/store.js";

const encoder = new TextEncoder();
const collect = async (pieces) => {
    const found = [];
    for await (const data of events(pieces)) found.push(data);
    return found;
};

function memory(entries = {}) {
    const kept = new Map(Object.entries(entries));
    return {
        get length() {
            return kept.size;
        },
        key: (index) => [...kept.keys()][index],
        getItem: (name) => kept.get(name) ?? null,
        setItem: (name, value) => kept.set(name, value),
        removeItem: (name) => kept.delete(name),
    };
}

test("events are the same however their bytes are cut", async () => {
    const bytes = encoder.encode('data: {"a":"ä€😀"}\n\n: comment\n\ndata: 1\r\ndata: 2\r\n\r\ndata:[DONE]\n\n');
    const expected = ['{"a":"ä€😀"}', "1\n2", "[DONE]"];
    for (const size of [1, 2, 3, 5, 7, 1000]) {
        const pieces = [];
        for (let at = 0; at < bytes.length; at += size) pieces.push(bytes.slice(at, at + size));
        assert.deepEqual(await collect(pieces), expected, `pieces of ${size}`);
    }
});

test("a stream that ends within an event is an error", async () => {
    await assert.rejects(collect([encoder.encode("data: 1\n\ndata: 2\n")]), /in the middle/);
    await assert.rejects(collect([encoder.encode("data: 1")]), /in the middle/);
});

test("conversations are kept, newest first, and invalid entries left out", () => {
    const store = new Store(memory({ "thimble.conversation.bad": "{", "thimble.conversation.odd": '{"title":1}', other: "x" }));
    const [first, second] = [newConversation(), newConversation()];
    first.changed = 1;
    second.changed = 2;
    second.messages = [{ role: "user", content: "<b>" }];
    for (const conversation of [first, second]) store.save(conversation);
    assert.deepEqual(store.conversations().map(({ id }) => id), [second.id, first.id]);
    assert.deepEqual(store.conversation(second.id).messages, second.messages);
    store.remove(second.id);
    assert.deepEqual(store.conversations().map(({ id }) => id), [first.id]);
});

test("a full storage says so", () => {
    const full = { ...memory(), setItem: () => { throw new Error("QuotaExceededError"); } };
    assert.throws(() => new Store(full).save(newConversation()), /storage is full/);
});

test("an export has complete turns only", () => {
    const conversation = { ...newConversation(), messages: [{ role: "user", content: "a" }, { role: "assistant", content: "b", note: "c" }, { role: "user", content: "d" }] };
    assert.deepEqual(JSON.parse(exported(conversation, "s")).messages, [
        { role: "system", content: "s" },
        { role: "user", content: "a" },
        { role: "assistant", content: "b" },
    ]);
});

test("titles are short", () => {
    assert.equal(titleOf("  a\n b "), "a b");
    assert.equal(titleOf("x".repeat(100)).length, 48);
    assert.equal(titleOf(" "), "New conversation");
});
