// Drives the package in Chromium: `node chat.mjs MODEL`, with playwright-core to be found beside this folder, and
// CHROMIUM or /usr/bin/chromium. THIMBLE names the native command, which answers the same questions.
import { execFileSync } from 'node:child_process';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { chromium } from 'playwright-core';
import { serve } from './server.mjs';

const here = import.meta.dirname;
const model = path.resolve(process.argv[2] ?? 'model.thimble');
const native = process.env.THIMBLE;
const files = fs.mkdtempSync(path.join(os.tmpdir(), 'thimble-web-'));
const question = 'Describe the sea in three sentences.';
const greedy = { maxTokens: 64, sampling: { temperature: 0, repetitionPenalty: 1 } };

const server = await serve([['/demo/package/', path.join(here, '..')], ['/demo/', path.join(here, '../demo')], ['/package/', path.join(here, '..')], ['/models/', path.dirname(model)], ['/files/', files], ['/', here]]);
const url = `${server.origin}/models/${path.basename(model)}`;
const context = await chromium.launchPersistentContext(path.join(files, 'profile'), {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: ['--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});

async function page() {
    const page = await context.newPage();
    page.on('pageerror', (error) => console.error('page:', error.message));
    await page.goto(`${server.origin}/page.html`);
    await page.waitForFunction(() => window.ready);
    return page;
}

/** Opens the model in a page as `window.model`, and says how it was loaded. */
const open = (page, source, options = {}) =>
    page.evaluate(async ([source, options]) => {
        const loads = [];
        const notices = [];
        window.model = await thimble.Model.open(source, {
            ...options,
            onProgress: ({ from, cached }) => loads.push(`${from}${cached ? '' : ', not kept'}`),
            onNotice: (notice) => notices.push(notice),
        });
        return { from: [...new Set(loads)], notices, info: window.model.info };
    }, [source, options]);

const ask = (page, text, options) =>
    page.evaluate(async ([text, options]) => {
        const chat = window.model.chat(options);
        const said = await answer(chat, text);
        return { said, ...chat.reply };
    }, [text, options]);

/** The code of the error that opening a source ends with. */
const refusal = (page, source) =>
    page.evaluate((source) => thimble.Model.open(source).then(() => 'opened', (error) => `${error.name} ${error.code}`), source);

function nativeAnswer(...flags) {
    const options = ['--temperature', '0', '--repetition-penalty', '1', '--max-tokens', '64', '--threads', '1'];
    return execFileSync(native, ['chat', model, ...options, ...flags], { input: question, encoding: 'utf8', stdio: ['pipe', 'pipe', 'ignore'] }).trim();
}

const tests = {
    async 'a model is downloaded, and answers as the native command does'() {
        const first = await page();
        const { from, info } = await open(first, url);
        assert.deepEqual(from, ['network']);
        assert.equal(info.kernels, 'simd128');
        const reply = await ask(first, question, greedy);
        assert.equal(reply.said, reply.text);
        console.log(`    ${reply.tokens} tokens: ${(reply.tokens / reply.seconds).toFixed(1)} tokens/s; prompt ${(reply.promptTokens / reply.promptSeconds).toFixed(1)} tokens/s`);
        if (native) assert.equal(reply.text.trim(), nativeAnswer());
        await first.evaluate(() => window.model.dispose());
        await open(first, url, { exact: true });
        const exact = await ask(first, question, greedy);
        if (native) assert.equal(exact.text.trim(), nativeAnswer('--exact'));
        await first.close();
    },

    async 'after a reload the model comes from the cache, and from there without a network'() {
        const second = await page();
        await open(second, url);
        const before = server.requests.length;
        await second.reload();
        await second.waitForFunction(() => window.ready);
        const { from } = await open(second, url);
        assert.deepEqual(from, ['cache']);
        assert.ok(!server.requests.slice(before).some(({ path }) => path.startsWith('/models/')));
        assert.equal((await second.evaluate(() => thimble.Model.cached())).length, 1);
        await second.close();
    },

    async 'an aborted answer ends at once and is remembered'() {
        const third = await page();
        await open(third, url);
        const outcome = await third.evaluate(async (options) => {
            const chat = model.chat({ ...options, maxTokens: 1500 });
            const controller = new AbortController();
            let pieces = 0;
            let failure;
            try {
                for await (const piece of chat.send('Count from one to one hundred.', { signal: controller.signal })) {
                    pieces += 1;
                    if (pieces === 3) controller.abort();
                }
            } catch (error) {
                failure = error.name;
            }
            const { tokens, finish } = chat.reply;
            await answer(chat, 'Go on.');
            return { failure, tokens, finish, turns: chat.turns.length, after: chat.reply.tokens };
        }, greedy);
        assert.equal(outcome.failure, 'AbortError');
        assert.equal(outcome.finish, 'cancelled');
        // A tiny model answers with a thousand tokens per second.
        assert.ok(outcome.tokens < 1500, `${outcome.tokens} tokens`);
        assert.equal(outcome.turns, 2);
        assert.ok(outcome.after > 0);
        await third.close();
    },

    async 'a killed worker ends its call with an error, and the chat goes on in another'() {
        const fourth = await page();
        await open(fourth, url);
        // Long answers: a tiny model would be ready before its worker is ended.
        await fourth.evaluate((options) => (window.chat = model.chat({ ...options, maxTokens: 1500 })), greedy);
        await fourth.evaluate(async (text) => {
            const controller = new AbortController();
            try {
                for await (const _ of chat.send(text, { signal: controller.signal })) controller.abort();
            } catch {
                // It was remembered as far as it came.
            }
        }, question);
        const worker = fourth.workers()[0];
        const failed = fourth.evaluate(() => answer(chat, 'Tell a long story.').then(() => 'answered', (error) => error.code));
        await worker.evaluate(() => self.close());
        assert.equal(await failed, 'WorkerLost');
        const said = await fourth.evaluate(() => answer(chat, 'What did I ask about?'));
        assert.ok(said.length > 0);
        assert.equal(await fourth.evaluate(() => chat.turns.length), 2);
        await fourth.close();
    },

    async 'two tabs download once'() {
        const [one, two] = [await page(), await page()];
        fs.copyFileSync(model, path.join(files, 'two.thimble'));
        const shared = `${server.origin}/files/two.thimble`;
        const loads = await Promise.all([open(one, shared), open(two, shared)]);
        assert.deepEqual(loads.map(({ from }) => from[0]).sort(), ['cache', 'network']);
        assert.equal(server.requests.filter(({ path }) => path === '/files/two.thimble').length, 1);
        await Promise.all([one.close(), two.close()]);
    },

    async 'a broken download goes on where it ended'() {
        const fifth = await page();
        const drop = Math.ceil(fs.statSync(model).size / 3);
        const before = server.requests.length;
        await open(fifth, `${url}?drop=${drop}`);
        const ranges = server.requests.slice(before).filter(({ path }) => path.startsWith('/models/')).map(({ range }) => range);
        assert.equal(ranges[0], undefined);
        assert.ok(ranges.length >= 3 && ranges.slice(1).every((range) => /^bytes=[1-9]\d*-$/.test(range)), `${ranges}`);
        assert.ok((await ask(fifth, question, greedy)).tokens > 0);
        await fifth.close();
    },

    async 'a damaged file in the cache is downloaded again'() {
        const sixth = await page();
        await sixth.evaluate(async (url) => {
            const { name } = (await thimble.Model.cached()).find((file) => file.url === url);
            const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle('thimble');
            const writable = await (await folder.getFileHandle(name)).createWritable({ keepExistingData: true });
            await writable.write({ type: 'write', position: 100_000, data: new Uint8Array(64).fill(255) });
            await writable.close();
        }, url);
        const { from, notices } = await open(sixth, url);
        assert.deepEqual(from, ['cache', 'network']);
        assert.match(notices[0], /damaged/);
        await sixth.close();
    },

    async 'without room for the file the model works and says that it is not kept'() {
        const seventh = await page();
        const session = await context.newCDPSession(seventh);
        await seventh.evaluate(async () => { for (const { name } of await thimble.Model.cached()) await thimble.Model.delete(name); });
        await session.send('Storage.overrideQuotaForOrigin', { origin: server.origin, quotaSize: Math.floor(fs.statSync(model).size / 2) });
        const { notices } = await open(seventh, url);
        assert.match(notices[0], /not kept/);
        assert.ok((await ask(seventh, question, greedy)).tokens > 0);
        assert.deepEqual(await seventh.evaluate(() => thimble.Model.cached()), []);
        await session.send('Storage.overrideQuotaForOrigin', { origin: server.origin });
        await seventh.close();
    },

    async 'the demo answers, on a phone and in the dark, and opens without a network'() {
        const demo = await context.newPage();
        await demo.setViewportSize({ width: 390, height: 780 });
        await demo.emulateMedia({ colorScheme: 'dark' });
        await demo.goto(`${server.origin}/demo/`);
        await demo.evaluate(() => navigator.serviceWorker.ready);
        await demo.reload();
        await demo.waitForFunction(() => navigator.serviceWorker.controller);
        const chat = async () => {
            // At the model's own temperature a tiny model may draw the end of its answer first.
            await demo.evaluate(() => (document.querySelector('[name=temperature]').value = '0'));
            await demo.fill('#address', url);
            await demo.keyboard.press('Enter');
            await demo.waitForFunction(() => !document.getElementById('send').disabled, null, { timeout: 60_000 });
            await demo.fill('#text', 'Say hello.');
            await demo.keyboard.press('Enter');
            await demo.waitForFunction(() => /answer \d+ tokens/.test(document.getElementById('figures').textContent), null, { timeout: 60_000 });
            return demo.locator('#log .model').textContent();
        };
        assert.ok((await chat()).length > 0);
        const width = await demo.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(width <= 390, `the page is ${width} pixels wide`);
        if (process.env.SCREENSHOTS) await demo.screenshot({ path: path.join(process.env.SCREENSHOTS, 'phone-dark.png') });
        await context.setOffline(true);
        try {
            await demo.reload();
            assert.ok((await chat()).length > 0);
        } finally {
            await context.setOffline(false);
        }
        if (process.env.SCREENSHOTS) {
            await demo.setViewportSize({ width: 1000, height: 760 });
            await demo.emulateMedia({ colorScheme: 'light' });
            await demo.screenshot({ path: path.join(process.env.SCREENSHOTS, 'desktop.png') });
        }
        await demo.close();
    },

    async 'what is no model is refused by name'() {
        const last = await page();
        fs.writeFileSync(path.join(files, 'text.thimble'), 'no model at all'.repeat(100));
        fs.writeFileSync(path.join(files, 'cut.thimble'), fs.readFileSync(model).subarray(0, 200_000));
        assert.equal(await refusal(last, `${server.origin}/files/text.thimble`), 'NotAModelError NotAModel');
        assert.equal(await refusal(last, `${server.origin}/files/cut.thimble`), 'DamagedError Damaged');
        assert.equal(await refusal(last, `${server.origin}/files/missing.thimble`), 'NotFoundError NotFound');
        await last.close();
    },
};

let failures = 0;
for (const [name, test] of Object.entries(tests)) {
    if (process.argv[3] && !name.includes(process.argv[3])) continue;
    const start = performance.now();
    try {
        await test();
        console.log(`ok: ${name} (${((performance.now() - start) / 1e3).toFixed(1)} s)`);
    } catch (error) {
        failures += 1;
        console.error(`FAILED: ${name}\n${error.stack}`);
    }
}
await context.close();
server.close();
fs.rmSync(files, { recursive: true, force: true });
process.exitCode = failures > 0 ? 1 : 0;
