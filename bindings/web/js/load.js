// Brings a model file into the module's memory: from a Blob, the cache, or a server.
import { CachedFile, nameOf } from './cache.js';
import { errorOf } from './errors.js';

/** Most bytes of a file: with 32-bit memory, file and inference memory have to fit 4 GiB. */
const LARGEST = 2 ** 31;
/** Bytes read from the cache at a time. */
const PIECE = 1 << 22;
/** How often a broken download goes on before the error is the page's. */
const RETRIES = 4;

function checkSize(bytes) {
    if (bytes > LARGEST) {
        throw errorOf('TooLarge', `the file has ${bytes} bytes; a page can load ${LARGEST}: use a smaller model`);
    }
}

/** Reads a Blob or File. `reserve(bytes)` returns the place: `write(piece, at)`. */
export async function fromBlob(blob, reserve, { signal, onProgress }) {
    checkSize(blob.size);
    const place = reserve(blob.size);
    let loaded = 0;
    for (const reader = blob.stream().getReader(); ; ) {
        signal.throwIfAborted();
        const { done, value } = await reader.read();
        if (done) break;
        place.write(value, loaded);
        loaded += value.length;
        onProgress({ loaded, total: blob.size, from: 'file', cached: false });
    }
    return place;
}

/** Reads a URL through the cache. One tab downloads; others wait for it and read the cache. */
export function fromUrl(url, reserve, options) {
    const download = async () => {
        const file = await CachedFile.open(url);
        try {
            if (file?.isComplete) return { place: fromCache(file, reserve, options), fromCache: true };
            return { place: await fromServer(url, file, reserve, options), fromCache: false };
        } finally {
            file?.access.close();
        }
    };
    if (!navigator.locks) return download();
    return navigator.locks.request(`thimble ${nameOf(url)}`, { signal: options.signal }, download);
}

function fromCache(file, reserve, { signal, onProgress }) {
    const total = file.bytes;
    const place = reserve(total);
    for (let at = 0; at < total; at += PIECE) {
        signal.throwIfAborted();
        const length = Math.min(PIECE, total - at);
        // Straight into the module's memory: nothing is copied twice.
        file.access.read(place.view(at, length), { at });
        onProgress({ loaded: at + length, total, from: 'cache', cached: true });
    }
    return place;
}

/** The response from byte `at` on. */
async function request(url, at, tag, signal) {
    const headers = at > 0 ? { Range: `bytes=${at}-`, ...(tag && { 'If-Range': tag }) } : {};
    const response = await fetch(url, { headers, signal, cache: 'no-store' });
    if (response.status === 404) throw errorOf('NotFound', `there is no file ${url}; check the address`);
    if (!response.ok && response.status !== 416) throw errorOf('Download', `${url} answered ${response.status}, expected 200 or 206`);
    return response;
}

function totalOf(response, url) {
    const range = response.headers.get('Content-Range')?.match(/\/(\d+)$/);
    const total = Number(range?.[1] ?? response.headers.get('Content-Length'));
    if (!total) {
        throw errorOf('Download', `${url} has no Content-Length: let the server send the file's size, uncompressed`);
    }
    checkSize(total);
    return total;
}

async function fromServer(url, file, reserve, { signal, onProgress, onNotice }) {
    let place = null;
    let total = 0;
    let tag = file?.description?.tag ?? null;
    // Without a tag nothing tells whether the rest belongs to what is there.
    let loaded = tag ? file.bytes : 0;
    let store = file;
    const keep = async (action) => {
        if (!store) return;
        try {
            await action(store);
        } catch (error) {
            store = null;
            await file.discard().catch(() => {});
            onNotice(`the model is not kept for the next visit: ${error.message}`);
        }
    };
    for (let failures = 0; ; ) {
        try {
            let response = await request(url, loaded, tag, signal);
            // Nothing is left from there on: the description was not written in time, or the file has become shorter.
            if (response.status === 416) response = await request(url, (loaded = 0), tag, signal);
            if (response.status !== 206) loaded = 0;
            const found = totalOf(response, url);
            if (place && found !== total) throw errorOf('Download', `${url} changed while it was downloaded: open it again`);
            total = found;
            tag = response.headers.get('ETag') ?? response.headers.get('Last-Modified');
            if (!place) {
                place = reserve(total);
                if (loaded > 0) store.access.read(place.view(0, loaded), { at: 0 });
            }
            await keep((store) => store.describe({ tag, bytes: total, complete: false }));
            for (const reader = response.body.getReader(); loaded < total; ) {
                const { done, value } = await reader.read();
                if (done) throw new TypeError('the connection ended early');
                if (loaded + value.length > total) throw errorOf('Download', `${url} is longer than its Content-Length`);
                place.write(value, loaded);
                await keep((store) => store.write(value, loaded));
                loaded += value.length;
                failures = 0;
                onProgress({ loaded, total, from: 'network', cached: Boolean(store) });
            }
            await keep((store) => {
                store.access.flush();
                return store.describe({ tag, bytes: total, complete: true });
            });
            return place;
        } catch (error) {
            signal.throwIfAborted();
            if (error.code && typeof error.code === 'string') throw error;
            failures += 1;
            if (failures > RETRIES) {
                throw errorOf('Download', `${url} was not downloaded (${error.message}); the next attempt goes on at byte ${loaded}`);
            }
            await new Promise((resolve) => setTimeout(resolve, 250 * failures));
        }
    }
}
