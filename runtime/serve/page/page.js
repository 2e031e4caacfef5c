/** The page: which conversation is shown, and the answer that is being written. */

import { ServerError, answer, model } from "./api.js";
import { MessageList } from "./messages.js";
import { announce, element } from "./render.js";
import { Settings } from "./settings.js";
import { Store, exported, newConversation, titleOf } from "./store.js";

const get = (id) => document.getElementById(id);
const store = new Store();
const settings = new Settings(store, () => {
    showMode();
    showError("");
    void findModel();
});
const list = new MessageList(get("messages"), { edit, regenerate });

/** The conversation that is shown; it is kept from its first message on. */
let current = store.conversations()[0] ?? newConversation();
/** The answer that is being written: its conversation, its message, and what stops it. */
let running = null;
let server = { name: "", context: null };

// --- what is shown

function showError(sentence) {
    get("error").textContent = sentence;
}

function showMode() {
    get("mode").hidden = !settings.schemaMode;
}

function showContext() {
    const known = server.context !== null && current.used !== undefined;
    get("context").hidden = !known;
    if (!known) return;
    const number = (value) => value.toLocaleString("en");
    get("context-text").textContent = `Context: ${number(current.used)} of ${number(server.context)} tokens`;
    get("context-meter").max = server.context;
    get("context-meter").value = current.used;
}

function showList() {
    const focused = get("list").contains(document.activeElement);
    const conversations = store.conversations();
    const items = conversations.map((conversation) => {
        const selected = conversation.id === current.id;
        const click = () => select(conversation.id);
        return element("li", {}, element("button", { type: "button", "aria-current": selected ? "true" : undefined, click }, conversation.title));
    });
    get("list").replaceChildren(...items);
    if (focused) get("list").querySelector("[aria-current]")?.focus();
    const isKept = conversations.some(({ id }) => id === current.id);
    for (const id of ["rename", "export", "delete"]) get(id).disabled = !isKept;
}

function show() {
    get("title").textContent = current.title;
    document.title = `${current.title} - Thimble`;
    get("speed").textContent = "";
    list.show(current.messages);
    if (running?.conversation === current) list.update(running.message, true);
    showList();
    showContext();
}

function showRunning() {
    const hadFocus = document.activeElement === get("stop") || document.activeElement === document.body;
    get("send").hidden = running !== null;
    get("stop").hidden = running === null;
    if (running === null && hadFocus) get("message").focus();
}

// --- conversations

function keep(conversation) {
    conversation.changed = Date.now();
    try {
        store.save(conversation);
    } catch (error) {
        showError(error.message);
    }
}

function select(id) {
    const chosen = running?.conversation.id === id ? running.conversation : store.conversation(id);
    current = chosen ?? newConversation();
    showError("");
    show();
    openList(false);
    announce(`Conversation: ${current.title}`);
    get("message").focus();
}

function openList(open) {
    document.body.classList.toggle("list-open", open);
    get("toggle-conversations").setAttribute("aria-expanded", String(open));
    if (open) get("new").focus();
}

/** Asks by a dialog: for a text if `value` is one. Returns the text, or null if it was cancelled. */
function ask({ title, name, value, confirm }) {
    const dialog = get("ask");
    get("ask-title").textContent = title;
    get("ask-label").hidden = value === undefined;
    get("ask-name").textContent = name ?? "";
    get("ask-input").value = value ?? "";
    get("ask-confirm").textContent = confirm;
    dialog.returnValue = "";
    dialog.showModal();
    if (value === undefined) get("ask-cancel").focus();
    else get("ask-input").select();
    return new Promise((resolve) => {
        const closed = () => resolve(dialog.returnValue === "yes" ? get("ask-input").value : null);
        dialog.addEventListener("close", closed, { once: true });
    });
}

async function rename() {
    const conversation = current;
    const title = await ask({ title: "Rename the conversation", name: "Title", value: conversation.title, confirm: "Rename" });
    if (title === null || title.trim() === "") return;
    conversation.title = title.trim();
    keep(conversation);
    get("title").textContent = current.title;
    showList();
}

async function remove() {
    const conversation = current;
    if ((await ask({ title: `Delete "${conversation.title}"?`, confirm: "Delete" })) === null) return;
    if (running?.conversation.id === conversation.id) {
        running.deleted = true;
        running.controller.abort();
    }
    store.remove(conversation.id);
    current = store.conversations()[0] ?? newConversation();
    show();
    announce("The conversation is deleted.");
    get("message").focus();
}

