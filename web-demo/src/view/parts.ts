// Pieces that several views use.

import { OWN, isOwn, shortTitle, type Catalogue, type Product } from '../catalogue';
import { fill, h, icon } from '../dom';
import { price } from '../format';
import type { Pictures } from '../pictures';
import { itemLink } from '../router';
import type { Visit } from '../visit';

/** What views need of the page. */
export interface Page {
  catalogue: Catalogue;
  visit: Visit;
  picture: Pictures;
  toast: (text: string, action?: { label: string; run: () => void }) => void;
}

export const brandOf = (item: Product): string => (isOwn(item) ? OWN : item.brand);

/** A picture, a title and a price that lead to the product. */
export function smallCard(page: Page, item: Product, ...more: (Node | string | null)[]): HTMLElement {
  return h(
    'a.small-card',
    { href: itemLink(item.id) },
    page.picture(item),
    h('span.small-card-text', {}, h('span.small-card-title', {}, shortTitle(item)), h('span.small-card-price', {}, price(item.price)), ...more),
  );
}

export function closeButton(label: string): HTMLElement {
  // The dialog's own `close` event does the rest.
  const close = (event: Event): void => (event.currentTarget as HTMLElement).closest('dialog')?.close();
  return h('button.icon-button.close', { type: 'button', 'aria-label': label, onclick: close }, icon('close'));
}

/** The same for a sheet: on a phone a bar that stays while the rest scrolls. */
export const sheetBar = (label: string): HTMLElement => h('div.sheet-bar', {}, closeButton(label));

/** The add-to-cart button's state: label, icon, and whether it is in there. */
export function showCartButton(button: HTMLButtonElement, item: Product, inCart: boolean, words: boolean): void {
  const label = inCart ? 'In the cart' : 'Add to cart';
  button.classList.toggle('is-done', inCart);
  button.setAttribute('aria-label', `${label}: ${item.title}`);
  button.title = inCart ? 'In the cart. Press to take it out.' : label;
  button.setAttribute('aria-pressed', String(inCart));
  fill(button, icon(inCart ? 'check' : 'plus'), words ? h('span', {}, label) : null);
}

export function toggleCart(page: Page, item: Product): void {
  if (page.visit.cart.includes(item.id)) {
    page.visit.takeOut(item.id);
    page.toast(`${shortTitle(item)} is out of the cart.`);
  } else {
    page.visit.record(item.id, 'cart');
    page.toast(`${shortTitle(item)} is in your cart.`, { label: 'Open cart', run: () => (location.hash = '#/cart') });
  }
}

/** A box that says what is the matter and what to do. */
export function notice(kind: 'empty' | 'error', title: string, text: string, ...actions: Node[]): HTMLElement {
  return h(
    'div',
    { class: `notice notice-${kind}`, role: kind === 'error' ? 'alert' : null },
    kind === 'error' ? icon('warning') : null,
    h('div', {}, h('p.notice-title', {}, title), h('p', {}, text), actions.length > 0 ? h('p.actions', {}, ...actions) : null),
  );
}
