// The public requests, checked, in the form of core.js.

import { invalid, TributaryError } from './errors.js';

/** @import {Interaction, Item, ItemId, RecommendRequest, RerankRequest, RunOptions} from './index.js' */
/** @import {EngineItem} from './core.js' */

/** Later than year 5000 in seconds: someone's milliseconds. */
const LIKELY_MS = 1e11;
/** A model reads the start of a text, but all of it is cut into tokens first: up to a second for so much. */
const MAX_TEXT_LENGTH = 500_000;
/** The core's limit. */
const MAX_ID_BYTES = 1024;
const RUN_KEYS = ['signal', 'priority', 'timeoutMs'];
const REQUEST_KEYS = ['history', 'candidates', 'query', 'k', 'excludeSeen', 'exclude', 'filter', 'explain', 'seed', 'targetBehaviour', 'hide'];
const RERANK_KEYS = ['query', 'history', 'documents', 'topN'];
const ITEM_KEYS = ['id', 'text', 'title', 'brand', 'category', 'price', 'description', 'caption', 'summary', 'image', 'attributes'];
/** Fields of the engine's request that callers know by another name. @type {Record<string, string>} */
const PUBLIC_FIELDS = { 'history.behaviour': 'history.event', target_behaviour: 'targetBehaviour' };

