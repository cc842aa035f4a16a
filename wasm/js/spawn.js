// A connection to a host: in a worker, or in this thread.

import { TributaryError } from './errors.js';
import { online } from './network.js';
import { localPorts, Rpc } from './rpc.js';

/** @import {Handler} from './rpc.js' */
/**
 * @typedef {{ call: Rpc['call'], replaceable: boolean, close(reason: unknown): Promise<void> }} Connection
 * @typedef {boolean | Worker | (() => Worker)} WorkerOption
 */

/** A worker that does not answer its first message is not ours. */
const HELLO_MS = 30_000;
const PING_MS = 15_000;
/** Silence in pings, not in time: a frozen tab is not a dead worker. A pass in WebAssembly is silent, too. */
const MISSED_PINGS = 12;

const HINT = 'worker.js must be served with a JavaScript type, and the Content-Security-Policy must allow it (worker-src; blob: where the package is on another origin). The option `worker` takes your own, or false';
const OWN_HINT = `a worker of your own is a module: \`new Worker(url, { type: 'module' })\`. ${HINT}`;
const OFFLINE_HINT = "without a network the package's own files must be in the HTTP cache, or come from a service worker";

/**
 * @param {WorkerOption | undefined} option
 * @param {Record<string, Handler>} handlers
 * @returns {Promise<Connection>}
 */
export async function spawn(option, handlers) {
  if (option === false || (option === undefined && typeof Worker === 'undefined')) return inThread(handlers);
  if (typeof Worker === 'undefined') throw new TributaryError('FEATURE_MISSING', 'there are no web workers here', { hint: 'use `worker: false`' });
  const given = typeof option === 'object';
  const own = given || typeof option === 'function';
  const worker = given ? option : typeof option === 'function' ? option() : newWorker();
  try {
    return await connect(worker, { given, own }, handlers);
  } catch (error) {
    if (!given) worker.terminate();
    throw error;
  }
}

/** @param {Record<string, Handler>} handlers @returns {Promise<Connection>} */
async function inThread(handlers) {
  // Imported here so that pages with a worker do not load the glue twice.
  const { serve } = await import('./host.js');
  const [here, there] = localPorts();
  serve(there);
  const rpc = new Rpc(here, handlers);
  return {
    // One instance per thread: after a trap there is no other.
    replaceable: false,
    call: async (...call) => {
      const answer = await rpc.call(...call);
      // A pass holds up this thread's timers and events. Those that were due end the call before it is
      // answered; a timer of 0 could come before them.
      await new Promise((resolve) => setTimeout(resolve, 1));
      return answer;
    },
    close: async (reason) => {
      await rpc.call('dispose').catch(() => {});
      rpc.close(reason);
    },
  };
}

/** @returns {Worker} */
function newWorker() {
  const literal = () => new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'tributary' });
  if (import.meta.url.startsWith(`${location.origin}/`)) return literal();
  // Bundlers put the script's final address into the line above and nowhere else, so the constructor is
  // asked for it. (webpack gives no true import.meta.url, so it comes here, too.)
  const script = addressGivenTo(literal);
  if (new URL(script).origin === location.origin) return literal();
  // A worker must be of the page's origin, so one of ours imports the script from where it is.
  const url = URL.createObjectURL(new Blob([`import ${JSON.stringify(script)};`], { type: 'text/javascript' }));
  try {
    return new Worker(url, { type: 'module', name: 'tributary' });
  } finally {
    // After the fetch has begun.
    setTimeout(() => URL.revokeObjectURL(url), HELLO_MS);
  }
}

/** What `new Worker` would load; synchronous, so nobody else sees the stand-in. @param {() => Worker} literal */
function addressGivenTo(literal) {
  const real = globalThis.Worker;
  let address = '';
  try {
    globalThis.Worker = /** @type {any} */ (class { constructor(/** @type {URL | string} */ url) { address = new URL(url, location.href).href; } });
    literal();
  } finally {
    globalThis.Worker = real;
  }
  return address;
}

/**
 * @param {Worker} worker @param {{ given: boolean, own: boolean }} from `own`: made by the caller, `given`: once and for all.
 * @param {Record<string, Handler>} handlers @returns {Promise<Connection>}
 */
async function connect(worker, { given, own }, handlers) {
  const { port1: port, port2: theirs } = new MessageChannel();
  const alive = `tributary worker ${globalThis.crypto?.randomUUID?.() ?? Math.random()}`;
  await hello(worker, own, port, () => worker.postMessage({ tributary: 'connect', port: theirs, alive }, [theirs]));

  const rpc = new Rpc(port, handlers);
  const watch = new AbortController();
  const died = (/** @type {string} */ how) => rpc.close(new TributaryError('WASM_TRAP', `the worker ${how}`));
  // No event says that a worker was terminated. Its lock comes free, or (newer) its port closes.
  port.addEventListener('close', () => died('was terminated'), { signal: watch.signal });
  navigator.locks?.request(alive, { signal: watch.signal }, () => died('was terminated')).catch(() => {});

  let calls = 0;
  let missed = 0;
  const ping = () => {
    if (calls === 0) return;
    if (++missed > MISSED_PINGS) died(`has been silent for ${(MISSED_PINGS * PING_MS) / 1000} s`);
    else rpc.call('ping').then(() => { missed = 0; }, () => {});
  };
  const pinging = setInterval(ping, PING_MS);

  return {
    replaceable: !given,
    call: async (...call) => {
      calls++;
      try {
        return await rpc.call(...call);
      } finally {
        if (--calls === 0) missed = 0;
      }
    },
    close: async (reason) => {
      clearInterval(pinging);
      watch.abort();
      // Someone else's worker lives on; what we have in it does not.
      if (given) await rpc.call('dispose').catch(() => {});
      else worker.terminate();
      rpc.close(reason);
    },
  };
}

/** @param {Worker} worker @param {boolean} own @param {MessagePort} port @param {() => void} send */
async function hello(worker, own, port, send) {
  /** @type {AbortController} */
  const listening = new AbortController();
  try {
    await new Promise((resolve, reject) => {
      const failed = (/** @type {string} */ why) => reject(new TributaryError('INTERNAL', `the worker could not be started: ${why}`, { hint: own ? OWN_HINT : HINT }));
      const unloaded = () => online() ? failed('its script did not load')
        : reject(new TributaryError('OFFLINE', 'the worker could not be started: its script did not load, and there is no network', { hint: OFFLINE_HINT }));
      worker.addEventListener('error', ({ message }) => message ? failed(message) : unloaded(), { signal: listening.signal });
      const timer = setTimeout(() => failed('it does not answer'), HELLO_MS);
      listening.signal.addEventListener('abort', () => clearTimeout(timer));
      port.onmessage = ({ data }) => { if (data.hello) resolve(undefined); };
      send();
    });
  } finally {
    listening.abort();
  }
}
