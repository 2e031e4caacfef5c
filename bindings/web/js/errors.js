/** An error of the package; `code` tells what a page can do about it. */
export class ThimbleError extends Error {
    constructor(message, code = 'Other') {
        super(message);
        this.name = this.constructor.name;
        this.code = code;
    }
}

const named = (code) =>
    class extends ThimbleError {
        constructor(message) {
            super(message, code);
        }
    };

export class NotFoundError extends named('NotFound') {}
export class NotAModelError extends named('NotAModel') {}
export class DamagedError extends named('Damaged') {}
export class TooLargeError extends named('TooLarge') {}
export class ContextFullError extends named('ContextFull') {}
export class DownloadError extends named('Download') {}
export class WorkerLostError extends named('WorkerLost') {}
export class BusyError extends named('Busy') {}
export class UnsupportedError extends named('Unsupported') {}

const classes = {
    NotFound: NotFoundError,
    NotAModel: NotAModelError,
    Damaged: DamagedError,
    TooLarge: TooLargeError,
    ContextFull: ContextFullError,
    Download: DownloadError,
    WorkerLost: WorkerLostError,
    Busy: BusyError,
    Unsupported: UnsupportedError,
};

/** The error with this code. An aborted call has a DOMException, as with `fetch`. */
export function errorOf(code, message) {
    if (code === 'AbortError') return new DOMException(message, 'AbortError');
    const Class = classes[code];
    return Class ? new Class(message) : new ThimbleError(message);
}
