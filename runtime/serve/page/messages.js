/** The messages of the conversation that is shown, each an article with what can be done to it. */

import { MarkdownView, copyButton, element } from "./render.js";

const ROLES = { user: "You", assistant: "Model" };

/** An answer of a schema as it is read best; as it is while it is not complete. */
function formatted(text) {
    try {
        return JSON.stringify(JSON.parse(text), null, 2);
    } catch {
        return text;
    }
}

/** One message on the page. */
class MessageView {
    constructor(message, number, actions) {
        this.message = message;
        const kind = message.role === "user" ? "message" : "answer";
        this.body = element("div", { class: "body" });
        this.markdown = new MarkdownView(this.body);
        this.thinking = element("details", { class: "thinking" }, element("summary", {}, "Thinking"), element("div"));
        this.figures = element("p", { class: "hint" });
        const copy = copyButton(() => this.text, "Copy");
        const change =
            message.role === "user"
                ? element("button", { type: "button", click: () => this.edit(actions.edit) }, "Edit")
                : element("button", { type: "button", click: () => actions.regenerate(message) }, "Regenerate");
        for (const button of [copy, change]) button.setAttribute("aria-label", `${button.textContent} ${kind} ${number}`);
        this.foot = element("div", { class: "foot" }, this.figures, copy, change);
        const heading = element("h3", { id: `message-${message.role}-${number}` }, ROLES[message.role]);
        const properties = { class: message.role, "aria-labelledby": heading.id };
        this.article = element("article", properties, heading, this.thinking, this.body, this.foot);
        this.update();
    }

    /** What "Copy" copies. */
    get text() {
        return this.message.json ? formatted(this.message.content) : this.message.content;
    }

    /** Shows the message as it is now. */
    update() {
        const { role, json, content, reasoning, figures, note } = this.message;
        this.thinking.hidden = !reasoning;
        this.thinking.lastChild.textContent = reasoning ?? "";
        if (role === "user") this.body.textContent = content;
        else if (json) this.markdown.text = `\`\`\`\`\`json\n${formatted(content)}\n\`\`\`\`\``;
        else this.markdown.text = content;
        this.figures.textContent = [note, figures].filter(Boolean).join(" ");
    }

    set busy(busy) {
        this.article.setAttribute("aria-busy", String(busy));
        for (const button of this.foot.querySelectorAll("button")) button.hidden = busy;
    }

    /** Replaces the text with a field; `done` gets the message and the new text. */
    edit(done) {
        const field = element("textarea", { rows: "4", "aria-label": "Edited message" });
        field.value = this.message.content;
        const close = () => {
            form.remove();
            this.body.hidden = this.foot.hidden = false;
            this.foot.querySelector("button:last-child").focus();
        };
        const submit = (event) => {
            event.preventDefault();
            if (field.value.trim() === "") return;
            close();
            done(this.message, field.value);
        };
        const hint = element("p", { class: "hint" }, "What follows this message is replaced by a new answer.");
        const cancel = element("button", { type: "button", click: close }, "Cancel");
        const send = element("button", { type: "submit", class: "primary" }, "Send");
        const row = element("div", { class: "row end" }, hint, cancel, send);
        const keydown = (event) => {
            if (event.key === "Escape") {
                event.stopPropagation();
                close();
            } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target === field) {
                submit(event);
            }
        };
        const form = element("form", { class: "edit", submit, keydown }, field, row);
        this.body.hidden = this.foot.hidden = true;
        this.article.append(form);
        field.focus();
    }
}

/** All messages; stays at the end while it is there. */
export class MessageList {
    #views = new Map();
    #counts = {};

    constructor(parent, actions) {
        this.parent = parent;
        this.actions = actions;
    }

    show(messages) {
        this.#views.clear();
        this.#counts = { user: 0, assistant: 0 };
        this.parent.replaceChildren();
        for (const message of messages) this.#add(message);
        if (messages.length === 0) {
            this.parent.append(element("p", { class: "empty" }, "Write a message below. All of it stays between this browser and the server."));
        }
        this.parent.scrollTop = this.parent.scrollHeight;
    }

    #add(message) {
        this.#counts[message.role] += 1;
        const view = new MessageView(message, this.#counts[message.role], this.actions);
        this.#views.set(message, view);
        this.parent.append(view.article);
    }

    /** Shows a message's new state, if it is on the page. */
    update(message, busy) {
        const view = this.#views.get(message);
        if (!view) return;
        const { scrollTop, clientHeight, scrollHeight } = this.parent;
        const atEnd = scrollTop + clientHeight > scrollHeight - 40;
        view.update();
        view.busy = busy;
        if (atEnd) this.parent.scrollTop = this.parent.scrollHeight;
    }
}
