/** What a page can do about an error. */
export type ErrorCode =
    | 'NotFound' | 'NotAModel' | 'Damaged' | 'TooLarge' | 'ContextFull' | 'Download' | 'WorkerLost' | 'Busy' | 'Unsupported' | 'Other';

/** An error of this package. An aborted call has a DOMException with the name `AbortError` instead, as with `fetch`. */
export class ThimbleError extends Error {
    readonly code: ErrorCode;
}
/** There is no such file: check the address. */
export class NotFoundError extends ThimbleError {}
/** Another kind of file: use another one, or convert it with `thimble convert`. */
export class NotAModelError extends ThimbleError {}
/** A checksum is wrong: download the file again. */
export class DamagedError extends ThimbleError {}
/** More memory than the page has: use a smaller model or a shorter context. */
export class TooLargeError extends ThimbleError {}
/** The message does not fit the context: shorten it. */
export class ContextFullError extends ThimbleError {}
/** The download failed. What has arrived is kept: the next attempt goes on from there. */
export class DownloadError extends ThimbleError {}
/** The worker is gone, or its module failed. The next call starts another one, which knows the conversation. */
export class WorkerLostError extends ThimbleError {}
/** The model is answering, or another tab holds the file. */
export class BusyError extends ThimbleError {}
/** This package does not do that. */
export class UnsupportedError extends ThimbleError {}

/** How far a model is loaded. */
export interface Progress {
    /** Bytes so far. */
    loaded: number;
    /** Bytes in all. */
    total: number;
    from: 'network' | 'cache' | 'file';
    /** Whether the file is kept for the next visit. */
    cached: boolean;
}

export interface ModelOptions {
    /** Ends the loading. */
    signal?: AbortSignal;
    onProgress?: (progress: Progress) => void;
    /** Gets a sentence if the model works, but not as it should: it is not kept, or was damaged and is downloaded again. */
    onNotice?: (notice: string) => void;
    /** What computes; both mean the processor. */
    backend?: 'auto' | 'cpu';
    /** Threads; 1. */
    threads?: 1;
    /** Context length in tokens; 2,048 or the model's, whichever is less. */
    context?: number;
    /** Whether to multiply with f32 activations: slower, and as close to the original model as the file is. */
    exact?: boolean;
}

export interface ModelInfo {
    /** Context length in tokens. */
    context: number;
    layers: number;
    /** Size of the vocabulary. */
    vocabulary: number;
    /** The kernels: `simd128`, or `scalar` in browsers without vectors. */
    kernels: 'simd128' | 'scalar';
    /** Whether the model has a chat template. */
    hasChat: boolean;
}

/** How tokens are chosen. What is unset is as the model's authors recommend. */
export interface Sampling {
    /** Divides the logits; 0 takes the likeliest token. */
    temperature?: number;
    /** Draws from this many likeliest tokens. */
    topK?: number;
    /** Draws from the fewest likeliest tokens with this total probability. */
    topP?: number;
    /** Draws from tokens with at least this fraction of the likeliest token's probability. */
    minP?: number;
    /** Divides the logits of recent tokens. */
    repetitionPenalty?: number;
    /** Seed of the random numbers, below 2^32; random unless set. */
    seed?: number;
}

export interface ChatOptions {
    /** Instructions before the conversation. */
    system?: string;
    /** Longest answer in tokens; 1,024 unless set. */
    maxTokens?: number;
    /** Texts that end an answer, which then lacks them. */
    stop?: string[];
    /** Whether the model thinks before it answers; the model's default unless set. */
    thinking?: boolean;
    sampling?: Sampling;
    /** What was said before: pairs of a message and its answer, oldest first. */
    turns?: [string, string][];
}

/** An answer's figures. */
export interface Reply {
    /** The whole answer. */
    text: string;
    finish: 'stop' | 'length' | 'context' | 'cancelled';
    /** Oldest turns that were dropped because the context was full. */
    forgottenTurns: number;
    /** Prompt tokens computed for this answer. */
    promptTokens: number;
    /** Seconds that those took. */
    promptSeconds: number;
    /** Tokens of the answer. */
    tokens: number;
    /** Seconds that those took. */
    seconds: number;
    /** The answer's tokens, by their ids in the vocabulary. */
    tokenIds: number[];
}

/** A file in the browser's storage. */
export interface CachedModel {
    name: string;
    url: string;
    bytes: number;
}

/** A model in a worker. */
export class Model {
    private constructor();
    /** Opens a `.thimble` file: from a URL, kept for the next visit, or a File or Blob. */
    static open(source: string | URL | Blob, options?: ModelOptions): Promise<Model>;
    /** The files that are kept. */
    static cached(): Promise<CachedModel[]>;
    /** Deletes a file that is kept; false if there is none of this name. */
    static delete(name: string): Promise<boolean>;
    readonly info: ModelInfo;
    /** Begins a conversation. Chats of a model take turns. */
    chat(options?: ChatOptions): Chat;
    /** Ends the worker and frees its memory. */
    dispose(): void;
}

/** A conversation with a model. */
export class Chat {
    private constructor();
    /** What was said: pairs of a message and its answer. */
    readonly turns: [string, string][];
    /** The last answer; null before the first. */
    readonly reply: Reply | null;
    /**
     * The answer to a text, in pieces. An aborted signal ends it with an `AbortError` after a token or 20 ms; what came before is
     * remembered. Leaving the loop early ends it, too.
     */
    send(text: string, options?: { signal?: AbortSignal }): AsyncGenerator<string, void, void>;
    /** Forgets what was said, apart from the system message. */
    reset(): Promise<void>;
}
