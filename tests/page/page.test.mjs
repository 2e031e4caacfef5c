// The server's page in Chromium, beside answers by script.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { accessible, ask, focused, launch, open, screenshot } from "./browser.mjs";
import { CONTEXT, start } from "./mock.mjs";

let browser;
let server;
before(async () => {
    browser = await launch();
    server = await start();
});
after(async () => {
    await browser.close();
    server.close();
});
const lastRequest = () => server.state.requests.at(-1);
const articles = (page) => page.locator("article .body").allInnerTexts();

test("a chat by keyboard alone", async () => {
    const { page, close } = await open(browser, server.url);
    const { keyboard } = page;
    assert.equal(await focused(page), "message");
    await keyboard.type("first line");
    await keyboard.press("Shift+Enter");
    await keyboard.type("second line");
    await keyboard.press("Enter");
    await page.locator("#stop").waitFor({ state: "hidden" });
    assert.deepEqual(await articles(page), ["first line\nsecond line", "You said: first line\nsecond line"]);
    assert.equal(await focused(page), "message");
    assert.match(await page.locator("#status").innerText(), /^Answer: You said/);
    assert.match(await page.locator("#context").innerText(), /13 of 2,048 tokens/);
    assert.match(await page.locator("article.assistant .foot p").innerText(), /^3 tokens, [\d.]+ tokens\/s, first after [\d.]+ s$/);
    // Backwards through the answer's and the message's buttons.
    const order = [];
    for (let press = 0; press < 5; press += 1) {
        await keyboard.press("Shift+Tab");
        order.push(await focused(page));
    }
    assert.deepEqual(order, ["Regenerate answer 1", "Copy answer 1", "Edit message 1", "Copy message 1", "messages"]);
    await keyboard.press("Tab");
    await keyboard.press("Tab");
    await keyboard.press("Enter");
    assert.equal(await focused(page), "Edited message");
    await keyboard.press("Control+A");
    await keyboard.type("changed");
    await keyboard.press("Enter");
    await page.locator("#stop").waitFor({ state: "hidden" });
    assert.deepEqual(await articles(page), ["changed", "You said: changed"]);
    assert.deepEqual(lastRequest().messages, [{ role: "user", content: "changed" }]);
    // The whole page can be reached, and the skip link comes first.
    await page.evaluate(() => document.activeElement.blur());
    await page.locator("body").evaluate((body) => body.focus());
    const reached = new Set();
    for (let press = 0; press < 24; press += 1) {
        await keyboard.press("Tab");
        reached.add(await focused(page));
    }
    for (const id of ["theme", "open-settings", "new", "rename", "export", "delete", "messages", "message", "send"]) {
        assert.ok(reached.has(id), `${id} is reached: ${[...reached]}`);
    }
    await close();
});

test("Escape and the button stop an answer, and what is there stays", async () => {
    const { page, close } = await open(browser, server.url);
    for (const stop of [() => page.keyboard.press("Escape"), () => page.locator("#stop").click()]) {
        const { left } = server.state;
        await page.locator("#message").fill("slow");
        await page.keyboard.press("Enter");
        await page.getByText("word3").last().waitFor();
        assert.equal(await page.locator("article[aria-busy=true]").count(), 1);
        await page.locator("#speed", { hasText: "tokens/s" }).waitFor();
        // Screen readers are not told of each token.
        assert.equal(await page.locator("#status").innerText(), "The model answers.");
        assert.equal(await page.locator("article").last().evaluate((article) => article.closest("[aria-live], [role=log]")), null);
        await stop();
        await page.locator("#stop").waitFor({ state: "hidden" });
        assert.match(await page.locator("article .foot").last().innerText(), /^Stopped\./);
        assert.equal(await focused(page), "message");
        while (server.state.left === left) await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await ask(page, "and now");
    assert.equal(lastRequest().messages.length, 5);
    await close();
});

test("hostile Markdown is text", async () => {
    const { page, close } = await open(browser, server.url);
    await ask(page, "markdown");
    const body = page.locator("article.assistant .body");
    assert.equal(await body.locator("img, script, b, i, iframe").count(), 0);
    const addresses = await body.locator("a").evaluateAll((links) => links.map((link) => [link.href, link.rel]));
    assert.deepEqual(addresses, [
        ["https://example.org/a", "noopener noreferrer"],
        ["https://example.org/spy.png", "noopener noreferrer"],
    ]);
    assert.match(await body.innerText(), /<img src=x onerror/);
    assert.match(await page.title(), /^markdown/);
    for (const part of ["h4", "strong em", "ul ul", "ol", ".code pre", "table td", "blockquote"]) {
        assert.ok((await body.locator(part).count()) > 0, part);
    }
    await body.getByRole("button", { name: "Copy code" }).click();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "<b>not bold</b>");
    await accessible(page, "Markdown");
    await page.locator("#messages").evaluate((messages) => (messages.scrollTop = 0));
    await screenshot(page, "markdown");
    await close();
});

