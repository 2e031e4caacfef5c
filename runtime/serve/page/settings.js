/** The dialog of the settings, and the request that they make. */

import { browserStorage } from "./store.js";

const get = (id) => document.getElementById(id);
const NUMBERS = ["temperature", "top_p", "top_k", "min_p", "max_tokens", "seed"];
const EXAMPLE = {
    type: "object",
    properties: { answer: { type: "string", maxLength: 200 }, sure: { type: "boolean" } },
    required: ["answer", "sure"],
    additionalProperties: false,
};

/** The number that a field has, undefined if it is empty. Throws an Error with a sentence. */
function numberOf(field) {
    // Many keyboards write a comma.
    const text = field.value.trim().replace(",", ".");
    if (text === "") return undefined;
    const name = field.parentElement.firstChild.textContent.trim();
    const { min, max, whole } = field.dataset;
    const value = Number(text);
    const fits = value >= Number(min) && (max === undefined || value <= Number(max));
    if (!Number.isFinite(value) || !fits || (whole !== undefined && !Number.isSafeInteger(value))) {
        const kind = whole === undefined ? "a number" : "a whole number";
        const range = max === undefined ? `of at least ${min}` : `from ${min} to ${max}`;
        throw Object.assign(new Error(`${name}: expected ${kind} ${range}, found "${field.value}".`), { field });
    }
    return value;
}

function schemaOf(field) {
    let schema;
    try {
        schema = JSON.parse(field.value);
    } catch (error) {
        throw Object.assign(new Error(`The schema is not JSON: ${error.message}`), { field });
    }
    if (typeof schema !== "object" || schema === null || Array.isArray(schema)) {
        throw Object.assign(new Error("The schema is not an object: expected for instance {\"type\": \"object\"}."), { field });
    }
    return schema;
}

export class Settings {
    #session = browserStorage("sessionStorage");

    constructor(store, changed) {
        this.store = store;
        this.changed = changed;
        this.values = store.settings();
        get("settings-form").addEventListener("submit", (event) => {
            event.preventDefault();
            this.#save();
        });
        get("cancel-settings").addEventListener("click", () => get("settings").close());
    }

    get key() {
        return this.#session.getItem("thimble.key") ?? "";
    }

    get system() {
        return this.values.system ?? "";
    }

    get schemaMode() {
        return this.values.schema_mode === true;
    }

    /** Opens the dialog, on a field if one is named. */
    open(focus) {
        for (const name of NUMBERS) get(name).value = this.values[name] ?? "";
        get("system").value = this.system;
        get("schema_mode").checked = this.schemaMode;
        get("schema").value = this.values.schema ?? JSON.stringify(EXAMPLE, null, 2);
        get("key").value = this.key;
        this.#mark(null);
        get("settings").showModal();
        get(focus ?? "system").focus();
    }

    #mark(error) {
        for (const field of get("settings-form").querySelectorAll("[aria-invalid]")) {
            field.removeAttribute("aria-invalid");
            field.removeAttribute("aria-describedby");
        }
        get("settings-error").textContent = error?.message ?? "";
        if (error?.field) {
            error.field.setAttribute("aria-invalid", "true");
            error.field.setAttribute("aria-describedby", "settings-error");
            error.field.focus();
        }
    }

    #save() {
        try {
            const values = Object.fromEntries(NUMBERS.map((name) => [name, numberOf(get(name))]));
            values.system = get("system").value.trim();
            values.schema_mode = get("schema_mode").checked;
            values.schema = get("schema").value;
            if (values.schema_mode) schemaOf(get("schema"));
            this.values = values;
            this.store.saveSettings(values);
            this.#session.setItem("thimble.key", get("key").value.trim());
        } catch (error) {
            this.#mark(error);
            return;
        }
        get("settings").close();
        this.changed();
    }

    /** The body of a request for the next answer. */
    request(model, messages) {
        const body = { model, messages: messages.map(({ role, content }) => ({ role, content })) };
        if (this.system) body.messages.unshift({ role: "system", content: this.system });
        for (const name of NUMBERS) if (this.values[name] !== undefined) body[name] = this.values[name];
        if (this.schemaMode) {
            const schema = JSON.parse(this.values.schema);
            body.response_format = { type: "json_schema", json_schema: { name: "answer", schema, strict: true } };
        }
        return body;
    }
}
