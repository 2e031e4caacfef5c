/** Elements of the page. Text is only ever set as text: no HTML of anyone's is parsed. */

import { parse } from "./markdown.js";

/** An element with properties (`class`, `data-...` and `aria-...` as attributes) and children. */
export function element(tag, properties = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
        if (typeof value === "function") made.addEventListener(name, value);
        else if (value !== undefined) made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
}

/** The tags and attributes that an answer may have: whatever the parser returns, nothing else reaches the page. */
const TAGS = new Set(
    "p h1 h2 h3 h4 h5 h6 hr blockquote pre code ul ol li table thead tbody tr th td em strong del a br".split(" "),
);
const ATTRIBUTES = new Set(["href", "rel", "target", "start"]);

function rendered(node) {
    if (typeof node === "string") return document.createTextNode(node);
    if (!TAGS.has(node.tag)) throw new Error(`expected an element that answers may have, found ${node.tag}`);
    // The page itself has the headings of the first three levels.
    const heading = /^h([1-6])$/.exec(node.tag);
    const made = document.createElement(heading ? `h${Math.min(6, Number(heading[1]) + 3)}` : node.tag);
    for (const [name, value] of Object.entries(node.attributes ?? {})) {
        if (ATTRIBUTES.has(name)) made.setAttribute(name, value);
    }
    if (node.tag === "th") made.scope = "col";
    made.append(...node.children.map(rendered));
    if (node.tag === "table") return element("div", { class: "wide", tabindex: "0", role: "group", "aria-label": "Table" }, made);
    if (node.tag === "pre") return codeBlock(made, node);
    return made;
}

function codeBlock(pre, { children, attributes }) {
    const text = children[0].children.join("");
    const name = element("span", {}, attributes?.language ?? "");
    return element("div", { class: "code" }, element("div", { class: "code-head" }, name, copyButton(() => text, "Copy code")), pre);
}

/** A button that copies a text, and says that it did. */
export function copyButton(text, name) {
    return element("button", {
        type: "button",
        async click({ currentTarget }) {
            let said = "Copied";
            try {
                await navigator.clipboard.writeText(text());
            } catch {
                said = "Not copied: the browser did not allow it";
            }
            const label = currentTarget.getAttribute("aria-label");
            const show = (text, spoken) => {
                currentTarget.textContent = text;
                if (label !== null) currentTarget.setAttribute("aria-label", spoken);
            };
            show(said, said);
            announce(said);
            setTimeout(() => show(name, label), 2000);
        },
    }, name);
}

/** Has screen readers read a sentence, once they are done with what they read. */
export function announce(sentence) {
    document.getElementById("status").textContent = sentence;
}

/** Shows Markdown that grows: blocks that stay the same keep their elements, and so a selection in them. */
export class MarkdownView {
    #shown = [];

    constructor(parent) {
        this.parent = parent;
    }

    set text(text) {
        const blocks = parse(text);
        const keys = blocks.map((block) => JSON.stringify(block));
        let same = 0;
        while (same < keys.length && keys[same] === this.#shown[same]) same += 1;
        while (this.parent.childNodes.length > same) this.parent.lastChild.remove();
        this.parent.append(...blocks.slice(same).map(rendered));
        this.#shown = keys;
    }
}
