// One product: what it is, cart and buy, how it stands for this visitor and why, what comes next.

import { isOwn, shortTitle, type Product } from '../catalogue';
import { announce, fill, h, icon } from '../dom';
import type { Engine } from '../engine';
import { count, price } from '../format';
import type { Recommendations } from '../recommendations';
import { dialog } from './dialogs';
import { brandOf, notice, sheetBar, showCartButton, smallCard, toggleCart, type Page } from './parts';
import { bars, because, isDrawn } from './why';

const NEXT = 4;

export class ProductView {
  readonly dialog: HTMLDialogElement;
  readonly #page: Page;
  readonly #engine: Engine;
  readonly #recommendations: Recommendations;
  readonly #removeOwn: (item: Product) => void;
  readonly #why = h('section.item-why', { 'aria-labelledby': 'why-title' });
  readonly #next = h('section.item-next', { 'aria-labelledby': 'next-title' });
  #item: Product | null = null;
  #cart = h('button.button.primary', { type: 'button' });
  #asking: AbortController | null = null;

  constructor(page: Page, engine: Engine, recommendations: Recommendations, closed: (id: string) => void, removeOwn: (item: Product) => void) {
    this.#page = page;
    this.#engine = engine;
    this.#recommendations = recommendations;
    this.#removeOwn = removeOwn;
    this.dialog = dialog('item', () => {
      this.#asking?.abort();
      const id = this.#item?.id;
      this.#item = null;
      if (id !== undefined) closed(id);
    });
    page.visit.addEventListener('change', () => this.#showCart());
    for (const name of ['ready', 'switch']) engine.addEventListener(name, () => void this.#explain());
    recommendations.addEventListener('change', () => this.#showNext());
  }

  /** Draws `item`; a look at it is an event of the visit. */
  show(item: Product): void {
    const again = this.#item?.id === item.id;
    this.#item = item;
    if (again) return;
    this.#cart = h('button.button.primary', { type: 'button', onclick: () => toggleCart(this.#page, item) });
    const buy = (): void => {
      this.#page.visit.record(item.id, 'buy');
      this.#page.toast(`Bought: ${shortTitle(item)}. No money moved, this is a demo.`);
    };
    const facts = [item.category, item.audience === '' ? '' : `For: ${item.audience}`].filter(Boolean);
    fill(
      this.dialog,
      sheetBar('Close the product'),
      h(
        'div.item',
        {},
        h('div.item-picture', {}, this.#page.picture(item, false)),
        h('div.item-main', {}, h(
          'div.item-text',
          {},
          h('p.item-brand', {}, brandOf(item)),
          h('h2', { id: 'item-title', tabindex: '-1' }, item.title),
          h('p.item-price', {}, price(item.price)),
          h('p.item-description', {}, item.description),
          h('ul.facts', { role: 'list' }, ...facts.map((fact) => h('li', {}, fact))),
          h('div.actions', {}, this.#cart, h('button.button', { type: 'button', onclick: buy }, icon('buy'), 'Buy now'), isOwn(item) ? this.#remove(item) : null),
        ), this.#why),
        this.#next,
      ),
    );
    if (this.dialog.open) this.dialog.querySelector('h2')?.focus();
    this.#showCart();
    fill(this.#why);
    fill(this.#next);
    this.#page.visit.record(item.id, 'view');
    this.#showNext();
    void this.#explain();
  }

  #remove(item: Product): HTMLElement {
    const remove = (): void => {
      this.dialog.close();
      this.#removeOwn(item);
    };
    return h('button.button.quiet', { type: 'button', onclick: remove }, icon('trash'), 'Remove your product');
  }

  #showCart(): void {
    const item = this.#item;
    if (item !== null) showCartButton(this.#cart, item, this.#page.visit.cart.includes(item.id), true);
  }

  #showNext(): void {
    const item = this.#item;
    if (item === null || this.#recommendations.items.length === 0) return;
    const next = this.#recommendations.items.filter(({ id }) => id !== item.id).slice(0, NEXT);
    const cards = next.map(({ id }) => this.#page.catalogue.get(id)).filter((found) => found !== undefined);
    fill(
      this.#next,
      h('h3', { id: 'next-title' }, 'Recommended for you now'),
      h('ol.small-cards', { role: 'list' }, ...cards.map((found) => h('li', {}, smallCard(this.#page, found)))),
    );
  }

  async #explain(): Promise<void> {
    const item = this.#item;
    if (item === null) return;
    this.#asking?.abort();
    const { signal } = (this.#asking = new AbortController());
    const title = h('h3', { id: 'why-title' }, 'How it fits you');
    if (this.#engine.phase !== 'ready') {
      const state = this.#engine.phase === 'failed' ? 'Not known: the recommender did not start.' : 'As soon as the model is here …';
      return fill(this.#why, title, h('p.fine', {}, state));
    }
    if (this.#why.childElementCount === 0) fill(this.#why, title, h('p.fine', {}, 'Asking the model …'));
    try {
      const standing = await this.#recommendations.standing(item.id, signal);
      if (signal.aborted) return;
      if (standing === null) return fill(this.#why, title, h('p.fine', {}, 'The recommender does not know this product.'));
      const place = h('p.standing', {}, 'Rank ', h('strong', {}, count(standing.rank)), ` of ${count(standing.of)} for you`);
      const { reasons } = standing;
      const why =
        reasons === null
          ? h('p.fine', {}, 'Do something else, too: a look at another product gives the model something to go by.')
          : h('div', {}, h('p', { class: isDrawn(reasons) ? 'because' : 'because is-none' }, `${because(this.#page, reasons)}.`), bars(this.#page, reasons));
      fill(this.#why, title, place, why);
      announce(`Rank ${standing.rank} of ${standing.of} for you. ${reasons === null ? '' : because(this.#page, reasons)}`);
    } catch (error) {
      if (signal.aborted) return;
      const again = h('button.button', { type: 'button', onclick: () => void this.#explain() }, 'Ask again');
      fill(this.#why, title, notice('error', 'The model gave no answer', error instanceof Error ? error.message : String(error), again));
    }
  }
}