test("settings reach the server, and wrong ones are refused in words", async () => {
    const { page, close } = await open(browser, server.url);
    await page.getByRole("button", { name: "Settings" }).click();
    assert.equal(await focused(page), "system");
    await page.getByLabel("System message").fill("Be brief.");
    const values = { temperature: "0,5", top_p: "0.9", top_k: "40", min_p: "0.05", max_tokens: "64", seed: "7" };
    for (const [id, value] of Object.entries(values)) await page.locator(`#${id}`).fill(value);
    await accessible(page, "settings");
    await screenshot(page, "settings");
    await page.locator("#temperature").fill("hot");
    await page.getByRole("button", { name: "Save" }).click();
    assert.match(await page.locator("#settings-error").innerText(), /^Temperature: expected a number from 0 to 2, found "hot"\.$/);
    assert.equal(await focused(page), "temperature");
    await page.locator("#temperature").fill("0,5");
    await page.keyboard.press("Enter");
    await ask(page, "hello");
    const { messages, ...rest } = lastRequest();
    assert.deepEqual(messages, [{ role: "system", content: "Be brief." }, { role: "user", content: "hello" }]);
    const expected = { temperature: 0.5, top_p: 0.9, top_k: 40, min_p: 0.05, max_tokens: 64, seed: 7 };
    assert.deepEqual(rest, { model: "mock", ...expected, stream: true, stream_options: { include_usage: true } });
    await page.reload();
    await page.getByRole("button", { name: "Settings" }).click();
    assert.equal(await page.locator("#top_k").inputValue(), "40");
    await page.keyboard.press("Escape");
    await close();
});

test("schema mode shows JSON", async () => {
    const { page, close } = await open(browser, server.url);
    await page.getByRole("button", { name: "Settings" }).click();
    await page.getByLabel("Answer with JSON of this schema").check();
    await page.getByLabel("JSON Schema").fill("{");
    await page.getByRole("button", { name: "Save" }).click();
    assert.match(await page.locator("#settings-error").innerText(), /^The schema is not JSON/);
    await page.getByLabel("JSON Schema").fill('{"type": "object"}');
    await page.getByRole("button", { name: "Save" }).click();
    await ask(page, "hello");
    assert.deepEqual(lastRequest().response_format, { type: "json_schema", json_schema: { name: "answer", schema: { type: "object" }, strict: true } });
    assert.equal(await page.locator("article.assistant pre").innerText(), '{\n  "answer": "yes",\n  "sure": true\n}');
    await page.getByRole("button", { name: "Copy answer 1" }).click();
    assert.deepEqual(JSON.parse(await page.evaluate(() => navigator.clipboard.readText())), { answer: "yes", sure: true });
    await accessible(page, "schema mode");
    await screenshot(page, "schema");
    await close();
});

test("conversations are listed, renamed, continued after a reload, exported, deleted", async () => {
    const { page, close } = await open(browser, server.url);
    await ask(page, "one");
    await page.getByRole("button", { name: "New conversation" }).click();
    await ask(page, "two");
    await page.getByRole("button", { name: "Rename" }).click();
    assert.equal(await focused(page), "ask-input");
    await page.keyboard.type("Second <b>");
    await page.keyboard.press("Enter");
    await page.locator("#title", { hasText: "Second <b>" }).waitFor();
    await page.reload();
    assert.deepEqual(await page.locator("#list button").allInnerTexts(), ["Second <b>", "one"]);
    assert.deepEqual(await articles(page), ["two", "You said: two"]);
    const download = page.waitForEvent("download");
    await page.getByRole("button", { name: "Export" }).click();
    const file = await download;
    assert.equal(file.suggestedFilename(), "Second-b.json");
    const { messages } = JSON.parse(await readFile(await file.path(), "utf8"));
    assert.deepEqual(messages, [{ role: "user", content: "two" }, { role: "assistant", content: "You said: two" }]);
    await page.locator("#list button", { hasText: "one" }).click();
    assert.equal(await page.locator("#list [aria-current]").innerText(), "one");
    await page.getByRole("button", { name: "Regenerate answer 1" }).click();
    await page.locator("#stop").waitFor({ state: "hidden" });
    assert.deepEqual(lastRequest().messages, [{ role: "user", content: "one" }]);
    await page.getByRole("button", { name: "Delete" }).click();
    await accessible(page, "a question");
    await page.keyboard.press("Escape");
    assert.equal(await page.locator("#list button").count(), 2);
    await page.locator("#delete").click();
    await page.locator("#ask-confirm").click();
    await page.locator("#title", { hasText: "Second" }).waitFor();
    assert.deepEqual(await page.locator("#list button").allInnerTexts(), ["Second <b>"]);
    await close();
});

