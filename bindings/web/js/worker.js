// The module worker of a model: holds the WebAssembly module, one model and its chats.
import initPlain, * as plain from '../wasm/plain/thimble_web.js';
import initSimd, * as simd from '../wasm/simd128/thimble_web.js';
import { nameOf, remove } from './cache.js';
import { fromBlob, fromUrl } from './load.js';

/** Milliseconds of work between two looks at the messages: an answer is cancelled after that, or the token or 16 of the prompt at hand. */
const SLICE = 20;

/** A module with one function that uses a vector: valid where 128-bit vectors are. */
const VECTORS = new Uint8Array([
    0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
]);

let module;
let memory;
let engine;
/** Calls that can be cancelled, by id: an AbortController each. */
const running = new Map();

/** The next turn of the event loop, without the delay of timers. */
const breathe = (() => {
    const { port1, port2 } = new MessageChannel();
    const waiting = [];
    port1.onmessage = () => waiting.shift()();
    return () => new Promise((resolve) => waiting.push(resolve) && port2.postMessage(0));
})();

function reserve(bytes) {
    const file = new module.FileMemory(bytes);
    const address = file.address() >>> 0;
    // A view each time: memory that grows has a new buffer.
    const view = (at, length) => new Uint8Array(memory.buffer, address + at, length);
    return { file, view, write: (piece, at) => view(at, piece.length).set(piece) };
}

async function open({ source, options, lock }, id, signal) {
    // Held as long as this worker lives: the page notices its end by getting the lock.
    if (lock) await new Promise((held) => navigator.locks.request(lock, () => new Promise((_, never) => held(never))));
    const vectors = WebAssembly.validate(VECTORS);
    module = vectors ? simd : plain;
    ({ memory } = await (vectors ? initSimd : initPlain)());
    const hooks = {
        signal,
        onProgress: (progress) => postMessage({ id, progress }),
        onNotice: (notice) => postMessage({ id, notice }),
    };
    const start = (place) => module.WebEngine.open(place.file, JSON.stringify(options));
    if (typeof source !== 'string') {
        engine = start(await fromBlob(source, reserve, hooks));
    } else {
        let loaded = await fromUrl(source, reserve, hooks);
        try {
            engine = start(loaded.place);
        } catch (error) {
            // What was stored is wrong: it must not stay. The memory of the first attempt is lost until the worker ends.
            if (error.name === 'Damaged' || error.name === 'NotAModel') await remove(nameOf(source));
            if (!loaded.fromCache || error.name !== 'Damaged') throw error;
            hooks.onNotice(`the stored model was damaged (${error.message}) and is downloaded again`);
            loaded = await fromUrl(source, reserve, hooks);
            engine = start(loaded.place);
        }
    }
    return JSON.parse(engine.info());
}

async function send({ chat, text }, id, signal) {
    engine.begin(chat, text);
    for (;;) {
        await breathe();
        const reply = engine.step(SLICE, signal.aborted, (piece) => postMessage({ id, piece }));
        if (reply !== undefined) return JSON.parse(reply);
    }
}

const operations = {
    open,
    send,
    chat: ({ options }) => engine.chat(JSON.stringify(options)),
    reset: ({ chat }) => engine.reset(chat),
};

onmessage = async ({ data: { id, operation, ...call } }) => {
    if (operation === 'cancel') {
        running.get(id)?.abort();
        return;
    }
    const controller = new AbortController();
    running.set(id, controller);
    try {
        postMessage({ id, result: await operations[operation](call, id, controller.signal) });
    } catch (error) {
        // After a trap the module's state is unknown: the page starts another worker.
        const code = error instanceof WebAssembly.RuntimeError ? 'WorkerLost' : (error.code && typeof error.code === 'string' ? error.code : error.name);
        postMessage({ id, error: { code, message: error.message } });
    } finally {
        running.delete(id);
    }
};
