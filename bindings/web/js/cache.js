// Model files in the origin private file system: a file, and beside it a description that says whether it is complete.
import { errorOf } from './errors.js';

const FOLDER = 'thimble';
const DESCRIPTION = '.json';

/** The folder; null where a page may not store files (private windows, old browsers). */
export async function folder() {
    try {
        const root = await navigator.storage.getDirectory();
        return await root.getDirectoryHandle(FOLDER, { create: true });
    } catch {
        return null;
    }
}

/** The name of a URL's file in the cache. */
export function nameOf(url) {
    const { host, pathname, search } = new URL(url);
    // A file name has at most 255 bytes; the end of a URL tells files apart.
    return encodeURIComponent(host + pathname + search).slice(-200);
}

async function describe(files, name) {
    try {
        const file = await (await files.getFileHandle(name + DESCRIPTION)).getFile();
        return JSON.parse(await file.text());
    } catch {
        return null;
    }
}

/** The complete files: `{ name, url, bytes }` of each. */
export async function cached() {
    const files = await folder();
    const found = [];
    if (!files) return found;
    for await (const key of files.keys()) {
        if (!key.endsWith(DESCRIPTION)) continue;
        const name = key.slice(0, -DESCRIPTION.length);
        const description = await describe(files, name);
        if (description?.complete) found.push({ name, url: description.url, bytes: description.bytes });
    }
    return found;
}

/** Deletes a file from the cache; true if there was one. */
export async function remove(name) {
    const files = await folder();
    if (!files) return false;
    let found = false;
    for (const key of [name, name + DESCRIPTION]) {
        try {
            await files.removeEntry(key);
            found = true;
        } catch (error) {
            if (error.name !== 'NotFoundError') throw errorOf('Busy', `${name} cannot be deleted: another tab reads it`);
        }
    }
    return found;
}

/** A file of the cache, open for reading and writing; only in a worker. */
export class CachedFile {
    /** Opens or creates the file of a URL; null where nothing can be stored. */
    static async open(url) {
        const files = await folder();
        if (!files) return null;
        const name = nameOf(url);
        try {
            const handle = await files.getFileHandle(name, { create: true });
            const access = await handle.createSyncAccessHandle();
            const description = await describe(files, name);
            return new CachedFile(files, name, url, access, description);
        } catch {
            return null;
        }
    }

    constructor(files, name, url, access, description) {
        Object.assign(this, { files, name, url, access, description });
    }

    /** Bytes that are there. */
    get bytes() {
        return this.description ? this.access.getSize() : 0;
    }

    get isComplete() {
        return Boolean(this.description?.complete) && this.access.getSize() === this.description.bytes;
    }

    /** Writes the description. Throws a QuotaExceededError if there is no room. */
    async describe(description) {
        const file = await this.files.getFileHandle(this.name + DESCRIPTION, { create: true });
        const access = await file.createSyncAccessHandle();
        try {
            access.truncate(0);
            access.write(new TextEncoder().encode(JSON.stringify({ url: this.url, ...description })), { at: 0 });
            access.flush();
        } finally {
            access.close();
        }
        this.description = description;
    }

    /** Writes a piece. Throws a QuotaExceededError if there is no room. */
    write(piece, at) {
        const written = this.access.write(piece, { at });
        if (written !== piece.length) throw new DOMException('the piece was not written whole', 'QuotaExceededError');
    }

    close() {
        this.access.close();
    }

    async discard() {
        this.close();
        await remove(this.name);
    }
}
