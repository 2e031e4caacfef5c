// Installs the package that `npm pack` makes into a new project, and chats in a page that Vite bundled and in a plain one:
// `node installed.mjs MODEL`.
import { execFileSync } from 'node:child_process';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { chromium } from 'playwright-core';
import { serve } from './server.mjs';

const here = import.meta.dirname;
const project = fs.mkdtempSync(path.join(os.tmpdir(), 'thimble-installed-'));
const npm = (folder, ...args) => execFileSync('npm', args, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });

fs.cpSync(path.join(here, 'installed'), project, { recursive: true });
fs.writeFileSync(path.join(project, 'package.json'), JSON.stringify({ name: 'fresh', private: true, type: 'module' }));
const packed = npm(path.join(here, '..'), 'pack', '--silent', '--pack-destination', project).trim();
npm(project, 'install', '--silent', path.join(project, packed), 'vite');
npm(project, 'exec', '--', 'vite', 'build', '--logLevel', 'warn', '--target', 'esnext');
for (const folder of [project, path.join(project, 'dist')]) fs.copyFileSync(process.argv[2], path.join(folder, 'model.thimble'));

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
try {
    for (const [name, folder, address] of [['Vite', path.join(project, 'dist'), '/'], ['plain', project, '/plain.html']]) {
        const server = await serve([['/', folder]]);
        const page = await browser.newPage();
        page.on('pageerror', (error) => console.error(`${name}:`, error.message));
        await page.goto(server.origin + address);
        await page.waitForFunction(() => document.title === 'done', null, { timeout: 120_000 });
        assert.ok((await page.textContent('body')).trim().length > 0);
        console.log(`ok: ${name}`);
        await page.close();
        server.close();
    }
} finally {
    await browser.close();
    fs.rmSync(project, { recursive: true, force: true });
}
