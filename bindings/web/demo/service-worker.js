// Keeps the page and the package, so that the demo opens without a network. Models are in the package's own cache.
const CACHE = 'thimble-demo-1';
const VARIANTS = ['simd128', 'plain'];
const FILES = [
    './', './demo.css', './demo.js', './icon.svg', './manifest.webmanifest',
    ...['index', 'errors', 'cache', 'load', 'worker'].map((name) => `./package/js/${name}.js`),
    ...VARIANTS.map((name) => `./package/wasm/${name}/thimble_web.js`),
    './package/wasm/simd128/thimble_web_bg.wasm',
];

addEventListener('install', (event) => event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES))));

addEventListener('activate', (event) => {
    const old = async () => {
        for (const name of await caches.keys()) if (name.startsWith('thimble-demo-') && name !== CACHE) await caches.delete(name);
        await clients.claim();
    };
    event.waitUntil(old());
});

// The network first: a new version shows at once. The cache where there is none.
addEventListener('fetch', (event) => {
    if (event.request.method !== 'GET' || event.request.headers.has('Range') || /\.thimble$/.test(new URL(event.request.url).pathname)) return;
    const answer = async () => {
        const cache = await caches.open(CACHE);
        try {
            const response = await fetch(event.request);
            if (response.ok && (await cache.match(event.request))) await cache.put(event.request, response.clone());
            return response;
        } catch (error) {
            const kept = await cache.match(event.request, { ignoreSearch: true });
            if (kept) return kept;
            throw error;
        }
    };
    event.respondWith(answer());
});
