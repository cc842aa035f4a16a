// "Recommended for you": always in sight, new after every event.

import { shortTitle, type Product } from '../catalogue';
import { announce, byId, fill, h, icon } from '../dom';
import type { Engine } from '../engine';
import { bytes, milliseconds, plural, price } from '../format';
import type { Ranked, Recommendations } from '../recommendations';
import { itemLink } from '../router';
import { notice, type Page } from './parts';
import { because, drawnBy } from './why';

const LEADING = 3;

export class Strip {
  readonly #page: Page;
  readonly #engine: Engine;
  readonly #recommendations: Recommendations;
  readonly #note = h('p.strip-note');
  readonly #body = h('div.strip-body');
  readonly #cards = new Map<string, HTMLElement>();

  constructor(page: Page, engine: Engine, recommendations: Recommendations) {
    this.#page = page;
    this.#engine = engine;
    this.#recommendations = recommendations;
    fill(
      byId('strip'),
      h('div.strip-head', {}, h('h2', { id: 'strip-title' }, 'Recommended for you'), this.#note),
      this.#body,
    );
    engine.addEventListener('state', () => this.#showEngine());
    recommendations.addEventListener('busy', () => byId('strip').setAttribute('aria-busy', 'true'));
    recommendations.addEventListener('change', () => this.#showItems());
    recommendations.addEventListener('reasons', () => this.#showReasons());
    this.#showEngine();
  }

  #showEngine(): void {
    const { phase, download, problem } = this.#engine;
    if (phase === 'ready') return;
    this.#cards.clear();
    if (phase === 'failed') {
      const again = h('button.button', { type: 'button', onclick: () => void this.#engine.load() }, 'Try again');
      fill(this.#note, 'Not available right now');
      fill(this.#body, notice('error', problem?.title ?? '', `${problem?.advice} (${problem?.detail})`, again));
      return;
    }
    if (this.#body.querySelector('.loading') === null) fill(this.#body, loading());
    const bar = this.#body.querySelector('progress');
    const text = this.#body.querySelector('.loading-text');
    if (bar === null || text === null) return;
    if (download === null || download.total === 0) {
      bar.removeAttribute('value');
      text.textContent = 'Starting the recommender in your browser …';
    } else {
      bar.value = download.loaded / download.total;
      text.textContent =
        download.loaded < download.total
          ? `Fetching the model, once: ${bytes(download.loaded)} of ${bytes(download.total)}`
          : 'Starting the model …';
    }
    fill(this.#note, h('span.strip-from', {}, 'Computed in your browser. You can shop meanwhile.'));
  }

  #showItems(): void {
    byId('strip').removeAttribute('aria-busy');
    const { items, problem, before } = this.#recommendations;
    if (problem !== null) {
      const again = h('button.button', { type: 'button', onclick: () => void this.#recommendations.refresh() }, 'Try again');
      this.#cards.clear();
      fill(this.#body, notice('error', problem.title, `${problem.advice} (${problem.detail})`, again));
      return;
    }
    let list = this.#body.querySelector('ol');
    if (list === null) {
      list = h('ol.strip-list', { role: 'list', tabindex: '0', 'aria-label': 'Recommended products, best first' });
      fill(this.#body, list);
    }
    const kept = new Set(items.map((item) => item.id));
    for (const [id, card] of this.#cards) {
      if (kept.has(id)) continue;
      card.remove();
      this.#cards.delete(id);
    }
    for (const item of items) {
      const product = this.#page.catalogue.get(item.id);
      if (product === undefined) continue;
      const card = this.#cards.get(item.id) ?? this.#card(product);
      this.#cards.set(item.id, card);
      this.#place(card, item, before);
      // Moving the card that has the focus would take the focus from it.
      if (list.children[item.rank - 1] !== card) list.insertBefore(card, list.children[item.rank - 1] ?? null);
    }
    list.scrollLeft = 0;
    fill(this.#note, ...this.#explanation());
    const first = items[0] === undefined ? undefined : this.#page.catalogue.get(items[0].id);
    if (first !== undefined) announce(`New recommendations. First: ${first.title}, ${price(first.price)}.`);
  }

  /** From what, and how fast. */
  #explanation(): (Node | string)[] {
    const last = this.#engine.calls.findLast((call) => call.purpose === 'strip');
    const time = last === undefined ? '' : `${milliseconds(last.timings.totalMs)} on this device`;
    const events = this.#page.visit.events.length;
    const from =
      events === 0
        ? 'You have done nothing yet: a first guess, the same for everybody.'
        : `From ${plural(events, 'thing')} you did.`;
    return [h('span.strip-from', {}, `${from} `), time];
  }

  #card(product: Product): HTMLElement {
    return h(
      'li.strip-card',
      { 'data-id': product.id },
      h(
        'a',
        { href: itemLink(product.id) },
        h('span.strip-picture', {}, this.#page.picture(product), h('span.rank', { 'aria-hidden': 'true' }), h('span.drawn', { hidden: true })),
        h('span.strip-text', {}, h('span.strip-title', {}, shortTitle(product)), h('span.strip-price', {}, price(product.price)), h('span.strip-why')),
      ),
    );
  }

  #place(card: HTMLElement, item: Ranked, before: Map<string, number>): void {
    card.classList.toggle('is-leading', item.rank <= LEADING);
    const was = before.get(item.id);
    const isNew = before.size > 0 && was === undefined;
    card.classList.toggle('is-new', isNew);
    const rank = card.querySelector('.rank');
    if (rank !== null) rank.textContent = String(item.rank);
    card.dataset['score'] = String(item.score);
    for (const text of card.querySelectorAll<HTMLElement>('.strip-why, .drawn')) text.textContent = '';
  }

  #showReasons(): void {
    for (const [id, reasons] of this.#recommendations.reasons) {
      const card = this.#cards.get(id);
      const why = card?.querySelector('.strip-why');
      const drawn = card?.querySelector<HTMLElement>('.drawn');
      if (!why || !drawn) continue;
      why.textContent = because(this.#page, reasons);
      const modality = drawnBy(reasons);
      drawn.hidden = modality === null;
      fill(drawn, h('span.visually-hidden', {}, 'mostly by '), modality);
    }
  }
}

function loading(): HTMLElement {
  return h(
    'div.loading',
    {},
    h('p.loading-text', { id: 'loading-text' }),
    h('progress', { max: 1, 'aria-labelledby': 'loading-text' }),
    h('p.fine', {}, icon('shield'), 'It then stays in this browser, and what you do stays here, too.'),
  );
}
