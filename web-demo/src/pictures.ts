// A product's picture: a file of the shop, or the visitor's own on a canvas. A canvas and not a
// blob: URL, so that the page needs no more of a content security policy than 'self'.

import type { Product } from './catalogue';
import { h } from './dom';
import { PICTURE, type OwnProducts } from './own';

export type Pictures = (product: Product, decorative?: boolean) => HTMLElement;

/** `decorative` where the title stands beside it. */
export function pictures(own: OwnProducts): Pictures {
  return (product, decorative = true) => {
    const label = product.caption || product.title;
    if (product.image !== null) {
      return h('img.picture', {
        src: `./images/${encodeURIComponent(product.image)}`,
        alt: decorative ? '' : label,
        width: PICTURE,
        height: PICTURE,
        loading: 'lazy',
        decoding: 'async',
      });
    }
    const canvas = h('canvas.picture', {
      width: PICTURE,
      height: PICTURE,
      role: decorative ? null : 'img',
      'aria-label': decorative ? null : label,
      'aria-hidden': decorative ? 'true' : null,
    });
    const bitmap = own.picture(product.id);
    if (bitmap !== undefined) canvas.getContext('2d')?.drawImage(bitmap, 0, 0);
    return canvas;
  };
}
