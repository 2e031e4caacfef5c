/** Requests to the server that sent this page: the API of OpenAI's clients. */

/** What a server refused; `status` is HTTP's, 0 without an answer. */
export class ServerError extends Error {
    constructor(message, status) {
        super(message);
        this.name = "ServerError";
        this.status = status;
    }
}

const UNREACHABLE = "The server does not answer. Check that `thimble serve` still runs, then try again.";

async function request(path, { key, ...options }) {
    const headers = { ...(options.body && { "content-type": "application/json" }), ...(key && { authorization: `Bearer ${key}` }) };
    let response;
    try {
        response = await fetch(path, { ...options, headers });
    } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new ServerError(UNREACHABLE, 0);
    }
    if (!response.ok) throw new ServerError(await refusal(response), response.status);
    return response;
}

/** The server's sentence, behind ours for the codes that need one. */
async function refusal(response) {
    let said = "";
    try {
        said = (await response.json()).error?.message ?? "";
    } catch {
        // No JSON: the code has to do.
    }
    const meaning = {
        401: "The server expects an API key. Enter it in the settings.",
        429: "The server is busy. Try again in a moment.",
        503: "The server starts or stops. Try again in a moment.",
    }[response.status];
    return [meaning, said].filter(Boolean).join(" ") || `The server refused the request with code ${response.status}.`;
}

/** The server's first model: its name, and its context in tokens if the server says. */
export async function model(key) {
    const response = await request("v1/models", { key, cache: "no-store" });
    const [first] = (await response.json()).data ?? [];
    if (!first) throw new ServerError("The server has no model.", response.status);
    return { name: first.id, context: first.max_model_len ?? null };
}

/** The data of server-sent events in a stream of bytes; throws if the stream ends within an event. */
export async function* events(bytes) {
    const decoder = new TextDecoder();
    let pending = "";
    let data = [];
    for await (const piece of bytes) {
        pending += decoder.decode(piece, { stream: true });
        const lines = pending.split("\n");
        pending = lines.pop();
        for (const line of lines) {
            const bare = line.endsWith("\r") ? line.slice(0, -1) : line;
            if (bare === "" && data.length > 0) {
                yield data.join("\n");
                data = [];
            } else if (bare.startsWith("data:")) {
                data.push(bare.slice(bare[5] === " " ? 6 : 5));
            }
        }
    }
    if (pending !== "" || data.length > 0) throw new ServerError("The server ended in the middle of its answer.", 0);
}

async function* piecesOf(body) {
    // Safari's streams cannot be iterated over.
    const reader = body.getReader();
    try {
        for (;;) {
            const { done, value } = await reader.read();
            if (done) return;
            yield value;
        }
    } finally {
        reader.releaseLock();
    }
}

/** The chunks of an answer. Aborting the signal throws an AbortError. */
export async function* answer(body, { key, signal }) {
    const full = { ...body, stream: true, stream_options: { include_usage: true } };
    const response = await request("v1/chat/completions", { method: "POST", body: JSON.stringify(full), key, signal });
    try {
        for await (const data of events(piecesOf(response.body))) {
            if (data === "[DONE]") return;
            const chunk = JSON.parse(data);
            if (chunk.error) throw new ServerError(chunk.error.message ?? "The server failed.", response.status);
            yield chunk;
        }
    } catch (error) {
        if (error.name === "AbortError" || error instanceof ServerError) throw error;
        throw new ServerError("The connection to the server broke in the middle of its answer.", 0);
    }
    throw new ServerError("The server ended before its answer was complete.", 0);
}
