// The visitor's own product: draw or choose a picture, name it, and see it ranked at once.

import { shortTitle } from '../catalogue';
import { announce, fill, h, icon } from '../dom';
import type { Engine } from '../engine';
import { count } from '../format';
import { Likeness } from '../likeness';
import { PICTURE, type OwnProduct, type OwnProducts } from '../own';
import type { Ranked, Recommendations } from '../recommendations';
import { itemLink } from '../router';
import type { Stamp } from '../stamps';
import { dialog } from './dialogs';
import { Easel } from './draw';
import { notice, sheetBar, smallCard, type Page } from './parts';
import { because } from './why';

const ALIKE = 6;

export class Studio {
  readonly dialog = dialog('studio', () => this.#asking?.abort());
  readonly #page: Page;
  readonly #engine: Engine;
  readonly #own: OwnProducts;
  readonly #recommendations: Recommendations;
  readonly #likeness: Likeness;
  readonly #changed: () => void;
  readonly #easel = new Easel();
  readonly #title = h('input', { type: 'text', id: 'own-title', required: true, maxlength: 80, autocomplete: 'off', placeholder: 'Elvika Kids Mug Lumo' });
  readonly #category = h('select', { id: 'own-category' });
  readonly #result = h('div.studio-result', { 'aria-live': 'polite' });
  readonly #submit = h('button.button.primary', { type: 'submit' }, icon('plus'), 'Put it on the shelf');
  #asking: AbortController | null = null;

  constructor(page: Page, engine: Engine, own: OwnProducts, recommendations: Recommendations, changed: () => void) {
    this.#page = page;
    this.#engine = engine;
    this.#own = own;
    this.#recommendations = recommendations;
    this.#likeness = new Likeness(engine);
    this.#changed = changed;
    this.#easel.addEventListener('stamp', (event) => this.#suggest((event as CustomEvent<Stamp>).detail));
    const form = h(
      'form.studio-form',
      { onsubmit: (event) => { event.preventDefault(); void this.#add(); } },
      h('label', { for: 'own-title' }, 'Title'),
      this.#title,
      h('label', { for: 'own-category' }, 'Category ', h('span.optional', {}, 'optional')),
      this.#category,
      this.#submit,
      h('p.fine', {}, 'A title like the shop’s tells most: brand, for whom, what. The picture and the title stay in this browser.'),
      this.#result,
    );
    fill(
      this.dialog,
      sheetBar('Close your own product'),
      h('h2', { id: 'studio-title', tabindex: '-1' }, 'Your own product'),
      h('p.studio-lead', {}, 'Something no model was trained on: draw it or bring a picture, give it a title, and see where it ranks for you, at once.'),
      h('p.note', {}, 'The demo’s small encoder knows drawn products like this shop’s, their colours and patterns. It does not know the world: a photo is just colours to it.'),
      h('div.studio', {}, this.#easel.element, form),
    );
    this.#listen();
  }

  show(): void {
    const { categories } = this.#page.catalogue;
    const chosen = this.#category.value;
    fill(this.#category, h('option', { value: '' }, 'None'), ...categories.filter((name) => name !== 'Yours').map((name) => h('option', { value: name }, name)));
    this.#category.value = chosen;
  }

  #listen(): void {
    this.dialog.addEventListener('dragover', (event) => event.preventDefault());
    this.dialog.addEventListener('drop', (event) => {
      event.preventDefault();
      const file = event.dataTransfer?.files[0];
      if (file !== undefined) void this.#easel.take(file);
    });
    this.dialog.addEventListener('paste', (event) => {
      const file = event.clipboardData?.files[0];
      if (file === undefined) return;
      event.preventDefault();
      void this.#easel.take(file);
    });
  }

  #suggest(stamp: Stamp): void {
    if (this.#title.value === '' || this.#title.value.startsWith('My ')) this.#title.value = `My ${stamp.name}`;
    this.#category.value = stamp.category;
  }

  async #add(): Promise<void> {
    const title = this.#title.value.trim();
    if (title === '') return this.#complain('It has no title yet', 'Write one, such as “Elvika Kids Mug Lumo”.');
    if (this.#easel.empty) return this.#complain('It has no picture yet', 'Stamp one, draw, or choose a file.');
    if (this.#engine.phase !== 'ready') return this.#complain('The model is not here yet', 'Wait until it has loaded, then try again.');
    this.#submit.disabled = true;
    fill(this.#result, h('p.fine', {}, 'The model looks at it …'));
    const [product, kept] = await this.#own.add(title, this.#category.value, this.#easel.finished(PICTURE));
    try {
      await this.#engine.add(product);
      this.#changed();
      await this.#rank(product, kept);
    } catch (error) {
      this.#own.remove(product.id);
      this.#changed();
      this.#complain('The model could not take it', error instanceof Error ? error.message : String(error));
    } finally {
      this.#submit.disabled = false;
    }
  }

  #complain(title: string, text: string): void {
    fill(this.#result, notice('error', title, text));
  }

  async #rank(product: OwnProduct, kept: boolean): Promise<void> {
    this.#asking?.abort();
    const { signal } = (this.#asking = new AbortController());
    const standing = await this.#recommendations.standing(product.id, signal);
    if (standing === null || signal.aborted) return;
    const { reasons, rank, of } = standing;
    const words = reasons === null ? 'You have done nothing yet, so this is the rank for anybody.' : `${because(this.#page, reasons)}.`;
    const encodes = this.#engine.info?.encodes ?? [];
    const alike = encodes.includes('image')
      ? this.#alike(product, signal)
      : h('p.fine', {}, 'This bundle has no picture encoder: the rank is without what your picture shows.');
    fill(
      this.#result,
      h('h3.standing', {}, 'Rank ', h('strong', {}, count(rank)), ` of ${count(of)} for you`),
      h('p', {}, words),
      h('p.label', {}, 'Next to it in the ranking'),
      h('ol.ranking', { role: 'list' }, ...standing.around.map((item) => this.#row(item, product.id))),
      alike,
      kept ? null : h('p.fine', {}, 'This browser has no space to keep it: it is gone when you leave the page.'),
      h('p.actions', {}, h('a.button.small', { href: itemLink(product.id) }, 'Open its page')),
    );
    this.#result.scrollIntoView({ block: 'nearest' });
    announce(`${product.title}: rank ${rank} of ${of} for you.`);
  }

  #row({ id, rank }: Ranked, mine: string): HTMLElement {
    const item = this.#page.catalogue.get(id);
    return h(
      'li',
      { class: id === mine ? 'is-mine' : null },
      h('span.ranking-place', {}, count(rank)),
      item === undefined ? id : smallCard(this.#page, item),
    );
  }

  #alike(product: OwnProduct, signal: AbortSignal): HTMLElement {
    const list = h('div.alike');
    const look = async (): Promise<void> => {
      const bar = h('progress', { max: 1, value: 0, 'aria-label': 'Looking at all pictures' });
      fill(list, h('p.label', {}, 'Looking at all pictures of the shop, once …'), bar);
      try {
        const options = { signal, progress: (share: number) => (bar.value = share) };
        const found = await this.#likeness.nearest(this.#own.blob(product), this.#page.catalogue.bundled, ALIKE, options);
        const items = found.map(({ id, cosine }) => ({ item: this.#page.catalogue.get(id), cosine }));
        fill(
          list,
          h('p.label', {}, 'Pictures most like it, for the encoder'),
          h('ol.alike-list', { role: 'list' }, ...items.map(({ item, cosine }) => item === undefined ? null : h('li', {}, h('a', { href: itemLink(item.id), title: shortTitle(item) }, this.#page.picture(item, false), h('span', {}, cosine.toFixed(2)))))),
        );
      } catch (error) {
        if (!signal.aborted) fill(list, notice('error', 'The pictures could not be compared', error instanceof Error ? error.message : String(error)));
      }
    };
    fill(list, h('button.button.small', { type: 'button', onclick: () => void look() }, icon('search'), 'Find pictures like it'));
    return list;
  }
}
