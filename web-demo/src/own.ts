// The visitor's own products: title, category and a small picture, kept in this browser.

import type { Product } from './catalogue';
import { isRecord, read, write } from './store';

/** Pixels of a side, like the catalogue's pictures. */
export const PICTURE = 128;

export interface OwnProduct {
  id: string;
  title: string;
  category: string;
  picture: string; // base64 PNG
}

const isOwnProducts = (value: unknown): value is OwnProduct[] =>
  Array.isArray(value) &&
  value.every(
    (item) =>
      isRecord(item) &&
      ['id', 'title', 'category', 'picture'].every((field) => typeof item[field] === 'string'),
  );

export class OwnProducts {
  #products: OwnProduct[] = read('own', isOwnProducts, []);
  readonly #pictures = new Map<string, ImageBitmap>();

  get all(): readonly OwnProduct[] {
    return this.#products;
  }

  /** As the shop shows them. */
  get products(): Product[] {
    return this.#products.map(({ id, title, category }) => ({
      id,
      title,
      category: category || 'Other',
      brand: 'Your own',
      price: undefined,
      description: 'A product of yours. Its picture stays in this browser.',
      audience: '',
      caption: `your picture of ${title}`,
      image: null,
    }));
  }

  /** Decodes the stored pictures; one that does not decode is dropped with its product. */
  async load(): Promise<void> {
    const kept: OwnProduct[] = [];
    for (const product of this.#products) {
      try {
        this.#pictures.set(product.id, await createImageBitmap(this.blob(product)));
        kept.push(product);
      } catch {
        // Nothing to show and nothing to embed.
      }
    }
    this.#products = kept;
  }

  /** False when the browser does not keep it beyond this page. */
  async add(title: string, category: string, canvas: HTMLCanvasElement): Promise<[OwnProduct, boolean]> {
    const numbers = this.#products.map((product) => Number(product.id.slice(4)));
    const product: OwnProduct = {
      id: `own-${Math.max(0, ...numbers) + 1}`,
      title,
      category,
      picture: canvas.toDataURL('image/png').split(',')[1] ?? '',
    };
    this.#pictures.set(product.id, await createImageBitmap(canvas));
    this.#products = [...this.#products, product];
    return [product, write('own', this.#products)];
  }

  remove(id: string): void {
    this.#products = this.#products.filter((product) => product.id !== id);
    this.#pictures.get(id)?.close();
    this.#pictures.delete(id);
    write('own', this.#products);
  }

  blob(product: OwnProduct): Blob {
    const bytes = Uint8Array.from(atob(product.picture), (char) => char.charCodeAt(0));
    return new Blob([bytes], { type: 'image/png' });
  }

  picture(id: string): ImageBitmap | undefined {
    return this.#pictures.get(id);
  }
}
