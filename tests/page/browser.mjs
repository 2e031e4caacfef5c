// A page in Chromium for the tests: what must never happen on it is collected and checked when it closes.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SCREENSHOTS = new URL("screenshots/", import.meta.url);
mkdirSync(SCREENSHOTS, { recursive: true });

/** A browser; CHROMIUM names its program. */
export function launch() {
    // As root, which the gate is, Chromium has no sandbox.
    return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
}

/** Opens the page of a server in a fresh profile; `expected` are texts that the console may have. */
export async function open(browser, url, { width = 1280, height = 800, dark = false, expected = [] } = {}) {
    const colorScheme = dark ? "dark" : "light";
    const context = await browser.newContext({ viewport: { width, height }, colorScheme, acceptDownloads: true, reducedMotion: "reduce" });
    await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: url });
    const page = await context.newPage();
    const faults = [];
    page.on("pageerror", (error) => faults.push(`error: ${error.stack}`));
    page.on("console", (message) => {
        const text = message.text();
        if (["error", "warning"].includes(message.type()) && !expected.some((part) => text.includes(part))) faults.push(text);
    });
    page.on("request", (request) => {
        if (!request.url().startsWith(url) && !request.url().startsWith("blob:")) faults.push(`a request to ${request.url()}`);
    });
    await page.addInitScript(() => {
        globalThis.violations = [];
        document.addEventListener("securitypolicyviolation", (event) => globalThis.violations.push(`${event.violatedDirective}: ${event.blockedURI}`));
    });
    await page.goto(url);
    await page.locator("#model:not(:empty), #error:not(:empty)").first().waitFor();
    const close = async () => {
        assert.deepEqual(await page.evaluate(() => globalThis.violations), [], "violations of the content security policy");
        assert.deepEqual(faults, [], "errors on the page");
        await context.close();
    };
    return { page, close };
}

/** Checks what a machine can check of the Web Content Accessibility Guidelines (AA), and that nothing is cut off. */
export async function accessible(page, what) {
    await page.evaluate(AXE);
    const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
    const { violations } = await page.evaluate((values) => globalThis.axe.run(document, { runOnly: { type: "tag", values } }), tags);
    const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html} ${node.failureSummary}`).join("; ")}`);
    assert.deepEqual(found, [], `${what}: accessibility`);
    const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wider <= 0, `${what}: the page is ${wider} px wider than its window`);
}

export async function screenshot(page, name) {
    await page.screenshot({ path: new URL(`${name}.png`, SCREENSHOTS).pathname });
}

/** Sends a message by keyboard and waits for the end of the answer. */
export async function ask(page, text) {
    await page.locator("#message").fill(text);
    await page.locator("#message").press("Enter");
    await page.locator("#stop").waitFor({ state: "hidden", timeout: 120_000 });
}

/** What has the focus: its id, or its accessible name. */
export function focused(page) {
    return page.evaluate(() => document.activeElement.id || document.activeElement.getAttribute("aria-label") || document.activeElement.textContent);
}
