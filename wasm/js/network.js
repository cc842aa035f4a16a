// Reading a bundle's files by HTTP: what each answer of a server means, retries, resuming.

import { abortError, isAbort, messageOf, throwIfAborted, TributaryError } from './errors.js';
import { chunks } from './rpc.js';

/**
 * @typedef {{ status: number, headers: { get(name: string): string | null }, body: AsyncGenerator<Uint8Array>, cancel(): void }} Reply
 * @typedef {(url: string, init: { headers: Record<string, string>, cache: RequestCache, signal: AbortSignal }) => Promise<Reply>} Fetch
 * @typedef {{ bytes: number, validator: string | undefined, restart(): void,
 *   begin(validator: string | undefined): void, write(chunk: Uint8Array): void | Promise<void> }} Sink
 *   What a download fills: `bytes` are there already; `validator` is the ETag or date they came with.
 */

const MAX_RETRIES = 3;
const FIRST_DELAY_MS = 500;
/** A server that asks for more patience than this is a failure the user should see. */
const MAX_DELAY_MS = 30_000;

const PORTAL = 'an HTML page came instead: either the network wants a sign-in first (a captive portal), ' +
  'or the server answers unknown addresses with its start page and the address is wrong';

/** Marks an error with what the retry loop needs to know. */
class Again {
  /** @param {TributaryError} error @param {{ delayMs?: number, retries?: number }} [more] */
  constructor(error, { delayMs, retries = MAX_RETRIES } = {}) {
    this.error = error;
    this.delayMs = delayMs;
    this.retries = retries;
  }
}

/** @param {string} file @param {number} status @param {string | null} retryAfter */
function statusError(file, status, retryAfter) {
  const what = `${file}: the server answered ${status}`;
  if (status === 404 || status === 410) return new TributaryError('MODEL_NOT_FOUND', what, { file, hint: 'is this the address of the folder that holds bundle.json?' });
  if (status === 401 || status === 403) return new TributaryError('UNAUTHORIZED', what, { file, hint: 'the option `fetch` can add credentials to requests' });
  if (status === 429 || status >= 500) {
    const seconds = Number(retryAfter);
    const asked = retryAfter === null ? undefined : Number.isFinite(seconds) ? seconds * 1000 : Date.parse(retryAfter) - Date.now();
    return new Again(new TributaryError('NETWORK', what, { file }), { delayMs: asked });
  }
  return new TributaryError('NETWORK', what, { file, retriable: false });
}

/** @param {number} ms @param {AbortSignal} signal */
export function delay(ms, signal) {
  return new Promise((resolve, reject) => {
    const onAbort = () => { clearTimeout(timer); reject(abortError()); };
    const timer = setTimeout(() => { signal.removeEventListener('abort', onAbort); resolve(undefined); }, ms);
    signal.addEventListener('abort', onAbort, { once: true });
  });
}

/** False only when the browser is sure. */
export function online() {
  return typeof navigator === 'undefined' || navigator.onLine !== false;
}

/**
 * Fills `sink` with `expected` bytes of `url` (any number when it is `undefined`), trying again where
 * that can help. A try that got further than all before it counts as the first.
 * @param {{ fetch: Fetch, url: string, file: string, expected: number | undefined, stallMs: number, keeps: boolean, signal: AbortSignal }} from
 * @param {Sink} sink
 */
export async function download(from, sink) {
  let furthest = sink.bytes;
  for (let failures = 0; ; ) {
    throwIfAborted(from.signal);
    try {
      return await attempt(from, sink);
    } catch (error) {
      if (!(error instanceof Again)) throw error;
      if (sink.bytes > furthest) failures = 0;
      furthest = Math.max(furthest, sink.bytes);
      if (!online()) throw offline(from.file);
      if (++failures > error.retries) throw error.error;
      const asked = error.delayMs ?? 0;
      if (asked > MAX_DELAY_MS) throw error.error;
      // Jitter, so that many pages do not come back at the same moment.
      const backoff = FIRST_DELAY_MS * 2 ** (failures - 1) * (0.75 + Math.random() / 2);
      await delay(Math.max(asked, backoff), from.signal);
    }
  }
}

/** @param {string} file */
export function offline(file) {
  return new TributaryError('OFFLINE', `${file} is not in the cache and there is no network`, { file });
}

