// Categories, order, and the products, some at a time.

import { isOwn, shortTitle, type Order, type Product } from '../catalogue';
import { announce, byId, fill, h } from '../dom';
import { plural, price } from '../format';
import { itemLink } from '../router';
import { brandOf, notice, showCartButton, toggleCart, type Page } from './parts';

const AT_A_TIME = 30;

export class Grid {
  readonly #page: Page;
  readonly #title = h('h1', {}, 'Everything');
  readonly #count = h('p.count', {});
  readonly #chips = h('div.chips', { role: 'group', 'aria-label': 'Category' });
  readonly #list = h('ul.grid', { role: 'list' });
  readonly #end = h('div.grid-end');
  readonly #buttons = new Map<string, [HTMLButtonElement, Product]>();
  #words = '';
  #category = '';
  #order: Order = 'mixed';
  #shown = AT_A_TIME;

  constructor(page: Page) {
    this.#page = page;
    const order = h(
      'select',
      { id: 'order', 'aria-label': 'Order', onchange: () => { this.#order = order.value as Order; this.#restart(); } },
      h('option', { value: 'mixed' }, 'Mixed'),
      h('option', { value: 'cheap' }, 'Price, low first'),
      h('option', { value: 'dear' }, 'Price, high first'),
    );
    fill(
      byId('main'),
      h('div.grid-head', {}, h('div.grid-title', {}, this.#title, this.#count), h('label.order', { for: 'order' }, h('span', {}, 'Order'), order)),
      this.#chips,
      this.#list,
      this.#end,
    );
    this.skeleton();
    page.visit.addEventListener('change', () => this.#showCarts());
  }

  /** Places for the products that are still on their way. */
  skeleton(): void {
    const card = (): HTMLElement =>
      h('li.card.is-skeleton', { 'aria-hidden': 'true' }, h('div.tile'), h('div.line'), h('div.line.short'));
    fill(this.#list, ...Array.from({ length: 10 }, card));
    this.#count.textContent = 'Opening the shop …';
  }

  /** The catalogue did not come. */
  fail(detail: string, again: () => void): void {
    fill(this.#list);
    const retry = h('button.button', { type: 'button', onclick: again }, 'Try again');
    fill(this.#end, notice('error', 'The products did not arrive', `${detail}. Check the connection and try again.`, retry));
    this.#count.textContent = '';
  }

  search(words: string): void {
    this.#words = words.trim();
    this.#restart();
    announce(this.#count.textContent ?? '');
  }

  /** Draws all of it: the catalogue has changed. */
  show(): void {
    const chip = (name: string, label: string): HTMLElement =>
      h(
        'button.chip',
        { type: 'button', 'aria-pressed': String(this.#category === name), 'data-name': name, onclick: () => this.#choose(name) },
        label,
      );
    const { categories } = this.#page.catalogue;
    if (this.#category !== '' && !categories.includes(this.#category)) this.#category = '';
    fill(this.#chips, chip('', 'Everything'), ...categories.map((name) => chip(name, name)));
    this.#products();
  }

  /** The link of a product's card, if it is on the page. */
  link(id: string): HTMLElement | null {
    return this.#list.querySelector(`[data-id="${CSS.escape(id)}"] a`);
  }

  #choose(name: string): void {
    this.#category = name;
    for (const chip of this.#chips.querySelectorAll('button')) {
      chip.setAttribute('aria-pressed', String(chip.dataset['name'] === name));
    }
    this.#restart();
    announce(`${name || 'Everything'}: ${this.#count.textContent}`);
  }

  #restart(): void {
    this.#shown = AT_A_TIME;
    this.#products();
  }

  #products(): void {
    const found = this.#page.catalogue.search(this.#words, this.#category, this.#order);
    const shown = found.slice(0, this.#shown);
    this.#title.textContent = this.#category || (this.#words === '' ? 'Everything' : 'Search');
    this.#count.textContent =
      this.#words === '' ? plural(found.length, 'product') : `${plural(found.length, 'product')} for “${this.#words}”`;
    this.#buttons.clear();
    fill(this.#list, ...shown.map((item) => this.#card(item)));
    this.#showCarts();
    fill(this.#end, ...this.#after(found.length));
  }

  #after(found: number): Node[] {
    if (found === 0) {
      const clear = (): void => {
        const field = byId<HTMLInputElement>('search');
        field.value = '';
        this.#words = '';
        this.#choose('');
        field.focus();
      };
      const all = h('button.button', { type: 'button', onclick: clear }, 'Show everything');
      return [notice('empty', 'Nothing here fits', 'Try fewer words, a colour (“green”), a pattern (“dotted”) or a brand.', all)];
    }
    if (found <= this.#shown) return [];
    const more = (): void => {
      const first = this.#shown;
      this.#shown += AT_A_TIME;
      this.#products();
      this.#list.children[first]?.querySelector('a')?.focus();
    };
    return [h('button.button.more', { type: 'button', onclick: more }, `Show ${Math.min(AT_A_TIME, found - this.#shown)} more of ${found}`)];
  }

  #card(item: Product): HTMLElement {
    const cart = h('button.icon-button.card-cart', { type: 'button', onclick: () => toggleCart(this.#page, item) });
    this.#buttons.set(item.id, [cart, item]);
    return h(
      'li.card',
      { 'data-id': item.id },
      h(
        'a.card-link',
        { href: itemLink(item.id) },
        h('div.tile', {}, this.#page.picture(item, false), isOwn(item) ? h('span.flag', {}, 'yours') : null),
        h('span.card-brand', {}, brandOf(item)),
        h('span.card-title', {}, shortTitle(item)),
        h('span.card-price', {}, price(item.price)),
      ),
      cart,
    );
  }

  #showCarts(): void {
    const cart = new Set(this.#page.visit.cart);
    for (const [id, [button, item]] of this.#buttons) showCartButton(button, item, cart.has(id), false);
  }
}
