// The visit as the model reads it, newest first; each step can be taken back.

import { shortTitle } from '../catalogue';
import { announce, fill, h, icon } from '../dom';
import { ago } from '../format';
import { SHOPPERS, visitOf } from '../shoppers';
import { itemLink } from '../router';
import type { VisitEvent } from '../visit';
import type { Page } from './parts';

const SHOWN = 5;
const DONE = { view: 'Viewed', cart: 'Into the cart', buy: 'Bought' } as const;

export class Timeline {
  readonly element = h('section.visit', { 'aria-labelledby': 'visit-title' });
  readonly #page: Page;
  readonly #list = h('div');
  #all = false;

  constructor(page: Page) {
    this.#page = page;
    const shoppers = SHOPPERS.map((shopper) => {
      const become = (): void => {
        page.visit.start(visitOf(shopper, page.catalogue));
        page.toast(`You shop as: ${shopper.name} (${shopper.likes}).`, { label: 'Back', run: () => page.visit.restore() });
      };
      return h('button.chip', { type: 'button', onclick: become, title: shopper.likes }, shopper.name);
    });
    fill(
      this.element,
      h('h2', { id: 'visit-title' }, 'Your visit'),
      this.#list,
      h('div.shoppers', { role: 'group', 'aria-labelledby': 'shoppers-title' }, h('p.label', { id: 'shoppers-title' }, 'Or try as'), h('div.chips', {}, ...shoppers)),
    );
    page.visit.addEventListener('change', () => this.show());
    setInterval(() => this.#showTimes(), 30_000);
  }

  show(): void {
    const { visit } = this.#page;
    const events = [...visit.events].reverse();
    if (events.length === 0) {
      return fill(
        this.#list,
        h('p.fine', {}, 'Nothing yet. Look at a product, put one into the cart, buy one: each step is one event, and changes what is recommended.'),
      );
    }
    const shown = this.#all ? events : events.slice(0, SHOWN);
    const undo = (): void => {
      visit.undoLast();
      announce('The last step is taken back.');
    };
    const startOver = (): void => {
      visit.start([]);
      this.#page.toast('A new visit begins.', { label: 'Undo', run: () => visit.restore() });
    };
    const more = h('button.text-button', { type: 'button', onclick: () => { this.#all = true; this.show(); } }, `All ${events.length} steps`);
    fill(
      this.#list,
      h('ol.events', { role: 'list' }, ...shown.map((event) => this.#event(event))),
      shown.length < events.length ? more : null,
      h(
        'p.actions',
        {},
        h('button.button.small', { type: 'button', onclick: undo }, icon('undo'), 'Undo last'),
        h('button.button.small', { type: 'button', onclick: startOver }, 'Start over'),
      ),
    );
  }

  #event(event: VisitEvent): HTMLElement {
    const { visit, catalogue, picture } = this.#page;
    const item = catalogue.get(event.item);
    const title = item === undefined ? event.item : shortTitle(item);
    const undo = (): void => {
      visit.undo(event);
      announce(`Taken back: ${DONE[event.behaviour]} ${title}`);
    };
    return h(
      'li.event',
      { 'data-behaviour': event.behaviour },
      h('span.event-icon', {}, icon(event.behaviour)),
      item === undefined ? null : picture(item),
      h(
        'span.event-text',
        {},
        h('span.event-done', {}, DONE[event.behaviour], ' ', h('span.event-time', { 'data-time': event.time }, ago(event.time))),
        item === undefined ? title : h('a', { href: itemLink(item.id) }, title),
      ),
      h('button.icon-button.event-undo', { type: 'button', 'aria-label': `Take back: ${DONE[event.behaviour]} ${title}`, title: 'Take back', onclick: undo }, icon('close')),
    );
  }

  #showTimes(): void {
    for (const time of this.#list.querySelectorAll<HTMLElement>('.event-time')) {
      time.textContent = ago(Number(time.dataset['time']));
    }
  }
}
