// The products of the shop: the bundle's catalogue, and the visitor's own.

import { isRecord } from './store';

export interface Product {
  id: string;
  title: string;
  brand: string;
  category: string;
  price: number | undefined;
  description: string;
  audience: string;
  /** What the picture shows, for who does not see it. The recommender is not given this. */
  caption: string;
  /** A file below images/; null for the visitor's own products. */
  image: string | null;
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '');

function product(line: string): Product {
  const item: unknown = JSON.parse(line);
  if (!isRecord(item) || (typeof item['id'] !== 'string' && typeof item['id'] !== 'number')) {
    throw new Error('catalogue.jsonl: an item has no id');
  }
  const attributes = isRecord(item['attributes']) ? item['attributes'] : {};
  return {
    id: String(item['id']),
    title: text(item['title']),
    brand: text(item['brand']),
    category: text(item['category']) || 'Other',
    price: typeof item['price'] === 'number' ? item['price'] : undefined,
    description: text(item['description']),
    audience: text(attributes['audience']),
    caption: text(attributes['caption']),
    image: text(item['image']) || null,
  };
}

export class Catalogue {
  #products: Product[] = [];
  #own: Product[] = [];
  #byId = new Map<string, Product>();
  #words = new Map<string, string>();

  /** Reads `catalogue.jsonl` itself, so that the shop is open before the model has arrived. */
  async load(folder: URL): Promise<void> {
    const response = await fetch(new URL('catalogue.jsonl', folder));
    if (!response.ok) throw new Error(`catalogue.jsonl: the server answered ${response.status}`);
    const lines = (await response.text()).split('\n').filter((line) => line.trim() !== '');
    this.#products = lines.map(product);
    this.#index();
  }

  /** The visitor's own products, besides the bundle's. */
  setOwn(products: Product[]): void {
    this.#own = products;
    this.#index();
  }

  get size(): number {
    return this.#byId.size;
  }

  /** The visitor's own first. */
  get all(): Product[] {
    return [...this.#own, ...this.#products];
  }

  get bundled(): readonly Product[] {
    return this.#products;
  }

  get(id: string): Product | undefined {
    return this.#byId.get(id);
  }

  get categories(): string[] {
    const names = [...new Set(this.#products.map((item) => item.category))];
    return this.#own.length > 0 ? [...names, OWN] : names;
  }

  /** Products of `category` (all when empty) that hold every word of `query`. */
  search(query: string, category: string, order: Order): Product[] {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    const found = this.all.filter(
      (item) =>
        (category === '' || item.category === category || (category === OWN && isOwn(item))) &&
        words.every((word) => this.#words.get(item.id)?.includes(word)),
    );
    if (order === 'cheap') found.sort((a, b) => (a.price ?? Infinity) - (b.price ?? Infinity));
    if (order === 'dear') found.sort((a, b) => (b.price ?? 0) - (a.price ?? 0));
    if (order === 'mixed') found.sort((a, b) => shuffled(a.id) - shuffled(b.id));
    return found;
  }

  #index(): void {
    const all = this.all;
    this.#byId = new Map(all.map((item) => [item.id, item]));
    this.#words = new Map(
      all.map((item) => [
        item.id,
        `${item.title} ${item.category} ${item.description} ${item.caption}`.toLowerCase(),
      ]),
    );
  }
}

export const OWN = 'Yours';

export type Order = 'mixed' | 'cheap' | 'dear';

export const isOwn = (item: Product): boolean => item.id.startsWith('own-');

/** The title without the size, where space is short. */
export const shortTitle = (item: Product): string => item.title.replace(/, size \w+$/, '');

/** A fixed place in a shuffled shop window; the visitor's own products come first. */
function shuffled(id: string): number {
  if (id.startsWith('own-')) return -1;
  let hash = 2166136261;
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 16777619);
  hash = Math.imul(hash ^ (hash >>> 15), 2246822519);
  return (hash ^ (hash >>> 13)) >>> 0;
}
