// Which products' pictures are nearest to a picture, in the space of the bundle's picture encoder.

import type { Product } from './catalogue';
import type { Engine } from './engine';

const AT_ONCE = 20;

export class Likeness {
  readonly #engine: Engine;
  #rows: { id: string; row: Float32Array }[] = [];

  constructor(engine: Engine) {
    this.#engine = engine;
    // Another device is another engine, with embeddings that differ in the last digits.
    engine.addEventListener('state', () => {
      if (engine.phase !== 'ready') this.#rows = [];
    });
  }

  /** The `most` nearest of `products`, by cosine; embeds their pictures at the first time. */
  async nearest(
    picture: Blob,
    products: readonly Product[],
    most: number,
    { signal, progress }: { signal: AbortSignal; progress: (share: number) => void },
  ): Promise<{ id: string; cosine: number }[]> {
    const drawn = products.filter((product) => product.image !== null);
    for (let from = this.#rows.length; from < drawn.length; from += AT_ONCE) {
      const part = drawn.slice(from, from + AT_ONCE);
      const urls = part.map((product) => new URL(`./images/${encodeURIComponent(product.image ?? '')}`, document.baseURI));
      const rows = await this.#engine.embed(urls, signal);
      this.#rows.push(...part.map((product, i) => ({ id: product.id, row: rows[i] ?? new Float32Array() })));
      progress(this.#rows.length / drawn.length);
    }
    const [query] = await this.#engine.embed([picture], signal);
    if (query === undefined) return [];
    const cosine = (row: Float32Array): number => row.reduce((sum, x, i) => sum + x * (query[i] ?? 0), 0);
    return this.#rows
      .map(({ id, row }) => ({ id, cosine: cosine(row) }))
      .sort((a, b) => b.cosine - a.cosine)
      .slice(0, most);
  }
}
