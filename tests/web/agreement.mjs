// Whether the package in the page and the native program give one answer. TRIBUTARY names the program.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const PROGRAM = process.env.TRIBUTARY ?? fileURLToPath(new URL('../../target/debug/tributary', import.meta.url));
const SEED = 20261122;
/** Only the order of sums differs: scores by `score`, and items whose scores are closer than `tie` may change places. */
const BOUNDS = { score: 1e-3, tie: 1e-4 };

/** mulberry32: the same numbers on every machine. @returns {() => number} in [0, 1) */
function generator(state) {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What a bundle's requests may hold. */
export const TMF = { events: ['view', 'cart', 'buy'], hide: ['image', 'text', 'graph'] };
/** Of recommenders that read items alone. */
export const ITEMS = { events: [undefined], hide: [] };

/** `count` requests in the form of the package, drawn from the text of a catalogue. */
export function drawRequests(count, catalogue, { events, hide }) {
  const ids = catalogue.trim().split('\n').map((line) => JSON.parse(line).id);
  const random = generator(SEED);
  const upTo = (n) => Math.floor(random() * n);
  const pick = (list) => list[upTo(list.length)];
  const some = (count) => [...new Set(Array.from({ length: count }, () => pick(ids)))];
  return Array.from({ length: count }, () => ({
    history: Array.from({ length: 1 + upTo(20) }, () => ({ item: pick(ids), event: pick(events) })),
    k: 1 + upTo(50),
    ...(random() < 0.3 && { candidates: some(2 + upTo(60)) }),
    ...(random() < 0.3 && { exclude: some(1 + upTo(10)) }),
    ...(hide.length > 0 && random() < 0.3 && { hide: [pick(hide)] }),
    ...(random() < 0.3 && { excludeSeen: false }),
    ...(hide.length > 0 && random() < 0.3 && { targetBehaviour: pick(events) }),
  }));
}

/** One line of the program's file; its defaults are the package's. */
function nativeLine({ history, k, candidates, exclude, hide, excludeSeen, targetBehaviour }) {
  return JSON.stringify({
    history: history.map(({ item, event }) => ({ item, ...(event && { behaviour: event }) })),
    k,
    exclude_seen: excludeSeen ?? true,
    exclude: exclude ?? [],
    ...(candidates && { candidates }),
    ...(hide && { hide }),
    ...(targetBehaviour && { target_behaviour: targetBehaviour }),
  });
}

/** The program's answers from the bundle in `folder`. */
export function answerNatively(bundle, requests) {
  const folder = mkdtempSync(join(tmpdir(), 'tributary-parity-'));
  try {
    const file = join(folder, 'requests.jsonl');
    writeFileSync(file, requests.map(nativeLine).join('\n'));
    const words = ['recommend', '--bundle', bundle, '--requests', file, '--json', '--device', 'cpu'];
    return JSON.parse(execFileSync(PROGRAM, words, { encoding: 'utf8', maxBuffer: 1 << 28 }));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What `compare` counts. */
export const counts = () => ({ difference: 0, places: 0, first: 0, same: 0, swaps: 0, widest: 0 });

/** Fails with the request where the answers differ; counts the places that changed between near-equals. */
export function compare(request, ours, native, seen) {
  const about = `${nativeLine(request)}\nours   ${JSON.stringify(ours)}\nnative ${JSON.stringify(native)}`;
  assert.equal(ours.error, native.error?.code, about);
  if (native.error) return;
  assert.deepEqual(ours.items.map(({ rank }) => rank), native.items.map(({ rank }) => rank), about);
  const scores = new Map(native.items.map(({ id, score }) => [String(id), score]));
  const swaps = seen.swaps;
  if (String(ours.items[0]?.id) === String(native.items[0]?.id)) seen.first += 1;
  ours.items.forEach(({ id, score }, place) => {
    const there = native.items[place];
    seen.places += 1;
    // An item that came in at the end of the list has no native score; ours is then the nearest we know.
    const nativeScore = scores.get(String(id)) ?? score;
    seen.difference = Math.max(seen.difference, Math.abs(score - nativeScore));
    assert.ok(Math.abs(score - nativeScore) <= BOUNDS.score, `${id}: score ${score}, natively ${nativeScore}\n${about}`);
    if (String(id) === String(there.id)) return;
    const distance = Math.abs(nativeScore - there.score);
    assert.ok(distance < BOUNDS.tie, `rank ${place + 1}: ${id} in place of ${there.id}, scores ${distance} apart\n${about}`);
    seen.swaps += 1;
    seen.widest = Math.max(seen.widest, distance);
  });
  if (seen.swaps === swaps) seen.same += 1;
}
