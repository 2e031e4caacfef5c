// A server with the page and as much of the API as the page needs, with answers by script, for what a real model does not do
// when asked: fail, break off, write hostile Markdown.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";

const PAGE = new URL("../../runtime/serve/page/", import.meta.url);
const TYPES = { html: "text/html", css: "text/css", js: "text/javascript", svg: "image/svg+xml" };
export const POLICY =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
export const CONTEXT = 2048;

export const HOSTILE = [
    "# A heading",
    "Text with **strong *and* emphasized** words, `code`, and a [link](https://example.org/a).",
    "<img src=x onerror=\"document.title='broken into'\"> <script>document.title='broken into'</script>",
    "[run](javascript:document.title='broken&nbsp;into') ![picture](https://example.org/spy.png)",
    "- one\n- two\n  - nested\n\n1. first\n2. second",
    "```html\n<b>not bold</b>\n```",
    "| a | b |\n|---|---|\n| 1 | <i>2</i> |",
    "> quoted",
].join("\n\n");

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function bodyOf(request) {
    const pieces = [];
    for await (const piece of request) pieces.push(piece);
    return JSON.parse(Buffer.concat(pieces));
}

function refuse(response, status, message) {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify({ error: { message, type: "invalid_request_error", param: null, code: null } }));
}

/** What the script answers, piece by piece. */
function pieces(asked, body) {
    if (body.response_format) return ['{"answer":', '"yes",', '"sure":true}'];
    if (asked.includes("slow")) return Array.from({ length: 400 }, (_, index) => `word${index} `);
    if (asked.includes("markdown")) return HOSTILE.match(/[^]{1,7}/g);
    return ["You ", "said: ", asked];
}

async function complete(body, response, state) {
    const asked = body.messages.at(-1).content;
    if (asked.includes("refuse")) return refuse(response, 400, "Expected a number of at most 2, found 3.");
    if (asked.includes("busy")) return refuse(response, 429, "16 requests wait.");
    response.writeHead(200, { "content-type": "text/event-stream" });
    const send = (data) => response.write(`data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`);
    const chunk = (delta, reason = null) => send({ choices: [{ index: 0, delta, finish_reason: reason }] });
    let count = 0;
    if (asked.includes("think")) chunk({ reasoning_content: "Let me see." });
    for (const piece of pieces(asked, body)) {
        if (response.destroyed) {
            state.left += 1;
            return;
        }
        chunk({ content: piece });
        count += 1;
        if (asked.includes("break") && count === 2) {
            // What was written goes out first.
            await pause(100);
            return response.destroy();
        }
        if (asked.includes("slow")) await pause(20);
    }
    chunk({}, asked.includes("length") ? "length" : "stop");
    send({ choices: [], usage: { prompt_tokens: 10, completion_tokens: count, total_tokens: 10 + count } });
    send("[DONE]");
    response.end();
}

/** Starts it on a free port; `state.requests` has the bodies that it got, `state.left` how many clients went early. */
export async function start({ key } = {}) {
    const state = { requests: [], left: 0 };
    const server = createServer(async (request, response) => {
        const path = new URL(request.url, "http://localhost").pathname;
        if (path.startsWith("/v1/")) {
            if (key && request.headers.authorization !== `Bearer ${key}`) return refuse(response, 401, "");
            if (path === "/v1/models") return response.end(JSON.stringify({ data: [{ id: "mock", max_model_len: CONTEXT }] }));
            const body = await bodyOf(request);
            state.requests.push(body);
            return complete(body, response, state);
        }
        const name = path === "/" ? "index.html" : path.slice(1);
        try {
            const file = await readFile(new URL(name, PAGE));
            response.writeHead(200, { "content-type": TYPES[name.split(".").at(-1)], "content-security-policy": POLICY });
            response.end(file);
        } catch {
            refuse(response, 404, "There is no such file.");
        }
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    return { url: `http://127.0.0.1:${server.address().port}`, state, close: () => server.closeAllConnections() ?? server.close() };
}
