// The Markdown of the page: what an answer's text becomes, hostile text included.

import assert from "node:assert/strict";
import test from "node:test";
import { parse, safeAddress } from "../../runtime/serve/page/markdown.js";

/** A tree as a short text: tags in angle brackets. */
const short = (nodes) =>
    nodes.map((node) => (typeof node === "string" ? node : `<${node.tag}>${short(node.children)}</${node.tag}>`)).join("");
const cases = (table) => {
    for (const [text, expected] of table) assert.equal(short(parse(text)), expected, JSON.stringify(text));
};

test("paragraphs, headings, rules", () =>
    cases([
        ["", ""],
        ["one\ntwo\n\nthree", "<p>one<br></br>two</p><p>three</p>"],
        ["# A\n### B ###\n#no", "<h1>A</h1><h3>B</h3><p>#no</p>"],
        ["a\n***\nb", "<p>a</p><hr></hr><p>b</p>"],
        ["> a\n> > b\nc", "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote><p>c</p>"],
        ["a\r\n\r\nb", "<p>a</p><p>b</p>"],
    ]));

test("emphasis and code", () =>
    cases([
        ["*a* **b** ***c*** _d_ __e__ ~~f~~", "<p><em>a</em> <strong>b</strong> <em><strong>c</strong></em> <em>d</em> <strong>e</strong> <del>f</del></p>"],
        ["2 * 3 * 4, snake_case_name", "<p>2 * 3 * 4, snake_case_name</p>"],
        ["**a *b* c**", "<p><strong>a <em>b</em> c</strong></p>"],
        ["**open", "<p>**open</p>"],
        ["*a **b** c*", "<p><em>a <strong>b</strong> c</em></p>"],
        ["`*a*` ``b`c``", "<p><code>*a*</code> <code>b`c</code></p>"],
        ["\\*a\\*", "<p>*a*</p>"],
        ["`open", "<p>`open</p>"],
    ]));

test("lists", () =>
    cases([
        ["- a\n- b", "<ul><li>a</li><li>b</li></ul>"],
        ["1. a\n2. b", "<ol><li>a</li><li>b</li></ol>"],
        ["- a\n  - b\n    - c\n- d", "<ul><li>a<ul><li>b<ul><li>c</li></ul></li></ul></li><li>d</li></ul>"],
        ["1. a\n  - b\n2. c", "<ol><li>a<ul><li>b</li></ul></li><li>c</li></ol>"],
        ["- a\n\n- b\n\nc", "<ul><li>a</li><li>b</li></ul><p>c</p>"],
        ["- a\nb", "<ul><li>a<br></br>b</li></ul>"],
        ["- a\n  ```\n  x\n  ```", "<ul><li>a<pre><code>x</code></pre></li></ul>"],
        ["text:\n* a", "<p>text:</p><ul><li>a</li></ul>"],
    ]));

test("an ordered list starts at its number", () => assert.deepEqual(parse("3. a")[0].attributes, { start: "3" }));

test("code blocks, also while they are written", () => {
    cases([
        ["```rust\nlet *a*;\n```\nb", "<pre><code>let *a*;</code></pre><p>b</p>"],
        ["```\nopen", "<pre><code>open</code></pre>"],
        ["~~~~\n```\n~~~~", "<pre><code>```</code></pre>"],
    ]);
    assert.deepEqual(parse("```rust title\na\n```")[0].attributes, { language: "rust" });
});

test("tables", () =>
    cases([
        [
            "| a | b |\n|---|:-:|\n| 1 | *2* |",
            "<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td><em>2</em></td></tr></tbody></table>",
        ],
        ["a | b", "<p>a | b</p>"],
    ]));

test("HTML is text", () => cases([["<b>a</b><script>x</script>", "<p><b>a</b><script>x</script></p>"]]));

test("links lead to web addresses only", () => {
    assert.deepEqual(parse("[a](https://e.org/x)")[0].children[0], {
        tag: "a",
        children: ["a"],
        attributes: { href: "https://e.org/x", rel: "noopener noreferrer", target: "_blank" },
    });
    for (const address of ["javascript:x", "data:text/html,x", " javascript:x", "JaVaScRiPt:x", "//e.org", "vbscript:x", "file:///x"]) {
        assert.equal(safeAddress(address), null, address);
        assert.ok(!JSON.stringify(parse(`[a](${address})`)).includes('"a","children"'), address);
    }
    cases([
        ["see https://e.org/a(b).", "<p>see <a>https://e.org/a(b)</a>.</p>"],
        ["![p](https://e.org/p.png)", "<p><a>p</a></p>"],
        ["[not](", "<p>[not](</p>"],
    ]);
});

test("no text takes long or nests without end", () => {
    const depth = (nodes) => Math.max(0, ...nodes.map((node) => (typeof node === "string" ? 0 : 1 + depth(node.children))));
    for (const piece of ["*", "**a ", "_a ", "[", "[a](", "`", "``a", "> ", "- ", "* a **b ", "1. ", "| a ", "![", "~~a", "<", "\n- ", "\n\n", "h", "\\"]) {
        const text = piece.repeat(4000);
        assert.ok(depth(parse(text)) < 40, JSON.stringify(piece));
        assert.ok(depth(parse(`a ${text} b`)) < 40, JSON.stringify(piece));
    }
});

test("text that is cut anywhere parses", () => {
    const text = "# a\n\n1. **b**\n   - `c`\n\n```js\nd\n```\n\n| e | f |\n|---|---|\n| [g](https://e.org) | ~~h~~ |\n\n> i";
    for (let end = 0; end <= text.length; end += 1) assert.ok(Array.isArray(parse(text.slice(0, end))));
});
