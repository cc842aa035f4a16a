// The cart: slides in from the side. Buying is an event for each product in it.

import { shortTitle, type Product } from '../catalogue';
import { announce, fill, h, icon } from '../dom';
import { plural, price } from '../format';
import { dialog } from './dialogs';
import { closeButton, notice, smallCard, type Page } from './parts';

export class CartView {
  readonly dialog = dialog('cart');
  readonly #page: Page;

  constructor(page: Page) {
    this.#page = page;
    page.visit.addEventListener('change', () => this.show());
    this.show();
  }

  show(): void {
    const { visit, catalogue } = this.#page;
    const items = visit.cart.map((id) => catalogue.get(id)).filter((item) => item !== undefined);
    const sum = items.reduce((total, item) => total + (item.price ?? 0), 0);
    const hadFocus = this.dialog.contains(document.activeElement);
    fill(
      this.dialog,
      h('div.drawer-head', {}, h('h2', { id: 'cart-title', tabindex: '-1' }, 'Your cart'), closeButton('Close the cart')),
      items.length === 0 ? this.#empty() : h('ul.cart-items', { role: 'list' }, ...items.map((item) => this.#row(item))),
      items.length === 0 ? null : this.#total(items.length, sum),
    );
    if (hadFocus && this.dialog.open) this.dialog.querySelector('h2')?.focus();
  }

  #empty(): HTMLElement {
    const shop = h('button.button', { type: 'button', onclick: () => this.dialog.close() }, 'Back to the shop');
    return notice('empty', 'Nothing in it yet', 'Press “+” on a product to put it in. The recommendations follow.', shop);
  }

  #row(item: Product): HTMLElement {
    const take = (): void => {
      this.#page.visit.takeOut(item.id);
      announce(`${shortTitle(item)} is out of the cart.`);
    };
    return h(
      'li.cart-row',
      {},
      smallCard(this.#page, item),
      h('button.icon-button', { type: 'button', 'aria-label': `Take out: ${item.title}`, title: 'Take out', onclick: take }, icon('close')),
    );
  }

  #total(many: number, sum: number): HTMLElement {
    const buy = (): void => {
      this.#page.visit.buyCart();
      this.dialog.close();
      this.#page.toast(`Bought: ${plural(many, 'product')}. No money moved, this is a demo.`);
    };
    return h(
      'div.cart-total',
      {},
      h('p.sum', {}, h('span', {}, plural(many, 'product')), h('strong', {}, price(sum))),
      h('button.button.primary.wide', { type: 'button', onclick: buy }, icon('buy'), 'Buy'),
      h('p.fine', {}, 'A demo: nothing is sold, and no order is sent.'),
    );
  }
}
