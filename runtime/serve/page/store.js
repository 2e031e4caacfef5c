/**
 * Conversations and settings in the browser's storage. Each conversation has an entry of its own, so that two tabs do not
 * overwrite each other's.
 *
 * @typedef {{role: "user" | "assistant", content: string, reasoning?: string, json?: boolean, note?: string,
 *     figures?: string}} Message
 * @typedef {{id: string, title: string, changed: number, model?: string, messages: Message[], used?: number}} Conversation
 */

const PREFIX = "thimble.conversation.";
const SETTINGS = "thimble.settings";

/** What a storage that is off or full is replaced with: it lasts as long as the page. */
class Memory {
    #entries = new Map();
    get length() {
        return this.#entries.size;
    }
    key(index) {
        return [...this.#entries.keys()][index] ?? null;
    }
    getItem(name) {
        return this.#entries.get(name) ?? null;
    }
    setItem(name, value) {
        this.#entries.set(name, String(value));
    }
    removeItem(name) {
        this.#entries.delete(name);
    }
}

/** The browser's storage of that name, or one in memory where the browser denies it. */
export function browserStorage(name) {
    try {
        const storage = globalThis[name];
        storage.getItem(SETTINGS);
        return storage;
    } catch {
        return new Memory();
    }
}

const isMessage = (message) =>
    (message?.role === "user" || message?.role === "assistant") && typeof message.content === "string";

export class Store {
    constructor(storage = browserStorage("localStorage")) {
        this.storage = storage;
    }

    /** All conversations, the one changed last first; entries that are none are left out. @returns {Conversation[]} */
    conversations() {
        const found = [];
        for (let index = 0; index < this.storage.length; index += 1) {
            const key = this.storage.key(index);
            if (key?.startsWith(PREFIX)) found.push(this.conversation(key.slice(PREFIX.length)));
        }
        return found.filter((conversation) => conversation !== null).sort((a, b) => b.changed - a.changed);
    }

    /** @returns {Conversation | null} */
    conversation(id) {
        const kept = read(this.storage, PREFIX + id);
        const valid = typeof kept?.title === "string" && Array.isArray(kept.messages) && kept.messages.every(isMessage);
        return valid ? { ...kept, id, changed: Number(kept.changed) || 0 } : null;
    }

    /** Throws an Error with a sentence if the storage is full. @param {Conversation} conversation */
    save(conversation) {
        try {
            this.storage.setItem(PREFIX + conversation.id, JSON.stringify(conversation));
        } catch {
            throw new Error("The browser's storage is full: the conversation is not kept. Delete old conversations.");
        }
    }

    remove(id) {
        this.storage.removeItem(PREFIX + id);
    }

    settings() {
        const kept = read(this.storage, SETTINGS);
        return typeof kept === "object" && kept !== null ? kept : {};
    }

    saveSettings(settings) {
        this.storage.setItem(SETTINGS, JSON.stringify(settings));
    }

    /** "light", "dark", or null for the system's. */
    theme() {
        const theme = this.storage.getItem("thimble.theme");
        return theme === "light" || theme === "dark" ? theme : null;
    }

    saveTheme(theme) {
        if (theme === null) this.storage.removeItem("thimble.theme");
        else this.storage.setItem("thimble.theme", theme);
    }
}

function read(storage, name) {
    try {
        return JSON.parse(storage.getItem(name));
    } catch {
        return null;
    }
}

/** A conversation without messages. @returns {Conversation} */
export function newConversation() {
    const id = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    return { id, title: "New conversation", changed: Date.now(), messages: [] };
}

/** The beginning of a message as a title. */
export function titleOf(text) {
    const words = text.trim().replace(/\s+/g, " ");
    return words.length > 48 ? `${words.slice(0, 47).trimEnd()}…` : words || "New conversation";
}

/** The file that "Export" writes; `thimble chat` reads it by `/load`. @param {Conversation} conversation */
export function exported(conversation, system) {
    const messages = conversation.messages.map(({ role, content }) => ({ role, content }));
    if (messages.at(-1)?.role === "user") messages.pop();
    if (system) messages.unshift({ role: "system", content: system });
    return `${JSON.stringify({ title: conversation.title, model: conversation.model ?? null, messages }, null, 2)}\n`;
}