/** Half a surrogate pair has no UTF-8. @param {string} text */
export function wellFormed(text) {
  return text.replace(/[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/g, '\uFFFD');
}

/** @param {string} operation @param {string} argument @param {string} text What a model is to read. @returns {string} */
export function readable(operation, argument, text) {
  if (text.length > MAX_TEXT_LENGTH) throw new TributaryError('INPUT_TOO_LONG', `${operation}: \`${argument}\` has ${text.length} characters, the limit is ${MAX_TEXT_LENGTH}`, { field: argument });
  return wellFormed(text);
}

/** @param {string} text */
function byteLength(text) {
  return new TextEncoder().encode(text).length;
}

/** @param {string} operation @param {string} argument @param {unknown} id @returns {string} `42` and `'42'` are one item. */
export function idText(operation, argument, id) {
  // Replacing half a pair, as in texts, would make one item of two.
  if (typeof id === 'string' && id !== '' && wellFormed(id) === id && byteLength(id) <= MAX_ID_BYTES) return id;
  if (typeof id === 'number' && Number.isSafeInteger(id) && id >= 0) return String(id);
  throw invalid(operation, argument, id, `an id: a string that is well-formed, not empty and of at most ${MAX_ID_BYTES} bytes, or a whole number from 0 to 2^53`);
}

/** @param {string} operation @param {string} argument @param {unknown} value @param {string} of @returns {any[]} */
export function list(operation, argument, value, of) {
  if (!Array.isArray(value)) throw invalid(operation, argument, value, `an array of ${of}`);
  // `map` and `for of` do not agree on a hole.
  const hole = value.findIndex((_, i) => !(i in value));
  if (hole !== -1) throw invalid(operation, `${argument}[${hole}]`, undefined, 'a value: the array has a hole there');
  return value;
}

/** A misspelt key is not a missing one. @param {string} operation @param {string} argument @param {object} value @param {string[]} keys */
export function onlyKeys(operation, argument, value, keys) {
  const unknown = Object.keys(value).find((key) => !keys.includes(key));
  if (unknown !== undefined) throw invalid(operation, argument, unknown, `only these keys: ${keys.join(', ')}`);
}

/** @param {unknown} value @returns {value is Record<string, unknown>} */
export function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** @template {RunOptions} T @param {string} operation @param {T} options @param {string[]} [more] Keys of this operation alone. @returns {T} */
export function runOptions(operation, options, more = []) {
  if (!isObject(options)) throw invalid(operation, 'options', options, 'an object');
  onlyKeys(operation, 'options', options, [...RUN_KEYS, ...more]);
  const { signal, priority, timeoutMs } = options;
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw invalid(operation, 'signal', signal, 'an AbortSignal');
  if (priority !== undefined && priority !== 'user' && priority !== 'background') throw invalid(operation, 'priority', priority, 'user or background');
  if (timeoutMs !== undefined && !(Number.isFinite(timeoutMs) && Number(timeoutMs) > 0)) throw invalid(operation, 'timeoutMs', timeoutMs, 'a number of milliseconds above 0');
  return options;
}

/** @param {string} operation @param {string} argument @param {unknown} item @returns {Item} */
export function checkItem(operation, argument, item) {
  if (!isObject(item)) throw invalid(operation, argument, item, 'an item: an object with an id');
  idText(operation, `${argument}.id`, item.id);
  for (const name of ['text', 'title', 'brand', 'category', 'description', 'caption', 'summary']) {
    if (item[name] !== undefined && typeof item[name] !== 'string') throw invalid(operation, `${argument}.${name}`, item[name], 'a string');
  }
  if (item.price !== undefined && !Number.isFinite(item.price)) throw invalid(operation, `${argument}.price`, item.price, 'a finite number');
  if (item.attributes !== undefined && !isObject(item.attributes)) throw invalid(operation, `${argument}.attributes`, item.attributes, 'an object');
  for (const value of Object.values(item.attributes ?? {})) {
    if (!['string', 'number', 'boolean'].includes(typeof value)) throw invalid(operation, `${argument}.attributes`, value, 'strings, numbers and booleans by name');
  }
  return /** @type {Item} */ (/** @type {unknown} */ (item));
}

/** @param {string} operation @param {string} argument @param {Item} item @returns {Item} */
export function checkCatalogItem(operation, argument, item) {
  onlyKeys(operation, argument, item, ITEM_KEYS);
  return checkItem(operation, argument, item);
}

/** A brand or a category alone is that of many. @param {Item} item */
export function nothingToTell({ title, text, description, caption, summary, image }) {
  return !(title || text || description || caption || summary) && image === undefined;
}

/** @param {unknown} error What the engine refused, under the names of the public request. */
export function inPublicWords(error) {
  if (!(error instanceof TributaryError && error.code === 'INVALID_ARGUMENT')) return error;
  const found = error.detail?.field ?? '';
  const field = PUBLIC_FIELDS[found];
  return field ? new TributaryError(error.code, error.message.replace(`\`${found}\``, `\`${field}\``), { ...error.detail, field, cause: error }) : error;
}

/** @param {Item} item @returns {EngineItem} */
export function engineItem({ id, text, title, brand, category, price, description, caption, summary, attributes }) {
  const strings = { title, brand, category, description: description ?? text, caption, summary };
  const fields = Object.entries(strings).flatMap(([name, value]) => value === undefined ? [] : [[name, wellFormed(value)]]);
  const pairs = Object.entries(attributes ?? {}).map(([name, value]) => [wellFormed(name), wellFormed(String(value))]);
  return { id: idText('setCatalog', 'id', id), ...Object.fromEntries(fields), ...(price !== undefined && { price }), ...(attributes && { attributes: Object.fromEntries(pairs) }) };
}

/** @param {EngineItem} item @returns {Item} */
export function publicItem({ id, title, brand, category, price, description, caption, summary, image, attributes }) {
  const fields = Object.entries({ title, brand, category, price, description, text: description, caption, summary, image, attributes });
  return { id, ...Object.fromEntries(fields.filter(([, value]) => value !== undefined && value !== null)) };
}

/** @param {Item} item What there is to read of it. */
export function textOf({ title, brand, category, description, text }) {
  return [title, brand, category, description ?? text].filter(Boolean).join(' ');
}

/** @param {string} operation @param {string} argument @param {unknown} entry @returns {{ id: string, item: ItemId | Item, event?: string, time?: number }} */
function interaction(operation, argument, entry) {
  if (!isObject(entry)) return { id: idText(operation, argument, entry), item: /** @type {ItemId} */ (entry) };
  if (!('item' in entry)) throw invalid(operation, argument, entry, 'an id, or { item, event, time }');
  const { item, event, value, time } = /** @type {Interaction} */ (/** @type {unknown} */ (entry));
  const id = isObject(item) ? idText(operation, `${argument}.item.id`, item.id) : idText(operation, `${argument}.item`, item);
  if (isObject(item)) checkItem(operation, `${argument}.item`, item);
  if (event !== undefined && (typeof event !== 'string' || event === '')) throw invalid(operation, `${argument}.event`, event, 'a name such as view, cart or buy');
  if (value !== undefined && !Number.isFinite(value)) throw invalid(operation, `${argument}.value`, value, 'a finite number');
  const seconds = time instanceof Date ? time.getTime() / 1000 : time;
  if (seconds !== undefined && !Number.isFinite(seconds)) throw invalid(operation, `${argument}.time`, time, 'a valid Date or a finite number of seconds');
  if (typeof time === 'number' && Math.abs(time) > LIKELY_MS) throw invalid(operation, `${argument}.time`, time, 'seconds since 1970, or a Date (these look like milliseconds)');
  return { id, item, ...(event !== undefined && { event: wellFormed(event) }), ...(seconds !== undefined && { time: seconds }) };
}

/** @param {string} operation @param {unknown} history */
export function checkHistory(operation, history) {
  return list(operation, 'history', history, 'ids or interactions').map((entry, i) => interaction(operation, `history[${i}]`, entry));
}

/** @param {RerankRequest} request */
export function checkRerank(request) {
  const operation = 'rerank';
  if (!isObject(request)) throw invalid(operation, 'request', request, 'an object with documents');
  onlyKeys(operation, 'request', request, RERANK_KEYS);
  const { query, history, topN } = request;
  if ((query === undefined) === (history === undefined)) throw invalid(operation, 'query', query, 'a string, or else a `history`; one of the two');
  if (query !== undefined && typeof query !== 'string') throw invalid(operation, 'query', query, 'a string');
  if (topN !== undefined && !(Number.isSafeInteger(topN) && Number(topN) >= 0)) throw invalid(operation, 'topN', topN, 'a whole number, 0 or more');
  return {
    query: query === undefined ? undefined : readable(operation, 'query', query),
    history: history === undefined ? [] : checkHistory(operation, history),
    documents: list(operation, 'documents', request.documents, 'strings or items').map((document, i) =>
      typeof document === 'string' ? document : checkItem(operation, `documents[${i}]`, document)),
    topN,
  };
}

/**
 * The request without what only the page knows (its catalogue and filter).
 * @param {RecommendRequest} request
 */
export function checkRequest(request) {
  const operation = 'recommend';
  if (!isObject(request)) throw invalid(operation, 'request', request, 'an object with a history');
  onlyKeys(operation, 'request', request, REQUEST_KEYS);
  const { candidates, query, k = 10, excludeSeen = true, exclude = [], filter, explain = false, seed, targetBehaviour, hide } = request;
  const history = checkHistory(operation, request.history);
  if (!Number.isSafeInteger(k) || k < 0) throw invalid(operation, 'k', k, 'a whole number, 0 or more');
  if (seed !== undefined && !Number.isSafeInteger(seed)) throw invalid(operation, 'seed', seed, 'a whole number');
  if (typeof excludeSeen !== 'boolean') throw invalid(operation, 'excludeSeen', excludeSeen, 'true or false');
  const explained = typeof explain === 'boolean' ? explain
    : list(operation, 'explain', explain, 'true, false or ids').map((id, i) => idText(operation, `explain[${i}]`, id));
  for (const [name, value] of Object.entries({ query, targetBehaviour })) {
    if (value !== undefined && typeof value !== 'string') throw invalid(operation, name, value, 'a string');
  }
  if (filter !== undefined && typeof filter !== 'function') throw invalid(operation, 'filter', filter, 'a function of an item');
  for (const part of hide === undefined ? [] : list(operation, 'hide', hide, 'image, text, graph')) {
    if (!['image', 'text', 'graph'].includes(part)) throw invalid(operation, 'hide', part, 'image, text or graph');
  }
  const asked = candidates === undefined ? undefined : list(operation, 'candidates', candidates, 'ids or items').map((candidate, i) => {
    const item = isObject(candidate) ? checkItem(operation, `candidates[${i}]`, candidate) : undefined;
    return { id: idText(operation, `candidates[${i}]`, item ? item.id : candidate), item };
  });
  return {
    history,
    candidates: asked,
    filter,
    explain: explained,
    engine: {
      history: history.map(({ id, event, time }) => ({ item: id, ...(event !== undefined && { behaviour: event }), ...(time !== undefined && { time }) })),
      k,
      exclude_seen: excludeSeen,
      exclude: list(operation, 'exclude', exclude, 'ids').map((id, i) => idText(operation, `exclude[${i}]`, id)),
      ...(query !== undefined && { query: readable(operation, 'query', query) }),
      ...(targetBehaviour !== undefined && { target_behaviour: wellFormed(targetBehaviour) }),
      ...(hide?.length && { hide: [...hide] }),
    },
  };
}