function exportConversation() {
    const file = new Blob([exported(current, settings.system)], { type: "application/json" });
    const address = URL.createObjectURL(file);
    const name = current.title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "") || "conversation";
    element("a", { href: address, download: `${name}.json` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

// --- answers

/** Answers `text` behind `before`, the messages that stay. */
function send(before, text) {
    if (isBusy()) return;
    if (current.messages.length === 0) current.title = titleOf(text);
    void write([...before, { role: "user", content: text }], text);
}

function edit(message, text) {
    send(current.messages.slice(0, current.messages.indexOf(message)), text);
}

function regenerate(message) {
    if (!isBusy()) void write(current.messages.slice(0, current.messages.indexOf(message)), null);
}

function isBusy() {
    if (running) announce("An answer is being written. Escape stops it.");
    return running !== null;
}

/** Has the model answer these messages, which become the conversation's; without any answer it stays as it was. */
async function write(messages, draft) {
    const conversation = current;
    const before = conversation.messages;
    const message = { role: "assistant", content: "", json: settings.schemaMode };
    running = { conversation, message, controller: new AbortController() };
    const { controller } = running;
    conversation.messages = [...messages, message];
    showError("");
    keep(conversation);
    show();
    showRunning();
    announce("The model answers.");
    let failure = null;
    try {
        const body = settings.request(server.name, messages);
        await read(answer(body, { key: settings.key, signal: controller.signal }), running);
    } catch (error) {
        failure = error;
    }
    const { deleted } = running;
    running = null;
    if (deleted) {
        showRunning();
        return;
    }
    const stopped = failure?.name === "AbortError";
    if (stopped) message.note = "Stopped.";
    else if (failure) message.note = "Broken off.";
    if (failure && message.content === "" && !message.reasoning) {
        conversation.messages = before;
        if (before.length === 0) conversation.title = newConversation().title;
        if (draft !== null && current === conversation) get("message").value = [draft, get("message").value].filter(Boolean).join("\n\n");
    }
    if (conversation.messages.length > 0) keep(conversation);
    else store.remove(conversation.id);
    if (current === conversation) show();
    else showList();
    showRunning();
    if (!failure) announce(`Answer: ${message.content}`);
    else if (stopped) announce("The answer is stopped.");
    else fail(failure);
}

function fail(error) {
    showError(error.message);
    if (error instanceof ServerError && error.status === 401) settings.open("key");
    else if (!(error instanceof ServerError)) console.error(error);
}

const NOTES = {
    length: "The answer ends here because the limit of tokens is reached.",
    content_filter: "The server ended the answer.",
};

/** Reads an answer into its message, and shows it at most once a frame. */
async function read(chunks, { conversation, message }) {
    const begin = performance.now();
    let first = 0;
    let pieces = 0;
    let waiting = false;
    let usage = null;
    const seconds = (from, to) => (to - from) / 1000;
    const speed = (tokens) => (tokens > 1 ? `${((tokens - 1) / Math.max(seconds(first, performance.now()), 1e-3)).toFixed(1)} tokens/s` : "");
    const showSoon = () => {
        if (waiting) return;
        waiting = true;
        // A hidden tab has no frames.
        const draw = () => {
            waiting = false;
            if (running?.message !== message) return;
            list.update(message, true);
            if (current === conversation) get("speed").textContent = speed(pieces);
        };
        if (document.hidden) setTimeout(draw, 500);
        else requestAnimationFrame(draw);
    };
    for await (const chunk of chunks) {
        usage = chunk.usage ?? usage;
        const choice = chunk.choices?.[0];
        const { content = "", reasoning_content: reasoning = "" } = choice?.delta ?? {};
        message.note = NOTES[choice?.finish_reason] ?? message.note;
        if (!content && !reasoning) continue;
        first ||= performance.now();
        pieces += 1;
        message.content += content ?? "";
        if (reasoning) message.reasoning = (message.reasoning ?? "") + reasoning;
        showSoon();
    }
    if (message.content === "" && !message.note) message.note = "The answer is empty.";
    conversation.model = server.name;
    if (!usage) return;
    conversation.used = usage.total_tokens;
    const wait = first ? `first after ${seconds(begin, first).toFixed(2)} s` : "";
    const figures = [`${usage.completion_tokens} tokens`, speed(usage.completion_tokens), wait];
    message.figures = figures.filter(Boolean).join(", ");
}

async function findModel() {
    try {
        server = await model(settings.key);
        get("model").textContent = server.name;
        showContext();
    } catch (error) {
        fail(error);
    }
}

// --- theme

function showTheme() {
    const theme = store.theme();
    if (theme === null) delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    get("theme").textContent = `Theme: ${theme ?? "auto"}`;
}

function nextTheme() {
    store.saveTheme({ system: "light", light: "dark", dark: null }[store.theme() ?? "system"]);
    showTheme();
}

// --- events

function submit(event) {
    event?.preventDefault();
    const text = get("message").value;
    if (text.trim() === "" || isBusy()) return;
    get("message").value = "";
    send(current.messages, text);
}

get("composer").addEventListener("submit", submit);
get("message").addEventListener("keydown", (event) => {
    // While a word is composed, Enter ends it.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
});
document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
    if (running) running.controller.abort();
    else if (document.body.classList.contains("list-open")) {
        openList(false);
        get("toggle-conversations").focus();
    }
});
get("stop").addEventListener("click", () => running?.controller.abort());
get("new").addEventListener("click", () => select(""));
get("rename").addEventListener("click", rename);
get("delete").addEventListener("click", remove);
get("export").addEventListener("click", exportConversation);
get("theme").addEventListener("click", nextTheme);
get("open-settings").addEventListener("click", () => settings.open());
get("toggle-conversations").addEventListener("click", () => openList(!document.body.classList.contains("list-open")));
get("ask-cancel").addEventListener("click", () => get("ask").close(""));
get("ask-form").addEventListener("submit", (event) => {
    event.preventDefault();
    get("ask").close("yes");
});
// Another tab has changed something.
addEventListener("storage", showList);
addEventListener("pagehide", () => running && keep(running.conversation));

showTheme();
showMode();
show();
void findModel();
get("message").focus();
