// "Because you …": what drew an item, by how much its score falls without it.

import { shortTitle } from '../catalogue';
import { h } from '../dom';
import { MODALITY_NAMES } from '../engine';
import { signed } from '../format';
import type { Reasons } from '../recommendations';
import { youDid } from '../visit';
import type { Page } from './parts';

/** Something the visitor did speaks for it. */
export const isDrawn = ({ items }: Reasons): boolean => (items[0]?.change ?? 0) > 0;

/** `Because you bought …`, or that there is no such reason. */
export function because(page: Page, reasons: Reasons): string {
  const best = reasons.items[0];
  const item = best === undefined ? undefined : page.catalogue.get(best.id);
  if (best === undefined || item === undefined || !isDrawn(reasons)) return 'Nothing you did speaks for it';
  return `Because ${youDid(page.visit.strongest(best.id), shortTitle(item))}`;
}

/** The modality that the score needs most, if it needs any. */
export function drawnBy(reasons: Reasons): string | null {
  const best = [...reasons.modalities].sort((a, b) => b.change - a.change)[0];
  return best === undefined || best.change <= 0 ? null : MODALITY_NAMES[best.modality].toLowerCase();
}

function bar(label: Node | string, change: number, largest: number): HTMLElement {
  const share = largest === 0 ? 0 : Math.abs(change) / largest;
  const length = h('span.bar-length', { class: change < 0 ? 'bar-length is-against' : 'bar-length' });
  length.style.inlineSize = `${Math.max(1, 100 * share).toFixed(1)}%`;
  return h('li.bar', {}, h('span.bar-label', {}, label), h('span.bar-track', { 'aria-hidden': 'true' }, length), h('span.bar-value', {}, signed(change)));
}

/** Bars for the history's items and for picture, text and graph, on one scale. */
export function bars(page: Page, reasons: Reasons, most = 4): HTMLElement {
  const items = reasons.items.slice(0, most);
  const largest = Math.max(...[...items, ...reasons.modalities].map(({ change }) => Math.abs(change)), 0);
  const names = items.map(({ id, change }) => {
    const item = page.catalogue.get(id);
    return bar(item === undefined ? id : shortTitle(item), change, largest);
  });
  const modalities = reasons.modalities.map(({ modality, change }) => bar(MODALITY_NAMES[modality], change, largest));
  return h(
    'div.why',
    {},
    h('p.why-head', {}, 'What you did'),
    h('ul.bars', { role: 'list' }, ...names),
    h('p.why-head', {}, 'What the model looked at'),
    h('ul.bars', { role: 'list' }, ...modalities),
    h('p.fine', {}, 'Each bar: how far the score falls when the model does without this (leave one out). A negative bar spoke against it.'),
  );
}