test("an answer goes on while another conversation is shown", async () => {
    const { page, close } = await open(browser, server.url);
    await page.locator("#message").fill("slow");
    await page.keyboard.press("Enter");
    await page.getByText("word3").waitFor();
    await page.getByRole("button", { name: "New conversation" }).click();
    await page.locator(".empty").waitFor();
    await page.locator("#list button", { hasText: "slow" }).click();
    await page.getByText("word30").waitFor();
    await page.keyboard.press("Escape");
    assert.match(await page.locator("article .foot").last().innerText(), /^Stopped\./);
    await close();
});

test("errors are shown in words, and the message comes back", async () => {
    const { page, close } = await open(browser, server.url, { expected: ["Failed to load resource"] });
    for (const [text, said] of [["refuse", /^Expected a number/], ["busy", /^The server is busy.*16 requests wait/]]) {
        await ask(page, text);
        assert.match(await page.getByRole("alert").first().innerText(), said);
        assert.equal(await page.locator("#message").inputValue(), text);
        assert.deepEqual(await articles(page), []);
        assert.equal(await page.locator("#title").innerText(), "New conversation");
        await page.locator("#message").fill("");
    }
    await accessible(page, "an error");
    await screenshot(page, "error");
    await ask(page, "break off");
    assert.match(await page.locator("#error").innerText(), /connection to the server broke/);
    assert.deepEqual(await articles(page), ["break off", "You said:"]);
    await ask(page, "length");
    assert.equal(await page.locator("#error").innerText(), "");
    assert.match(await page.locator("article .foot").last().innerText(), /limit of tokens/);
    await ask(page, "think");
    assert.equal(await page.locator("article details:visible").count(), 1);
    await close();
});

test("a server with a key is asked for it", async () => {
    const locked = await start({ key: "secret" });
    const { page, close } = await open(browser, locked.url, { expected: ["401"] });
    assert.match(await page.locator("#error").innerText(), /expects an API key/);
    assert.equal(await focused(page), "key");
    await page.keyboard.type("secret");
    await page.keyboard.press("Enter");
    await page.locator("#model", { hasText: "mock" }).waitFor();
    await ask(page, "hello");
    assert.deepEqual(await articles(page), ["hello", "You said: hello"]);
    assert.ok(!JSON.stringify(await page.evaluate(() => ({ ...localStorage }))).includes("secret"), "the key is not kept");
    await close();
    locked.close();
});

test("a server that is gone", async () => {
    const gone = await start();
    const { page, close } = await open(browser, gone.url, { expected: ["ERR_CONNECTION_REFUSED"] });
    gone.close();
    await ask(page, "hello");
    assert.match(await page.locator("#error").innerText(), /^The server does not answer/);
    await close();
});

test("dark and light, by the system and by the switch", async () => {
    const background = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const [light, dark] = ["rgb(255, 255, 255)", "rgb(22, 24, 29)"];
    for (const [system, colors] of [[false, [light, light, dark, light]], [true, [dark, light, dark, dark]]]) {
        const { page, close } = await open(browser, server.url, { dark: system });
        await ask(page, "markdown");
        for (const [step, color] of colors.entries()) {
            assert.equal(await background(page), color, `system dark: ${system}, step ${step}`);
            await accessible(page, `system dark: ${system}, step ${step}`);
            if (step === 2) {
                await page.reload();
                assert.equal(await background(page), dark, "the choice is kept");
                await screenshot(page, "dark");
            }
            await page.locator("#theme").click();
        }
        await close();
    }
});

test("a window of 320 pixels", async () => {
    const { page, close } = await open(browser, server.url, { width: 320, height: 640 });
    await ask(page, "markdown");
    await accessible(page, "320 px");
    await screenshot(page, "narrow");
    const toggle = page.getByRole("button", { name: "Conversations" });
    await toggle.click();
    assert.equal(await toggle.getAttribute("aria-expanded"), "true");
    await accessible(page, "320 px, the list");
    await screenshot(page, "narrow-list");
    await page.keyboard.press("Escape");
    assert.equal(await focused(page), "toggle-conversations");
    await page.getByRole("button", { name: "Settings" }).click();
    await accessible(page, "320 px, the settings");
    await screenshot(page, "narrow-settings");
    await page.keyboard.press("Escape");
    await page.locator("#message").fill("a line\n".repeat(40));
    await accessible(page, "320 px, a long message");
    await close();
});

test("the context is the server's", async () => {
    const { page, close } = await open(browser, server.url);
    await ask(page, "hello");
    assert.equal(await page.locator("#context-meter").getAttribute("max"), String(CONTEXT));
    await screenshot(page, "wide");
    await close();
});
