import { cached, remove } from './cache.js';
import { errorOf } from './errors.js';

export * from './errors.js';

let workers = 0;

/** A worker with calls that wait for it. */
class Connection {
    constructor(onLost) {
        this.lock = navigator.locks ? `thimble worker ${Date.now()} ${Math.random()} ${(workers += 1)}` : null;
        this.calls = new Map();
        this.next = 0;
        this.onLost = onLost;
        this.worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
        this.worker.onmessage = ({ data }) => this.receive(data);
        this.worker.onerror = (event) => this.end(`the worker failed: ${event.message ?? 'its script was not loaded'}`);
    }

    /** Ends every call with an error when the worker is gone, whatever ended it. */
    watch() {
        if (this.lock) navigator.locks.request(this.lock, () => this.end('the worker was ended')).catch(() => {});
    }

    receive({ id, result, error, ...event }) {
        const call = this.calls.get(id);
        if (!call) return;
        if (event.progress || event.notice || event.piece !== undefined) return call.onEvent(event);
        this.calls.delete(id);
        if (!error) return call.resolve(result);
        call.reject(errorOf(error.code, error.message));
        if (error.code === 'WorkerLost') this.end(error.message);
    }

    end(reason) {
        if (this.ended) return;
        this.ended = true;
        this.worker.terminate();
        const lost = () => errorOf('WorkerLost', `${reason}; the next call starts another one`);
        for (const call of this.calls.values()) call.reject(lost());
        this.calls.clear();
        this.onLost();
    }

    call(operation, call, { signal, onEvent = () => {} } = {}) {
        signal?.throwIfAborted();
        const id = (this.next += 1);
        return new Promise((resolve, reject) => {
            const cancel = () => this.worker.postMessage({ id, operation: 'cancel' });
            signal?.addEventListener('abort', cancel, { once: true });
            const done = (settle) => (value) => {
                signal?.removeEventListener('abort', cancel);
                settle(value);
            };
            this.calls.set(id, { resolve: done(resolve), reject: done(reject), onEvent });
            this.worker.postMessage({ id, operation, ...call });
        });
    }
}

/** A model in a worker. */
export class Model {
    static async open(source, { signal, onProgress = () => {}, onNotice = () => {}, backend = 'auto', threads = 1, context, exact = false } = {}) {
        if (!['auto', 'cpu'].includes(backend)) throw errorOf('Unsupported', `the backend is '${backend}', expected 'auto' or 'cpu'`);
        if (threads !== 1) throw errorOf('Unsupported', `${threads} threads were asked for: a page has 1`);
        const isUrl = typeof source === 'string' || source instanceof URL;
        if (!isUrl && !(source instanceof Blob)) throw errorOf('Other', 'the source is neither a URL nor a Blob or File');
        const model = new Model();
        model.source = isUrl ? new URL(source, globalThis.location?.href).href : source;
        model.hooks = { onProgress, onNotice };
        model.options = { exact, ...(context && { context }) };
        await model.connect(signal);
        return model;
    }

    static cached() {
        return cached();
    }

    static delete(name) {
        return remove(name);
    }

    /** The open worker, or another one for one that was lost. */
    connect(signal) {
        this.connecting ??= this.start(signal).catch((error) => {
            this.connecting = null;
            throw error;
        });
        return this.connecting;
    }

    async start(signal) {
        if (this.disposed) throw errorOf('Other', 'the model was disposed of: open it again');
        const connection = new Connection(() => {
            if (this.connection === connection) this.connecting = this.connection = null;
        });
        this.connection = connection;
        const { source, options } = this;
        const onEvent = ({ progress, notice }) => (progress ? this.hooks.onProgress(progress) : this.hooks.onNotice(notice));
        try {
            this.info = await connection.call('open', { source, options, lock: connection.lock }, { signal, onEvent });
        } catch (error) {
            connection.end(error.message);
            throw error;
        }
        connection.watch();
        return connection;
    }

    chat(options = {}) {
        if (options.schema) throw errorOf('Unsupported', 'answers of a given form are not in this package yet: leave out `schema`');
        return new Chat(this, options);
    }

    dispose() {
        this.disposed = true;
        this.connection?.end('the model was disposed of');
    }
}

/** A conversation with a model. */
export class Chat {
    constructor(model, { system, maxTokens = 1024, stop = [], thinking, sampling = {}, turns = [] }) {
        const seed = sampling.seed ?? Math.floor(Math.random() * 2 ** 32);
        this.model = model;
        this.turns = [...turns];
        this.options = { system, maxTokens, stop, thinking, sampling: { ...sampling, seed } };
        this.reply = null;
    }

    /** The chat's number in the worker; a new worker is told what was said. */
    async begin(connection) {
        if (this.connection !== connection) {
            this.number = await connection.call('chat', { options: { ...this.options, turns: this.turns } });
            this.connection = connection;
        }
        return this.number;
    }

    /** The pieces of the answer to a text. */
    async *send(text, { signal } = {}) {
        signal?.throwIfAborted();
        if (this.model.busy) throw errorOf('Busy', 'the model is answering: wait for the end, or cancel it');
        this.model.busy = true;
        const pieces = [];
        let wake = () => {};
        const stopped = new AbortController();
        const stop = () => stopped.abort();
        signal?.addEventListener('abort', stop, { once: true });
        let answer = null;
        let shown = '';
        try {
            const connection = await this.model.connect(signal);
            const chat = await this.begin(connection);
            const onEvent = ({ piece }) => {
                pieces.push(piece);
                shown += piece;
                wake();
            };
            answer = connection.call('send', { chat, text }, { signal: stopped.signal, onEvent });
            let ended = false;
            const end = () => {
                ended = true;
                wake();
            };
            answer.then(end, end);
            while (!ended || pieces.length > 0) {
                if (pieces.length > 0) yield pieces.splice(0).join('');
                else await new Promise((resolve) => (wake = resolve));
            }
            this.reply = await answer;
            signal?.throwIfAborted();
        } finally {
            // Also when the reader leaves its loop early.
            stopped.abort();
            signal?.removeEventListener('abort', stop);
            const reply = await answer?.catch(() => null);
            if (reply) {
                this.reply = { ...reply, text: shown };
                // A cancelled message without any answer is not remembered.
                if (reply.finish !== 'cancelled' || shown) this.turns.push([text, shown]);
                this.turns.splice(0, reply.forgottenTurns);
            }
            this.model.busy = false;
        }
    }

    async reset() {
        if (this.model.busy) throw errorOf('Busy', 'the model is answering: wait for the end, or cancel it');
        this.turns = [];
        if (this.connection && !this.connection.ended) await this.connection.call('reset', { chat: this.number });
    }
}
