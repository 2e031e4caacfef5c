// The page of a running server with a real model: THIMBLE_URL=http://127.0.0.1:8080 THIMBLE_KEY=... node --test real.test.mjs
// tests/clients/check.sh starts a server and sets both; without them only answers by script are tested (page.test.mjs).

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accessible, ask, launch, open, screenshot } from "./browser.mjs";

const { THIMBLE_URL: url, THIMBLE_KEY: key } = process.env;
const options = { skip: url ? false : "THIMBLE_URL names no server" };
let browser;
before(async () => {
    browser = await launch();
});
after(() => browser.close());

/** Opens the page, with the key. */
async function unlocked(size = {}) {
    const opened = await open(browser, url, { ...size, expected: ["401"] });
    if (key) {
        await opened.page.locator("#key").fill(key);
        await opened.page.keyboard.press("Enter");
        await opened.page.locator("#model:not(:empty)").waitFor();
    }
    return opened;
}

async function set(page, values) {
    await page.getByRole("button", { name: "Settings" }).click();
    for (const [id, value] of Object.entries(values)) {
        if (value === true) await page.locator(`#${id}`).check();
        else await page.locator(`#${id}`).fill(value);
    }
    await page.getByRole("button", { name: "Save" }).click();
}

test("greedy answers are the same again, with speed and context", options, async () => {
    const { page, close } = await unlocked();
    await set(page, { temperature: "0", max_tokens: "80" });
    await ask(page, "Explain in three short points why the sky is blue.");
    const body = page.locator("article.assistant .body");
    const first = await body.innerText();
    assert.notEqual(first, "");
    assert.match(await page.locator("article.assistant .foot p").innerText(), /\d+ tokens, [\d.]+ tokens\/s, first after [\d.]+ s$/);
    assert.match(await page.locator("#context").innerText(), /^Context: [\d,]+ of [\d,]+ tokens/);
    await page.getByRole("button", { name: "Regenerate answer 1" }).click();
    await page.locator("#stop").waitFor({ state: "hidden" });
    assert.equal(await body.innerText(), first);
    await accessible(page, "a real answer");
    await screenshot(page, "real-light");
    await close();
});

test("an answer is stopped, and the next one comes", options, async () => {
    const { page, close } = await unlocked({ dark: true });
    await set(page, { max_tokens: "1000" });
    await page.locator("#message").fill("Write a long story about a lighthouse.");
    await page.keyboard.press("Enter");
    await page.locator("article.assistant .body:not(:empty)").waitFor();
    await page.keyboard.press("Escape");
    await page.locator("#stop").waitFor({ state: "hidden" });
    await set(page, { max_tokens: "20" });
    await ask(page, "And now one sentence.");
    assert.equal(await page.locator("article.assistant").count(), 2);
    await accessible(page, "dark, a real answer");
    await screenshot(page, "real-dark");
    await close();
});

test("schema mode writes JSON", options, async () => {
    const { page, close } = await unlocked({ width: 320, height: 640 });
    const properties = { name: { type: "string", maxLength: 20 }, age: { type: "integer", minimum: 1, maximum: 99 } };
    const schema = { type: "object", properties, required: ["name", "age"], additionalProperties: false };
    await set(page, { schema_mode: true, schema: JSON.stringify(schema), max_tokens: "200" });
    await ask(page, "Invent a person.");
    const value = JSON.parse(await page.locator("article.assistant pre").innerText());
    assert.deepEqual(Object.keys(value), ["name", "age"]);
    await accessible(page, "320 px, a real answer");
    await screenshot(page, "real-schema");
    await close();
});