/** @param {Parameters<typeof download>[0]} from @param {Sink} sink */
async function attempt({ fetch, url, file, expected, stallMs, keeps, signal }, sink) {
  const have = sink.bytes;
  /** @type {Record<string, string>} */
  const headers = {};
  if (have) headers.Range = `bytes=${have}-`;
  // Not safelisted for CORS, and a cross-origin ETag is seen only by a server's leave: then the hash alone decides.
  if (have && sink.validator) headers['If-Range'] = sink.validator;

  const stall = new AbortController();
  const stop = () => stall.abort();
  signal.addEventListener('abort', stop, { once: true });
  let timer = setTimeout(stop, stallMs);
  try {
    // bundle.json is asked for anew; a file that we keep ourselves need not lie in the HTTP cache, too.
    const cache = expected === undefined ? 'no-cache' : keeps || have ? 'no-store' : 'default';
    const reply = await fetch(url, { headers, cache, signal: stall.signal });
    try {
      await receive(reply, have, file, expected, sink, () => { clearTimeout(timer); timer = setTimeout(stop, stallMs); });
    } finally {
      reply.cancel();
    }
  } catch (error) {
    if (signal.aborted) throw abortError();
    if (error instanceof Again || error instanceof TributaryError) throw error;
    const stalled = stall.signal.aborted;
    // Some servers announce more bytes than they have; what matters is that ours are all there.
    if (expected !== undefined && sink.bytes === expected) return;
    if (!stalled && isAbort(error)) throw error;
    throw new Again(new TributaryError('NETWORK',
      stalled ? `${file}: nothing came for ${stallMs / 1000} s` : `${file}: ${messageOf(error)}`,
      { file, cause: error, ...(!stalled && have === 0 && { hint: 'when the files are on another origin, its server must allow this one (CORS)' }) }));
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
  }
}

/**
 * @param {Reply} reply @param {number} have @param {string} file @param {number | undefined} expected
 * @param {Sink} sink @param {() => void} alive
 */
async function receive(reply, have, file, expected, sink, alive) {
  alive();
  if (reply.status === 416 && have) {
    sink.restart();
    throw new Again(new TributaryError('INTEGRITY', `${file}: the server has fewer bytes than were downloaded before`, { file }));
  }
  if (reply.status < 200 || reply.status > 299) throw statusError(file, reply.status, reply.headers.get('retry-after'));
  if (have && reply.status !== 206) {
    // No ranges here, or the file has changed: this is the whole of it.
    sink.restart();
  } else if (have) {
    const start = /^bytes (\d+)-/.exec(reply.headers.get('content-range') ?? '')?.[1];
    if (start !== undefined && Number(start) !== have) {
      sink.restart();
      throw new Again(new TributaryError('NETWORK', `${file}: asked for bytes from ${have}, got them from ${start}`, { file }));
    }
  }
  const etag = reply.headers.get('etag');
  // A weak ETag promises the same meaning, not the same bytes, and If-Range refuses it.
  sink.begin(etag && !etag.startsWith('W/') ? etag : reply.headers.get('last-modified') ?? undefined);
  for await (const chunk of reply.body) {
    alive();
    if (sink.bytes === 0 && looksLikeHtml(chunk)) throw new TributaryError('NETWORK', `${file}: ${PORTAL}`, { file, hint: PORTAL });
    await sink.write(chunk);
  }
  if (expected !== undefined && sink.bytes < expected) {
    // A proxy that cuts at a wrong length can be asked for the rest, once.
    throw new Again(new TributaryError('INTEGRITY', `${file}: has ${sink.bytes} bytes, bundle.json announces ${expected}`, { file }), { retries: 1 });
  }
}

/** @param {Uint8Array} chunk */
function looksLikeHtml(chunk) {
  return /^(\uFEFF)?\s*<(!doctype|html|head|body)/i.test(new TextDecoder().decode(chunk.subarray(0, 256)));
}

/** The browser's or Node's own fetch. @type {Fetch} */
export async function plainFetch(url, { headers, cache, signal }) {
  const response = await fetch(url, { headers, cache, signal });
  const stream = response.body ?? new Blob([]).stream();
  // Once it is read to the end, or is being read, there is nothing to cancel here.
  const cancel = () => void stream.cancel().catch(() => {});
  return { status: response.status, headers: response.headers, body: chunks(stream), cancel };
}
