/**
 * Markdown as language models write it, parsed to a tree: a string is text, an object an element.
 * What it does not know stays text, HTML included. Time is linear in the length, nesting is bounded.
 *
 * @typedef {string | {tag: string, children: Node[], attributes?: Object<string, string>}} Node
 */

/** Deeper nesting is text. */
const MOST_NESTING = 8;

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)(?:\s+#+)?\s*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])(\s+|$)(.*)$/;
const TABLE_RULE = /^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;

const element = (tag, children, attributes) => ({ tag, children, ...(attributes && { attributes }) });

/** The blocks of a text. @returns {Node[]} */
export function parse(text) {
    return blocks(text.replace(/\r\n?/g, "\n").replace(/\t/g, "    ").split("\n"), 0);
}

function blocks(lines, depth) {
    if (depth > MOST_NESTING) return [element("p", [lines.join("\n")])];
    const found = [];
    let at = 0;
    while (at < lines.length) {
        const line = lines[at];
        let match;
        if (line.trim() === "") {
            at += 1;
        } else if ((match = FENCE.exec(line))) {
            at = code(lines, at, match, found);
        } else if ((match = HEADING.exec(line))) {
            found.push(element(`h${match[1].length}`, inline(match[2], depth)));
            at += 1;
        } else if (RULE.test(line)) {
            found.push(element("hr", []));
            at += 1;
        } else if (QUOTE.test(line)) {
            const start = at;
            while (at < lines.length && QUOTE.test(lines[at])) at += 1;
            const inner = lines.slice(start, at).map((quoted) => quoted.replace(QUOTE, ""));
            found.push(element("blockquote", blocks(inner, depth + 1)));
        } else if (ITEM.test(line)) {
            at = list(lines, at, depth, found);
        } else if (line.includes("|") && at + 1 < lines.length && isTableRule(lines[at + 1])) {
            at = table(lines, at, depth, found);
        } else {
            const start = at;
            do at += 1;
            while (at < lines.length && continuesParagraph(lines[at]));
            const joined = lines.slice(start, at).map((part) => part.trimStart()).join("\n");
            found.push(element("p", inline(joined.trimEnd(), depth)));
        }
    }
    return found;
}

const isTableRule = (line) => line.includes("|") && TABLE_RULE.test(line);

function continuesParagraph(line) {
    return line.trim() !== "" && ![FENCE, HEADING, RULE, QUOTE, ITEM].some((start) => start.test(line));
}

/** A block between fences; an open one, as while it is written, goes to the end. */
function code(lines, start, [, fence, info], found) {
    let end = start + 1;
    const closes = (line) => {
        const bare = line.trim();
        return bare.length >= fence.length && bare === fence[0].repeat(bare.length);
    };
    while (end < lines.length && !closes(lines[end])) end += 1;
    const language = info.trim().split(/\s/)[0];
    const text = lines.slice(start + 1, end).join("\n");
    found.push(element("pre", [element("code", [text])], language ? { language } : undefined));
    return end + 1;
}

function list(lines, start, depth, found) {
    const [, , first] = ITEM.exec(lines[start]);
    const ordered = /\d/.test(first);
    const kind = first.at(-1);
    const items = [];
    let at = start;
    let match;
    while (at < lines.length && (match = ITEM.exec(lines[at])) && match[2].at(-1) === kind && !RULE.test(lines[at])) {
        const indent = match[1].length;
        const inner = [match[4]];
        let content = indent + match[2].length + Math.max(1, Math.min(match[3].length, 4));
        at += 1;
        while (at < lines.length) {
            const line = lines[at];
            const space = line.length - line.trimStart().length;
            if (line.trim() === "") {
                // A blank line belongs to the item only if the item goes on behind it.
                const next = lines.slice(at).find((later) => later.trim() !== "");
                if (next === undefined || next.length - next.trimStart().length <= indent) break;
            } else if (space <= indent && (ITEM.test(line) || !continuesParagraph(line) || inner.at(-1).trim() === "")) {
                break;
            } else if (space > indent && space < content && ITEM.test(line)) {
                // Many models indent nested lists by two, whatever the width of the mark.
                content = space;
            }
            inner.push(line.slice(Math.min(space, content)));
            at += 1;
        }
        let children = blocks(inner, depth + 1);
        if (typeof children[0] === "object" && children[0].tag === "p" && children.slice(1).every((child) => child.tag !== "p")) {
            children = [...children[0].children, ...children.slice(1)];
        }
        items.push(element("li", children));
        // Blank lines between items.
        let next = at;
        while (next < lines.length && lines[next].trim() === "") next += 1;
        if (next < lines.length && ITEM.test(lines[next])) at = next;
    }
    const number = Number.parseInt(first, 10);
    found.push(element(ordered ? "ol" : "ul", items, ordered && number !== 1 ? { start: String(number) } : undefined));
    return at;
}

function table(lines, start, depth, found) {
    const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|");
    const row = (line, tag) => element("tr", cells(line).map((cell) => element(tag, inline(cell.trim(), depth))));
    const head = element("thead", [row(lines[start], "th")]);
    let at = start + 2;
    const rows = [];
    while (at < lines.length && lines[at].includes("|")) rows.push(row(lines[at++], "td"));
    found.push(element("table", [head, element("tbody", rows)]));
    return at;
}

const MARKS = ["***", "**", "*", "___", "__", "_", "~~"];
const TAGS = { "*": "em", _: "em", "**": "strong", __: "strong", "~~": "del" };
const SPECIAL = /[\\`*_~[\]!h\n]/g;
const WORD = /[\p{L}\p{N}]/u;

/** The text of a paragraph. @returns {Node[]} */
function inline(text, depth) {
    if (depth > MOST_NESTING) return [text];
    const found = [];
    // Marks that have no end from some place on have none further on: this keeps the time linear.
    const without = new Set();
    let plain = "";
    let at = 0;
    const push = (node) => {
        if (plain !== "") found.push(plain);
        plain = "";
        found.push(node);
    };
    while (at < text.length) {
        SPECIAL.lastIndex = at;
        const next = SPECIAL.exec(text)?.index ?? text.length;
        plain += text.slice(at, next);
        at = next;
        if (at >= text.length) break;
        const rest = special(text, at, depth, without);
        if (rest === null) {
            plain += text[at];
            at += 1;
        } else {
            if (typeof rest.node === "string") plain += rest.node;
            else push(rest.node);
            at = rest.end;
        }
    }
    if (plain !== "") found.push(plain);
    return found;
}

/** What begins at a special character, and where it ends; null if the character is text. */
function special(text, at, depth, without) {
    const here = text[at];
    if (here === "\\") return escape(text, at);
    if (here === "`") return codeSpan(text, at, without);
    if (here === "\n") return { node: element("br", []), end: at + 1 };
    if (here === "[") return link(text, at, depth, without);
    // A picture would be a request to somewhere: it becomes a link to it.
    if (here === "!" && text[at + 1] === "[") return link(text, at + 1, depth, without);
    if (here === "h") return bareLink(text, at);
    const mark = MARKS.find((candidate) => text.startsWith(candidate, at));
    return mark ? emphasis(text, at, mark, depth, without) : null;
}

function escape(text, at) {
    const next = text[at + 1];
    return next !== undefined && /[!-/:-@[-`{-~]/.test(next) ? { node: next, end: at + 2 } : null;
}

function codeSpan(text, at, without) {
    const ticks = /^`+/.exec(text.slice(at, at + 64))[0];
    if (without.has(ticks)) return { node: ticks, end: at + ticks.length };
    let end = at + ticks.length;
    for (;;) {
        end = text.indexOf(ticks, end);
        if (end < 0) {
            without.add(ticks);
            return { node: ticks, end: at + ticks.length };
        }
        let after = end + ticks.length;
        if (text[after] !== "`") break;
        while (text[after] === "`") after += 1;
        end = after;
    }
    const inner = text.slice(at + ticks.length, end).replace(/\n/g, " ");
    const trimmed = inner.startsWith(" ") && inner.endsWith(" ") && inner.trim() !== "" ? inner.slice(1, -1) : inner;
    return { node: element("code", [trimmed]), end: end + ticks.length };
}

/** The address if it is one that a page may link to; null otherwise, for instance for `javascript:`. */
export function safeAddress(address) {
    return /^(?:https?:\/\/|mailto:)[^\s<>"]+$/i.test(address) ? address : null;
}

function anchor(address, children) {
    return element("a", children, { href: address, rel: "noopener noreferrer", target: "_blank" });
}

function link(text, at, depth, without) {
    if (without.has("](")) return null;
    const middle = text.indexOf("](", at);
    if (middle < 0) without.add("](");
    // Long names of links are not worth their time.
    if (middle < 0 || middle - at > 500 || text.slice(at + 1, middle).includes("[")) return null;
    const end = text.slice(middle + 2, middle + 2050).search(/\)/);
    if (end < 0) return null;
    const [given] = text.slice(middle + 2, middle + 2 + end).trim().split(/\s/);
    const address = safeAddress(given.replace(/^<|>$/g, ""));
    if (address === null) return null;
    const name = text.slice(at + 1, middle);
    return { node: anchor(address, name ? inline(name, MOST_NESTING) : [address]), end: middle + 3 + end };
}

function bareLink(text, at) {
    if (at > 0 && WORD.test(text[at - 1])) return null;
    const found = /^https?:\/\/[^\s<>"`*[\]]{1,2000}/.exec(text.slice(at, at + 2100));
    if (!found) return null;
    // What ends a sentence is not part of the address.
    let address = found[0].replace(/[.,;:!?'_~]+$/, "");
    if (address.endsWith(")") && !address.includes("(")) address = address.slice(0, -1);
    return safeAddress(address) === null ? null : { node: anchor(address, [address]), end: at + address.length };
}

function emphasis(text, at, mark, depth, without) {
    const start = at + mark.length;
    const asText = { node: mark, end: start };
    const opens = start < text.length && !/\s/.test(text[start]) && !(mark[0] === "_" && at > 0 && WORD.test(text[at - 1]));
    if (!opens || without.has(mark)) return asText;
    let end = start;
    for (;;) {
        end = text.indexOf(mark, end + 1);
        if (end < 0) {
            without.add(mark);
            return asText;
        }
        let after = end;
        while (text[after] === mark[0]) after += 1;
        const run = after - end;
        const closes = !/[\s\\]/.test(text[end - 1]) && (run === mark.length || run === 3);
        if (!closes) {
            end = after - 1;
            continue;
        }
        // Of a run of three, the first ones end what is inside: "**a *b***".
        end = after - mark.length;
        if (mark[0] === "_" && text[end + mark.length] !== undefined && WORD.test(text[end + mark.length])) continue;
        break;
    }
    const inner = inline(text.slice(start, end), depth + 1);
    const node = mark.length === 3 ? element("em", [element("strong", inner)]) : element(TAGS[mark], inner);
    return { node, end: end + mark.length };
}
