// ImageInput to what can cross to a worker. Elements of the page are read here; files and addresses are
// fetched and decoded beside the engine.

import { messageOf, show, TributaryError } from './errors.js';

/** @import {ImageInput} from './index.js' */
/** @import {PictureSource} from './image.js' */

/** @param {string} name @param {unknown} value */
function isA(name, value) {
  const type = /** @type {any} */ (globalThis)[name];
  return typeof type === 'function' && value instanceof type;
}

/** @param {unknown} value @returns {value is ImageInput} */
export function isImageInput(value) {
  return ['Blob', 'ImageBitmap', 'ImageData', 'HTMLImageElement', 'HTMLCanvasElement', 'OffscreenCanvas', 'HTMLVideoElement', 'URL']
    .some((name) => isA(name, value)) || isPixels(value);
}

/** An ImageData, or its like outside of browsers. @param {any} value */
function isPixels(value) {
  return typeof value === 'object' && value !== null && typeof value.width === 'number' &&
    (value.data instanceof Uint8ClampedArray || value.data instanceof Uint8Array);
}

/** @param {string} message @param {unknown} [cause] */
function imageError(message, cause) {
  return new TributaryError('IMAGE', message, cause === undefined ? {} : { cause });
}

/** @param {ImageInput} input @returns {Promise<PictureSource>} */
export async function pictureSource(input) {
  if (typeof input === 'string' || isA('URL', input)) {
    try {
      return new URL(/** @type {string | URL} */ (input), globalThis.document?.baseURI ?? globalThis.location?.href).href;
    } catch (error) {
      throw imageError(`${show(String(input))} is not an address`, error);
    }
  }
  if (isA('Blob', input)) return /** @type {Blob} */ (input);
  if (isPixels(input)) {
    const { width, height, data } = /** @type {ImageData} */ (input);
    if (data.length !== width * height * 4) throw imageError(`${data.length} bytes of pixels for ${width} x ${height}`);
    return { width, height, rgba: /** @type {Uint8ClampedArray} */ (data) };
  }
  if (!isImageInput(input)) throw imageError('not a picture: expected a Blob, ImageBitmap, ImageData, img, canvas, video or address');
  try {
    if (isA('HTMLImageElement', input)) {
      const image = /** @type {HTMLImageElement} */ (input);
      await image.decode();
      // An SVG has no pixels of its own; what it would be drawn at is the page's matter.
      if (/\.svg([?#]|$)|^data:image\/svg/i.test(image.currentSrc)) throw new Error('it is an SVG');
    }
    if (isA('HTMLVideoElement', input) && /** @type {HTMLVideoElement} */ (input).readyState < 2) throw new Error('the video has no frame yet');
    return await createImageBitmap(/** @type {ImageBitmapSource} */ (input));
  } catch (error) {
    throw imageError(`the picture cannot be read: ${messageOf(error)}`, error);
  }
}
