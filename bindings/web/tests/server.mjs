// A static server for the tests, with faults on demand: ?drop=BYTES ends a response there, each time by as much later.
import http from 'node:http';
import fs from 'node:fs';
import path from 'node:path';

const TYPES = {
    '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.json': 'application/json',
    '.wasm': 'application/wasm', '.svg': 'image/svg+xml', '.webmanifest': 'application/manifest+json',
};

/** Serves `roots`, `[prefix, folder]` pairs; `requests` has each request's path and range. */
export async function serve(roots) {
    const requests = [];
    const server = http.createServer((request, response) => {
        const url = new URL(request.url, 'http://localhost');
        requests.push({ path: url.pathname, range: request.headers.range });
        const [prefix, root] = roots.find(([prefix]) => url.pathname.startsWith(prefix)) ?? [];
        let file = root && path.join(root, path.normalize(decodeURIComponent(url.pathname.slice(prefix.length))));
        if (file && fs.existsSync(file) && fs.statSync(file).isDirectory()) file = path.join(file, 'index.html');
        if (!file || !fs.existsSync(file)) return response.writeHead(404).end();
        const { size, mtimeMs } = fs.statSync(file);
        const from = Number(request.headers.range?.match(/bytes=(\d+)-/)?.[1] ?? 0);
        const headers = {
            'Content-Type': TYPES[path.extname(file)] ?? 'application/octet-stream',
            'Content-Length': size - from,
            ETag: `"${size}-${mtimeMs}"`,
        };
        if (from >= size && size > 0) return response.writeHead(416).end();
        if (request.headers.range) headers['Content-Range'] = `bytes ${from}-${size - 1}/${size}`;
        response.writeHead(request.headers.range ? 206 : 200, headers);
        const drop = Number(url.searchParams.get('drop') ?? 0);
        const stream = fs.createReadStream(file, { start: from, end: drop ? Math.min(from + drop, size) - 1 : size - 1 });
        stream.on('end', () => drop && from + drop < size && setTimeout(() => response.destroy(), 50));
        stream.pipe(response, { end: !drop || from + drop >= size });
    });
    await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
    return { origin: `http://localhost:${server.address().port}`, requests, close: () => server.close() };
}
