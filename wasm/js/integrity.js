// Subresource-integrity strings: `sha256-<base64>` and the like, as in HTML.

import { show, TributaryError } from './errors.js';

/** @import {BundleFile} from './core.js' */

/** @type {Record<string, string>} */
const ALGORITHMS = { sha256: 'SHA-256', sha384: 'SHA-384', sha512: 'SHA-512' };

/** @param {string} file @param {string} sri @returns {[algorithm: string, base64: string]} */
function parse(file, sri) {
  const [, algorithm, base64] = /^(sha256|sha384|sha512)-([A-Za-z0-9+/_-]+=*)$/.exec(sri) ?? [];
  if (!algorithm) {
    throw new TributaryError('INVALID_ARGUMENT', `fromPretrained: \`integrity\` of ${file} is ${show(sri)}, expected sha256-, sha384- or sha512- and a base64 hash`, { field: 'integrity', file });
  }
  return [algorithm, base64.replace(/-/g, '+').replace(/_/g, '/').replace(/=+$/, '')];
}

/** @param {Uint8Array} bytes */
function toBase64(bytes) {
  return btoa(String.fromCharCode(...bytes)).replace(/=+$/, '');
}

/** @param {string} file @param {string} expected @param {string} found */
function mismatch(file, expected, found) {
  return new TributaryError('INTEGRITY', `${file}: its hash is ${found}, expected ${expected}`, { file, field: 'integrity' });
}

/**
 * Compares whole bytes with their hash.
 * @param {string} file @param {Uint8Array} bytes @param {string} sri
 */
export async function checkDigest(file, bytes, sri) {
  const [algorithm, expected] = parse(file, sri);
  if (!globalThis.crypto?.subtle) {
    throw new TributaryError('INTEGRITY', `${file}: its hash cannot be checked, because this page is not a secure context`, { file, hint: 'serve the page by HTTPS' });
  }
  const hash = await crypto.subtle.digest(ALGORITHMS[algorithm], /** @type {BufferSource} */ (bytes));
  const found = toBase64(new Uint8Array(hash));
  if (found !== expected) throw mismatch(file, sri, `${algorithm}-${found}`);
}

/**
 * What is left to check of a file's `integrity` besides the manifest's sha256, which is checked
 * while the bytes come: nothing, or a hash of another kind.
 * @param {BundleFile} file @param {string | undefined} sri @returns {string | undefined}
 */
export function sriOf(file, sri) {
  if (sri === undefined) return undefined;
  const [algorithm, expected] = parse(file.name, sri);
  if (algorithm !== 'sha256') return sri;
  const announced = toBase64(Uint8Array.from(file.sha256.match(/../g) ?? [], (hex) => Number.parseInt(hex, 16)));
  if (announced !== expected) throw mismatch(file.name, sri, `sha256-${announced} in bundle.json`);
  return undefined;
}
