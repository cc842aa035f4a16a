// What the page knows of the items: the bundle's, those added at run time, and which of them can be
// recommended now.

import { engineItem, publicItem } from './requests.js';

/** @import {EngineItem} from './core.js' */
/** @import {Item, ItemId} from './index.js' */
/** @import {PictureSource} from './image.js' */
/** @typedef {{ item: EngineItem, picture?: PictureSource }} ColdItem */

export class Catalogue {
  /** The bundle's own, in its order. @type {EngineItem[]} */
  #bundled;
  /** By the id as text. @type {Map<string, Item>} */
  #known = new Map();
  /** The ids as the caller writes them. @type {Map<string, ItemId>} */
  #forms = new Map();
  /** In the order they were added: a fresh engine gets them again. @type {ColdItem[]} */
  cold = [];
  /** `undefined`: all of the bundle, and nothing that came only with a request. @type {Set<string> | undefined} */
  #listed;

  /** @param {EngineItem[]} bundled */
  constructor(bundled) {
    this.#bundled = bundled;
    for (const item of bundled) this.#known.set(String(item.id), publicItem(item));
  }

  /** Fresh objects: a caller may change them. */
  bundled() {
    return this.#bundled.map(publicItem);
  }

  /** @param {string} id */
  has(id) {
    return this.#known.has(id);
  }

  /** @param {string} id */
  get(id) {
    return this.#known.get(id);
  }

  /** What is known of an item, and over it what a caller says of it now. @param {string} id @param {Item} given @returns {Item} */
  described(id, given) {
    const said = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
    // Two names of one thing: a new text must not stand behind an old description.
    const words = given.description ?? given.text;
    return { .../** @type {Item} */ (this.#known.get(id)), ...(words !== undefined && { text: words, description: words }), ...said };
  }

  /** @param {string} id @param {Item} given From now on it is shown, filtered and written in this form. */
  describe(id, given) {
    this.#known.set(id, this.described(id, given));
    this.#forms.set(id, given.id);
  }

  /** @param {string} id @param {Item} given @param {PictureSource | undefined} picture */
  added(id, given, picture) {
    this.cold.push({ item: engineItem(given), ...(picture !== undefined && { picture }) });
    this.describe(id, given);
  }

  /** @param {Set<string>} ids @param {'add' | 'replace'} mode */
  list(ids, mode) {
    this.#listed = mode === 'replace' ? ids : new Set([...this.listed(), ...ids]);
  }

  /** @returns {Iterable<string>} */
  listed() {
    return this.#listed ?? this.#bundled.map(({ id }) => String(id));
  }

  /** True while the engine's own catalogue is exactly what can be recommended. */
  isWhole() {
    return this.#listed === undefined && this.cold.length === 0;
  }

  /** @param {string | number} id */
  form(id) {
    return this.#forms.get(String(id)) ?? id;
  }

  /** @param {string} id */
  title(id) {
    const item = this.#known.get(id);
    return item?.title ?? item?.description ?? item?.text?.slice(0, 60) ?? id;
  }
}
